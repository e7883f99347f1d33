//! Certificate authorities that clients are held against: PEM in; whether a chain is theirs out. Pure.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::TrustAnchor;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject as _;
use webpki::EndEntityCert;
use webpki::KeyUsage;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

/// CA certificates, each with the time in which it is good.
#[derive(Debug, Clone)]
pub struct Authority {
    anchors: Vec<Anchor>,
}

#[derive(Debug, Clone)]
struct Anchor {
    anchor: TrustAnchor<'static>,
    not_before: i64,
    not_after: i64,
}

/// Why a text is no bundle of CA certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadAuthority {
    /// It is no PEM.
    #[error("not PEM: {0}")]
    Pem(rustls::pki_types::pem::Error),
    /// A certificate in it is none.
    #[error("certificate {number} of the bundle cannot be read")]
    Certificate {
        /// Which, from 1.
        number: usize,
    },
    /// There is no certificate in it.
    #[error("there is no certificate in it")]
    Empty,
}

impl Authority {
    /// Reads a bundle of CA certificates in PEM.
    ///
    /// # Errors
    /// [`BadAuthority`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadAuthority> {
        let mut anchors = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(BadAuthority::Pem)?;
            let bad = BadAuthority::Certificate { number: anchors.len() + 1 };
            let Ok(anchor) = webpki::anchor_from_trusted_cert(&certificate) else { return Err(bad) };
            let Ok((_, parsed)) = X509Certificate::from_der(&certificate) else { return Err(bad) };
            anchors.push(Anchor {
                anchor: anchor.to_owned(),
                not_before: parsed.validity().not_before.timestamp(),
                not_after: parsed.validity().not_after.timestamp(),
            });
        }
        if anchors.is_empty() { Err(BadAuthority::Empty) } else { Ok(Self { anchors }) }
    }

    /// Checks that `chain`, a client's certificate first, is signed by one of the CAs, is good at `now`, and is for clients.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), webpki::Error> {
        let Some((leaf, intermediates)) = chain.split_first() else { return Err(webpki::Error::UnknownIssuer) };
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        // webpki takes an anchor as trusted whatever its dates; an expired CA is to be none, as in Kubernetes.
        let good = |anchor: &&Anchor| (anchor.not_before..=anchor.not_after).contains(&seconds);
        let anchors: Vec<TrustAnchor<'static>> =
            self.anchors.iter().filter(good).map(|anchor| anchor.anchor.clone()).collect();
        EndEntityCert::try_from(leaf)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                intermediates,
                now,
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::external::testing::Ca;
    use crate::external::testing::at;

    #[test]
    fn a_chain_is_held_against_its_own_authority() {
        let (own, other) = (Ca::new("own"), Ca::new("other"));
        let authority = Authority::from_pem(own.pem().as_bytes()).unwrap();
        let now = UnixTime::now();
        authority.verify(&[own.client("alice", &["dev"]).0], now).unwrap();
        assert!(authority.verify(&[other.client("alice", &["dev"]).0], now).is_err());
        assert!(authority.verify(&[], now).is_err());
        assert!(authority.verify(&[CertificateDer::from(b"no certificate".to_vec())], now).is_err());
        let both = Authority::from_pem(format!("{}{}", own.pem(), other.pem()).as_bytes()).unwrap();
        both.verify(&[other.client("alice", &[]).0], now).unwrap();
    }

    #[test]
    fn a_certificate_for_servers_is_no_client() {
        let ca = Ca::new("own");
        let authority = Authority::from_pem(ca.pem().as_bytes()).unwrap();
        assert!(authority.verify(&[ca.server("web.shop.svc").0], UnixTime::now()).is_err());
    }

    #[test]
    fn what_has_expired_is_not_taken_neither_leaf_nor_authority() {
        let ca = Ca::new("own");
        let authority = Authority::from_pem(ca.pem().as_bytes()).unwrap();
        let day = Duration::from_secs(86_400);
        let leaf = ca.client_for("alice", &[], at(0), at(0) + 400 * day).0;
        assert!(authority.verify(std::slice::from_ref(&leaf), UnixTime::since_unix_epoch(at(0) + day)).is_ok());
        assert!(
            authority.verify(std::slice::from_ref(&leaf), UnixTime::since_unix_epoch(at(0) + 390 * day)).is_err(),
            "the CA is over"
        );
        let leaf = ca.client_for("alice", &[], at(0), at(0) + day).0;
        assert!(authority.verify(&[leaf], UnixTime::since_unix_epoch(at(0) + 2 * day)).is_err());
    }

    #[test]
    fn what_is_no_bundle_is_said() {
        assert!(matches!(Authority::from_pem(b""), Err(BadAuthority::Empty)));
        assert!(matches!(Authority::from_pem(b"hello"), Err(BadAuthority::Empty)));
        let nonsense = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(matches!(Authority::from_pem(nonsense), Err(BadAuthority::Certificate { number: 1 })));
    }
}
