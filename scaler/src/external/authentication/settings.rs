//! Which certificates are taken: the ConfigMap in which Kubernetes tells it to servers like ours, in; settings out, anew at
//! each change.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use hyper::header::HeaderName;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::Client;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::external::authority::Authority;
use crate::external::authority::BadAuthority;
use crate::external::identity::IdentityHeaders;

/// How long the first reading may take.
const DEADLINE: Duration = Duration::from_secs(15);
const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// Which certificates are taken.
#[derive(Debug, Default)]
pub struct Settings {
    /// Who signs the certificates of clients; where it is `None`, nobody does.
    pub client: Option<Authority>,
    /// The proxy that may say who asks; where it is `None`, nobody may.
    pub request_header: Option<RequestHeader>,
}

/// The proxy that may say who asks.
#[derive(Debug)]
pub struct RequestHeader {
    /// Who signs its certificate.
    pub authority: Authority,
    /// The common names that it may have; any where empty.
    pub allowed_names: Vec<String>,
    /// Where it says who asks.
    pub headers: IdentityHeaders,
}

/// Why the ConfigMap cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadSettings {
    /// A CA bundle is none.
    #[error("{key}: {error}")]
    Authority {
        /// The key in the ConfigMap.
        key: &'static str,
        /// What is wrong.
        error: BadAuthority,
    },
    /// A list is no list of strings, in JSON.
    #[error("{key}: no JSON list of strings: {error}")]
    List {
        /// The key in the ConfigMap.
        key: &'static str,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// A header's name can be none.
    #[error("{key}: {name:?} cannot be the name of a header")]
    Header {
        /// The key in the ConfigMap.
        key: &'static str,
        /// The name.
        name: String,
    },
}

impl Settings {
    /// Reads the ConfigMap's data.
    ///
    /// # Errors
    /// [`BadSettings`]; half of the settings would be others than those meant.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, BadSettings> {
        let authority = |key: &'static str| {
            let pem = data.get(key).filter(|pem| !pem.trim().is_empty());
            pem.map(|pem| Authority::from_pem(pem.as_bytes()))
                .transpose()
                .map_err(|error| BadSettings::Authority { key, error })
        };
        let list = |key: &'static str| match data.get(key).filter(|text| !text.is_empty()) {
            Some(text) => serde_json::from_str::<Vec<String>>(text).map_err(|error| BadSettings::List { key, error }),
            None => Ok(Vec::new()),
        };
        let headers = |key: &'static str| -> Result<Vec<HeaderName>, BadSettings> {
            let name =
                |name: String| HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadSettings::Header { key, name });
            list(key)?.into_iter().map(name).collect()
        };
        let request_header = match authority("requestheader-client-ca-file")? {
            Some(authority) => Some(RequestHeader {
                authority,
                allowed_names: list("requestheader-allowed-names")?,
                headers: IdentityHeaders {
                    user: headers("requestheader-username-headers")?,
                    uid: headers("requestheader-uid-headers")?,
                    group: headers("requestheader-group-headers")?,
                    extra_prefixes: list("requestheader-extra-headers-prefix")?
                        .into_iter()
                        .map(|prefix| prefix.to_ascii_lowercase())
                        .filter(|prefix| !prefix.is_empty())
                        .collect(),
                },
            }),
            None => None,
        };
        Ok(Self { client: authority("client-ca-file")?, request_header })
    }
}

/// The settings in force, and what keeps them so.
#[derive(Debug)]
pub struct Source {
    api: Api<ConfigMap>,
    tell: watch::Sender<Arc<Settings>>,
}

