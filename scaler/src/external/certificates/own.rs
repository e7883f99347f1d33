//! The scaler's own CAs: what is known of them and the time in; the CAs that there should be, and serving certificates, out.
//! Nothing is read or written here.
//!
//! A CA is followed by another long before it ends. The new one is first made known for a while (`propagation`), signs then,
//! and the one before it stays known until the last certificate that it can have signed is over. So at any time whoever
//! trusts what was made known a little earlier trusts what is served.

use std::time::Duration;

use cloudpulse_common::tls::BadPair;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;
use x509_parser::time::ASN1Time;

use crate::external::tls::Serving;

/// Certificates begin so much before they are made, for clocks that are late.
const BACKDATE: i64 = 300;

/// How long certificates live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of a CA.
    pub authority: Duration,
    /// Of a serving certificate.
    pub serving: Duration,
    /// How long a new CA is made known before it signs.
    pub propagation: Duration,
}

impl Lifetimes {
    /// Returns what is wrong with them, if anything.
    pub fn finding(&self) -> Option<String> {
        if self.propagation < Duration::from_secs(1) || self.serving < 3 * self.propagation {
            return Some(
                "a serving certificate must live at least three times as long as a new CA is made known".into(),
            );
        }
        // From two thirds of its life on a CA waits for its successor and then for its own last certificate to end.
        if self.authority / 3 < self.serving + self.propagation {
            return Some("a CA must live more than three times as long as a serving certificate".to_owned());
        }
        None
    }
}

/// A CA with its key.
pub struct Authority {
    certificate: String,
    key: String,
    created: i64,
    not_after: i64,
}

/// Leaves the key out.
impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("created", &self.created)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why CAs cannot be read, or a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadOwn {
    /// A certificate or a key is none, or there are not as many of the one as of the other.
    #[error("it holds no CA certificates, each with its key")]
    Unreadable,
    /// The library failed.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// What was made cannot be used.
    #[error("what was made cannot serve: {0}")]
    Serving(#[from] BadPair),
}

/// The CAs, oldest first.
#[derive(Debug, Default)]
pub struct Authorities(Vec<Authority>);

impl Authorities {
    /// Reads certificates and keys, in PEM, in the same order. None of both is no CA.
    ///
    /// # Errors
    /// [`BadOwn::Unreadable`].
    pub fn read(certificates: &[u8], keys: &[u8]) -> Result<Self, BadOwn> {
        let certificates: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>().map_err(|_| BadOwn::Unreadable)?;
        let keys: Vec<PrivateKeyDer<'_>> =
            PrivateKeyDer::pem_slice_iter(keys).collect::<Result<_, _>>().map_err(|_| BadOwn::Unreadable)?;
        if certificates.len() != keys.len() {
            return Err(BadOwn::Unreadable);
        }
        let read = |(certificate, key): (&CertificateDer<'_>, &PrivateKeyDer<'_>)| {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            let pair = KeyPair::try_from(key).ok()?;
            let own = parsed.public_key().subject_public_key.data.as_ref() == pair.public_key_raw();
            own.then(|| Authority {
                created: parsed.validity().not_before.timestamp() + BACKDATE,
                not_after: parsed.validity().not_after.timestamp(),
                certificate: to_pem(certificate),
                key: pair.serialize_pem(),
            })
        };
        let all: Option<Vec<_>> = certificates.iter().zip(&keys).map(read).collect();
        all.map(Self).ok_or(BadOwn::Unreadable)
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all certificates in PEM: what is to be trusted.
    pub fn bundle(&self) -> String {
        self.0.iter().map(|authority| authority.certificate.as_str()).collect()
    }

    /// Returns all keys in PEM.
    pub fn keys(&self) -> String {
        self.0.iter().map(|authority| authority.key.as_str()).collect()
    }

    /// Returns the CA that signs at `now`, in Unix seconds: the newest that has been known for long enough, or else the
    /// oldest. `None` where there is none.
    pub fn signer(&self, now: i64, lifetimes: &Lifetimes) -> Option<&Authority> {
        let known = |authority: &&Authority| now >= authority.created + seconds(lifetimes.propagation);
        self.0.iter().rev().find(known).or(self.0.first())
    }

    /// Returns the CA that was made at `created`.
    pub fn by_creation(&self, created: i64) -> Option<&Authority> {
        self.0.iter().find(|authority| authority.created == created)
    }

    /// Makes a first CA, or the successor of one that is at two thirds of its life, and drops those that cannot have signed
    /// anything that is still good. Returns whether anything changed.
    ///
    /// # Errors
    /// [`BadOwn::Make`].
    pub fn advance(&mut self, now: i64, lifetimes: &Lifetimes) -> Result<bool, BadOwn> {
        let before: Vec<i64> = self.0.iter().map(|authority| authority.created).collect();
        self.0.retain(|authority| now < authority.not_after);
        // The successor of a CA signs from when it has been known for long enough; what was signed before ends a
        // serving certificate's life later.
        let last = self.0.iter().rposition(|authority| {
            now >= authority.created + seconds(lifetimes.propagation) + seconds(lifetimes.serving)
        });
        self.0.drain(..last.unwrap_or(0));
        if self.0.last().is_none_or(|newest| now >= newest.created + seconds(lifetimes.authority) * 2 / 3) {
            self.0.push(Authority::new(now, lifetimes)?);
        }
        Ok(before != self.0.iter().map(|authority| authority.created).collect::<Vec<_>>())
    }
}

impl Authority {
    fn new(now: i64, lifetimes: &Lifetimes) -> Result<Self, BadOwn> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // A name of its own, so that nobody takes one CA for another.
        params.distinguished_name.push(DnType::CommonName, format!("cloudpulse-scaler external metrics CA {now}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let not_after = now + seconds(lifetimes.authority);
        valid(&mut params, now - BACKDATE, not_after)?;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate: to_pem(certificate.der()), key: key.serialize_pem(), created: now, not_after })
    }

    /// Returns the Unix time at which the CA ends.
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Returns the Unix time at which the CA was made, by which it is known among its like.
    pub const fn created(&self) -> i64 {
        self.created
    }

    /// Makes a serving certificate for `names`, with a new key.
    ///
    /// # Errors
    /// [`BadOwn`].
    pub fn issue(&self, names: &[String], now: i64, lifetimes: &Lifetimes) -> Result<Serving, BadOwn> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "cloudpulse-scaler");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let not_after = (now + seconds(lifetimes.serving)).min(self.not_after);
        valid(&mut params, (now - BACKDATE).max(self.created - BACKDATE), not_after)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let chain = to_pem(certificate.der());
        Ok(Serving::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes())?)
    }
}

fn valid(params: &mut CertificateParams, from: i64, to: i64) -> Result<(), BadOwn> {
    let time = |at| ASN1Time::from_timestamp(at).map_err(|_| rcgen::Error::Time);
    (params.not_before, params.not_after) = (time(from)?.to_datetime(), time(to)?.to_datetime());
    Ok(())
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn to_pem(certificate: &CertificateDer<'_>) -> String {
    // The same text from the same certificate, whoever writes it: replicas would else correct each other for ever.
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", certificate.as_ref()), config)
}

#[cfg(test)]
mod tests;
