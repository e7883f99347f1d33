//! One request to the server and its retries: parameters in, the answer of the server or why there is none out.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HOST;
use reqwest::{Certificate, Identity, Url};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::settings::{ClientConfig, TlsConfig};

/// Requests under way at once where the configuration does not say.
const DEFAULT_CONCURRENT: usize = 4;
/// The server's name resolution and handshake may take this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the secret files hold.
#[derive(Clone, Default, PartialEq, Eq)]
struct Material {
    /// Token or password.
    secret: Option<String>,
    authorities: Option<Vec<u8>>,
    /// Certificate and key of the client.
    identity: Option<Vec<u8>>,
}

/// An HTTP client that follows its secret files.
pub(super) struct Transport {
    config: ClientConfig,
    timeout: Duration,
    base: Url,
    permits: Semaphore,
    current: Mutex<(Material, reqwest::Client)>,
}

impl Transport {
    /// # Errors
    /// When the URL, a header, or a secret's file is unusable.
    pub(super) fn new(config: &ClientConfig, timeout: Duration) -> anyhow::Result<Self> {
        // Fails only where a provider was installed before, which is as good.
        install_tls();
        if let Some((path, message)) = config.findings().into_iter().next() {
            anyhow::bail!("{path}{}{message}", if path.is_empty() { "" } else { ": " });
        }
        let mut base: Url = config.url.parse().with_context(|| format!("{:?} is no URL", config.url))?;
        if let Some(name) = config.tls.as_ref().and_then(|tls| tls.server_name.as_deref()) {
            base.set_host(Some(name)).with_context(|| format!("tls.server_name: {name:?} is no host name"))?;
        }
        let material = material(config)?;
        let client = build(config, timeout, &material)?;
        Ok(Self {
            config: config.clone(),
            timeout,
            base,
            permits: Semaphore::new(config.max_concurrent_queries.unwrap_or(DEFAULT_CONCURRENT).max(1)),
            current: Mutex::new((material, client)),
        })
    }

    /// Returns the right to have one request under way; held until its answer is read.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.permits.acquire().await.ok()
    }

    /// Sends one request.
    pub(super) async fn post(
        self: &Arc<Self>,
        path: &str,
        own: &[(&'static str, String)],
    ) -> Result<reqwest::Response, reqwest::Error> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        let (secret, client) = self.up_to_date().await;
        let further = self.config.params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let form: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).chain(further).collect();
        let mut request = client.post(url).form(&form);
        request = match (secret, &self.config.basic_auth) {
            (Some(password), Some(basic)) => request.basic_auth(&basic.username, Some(password)),
            (Some(token), None) => request.bearer_auth(token),
            (None, _) => request,
        };
        request.send().await
    }

    /// Returns secret and client as the files are now. What cannot be read or used is said, and the last one used on.
    async fn up_to_date(self: &Arc<Self>) -> (Option<String>, reqwest::Client) {
        if self.config.has_files() {
            let transport = Arc::clone(self);
            // A panic in there was said where it happened.
            let _ = tokio::task::spawn_blocking(move || transport.refresh()).await;
        }
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (current.0.secret.clone(), current.1.clone())
    }

    fn refresh(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = material(&self.config).and_then(|new| {
            if new == current.0 {
                return Ok(());
            }
            let tls = (&new.authorities, &new.identity) != (&current.0.authorities, &current.0.identity);
            let client = if tls { build(&self.config, self.timeout, &new)? } else { current.1.clone() };
            *current = (new, client);
            tracing::info!(url = %self.config.url, "the secrets have changed and are taken anew");
            Ok(())
        });
        if let Err(error) = renewed {
            tracing::warn!(url = %self.config.url, error = %format!("{error:#}"), "the secrets cannot be read; the last ones are used");
        }
    }
}

impl ClientConfig {
    fn has_files(&self) -> bool {
        let tls = self.tls.as_ref().is_some_and(|tls| tls.ca_file.is_some() || tls.cert_file.is_some());
        tls || self.bearer_token_file.is_some() || self.basic_auth.is_some()
    }
}

fn material(config: &ClientConfig) -> anyhow::Result<Material> {
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let password = config.basic_auth.as_ref().map(|basic| basic.password_file.as_path());
    let secret = config.bearer_token_file.as_deref().or(password).map(|path| -> anyhow::Result<String> {
        let text = String::from_utf8(read(path)?).with_context(|| path.display().to_string())?;
        let text = text.trim_end();
        anyhow::ensure!(!text.is_empty(), "{} is empty", path.display());
        anyhow::ensure!(!text.contains(char::is_control), "{} holds more than one line", path.display());
        Ok(text.to_owned())
    });
    let tls = config.tls.clone().unwrap_or_default();
    let identity = tls.cert_file.zip(tls.key_file).map(|(certificate, key)| -> anyhow::Result<Vec<u8>> {
        Ok([read(&certificate)?, b"\n".to_vec(), read(&key)?].concat())
    });
    Ok(Material {
        secret: secret.transpose()?,
        authorities: tls.ca_file.as_deref().map(read).transpose()?,
        identity: identity.transpose()?,
    })
}

/// Takes ring for TLS, unless the program took another.
fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Returns the beginnings of a plain HTTP client, for what is not Prometheus.
pub fn http_client() -> reqwest::ClientBuilder {
    install_tls();
    reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT)
}

/// Gives a request to `url` the token of a program of ours: as a bearer token, or beside the user and password that the URL
/// has for a web config with users.
pub fn with_token(request: reqwest::RequestBuilder, url: &str, token: &str) -> reqwest::RequestBuilder {
    let has_user = reqwest::Url::parse(url).is_ok_and(|url| !url.username().is_empty() || url.password().is_some());
    if has_user { request.header(crate::token::TOKEN_HEADER, token) } else { request.bearer_auth(token) }
}

fn build(config: &ClientConfig, timeout: Duration, material: &Material) -> anyhow::Result<reqwest::Client> {
    let mut headers = config.header_map();
    let TlsConfig { ca_file, cert_file, server_name, insecure_skip_verify, .. } =
        config.tls.clone().unwrap_or_default();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::limited(3))
        .tls_danger_accept_invalid_certs(insecure_skip_verify);
    if let Some(pem) = &material.authorities {
        let certificates = Certificate::from_pem_bundle(pem).context("tls.ca_file")?;
        anyhow::ensure!(
            !certificates.is_empty(),
            "tls.ca_file: {:?} holds no certificate",
            ca_file.unwrap_or_default()
        );
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(pem) = &material.identity {
        let identity = Identity::from_pem(pem);
        builder =
            builder.identity(identity.with_context(|| format!("tls.cert_file {:?}", cert_file.unwrap_or_default()))?);
    }
    if server_name.is_some() {
        // The certificate is checked against the host of the URL: that becomes the name, found at the real host's address.
        let real: Url = config.url.parse()?;
        let host = real.host_str().context("the URL has no host")?.trim_matches(['[', ']']).to_owned();
        let authority = real.port().map_or(host.clone(), |port| format!("{host}:{port}"));
        headers.insert(HOST, authority.parse()?);
        builder = builder.dns_resolver(Arc::new(Always(host)));
    }
    Ok(builder.default_headers(headers).build()?)
}

/// Resolves every name as this one.
struct Always(String);

impl Resolve for Always {
    fn resolve(&self, _name: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            // Port 0 stands for the one of the URL.
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
