use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use webpki::EndEntityCert;
use webpki::KeyUsage;

use super::*;

const DAY: i64 = 86_400;
const START: i64 = 1_800_000_000;
const NAME: &str = "cloudpulse-scaler.cloudpulse.svc";

const LIFETIMES: Lifetimes = Lifetimes {
    authority: Duration::from_secs(365 * DAY as u64),
    serving: Duration::from_secs(90 * DAY as u64),
    propagation: Duration::from_secs(60),
};

/// Whether who trusts `bundle` takes `serving` at `now`.
fn trusts(bundle: &str, serving: &Serving, now: i64) -> bool {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let leaf = serving.chain()[0].clone();
    let leaf = EndEntityCert::try_from(&leaf).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now as u64));
    leaf.verify_is_valid_for_subject_name(&ServerName::try_from(NAME).unwrap()).unwrap();
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &roots.roots, &[], now, KeyUsage::server_auth(), None, None)
        .is_ok()
}

fn issue(authorities: &Authorities, now: i64) -> Serving {
    authorities.signer(now, &LIFETIMES).unwrap().issue(&[NAME.to_owned()], now, &LIFETIMES).unwrap()
}

#[test]
fn the_first_authority_signs_at_once() {
    let mut authorities = Authorities::default();
    assert!(authorities.is_empty() && authorities.signer(START, &LIFETIMES).is_none());
    assert!(authorities.advance(START, &LIFETIMES).unwrap());
    assert!(!authorities.advance(START, &LIFETIMES).unwrap(), "once is enough");
    let serving = issue(&authorities, START);
    assert_eq!(serving.not_after(), START + 90 * DAY);
    assert!(trusts(&authorities.bundle(), &serving, START));
    assert!(!trusts(&authorities.bundle(), &serving, START + 91 * DAY));
}

#[test]
fn for_ten_years_what_was_made_known_a_minute_ago_trusts_all_that_is_served() {
    let mut authorities = Authorities::default();
    let mut served: Vec<Serving> = Vec::new();
    let mut made = 0;
    let mut most = 0;
    for step in 0..10 * 365 {
        let now = START + step * DAY;
        if authorities.advance(now, &LIFETIMES).unwrap() {
            made += 1;
        }
        most = most.max(authorities.0.len());
        let known = authorities.bundle();
        // A replica renews late, at the very end; another one took its certificate just before the change.
        served.retain(|serving| now < serving.not_after());
        if step % 10 == 0 {
            served.push(issue(&authorities, now));
        }
        for serving in &served {
            assert!(trusts(&known, serving, now), "day {step}");
        }
    }
    assert_eq!(most, 2);
    assert!((20..40).contains(&made), "{made} changes");
}

#[test]
fn a_new_authority_is_known_before_it_signs() {
    let mut authorities = Authorities::default();
    authorities.advance(START, &LIFETIMES).unwrap();
    let change = START + 244 * DAY;
    assert!(authorities.advance(change, &LIFETIMES).unwrap());
    assert_eq!(authorities.0.len(), 2);
    assert_eq!(authorities.signer(change + 59, &LIFETIMES).unwrap().created(), START);
    assert_eq!(authorities.signer(change + 60, &LIFETIMES).unwrap().created(), change);
    let last_of_old = change + 59 + 90 * DAY;
    authorities.advance(last_of_old, &LIFETIMES).unwrap();
    assert_eq!(authorities.0.len(), 2, "its last certificate may still be served");
    authorities.advance(last_of_old + 2, &LIFETIMES).unwrap();
    assert_eq!(authorities.0.len(), 1);
}

#[test]
fn after_years_of_rest_there_is_a_new_authority() {
    let mut authorities = Authorities::default();
    authorities.advance(START, &LIFETIMES).unwrap();
    let now = START + 800 * DAY;
    assert!(authorities.advance(now, &LIFETIMES).unwrap());
    assert_eq!(authorities.0.len(), 1);
    assert!(trusts(&authorities.bundle(), &issue(&authorities, now), now));
}

#[test]
fn what_is_written_reads_back_the_same() {
    let mut authorities = Authorities::default();
    authorities.advance(START, &LIFETIMES).unwrap();
    authorities.advance(START + 244 * DAY, &LIFETIMES).unwrap();
    let read = Authorities::read(authorities.bundle().as_bytes(), authorities.keys().as_bytes()).unwrap();
    assert_eq!((read.bundle(), read.keys()), (authorities.bundle(), authorities.keys()));
    let created = |authorities: &Authorities| authorities.0.iter().map(Authority::created).collect::<Vec<_>>();
    assert_eq!(created(&read), created(&authorities));
    assert!(trusts(&authorities.bundle(), &issue(&read, START), START));
    assert!(Authorities::read(b"", b"").unwrap().is_empty());
}

#[test]
fn what_does_not_go_together_is_not_read() {
    let mut one = Authorities::default();
    one.advance(START, &LIFETIMES).unwrap();
    let mut other = Authorities::default();
    other.advance(START, &LIFETIMES).unwrap();
    assert!(Authorities::read(one.bundle().as_bytes(), b"").is_err());
    assert!(Authorities::read(one.bundle().as_bytes(), other.keys().as_bytes()).is_err());
    let shown = format!("{one:?}");
    assert!(!shown.contains("PRIVATE") && !shown.contains(one.keys().lines().nth(1).unwrap()), "{shown}");
}

#[test]
fn lifetimes_leave_time_for_the_change() {
    assert_eq!(LIFETIMES.finding(), None);
    let days = |days: u64| Duration::from_secs(days * DAY as u64);
    assert!(Lifetimes { authority: days(200), ..LIFETIMES }.finding().is_some());
    assert!(Lifetimes { serving: Duration::from_secs(100), ..LIFETIMES }.finding().is_some());
    assert!(Lifetimes { propagation: Duration::ZERO, ..LIFETIMES }.finding().is_some());
}
