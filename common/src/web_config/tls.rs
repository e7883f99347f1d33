//! `tls_server_config`: its fields in; rustls' configuration of a server, or findings, out.
//!
//! What the fields mean is what Go's crypto/tls makes of them; what rustls does not do is a finding.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
};
use serde::Deserialize;

use super::file::{Report, Secret};
use super::files::Reader;
use super::san;
use crate::tls::{AnyCertificate, BadPair, certified_key};

/// The section as it stands in the file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    cert: Option<String>,
    key: Option<Secret>,
    cert_file: Option<String>,
    key_file: Option<String>,
    client_auth_type: Option<String>,
    client_ca: Option<String>,
    client_ca_file: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    curve_preferences: Option<Vec<String>>,
    /// Go ignores it since 1.17, and so is it here.
    prefer_server_cipher_suites: Option<bool>,
}

impl Tls {
    /// Whether it asks for nothing, as where its fields are commented out.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            cert,
            key,
            cert_file,
            key_file,
            client_auth_type,
            client_ca,
            client_ca_file,
            client_allowed_sans,
            min_version,
            max_version,
            cipher_suites,
            curve_preferences,
            prefer_server_cipher_suites: _,
        } = self;
        let texts = [cert, cert_file, key_file, client_auth_type, client_ca, client_ca_file, min_version, max_version];
        texts.into_iter().all(|text| given(text.as_deref()).is_none())
            && given(key.as_ref().map(|key| key.0.as_str())).is_none()
            && [client_allowed_sans, cipher_suites, curve_preferences].into_iter().all(Option::is_none)
    }
}

/// An empty text is an absent one.
fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// Cipher suites of TLS 1.2 by Go's names; those of TLS 1.3 cannot be chosen, there as here.
static SUITES: [(&str, SupportedCipherSuite); 6] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];
const TLS13_SUITES: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// Returns the configuration; `None` where something is wrong, which is in `report`.
pub(super) fn server_config(
    tls: &Tls,
    http2: bool,
    folder: &Path,
    reader: &mut Reader,
    report: &mut Report,
) -> Option<ServerConfig> {
    let chain = source(("cert", tls.cert.as_deref()), ("cert_file", &tls.cert_file), true, folder, reader, report);
    let key = tls.key.as_ref().map(|key| key.0.as_str());
    let key = source(("key", key), ("key_file", &tls.key_file), true, folder, reader, report);
    let certified = chain.zip(key).and_then(|((chain_field, chain), (key_field, key))| {
        certified_key(&chain, &key)
            .map_err(|error| {
                let is_key = matches!(error, BadPair::Key(_) | BadPair::Pair(_));
                report.add(field(if is_key { key_field } else { chain_field }), error.to_string());
            })
            .ok()
    });
    let mut provider = ring::default_provider();
    provider.kx_groups = curves(tls.curve_preferences.as_deref().unwrap_or_default(), report);
    let versions = versions(tls, report);
    let versions = choose_suites(tls.cipher_suites.as_deref().unwrap_or_default(), versions, &mut provider, report);
    let provider = Arc::new(provider);
    let clients = clients(tls, &provider, folder, reader, report);
    let certified = certified.filter(|_| report.is_empty())?;
    let builder = match ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions) {
        Ok(builder) => builder,
        Err(error) => {
            report.add("tls_server_config", error.to_string());
            return None;
        }
    };
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    let mut config = builder.with_client_cert_verifier(clients?).with_cert_resolver(resolver);
    // Each connection proves itself anew, by what is in force at its time. Prometheus keeps its connections.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    if http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Some(config)
}

fn field(name: &str) -> String {
    format!("tls_server_config.{name}")
}

/// Returns PEM that stands in the file itself, or in a file that it names, with the name of the field.
fn source<'n>(
    (inline_name, inline): (&'n str, Option<&str>),
    (file_name, file): (&'n str, &Option<String>),
    needed: bool,
    folder: &Path,
    reader: &mut Reader,
    report: &mut Report,
) -> Option<(&'n str, Vec<u8>)> {
    match (given(inline), given(file.as_deref())) {
        (Some(_), Some(_)) => report.add(field(inline_name), format!("give {inline_name} or {file_name}, not both")),
        (Some(text), None) => return Some((inline_name, text.as_bytes().to_vec())),
        (None, Some(path)) => match reader.read(&folder.join(path)) {
            Ok(bytes) => return Some((file_name, bytes)),
            Err(error) => report.add(field(file_name), format!("{path} cannot be read: {error}")),
        },
        (None, None) if needed => {
            report.add(field(file_name), format!("is missing; TLS needs it, or the PEM itself as {inline_name}"));
        }
        (None, None) => {}
    }
    None
}

fn versions(tls: &Tls, report: &mut Report) -> Vec<&'static SupportedProtocolVersion> {
    let mut read = |name: &str, text: &Option<String>, absent: u8| match given(text.as_deref()) {
        None => absent,
        Some("TLS12") => 12,
        Some("TLS13") => 13,
        Some(old @ ("TLS10" | "TLS11")) => {
            report.add(field(name), format!("{old} is broken, and rustls, which serves here, has it not; take TLS12"));
            absent
        }
        Some(other) => {
            report.add(field(name), format!("there is no version {other:?}; take TLS12 or TLS13"));
            absent
        }
    };
    let (min, max) = (read("min_version", &tls.min_version, 12), read("max_version", &tls.max_version, 13));
    if min > max {
        report.add(field("min_version"), "is above max_version");
    }
    let all = [(13, &rustls::version::TLS13), (12, &rustls::version::TLS12)];
    all.into_iter().filter(|(version, _)| (min..=max).contains(version)).map(|(_, version)| version).collect()
}