impl Source {
    /// Reads the ConfigMap for the first time. Where it cannot be had, and `tolerate` is set, no certificate is taken until
    /// it can.
    ///
    /// # Errors
    /// Where the ConfigMap cannot be had, or used.
    pub async fn open(client: Client, tolerate: bool) -> anyhow::Result<Self> {
        let api = Api::<ConfigMap>::namespaced(client, NAMESPACE);
        let asked = tokio::time::timeout(DEADLINE, api.get(NAME)).await;
        let asked = asked.unwrap_or_else(|elapsed| Err(kube::Error::Service(Box::new(elapsed))));
        let first = match asked {
            Ok(map) => Settings::parse(&map.data.unwrap_or_default())
                .with_context(|| format!("ConfigMap {NAMESPACE}/{NAME} cannot be used"))?,
            Err(error) if tolerate => {
                tracing::warn!(%error, "ConfigMap {NAMESPACE}/{NAME} cannot be read; until it can, nobody is known by a certificate");
                Settings::default()
            }
            Err(error) => {
                return Err(error).context(format!(
                    "ConfigMap {NAMESPACE}/{NAME}, which tells whose certificates to take, cannot be read; bind the Role \
                     extension-apiserver-authentication-reader, or give \
                     --external-metrics.tolerate-missing-authentication-config"
                ));
            }
        };
        Ok(Self { api, tell: watch::Sender::new(Arc::new(first)) })
    }

    /// Returns the settings in force.
    pub fn settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.tell.subscribe()
    }

    /// Follows the ConfigMap until `shutdown` is cancelled. One that is gone or cannot be used leaves the settings before it in
    /// force.
    pub async fn follow(self, shutdown: CancellationToken) {
        let mut changes = pin!(watcher::watch_object(self.api, NAME).default_backoff());
        let mut in_force: Option<BTreeMap<String, String>> = None;
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = shutdown.cancelled() => return,
            };
            match change {
                Some(Ok(Some(map))) => {
                    let data = map.data.unwrap_or_default();
                    if in_force.as_ref() == Some(&data) {
                        continue;
                    }
                    match Settings::parse(&data) {
                        Ok(settings) => {
                            self.tell.send_replace(Arc::new(settings));
                            tracing::info!("the certificates to take were read from ConfigMap {NAMESPACE}/{NAME}");
                            in_force = Some(data);
                        }
                        Err(error) => {
                            tracing::error!(%error, "ConfigMap {NAMESPACE}/{NAME} cannot be used; what it said before holds");
                        }
                    }
                }
                Some(Ok(None)) => {
                    tracing::warn!("ConfigMap {NAMESPACE}/{NAME} is gone; what it said before holds");
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "ConfigMap {NAMESPACE}/{NAME} cannot be watched; what it said last holds");
                }
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::external::testing::Ca;

    fn data(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_are_what_kubernetes_writes() {
        let pem = Ca::new("ca").pem();
        let settings = Settings::parse(&data(&[
            ("client-ca-file", &pem),
            ("requestheader-client-ca-file", &pem),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ]))
        .unwrap();
        assert!(settings.client.is_some());
        let proxy = settings.request_header.unwrap();
        assert_eq!(proxy.allowed_names, ["front-proxy-client"]);
        assert_eq!(
            proxy.headers,
            IdentityHeaders {
                user: vec![HeaderName::from_static("x-remote-user")],
                uid: vec![],
                group: vec![HeaderName::from_static("x-remote-group")],
                extra_prefixes: vec!["x-remote-extra-".to_owned()],
            }
        );
    }

    #[test]
    fn without_a_proxy_nobody_may_say_who_asks() {
        let pem = Ca::new("ca").pem();
        let settings = Settings::parse(&data(&[
            ("client-ca-file", &pem),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ]));
        assert!(settings.unwrap().request_header.is_none());
        let nothing = Settings::parse(&BTreeMap::new()).unwrap();
        assert!(nothing.client.is_none() && nothing.request_header.is_none());
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_the_key() {
        let pem = Ca::new("ca").pem();
        for (key, value) in [
            ("client-ca-file", "hello"),
            ("requestheader-allowed-names", "front-proxy-client"),
            ("requestheader-username-headers", r#"["X Remote"]"#),
            ("requestheader-group-headers", r#"[1]"#),
        ] {
            let error = Settings::parse(&data(&[("requestheader-client-ca-file", &pem), (key, value)])).unwrap_err();
            assert!(error.to_string().starts_with(key), "{error}");
        }
    }
}
