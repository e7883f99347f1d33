//! Certificates for tests.

use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rustls::pki_types::CertificateDer;
use x509_parser::time::ASN1Time;

/// A certificate and its key in PEM.
pub(crate) struct Pair(pub(crate) CertificateDer<'static>, pub(crate) String);

/// A CA that is good for 380 days from [`at`] 0.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// Returns the Unix time `days` from an hour ago on.
pub(crate) fn at(days: u64) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Duration::from_secs(now.as_secs() - 3600 + days * 86_400)
}

fn validity(params: &mut CertificateParams, from: Duration, to: Duration) {
    let time = |at: Duration| ASN1Time::from_timestamp(at.as_secs() as i64).unwrap().to_datetime();
    (params.not_before, params.not_after) = (time(from), time(to));
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        validity(&mut params, at(0), at(380));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        self.0.der()
    }

    pub(crate) fn client(&self, name: &str, groups: &[&str]) -> Pair {
        self.client_for(name, groups, at(0), at(30))
    }

    pub(crate) fn client_for(&self, name: &str, groups: &[&str], from: Duration, to: Duration) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        // rcgen keeps one value for each kind of attribute.
        assert!(groups.len() < 2);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        validity(&mut params, from, to);
        self.sign(&params)
    }

    pub(crate) fn server(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        validity(&mut params, at(0), at(30));
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair(certificate.der().clone(), key.serialize_pem())
    }

    pub(crate) fn to_pem(certificate: &CertificateDer<'_>) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", certificate.as_ref()))
    }
}
