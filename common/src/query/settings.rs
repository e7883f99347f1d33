//! Where a server is, how to be let in, and how it is asked: as the configuration says it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::duration::PromDuration;

/// Parameters that the client sets itself.
const OWN_PARAMS: [&str; 5] = ["query", "time", "start", "end", "step"];
/// More retries than this only delay what is said of the failure.
const MAX_RETRIES: u32 = 10;

/// Where Prometheus, or what speaks its API, is and how to be let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "config", serde(deny_unknown_fields, default))]
pub struct ClientConfig {
    /// Base URL, such as `http://127.0.0.1:9090`.
    pub url: String,
    /// File that holds a bearer token; read for each request.
    pub bearer_token_file: Option<PathBuf>,
    /// User name and the file that holds the password.
    pub basic_auth: Option<BasicAuth>,
    /// Whom to trust and how to be known over https.
    pub tls: Option<TlsConfig>,
    /// Further headers, such as `X-Scope-OrgID` for Mimir.
    pub headers: BTreeMap<String, String>,
    /// Further parameters of each query, such as `dedup` for Thanos.
    pub params: BTreeMap<String, String>,
    /// Deadline of one request; 30 s where absent.
    pub timeout: Option<PromDuration>,
    /// How late samples are there: queries end that long before now; 0 where absent.
    pub query_offset: Option<PromDuration>,
    /// Requests under way at once; 4 where absent.
    pub max_concurrent_queries: Option<usize>,
    /// How often a request is sent again after a failure that may pass; twice where absent.
    pub retries: Option<u32>,
}

/// Basic authentication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "config", serde(deny_unknown_fields))]
pub struct BasicAuth {
    /// User name.
    pub username: String,
    /// File that holds the password; read for each request.
    pub password_file: PathBuf,
}

/// TLS of a client. The files hold PEM, are looked at for each request, and taken anew when they have changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "config", serde(deny_unknown_fields, default))]
pub struct TlsConfig {
    /// Certificates of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate of the client, with those between it and its authority.
    pub cert_file: Option<PathBuf>,
    /// Private key of that certificate.
    pub key_file: Option<PathBuf>,
    /// Name that the server's certificate must have, where it is not that of the URL.
    pub server_name: Option<String>,
    /// Takes any certificate of the server: whoever sits between can read and change everything.
    pub insecure_skip_verify: bool,
}

impl ClientConfig {
    /// Returns what is wrong with it, each with the path of the field; empty where nothing is. Reads no file.
    pub fn findings(&self) -> Vec<(String, String)> {
        let mut findings = Vec::new();
        let mut add = |path: &str, message: String| findings.push((path.to_owned(), message));
        let https = self.url.starts_with("https://");
        if !https && !self.url.starts_with("http://") {
            add("url", format!("{:?} is no URL; write it as http://HOST:PORT", self.url));
        }
        if self.bearer_token_file.is_some() && self.basic_auth.is_some() {
            add("", "bearer_token_file and basic_auth exclude each other".to_owned());
        }
        for (name, value) in &self.headers {
            let path = format!("headers.{name}");
            if name.parse::<HeaderName>().is_err() {
                add(&path, "is no header name".to_owned());
            } else if value.parse::<HeaderValue>().is_err() {
                add(&path, "holds characters that no header may hold".to_owned());
            }
        }
        for name in self.params.keys().filter(|name| OWN_PARAMS.contains(&name.as_str())) {
            add(&format!("params.{name}"), "is set by the client itself".to_owned());
        }
        if self.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            add("timeout", "must be longer than 0".to_owned());
        }
        if self.query_offset.is_some_and(|offset| offset.seconds().fract() != 0.0) {
            add("query_offset", "must be whole seconds".to_owned());
        }
        if self.max_concurrent_queries == Some(0) {
            add("max_concurrent_queries", "must be at least 1".to_owned());
        }
        if self.retries.is_some_and(|retries| retries > MAX_RETRIES) {
            add("retries", format!("must be at most {MAX_RETRIES}"));
        }
        if let Some(tls) = &self.tls {
            if !https {
                add("tls", "is for a URL that begins with https://".to_owned());
            }
            match (&tls.cert_file, &tls.key_file) {
                (Some(_), None) => add("tls.key_file", "is missing: cert_file needs its key".to_owned()),
                (None, Some(_)) => add("tls.cert_file", "is missing: key_file needs its certificate".to_owned()),
                _ => {}
            }
            if tls.insecure_skip_verify && (tls.ca_file.is_some() || tls.server_name.is_some()) {
                add("tls.insecure_skip_verify", "makes ca_file and server_name useless; leave it out".to_owned());
            }
            if tls.server_name.as_ref().is_some_and(|name| !is_host(name)) {
                add("tls.server_name", "is no host name".to_owned());
            }
        }
        findings
    }

    /// Returns the headers that are sent with each request.
    pub(crate) fn header_map(&self) -> HeaderMap {
        let parsed = self
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?)));
        parsed.collect()
    }
}

fn is_host(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.:[]".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut ClientConfig)) -> Vec<String> {
        let mut config = ClientConfig { url: "https://prometheus:9090".to_owned(), ..ClientConfig::default() };
        change(&mut config);
        config.findings().into_iter().map(|(path, message)| format!("{path}: {message}")).collect()
    }

    #[test]
    fn a_sound_configuration_has_no_findings() {
        assert!(of(|_| ()).is_empty());
        assert!(
            of(|config| {
                config.headers.insert("X-Scope-OrgID".to_owned(), "shop".to_owned());
                config.params.insert("dedup".to_owned(), "true".to_owned());
                config.tls = Some(TlsConfig { ca_file: Some("ca.pem".into()), ..TlsConfig::default() });
            })
            .is_empty()
        );
    }

    #[test]
    fn every_fault_is_named_with_its_field() {
        let found = of(|config| {
            config.headers.insert("a b".to_owned(), "x".to_owned());
            config.headers.insert("X-A".to_owned(), "line\nbreak".to_owned());
            config.params.insert("step".to_owned(), "1".to_owned());
            config.timeout = Some(PromDuration::from_secs(0));
            config.max_concurrent_queries = Some(0);
            config.retries = Some(99);
            config.query_offset = Some(PromDuration(std::time::Duration::from_millis(1500)));
            config.tls = Some(TlsConfig {
                cert_file: Some("cert.pem".into()),
                server_name: Some("a/b".to_owned()),
                insecure_skip_verify: true,
                ..TlsConfig::default()
            });
        });
        let fields: Vec<&str> = found.iter().map(|line| line.split_once(": ").unwrap().0).collect();
        assert_eq!(
            fields,
            [
                "headers.X-A",
                "headers.a b",
                "params.step",
                "timeout",
                "query_offset",
                "max_concurrent_queries",
                "retries",
                "tls.key_file",
                "tls.insecure_skip_verify",
                "tls.server_name"
            ]
        );
        let plain = of(|config| {
            config.url = "http://prometheus".to_owned();
            config.tls = Some(TlsConfig::default());
        });
        assert_eq!(plain, ["tls: is for a URL that begins with https://"]);
        assert_eq!(of(|config| config.url = "prometheus:9090".to_owned()).len(), 1);
    }
}
