//! Metrics of another server: what we have not, asked there; our own answers first. So two servers can share the one
//! APIService that a cluster has.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cloudpulse_policy::time::Timestamp;
use futures_util::future::BoxFuture;
use percent_encoding::AsciiSet;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use reqwest::Certificate;
use reqwest::Client;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::redirect::Policy;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::external::GROUP_VERSION;
use crate::external::Item;
use crate::external::NoValue;
use crate::external::Provider;
use crate::external::selector::Selector;
use crate::rule::quantity::Quantity;

/// Less than an HPA and kube-apiserver wait.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Requests under way at once; more are refused.
const AT_ONCE: usize = 32;
/// A longer answer is not read.
const LONGEST: usize = 1 << 20;
/// What a segment of a path may hold as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Where the other server is, and how it is asked.
#[derive(Debug)]
pub struct Delegate {
    client: Client,
    url: Url,
    token_file: PathBuf,
    permits: Semaphore,
}

/// A server of external metrics, before another one.
#[derive(Debug)]
pub struct PassThrough {
    own: Arc<dyn Provider>,
    delegate: Delegate,
}

#[derive(Deserialize)]
struct ValueList {
    items: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    #[serde(default)]
    metric_labels: Option<BTreeMap<String, String>>,
    timestamp: String,
    #[serde(default)]
    window: Option<u64>,
    value: Quantity,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

impl Delegate {
    /// Asks at `url`, whose certificate must be of a CA in `ca_pem`, with the bearer token in `token_file`, which is read
    /// for each request, because kubelet renews it.
    ///
    /// # Errors
    /// Where `ca_pem` holds no certificate.
    pub fn new(url: Url, ca_pem: &[u8], token_file: PathBuf) -> anyhow::Result<Self> {
        // A second call finds a provider installed, which is just as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = Certificate::from_pem_bundle(ca_pem)?;
        anyhow::ensure!(!certificates.is_empty(), "there is no certificate in it");
        let client = Client::builder()
            .tls_certs_only(certificates)
            .https_only(true)
            .no_proxy()
            .redirect(Policy::none())
            .timeout(TIMEOUT)
            .build()
            .context("no HTTP client")?;
        Ok(Self { client, url, token_file, permits: Semaphore::new(AT_ONCE) })
    }

    async fn ask(&self, namespace: &str, metric: &str, selector: &Selector) -> Result<Option<Vec<Arc<Item>>>, NoValue> {
        let unavailable = |what: &dyn std::fmt::Display| {
            NoValue::Unavailable(format!(
                "metric {metric:?} is not ours, and the server behind us cannot be asked: {what}"
            ))
        };
        let _permit = self.permits.try_acquire().map_err(|_| unavailable(&"too many requests at once"))?;
        let token = std::fs::read_to_string(&self.token_file)
            .map_err(|error| unavailable(&format_args!("its token cannot be read: {error}")))?;
        let mut url = self.url.clone();
        let [namespace, name] = [namespace, metric].map(|segment| utf8_percent_encode(segment, SEGMENT));
        url.set_path(&format!("/apis/{GROUP_VERSION}/namespaces/{namespace}/{name}"));
        let selector = selector.to_string();
        if !selector.is_empty() {
            url.query_pairs_mut().append_pair("labelSelector", &selector);
        }
        // The error itself names the URL.
        let failed = |error: reqwest::Error| unavailable(&error.without_url());
        let mut response = self.client.get(url).bearer_auth(token.trim()).send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LONGEST {
                return Err(unavailable(&"its answer is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if status != StatusCode::OK {
            let said = serde_json::from_slice::<Status>(&body).map(|status| status.message).unwrap_or_default();
            return Err(unavailable(&format_args!("it answers {status} {said:?}")));
        }
        let list: ValueList = serde_json::from_slice(&body)
            .map_err(|error| unavailable(&format_args!("its answer is no list of values: {error}")))?;
        if list.items.is_empty() {
            return Ok(None);
        }
        let item = |value: Value| {
            let at = value.timestamp.parse::<jiff::Timestamp>()?;
            Ok(Arc::new(Item {
                labels: value.metric_labels.unwrap_or_default(),
                value: value.value.0,
                at: Timestamp::from_unix_milliseconds(at.as_millisecond()),
                window: value.window.map(Duration::from_secs),
            }))
        };
        let items: Result<Vec<_>, jiff::Error> = list.items.into_iter().map(item).collect();
        items.map(Some).map_err(|error| unavailable(&format_args!("its answer has no sound time: {error}")))
    }
}

impl PassThrough {
    /// Answers from `own`, and from `delegate` what `own` does not find.
    pub fn new(own: Arc<dyn Provider>, delegate: Delegate) -> Self {
        Self { own, delegate }
    }
}

impl Provider for PassThrough {
    fn values<'a>(
        &'a self,
        namespace: &'a str,
        metric: &'a str,
        selector: &'a Selector,
    ) -> BoxFuture<'a, Result<Vec<Arc<Item>>, NoValue>> {
        Box::pin(async move {
            match self.own.values(namespace, metric, selector).await {
                Err(not_found @ NoValue::NotFound { .. }) => {
                    self.delegate.ask(namespace, metric, selector).await?.ok_or(not_found)
                }
                answer => answer,
            }
        })
    }
}

#[cfg(test)]
mod tests;
