//! TLS of the external metrics API: a serving certificate that can change at any time in; rustls' configuration out.
//!
//! A client is asked for a certificate and let in with any that it has the key of: which CA it is from, and what that is
//! worth, is decided for each request, as in Kubernetes' own servers. rustls' own verifier would end the handshake of a
//! certificate from an unknown CA with an alert, where a token beside it should count, or 401 be the answer.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use cloudpulse_common::tls::AnyCertificate;
use cloudpulse_common::tls::BadPair;
use cloudpulse_common::tls::certified_key;
use rustls::Error;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

/// A serving certificate with its key.
#[derive(Debug, Clone)]
pub struct Serving {
    certified: Arc<CertifiedKey>,
    not_after: i64,
}

impl Serving {
    /// Reads a chain, the server's certificate first, and its key, both in PEM.
    ///
    /// # Errors
    /// [`BadPair`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, BadPair> {
        let certified = certified_key(chain, key)?;
        let not_after = certified.end_entity_cert().ok().and_then(not_after).ok_or(BadPair::X509)?;
        Ok(Self { certified, not_after })
    }

    /// Returns the chain, the server's certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Returns the Unix time at which the certificate ends, in seconds.
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }
}

/// Returns the Unix time at which a certificate ends, in seconds; `None` where it is none.
fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// The serving certificate in force. Clones share one; a handshake takes what is there at its time.
#[derive(Debug, Clone)]
pub struct InForce(Arc<RwLock<Arc<CertifiedKey>>>);

impl InForce {
    /// Starts with `serving`.
    pub fn new(serving: &Serving) -> Self {
        Self(Arc::new(RwLock::new(Arc::clone(&serving.certified))))
    }

    /// Puts `serving` in force, for the next handshake on.
    pub fn set(&self, serving: &Serving) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&serving.certified);
    }
}

impl ResolvesServerCert for InForce {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Returns the configuration of the server: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
///
/// # Errors
/// Never in practice: where the provider lacks the versions.
pub fn server_config(in_force: InForce) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(Arc::new(AnyCertificate::new(false)))
        .with_cert_resolver(Arc::new(in_force));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use rustls::ClientConfig;
    use rustls::RootCertStore;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::ServerName;
    use rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::external::testing::Ca;
    use crate::external::testing::Pair;

    const NAME: &str = "cloudpulse-scaler.cloudpulse.svc";

    fn serving(ca: &Ca) -> Serving {
        let Pair(certificate, key) = ca.server(NAME);
        Serving { not_after: 0, ..Serving::from_pem(Ca::to_pem(&certificate).as_bytes(), key.as_bytes()).unwrap() }
    }

    /// A handshake; what the server saw of the client, and the certificate that the client saw.
    async fn shake(
        in_force: &InForce,
        ca: &Ca,
        client: Option<&Pair>,
        key_of_another: bool,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Result<(Vec<CertificateDer<'static>>, CertificateDer<'static>), std::io::Error> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            Some(Pair(certificate, key)) => {
                let other = ca.client("other", &[]).1;
                let key = if key_of_another { &other } else { key };
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                let signer = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
                let certified = Arc::new(CertifiedKey::new(vec![certificate.clone()], signer));
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(server_config(in_force.clone()).unwrap()));
        let (near, far) = tokio::io::duplex(64 * 1024);
        let accept = tokio::spawn(acceptor.accept(far));
        let connector = TlsConnector::from(Arc::new(config));
        let seen = connector.connect(ServerName::try_from(NAME).unwrap(), near).await;
        let accepted = accept.await.unwrap()?;
        let seen = seen?;
        let (_, server) = accepted.get_ref();
        assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
        let peer = server.peer_certificates().unwrap_or_default().to_vec();
        Ok((peer, seen.get_ref().1.peer_certificates().unwrap()[0].clone()))
    }

    #[tokio::test]
    async fn a_certificate_of_an_unknown_authority_passes_the_handshake_and_is_seen() {
        let (own, unknown) = (Ca::new("own"), Ca::new("unknown"));
        let in_force = InForce::new(&serving(&own));
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = unknown.client("eve", &["system:masters"]);
            let (peer, _) = shake(&in_force, &own, Some(&client), false, &[version]).await.unwrap();
            assert_eq!(peer, [client.0], "{version:?}");
            let (peer, _) = shake(&in_force, &own, None, false, &[version]).await.unwrap();
            assert!(peer.is_empty(), "{version:?}: none is fine too");
        }
    }

    #[tokio::test]
    async fn a_certificate_without_its_key_does_not_pass() {
        let own = Ca::new("own");
        let in_force = InForce::new(&serving(&own));
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = own.client("front-proxy-client", &[]);
            assert!(shake(&in_force, &own, Some(&client), true, &[version]).await.is_err(), "{version:?}");
        }
    }

    #[tokio::test]
    async fn the_next_handshake_takes_a_new_certificate() {
        let own = Ca::new("own");
        let in_force = InForce::new(&serving(&own));
        let both = [&rustls::version::TLS13, &rustls::version::TLS12];
        let (_, first) = shake(&in_force, &own, None, false, &both).await.unwrap();
        let (_, again) = shake(&in_force, &own, None, false, &both).await.unwrap();
        assert_eq!(first, again);
        in_force.set(&serving(&own));
        let (_, second) = shake(&in_force, &own, None, false, &both).await.unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn a_pair_that_does_not_go_together_is_said_without_the_key() {
        let own = Ca::new("own");
        let (first, second) = (own.server(NAME), own.server(NAME));
        let certificate = Ca::to_pem(&first.0);
        let error = Serving::from_pem(certificate.as_bytes(), second.1.as_bytes()).unwrap_err();
        assert!(matches!(error, BadPair::Pair(_)), "{error}");
        assert!(matches!(Serving::from_pem(b"", second.1.as_bytes()), Err(BadPair::Certificate(_))));
        assert!(matches!(Serving::from_pem(certificate.as_bytes(), b"x"), Err(BadPair::Key(_))));
        let shown = format!("{:?}", Serving::from_pem(certificate.as_bytes(), first.1.as_bytes()).unwrap());
        let secret: String = first.1.lines().nth(1).unwrap().chars().take(20).collect();
        assert!(!shown.contains(&secret) && !shown.contains("PRIVATE"), "{shown}");
    }
}
