//! Subject alternative names: a certificate in DER in; the names as Go writes them out.
//!
//! Only what leads to the names is read (RFC 5280, 4.1 and 4.2.1.6): a whole parser of X.509 would be more code than all the
//! rest. What it is held to is a whole parser in the tests.

use std::net::IpAddr;

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const EXTENSIONS: u8 = 0xa3;
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const IP: u8 = 0x87;
/// 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// Returns the DNS names, mail addresses, URIs and IP addresses of a certificate; none where it has none or is none.
pub(super) fn names(certificate: &[u8]) -> Vec<String> {
    general_names(certificate).map(texts).unwrap_or_default()
}

fn general_names(certificate: &[u8]) -> Option<&[u8]> {
    let certificate = expect(&mut &*certificate, SEQUENCE)?;
    let mut fields = expect(&mut &*certificate, SEQUENCE)?;
    let mut extensions = loop {
        if let (EXTENSIONS, content) = element(&mut fields)? {
            break expect(&mut &*content, SEQUENCE)?;
        }
    };
    while !extensions.is_empty() {
        let mut extension = expect(&mut extensions, SEQUENCE)?;
        if expect(&mut extension, OBJECT_IDENTIFIER)? == SUBJECT_ALT_NAME {
            // `critical` may stand between.
            let value = loop {
                if let (OCTET_STRING, value) = element(&mut extension)? {
                    break value;
                }
            };
            return expect(&mut &*value, SEQUENCE);
        }
    }
    None
}

fn texts(mut names: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((tag, value)) = element(&mut names) {
        match tag {
            EMAIL | DNS | URI => texts.extend(std::str::from_utf8(value).map(str::to_owned)),
            IP => {
                let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
                let address = v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from));
                texts.extend(address.map(|address| address.to_canonical().to_string()));
            }
            _ => {}
        }
    }
    texts
}

fn expect<'d>(rest: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    element(rest).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// Takes one element off the front: its tag and content.
fn element<'d>(rest: &mut &'d [u8]) -> Option<(u8, &'d [u8])> {
    let (&tag, after) = rest.split_first()?;
    let (&first, after) = after.split_first()?;
    let (length, after) = match first {
        0..=0x7f => (usize::from(first), after),
        0x81..=0x83 => {
            let (bytes, after) = after.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), after)
        }
        _ => return None,
    };
    let (content, after) = after.split_at_checked(length)?;
    *rest = after;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_are_those_that_a_whole_parser_finds() {
        let long = format!("{}.example", "a".repeat(60));
        let der = certificate(vec![
            SanType::DnsName("a.example".try_into().unwrap()),
            SanType::DnsName(long.as_str().try_into().unwrap()),
            SanType::DnsName("*.b.example".try_into().unwrap()),
            SanType::Rfc822Name("me@c.example".try_into().unwrap()),
            SanType::URI("spiffe://d/e".try_into().unwrap()),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ]);
        let ours = names(&der);
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let theirs: Vec<String> = parsed
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .iter()
            .map(|name| match name {
                GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
                    (*text).to_owned()
                }
                GeneralName::IPAddress([a, b, c, d]) => format!("{a}.{b}.{c}.{d}"),
                GeneralName::IPAddress(_) => "2001:db8::1".to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ours, theirs);
        assert_eq!(ours.len(), 7);
    }

    #[test]
    fn without_names_there_are_none() {
        assert!(names(&certificate(Vec::new())).is_empty());
        assert!(names(b"").is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(cut in 0_usize..400, at in 0_usize..400, byte: u8) {
            let mut der = certificate(vec![SanType::DnsName("a.example".try_into().unwrap())]);
            if let Some(there) = der.get_mut(at) {
                *there = byte;
            }
            der.truncate(cut.max(1));
            names(&der);
        }
    }
}
