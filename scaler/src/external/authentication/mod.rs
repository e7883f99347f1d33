//! Who asks: a connection's certificate and a request's headers in; a user out, or nobody's business.
//!
//! The order and the meaning are those of `k8s.io/apiserver` (`delegating.go`): a proxy's certificate with the headers that it
//! vouches for, a client's certificate, a token. A later one that succeeds beats an earlier one that fails. Who shows
//! nothing is anonymous; who shows something that nobody takes is refused.

pub mod settings;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ring::digest::SHA256;
use ring::digest::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;

use crate::external::authentication::settings::RequestHeader;
use crate::external::authentication::settings::Settings;
use crate::external::identity::User;
use crate::external::kept::Kept;
use crate::external::review::Reviewer;

/// How long the user of a token, and what was found out about a certificate, are kept; Kubernetes' own time.
const KEEP: Duration = Duration::from_secs(10);
const TOKENS: usize = 4096;

/// The other side of a connection.
#[derive(Debug, Default)]
pub struct Peer {
    chain: Vec<CertificateDer<'static>>,
    known: Mutex<Option<Arc<Known>>>,
}

/// What the peer's certificate is worth under the settings of the time.
#[derive(Debug)]
struct Known {
    settings: Arc<Settings>,
    until: Instant,
    proxy: Result<(), String>,
    client: Result<Option<User>, String>,
}

impl Peer {
    /// Takes the chain that the peer showed, its own certificate first; empty where it showed none.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain, known: Mutex::default() }
    }

    /// Returns what the certificate is worth: found out once a connection, and again when the settings change or a while is
    /// over, so that a certificate that ends does so on an open connection too.
    fn known(&self, settings: &Arc<Settings>) -> Arc<Known> {
        let mut slot = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = slot.as_ref()
            && Arc::ptr_eq(&known.settings, settings)
            && Instant::now() < known.until
        {
            return Arc::clone(known);
        }
        let now = UnixTime::now();
        let known = Arc::new(Known {
            settings: Arc::clone(settings),
            until: Instant::now() + KEEP,
            proxy: match &settings.request_header {
                Some(proxy) => self.is_proxy(proxy, now),
                None => Err("no proxy is known".to_owned()),
            },
            client: match &settings.client {
                Some(authority) => authority
                    .verify(&self.chain, now)
                    .map(|()| self.chain.first().and_then(User::of_certificate))
                    .map_err(|error| format!("x509: {error}")),
                None => Ok(None),
            },
        });
        *slot = Some(Arc::clone(&known));
        known
    }

    fn is_proxy(&self, proxy: &RequestHeader, now: UnixTime) -> Result<(), String> {
        proxy.authority.verify(&self.chain, now).map_err(|error| format!("requestheader: {error}"))?;
        let name = self.chain.first().and_then(User::of_certificate).map(|user| user.name).unwrap_or_default();
        if proxy.allowed_names.is_empty() || proxy.allowed_names.contains(&name) {
            Ok(())
        } else {
            Err(format!("requestheader: subject with cn={name} is not in the allowed list"))
        }
    }
}

/// Why nobody can tell who asks. The peer is told 401 and no more; the words are for the log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Unauthenticated(pub Vec<String>);

/// Tells who asks.
#[derive(Debug)]
pub struct Authenticator {
    settings: watch::Receiver<Arc<Settings>>,
    reviewer: Arc<dyn Reviewer>,
    tokens: Kept<[u8; 32], Option<User>>,
}

impl Authenticator {
    /// Tells by the settings in force, and asks `reviewer` whose a token is.
    pub fn new(settings: watch::Receiver<Arc<Settings>>, reviewer: Arc<dyn Reviewer>) -> Self {
        Self { settings, reviewer, tokens: Kept::new(TOKENS, KEEP) }
    }

    /// Returns who asks.
    ///
    /// # Errors
    /// Where something was shown and nothing of it was taken.
    pub async fn user(&self, peer: &Peer, headers: &HeaderMap) -> Result<User, Unauthenticated> {
        let mut errors = Vec::new();
        if !peer.chain.is_empty() {
            let settings = Arc::clone(&self.settings.borrow());
            let known = peer.known(&settings);
            match (&known.proxy, &settings.request_header) {
                (Ok(()), Some(proxy)) => match User::of_headers(headers, &proxy.headers) {
                    Ok(Some(user)) => return Ok(user.authenticated()),
                    Ok(None) => {}
                    Err(error) => errors.push(error.to_string()),
                },
                (Err(error), Some(_)) => errors.push(error.clone()),
                (_, None) => {}
            }
            match &known.client {
                Ok(Some(user)) => return Ok(user.clone().authenticated()),
                Ok(None) => {}
                Err(error) => errors.push(error.clone()),
            }
        }
        if let Some(token) = bearer(headers) {
            // Kept by their digests: a memory of tokens would be worth stealing.
            let mut key = [0; 32];
            key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
            match self.tokens.get(key, |_| self.reviewer.token(token.to_owned())).await {
                Ok(Some(user)) => return Ok(user.authenticated()),
                Ok(None) => errors.push("invalid bearer token".to_owned()),
                Err(error) => errors.push(format!("TokenReview: {error}")),
            }
        }
        if errors.is_empty() { Ok(User::anonymous()) } else { Err(Unauthenticated(errors)) }
    }
}

/// Returns the token of the request; `None` where there is none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start().split(' ').next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests;
