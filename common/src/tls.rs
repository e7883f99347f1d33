//! What servers with TLS share: PEM in, a certificate with its key out; and the verifier that asks for any certificate.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// Why a certificate and a key cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadPair {
    /// The certificate is no PEM, or there is none.
    #[error("the certificate cannot be read: {0}")]
    Certificate(rustls::pki_types::pem::Error),
    /// The certificate is no X.509.
    #[error("the certificate is no X.509 certificate")]
    X509,
    /// The key is no PEM, or there is none.
    #[error("the private key cannot be read: {0}")]
    Key(rustls::pki_types::pem::Error),
    /// The key is of a kind that is not known, or not that of the certificate.
    #[error("certificate and private key do not go together: {0}")]
    Pair(Error),
}

/// Reads a chain, the server's certificate first, and its key, both in PEM.
///
/// # Errors
/// [`BadPair`].
pub fn certified_key(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, BadPair> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(BadPair::Certificate)?;
    let first = chain.first().ok_or(BadPair::Certificate(rustls::pki_types::pem::Error::NoItemsFound))?;
    ParsedCertificate::try_from(first).map_err(|_| BadPair::X509)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(BadPair::Key)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map(Arc::new).map_err(BadPair::Pair)
}

/// Takes any client certificate whose key the client has; where it is not mandatory, none as well. What a certificate is
/// worth is for others to say.
#[derive(Debug)]
pub struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
    mandatory: bool,
}

impl AnyCertificate {
    /// Returns the verifier; `mandatory` refuses clients without a certificate.
    pub fn new(mandatory: bool) -> Self {
        Self { algorithms: ring::default_provider().signature_verification_algorithms, mandatory }
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// None: a client with several certificates may show any.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    /// Looks at the form alone.
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        ParsedCertificate::try_from(end_entity).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