/// Leaves the named suites of TLS 1.2 to `provider`. Without any, that version cannot be spoken.
fn choose_suites(
    names: &[String],
    mut versions: Vec<&'static SupportedProtocolVersion>,
    provider: &mut CryptoProvider,
    report: &mut Report,
) -> Vec<&'static SupportedProtocolVersion> {
    if names.is_empty() {
        return versions;
    }
    let mut chosen = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if let Some((_, suite)) = SUITES.iter().find(|(known, _)| known == name) {
            chosen.push(*suite);
        } else if !TLS13_SUITES.contains(&name.as_str()) {
            let why = if ["_CBC_", "TLS_RSA_", "_RC4_"].iter().any(|weak| name.contains(weak)) {
                "is weak, and rustls, which serves here, has it not; leave it out".to_owned()
            } else {
                let known = SUITES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                format!("there is no cipher suite {name:?} here; there are {known}")
            };
            report.add(field(&format!("cipher_suites[{at}]")), why);
        }
    }
    let none_for_tls12 = chosen.is_empty();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.cipher_suites.extend(chosen);
    if none_for_tls12 && report.is_empty() {
        versions.retain(|version| **version != rustls::version::TLS12);
        if versions.is_empty() {
            report.add(field("cipher_suites"), "has none of TLS 1.2, and max_version is TLS12");
        }
    }
    versions
}

fn curves(names: &[String], report: &mut Report) -> Vec<&'static dyn SupportedKxGroup> {
    if names.is_empty() {
        return ring::ALL_KX_GROUPS.to_vec();
    }
    let mut chosen = Vec::new();
    for (at, name) in names.iter().enumerate() {
        match name.as_str() {
            "X25519" => chosen.push(kx_group::X25519),
            "CurveP256" => chosen.push(kx_group::SECP256R1),
            "CurveP384" => chosen.push(kx_group::SECP384R1),
            _ => report.add(
                field(&format!("curve_preferences[{at}]")),
                format!("there is no curve {name:?} here; there are X25519, CurveP256, CurveP384"),
            ),
        }
    }
    chosen
}

/// Which clients are let in.
fn clients(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
    folder: &Path,
    reader: &mut Reader,
    report: &mut Report,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let kind = given(tls.client_auth_type.as_deref()).unwrap_or("NoClientCert");
    let ca_source = ("client_ca", tls.client_ca.as_deref());
    let ca = source(ca_source, ("client_ca_file", &tls.client_ca_file), false, folder, reader, report);
    let ca_field = if given(tls.client_ca.as_deref()).is_some() { "client_ca" } else { "client_ca_file" };
    if kind == "NoClientCert" {
        if ca.is_some() {
            report.add(field(ca_field), "is of no use without a client_auth_type such as RequireAndVerifyClientCert");
        }
        if tls.client_allowed_sans.is_some() {
            let why = "is of no use without a client_auth_type such as RequireAndVerifyClientCert";
            report.add(field("client_allowed_sans"), why);
        }
        return Some(Arc::new(NoClientAuth));
    }
    let allowed = tls.client_allowed_sans.clone();
    if allowed.as_ref().is_some_and(Vec::is_empty) {
        report.add(field("client_allowed_sans"), "is empty: nobody could connect; leave it out, or name somebody");
    }
    let roots = ca.and_then(|(_, pem)| roots(ca_field, &pem, report));
    let verifier: Arc<dyn ClientCertVerifier> = match kind {
        "RequestClientCert" => Arc::new(AnyCertificate::new(false)),
        "RequireAnyClientCert" | "RequireClientCert" => Arc::new(AnyCertificate::new(true)),
        "VerifyClientCertIfGiven" | "RequireAndVerifyClientCert" => {
            if given(tls.client_ca.as_deref()).is_none() && given(tls.client_ca_file.as_deref()).is_none() {
                let why = "is missing: without it every CA that the machine trusts could let clients in";
                report.add(field("client_ca_file"), why);
            }
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots?), Arc::clone(provider));
            let builder = if kind == "VerifyClientCertIfGiven" { builder.allow_unauthenticated() } else { builder };
            match builder.build() {
                Ok(verifier) => verifier,
                Err(error) => {
                    report.add(field(ca_field), error.to_string());
                    return None;
                }
            }
        }
        other => {
            let why = format!(
                "there is no {other:?}; take NoClientCert, RequestClientCert, RequireAnyClientCert, \
                 VerifyClientCertIfGiven or RequireAndVerifyClientCert"
            );
            report.add(field("client_auth_type"), why);
            return None;
        }
    };
    Some(match allowed {
        Some(allowed) => Arc::new(AllowedNames { inner: verifier, allowed }),
        None => verifier,
    })
}

fn roots(name: &str, pem: &[u8], report: &mut Report) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let added = certificate.map_err(|error| error.to_string());
        if let Err(error) = added.and_then(|der| roots.add(der).map_err(|error| error.to_string())) {
            report.add(field(name), format!("certificate {} of the bundle cannot be read: {error}", at + 1));
            return None;
        }
    }
    if roots.is_empty() {
        report.add(field(name), "there is no certificate in it");
        return None;
    }
    Some(roots)
}

/// Lets in whom the inner verifier lets in, if the certificate has one of the names. One without a certificate has none.
#[derive(Debug)]
struct AllowedNames {
    inner: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
}

impl ClientCertVerifier for AllowedNames {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if san::names(end_entity).iter().any(|name| self.allowed.contains(name)) {
            Ok(verified)
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
