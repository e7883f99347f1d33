//! The query client beside servers that want to be asked in their own way: mutual TLS, headers, parameters, patience.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Form;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use cloudpulse_common::query::{BasicAuth, Client, ClientConfig, QueryError, TlsConfig};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const ANSWER: &str =
    r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1.0,"2"]}]}}"#;

/// What a server was asked: headers and form of each request.
type Seen = Arc<Mutex<Vec<(HeaderMap, BTreeMap<String, String>)>>>;

fn config(url: String) -> ClientConfig {
    ClientConfig { url, ..ClientConfig::default() }
}

/// A query API that notes what it is asked; request number `n` is answered with `status(n)`.
fn api(seen: &Seen, status: impl Fn(usize) -> StatusCode + Clone + Send + Sync + 'static) -> Router {
    let seen = Arc::clone(seen);
    let answer = move |headers: HeaderMap, Form(form): Form<BTreeMap<String, String>>| async move {
        let mut seen = seen.lock().unwrap();
        seen.push((headers, form));
        (status(seen.len()), ANSWER)
    };
    Router::new().route("/base/api/v1/query", post(answer))
}

async fn plain(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// An authority and what it has signed, as PEM files in a folder.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<name>.pem` and `<name>.key`.
    fn sign(&self, name: &str, host: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn tls(&self, client: &str) -> TlsConfig {
        TlsConfig {
            ca_file: Some(self.path("ca.pem")),
            cert_file: Some(self.path(&format!("{client}.pem"))),
            key_file: Some(self.path(&format!("{client}.key"))),
            ..TlsConfig::default()
        }
    }
}

/// Serves over TLS with the certificate `server` of `own`, to clients that `trusted` has signed.
async fn mutual_tls(router: Router, own: &Authority, trusted: &Path) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let certificate = CertificateDer::from_pem_file(own.path("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(own.path("server.key")).unwrap();
    let tls = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(vec![certificate], key);
    let acceptor = TlsAcceptor::from(Arc::new(tls.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/base", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                // A client that is not let in ends here.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn headers_and_parameters_reach_the_server() {
    let seen = Seen::default();
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "pa ss\n").unwrap();
    let mut config = config(plain(api(&seen, |_| StatusCode::OK)).await);
    config.headers.insert("X-Scope-OrgID".to_owned(), "shop".to_owned());
    config.params.insert("dedup".to_owned(), "true".to_owned());
    config.basic_auth = Some(BasicAuth { username: "reader".to_owned(), password_file });
    let series = Client::new(&config).unwrap().instant("up", Some(1000)).await.unwrap();
    assert_eq!((series[0].labels["a"].as_str(), series[0].samples[0].value), ("b", 2.0));
    let seen = seen.lock().unwrap();
    let (headers, form) = &seen[0];
    assert_eq!(headers["x-scope-orgid"], "shop");
    assert_eq!(headers["authorization"], "Basic cmVhZGVyOnBhIHNz"); // printf 'reader:pa ss' | base64
    let expected = [("dedup", "true"), ("query", "up"), ("time", "1000")];
    assert_eq!(*form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[tokio::test]
async fn a_changed_token_is_taken_anew() {
    let seen = Seen::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let mut config = config(plain(api(&seen, |_| StatusCode::OK)).await);
    config.bearer_token_file = Some(file.clone());
    let error = Client::new(&config).unwrap_err();
    assert!(format!("{error:#}").contains("token: No such file"), "{error:#}");
    std::fs::write(&file, "first\n").unwrap();
    let client = Client::new(&config).unwrap();
    client.instant("up", None).await.unwrap();
    std::fs::write(&file, "second\n").unwrap();
    client.instant("up", None).await.unwrap();
    // In the middle of a rotation the last one is used on.
    std::fs::remove_file(&file).unwrap();
    client.instant("up", None).await.unwrap();
    std::fs::write(&file, "third").unwrap();
    client.instant("up", None).await.unwrap();
    let seen = seen.lock().unwrap();
    let sent: Vec<&str> = seen.iter().map(|(headers, _)| headers["authorization"].to_str().unwrap()).collect();
    assert_eq!(sent, ["Bearer first", "Bearer second", "Bearer second", "Bearer third"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_lets_in_who_is_known() {
    let (own, foreign) = (Authority::new(), Authority::new());
    own.sign("server", "127.0.0.1");
    own.sign("client", "predictor");
    foreign.sign("client", "predictor");
    let seen = Seen::default();
    let url = mutual_tls(api(&seen, |_| StatusCode::OK), &own, &own.path("ca.pem")).await;
    let ask = |tls: TlsConfig| {
        let config = ClientConfig { tls: Some(tls), retries: Some(0), ..config(url.clone()) };
        async move { Client::new(&config).unwrap().instant("up", None).await }
    };
    let unreachable = |answer: Result<_, QueryError>| matches!(answer, Err(QueryError::Unreachable { .. }));

    assert_eq!(ask(own.tls("client")).await.unwrap().len(), 1);
    let nobody = TlsConfig { cert_file: None, key_file: None, ..own.tls("client") };
    assert!(unreachable(ask(nobody).await), "without a certificate");
    let stranger = TlsConfig { ca_file: Some(own.path("ca.pem")), ..foreign.tls("client") };
    assert!(unreachable(ask(stranger).await), "with one that another authority signed");
    let distrusting = TlsConfig { ca_file: Some(foreign.path("ca.pem")), ..own.tls("client") };
    assert!(unreachable(ask(distrusting.clone()).await), "the server's authority is not trusted");
    let careless = TlsConfig { ca_file: None, insecure_skip_verify: true, ..distrusting };
    assert_eq!(ask(careless).await.unwrap().len(), 1);
    assert_eq!(seen.lock().unwrap().len(), 2, "nobody else was answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_certificate_may_be_another_than_the_urls() {
    let own = Authority::new();
    own.sign("server", "prometheus.internal");
    own.sign("client", "predictor");
    let seen = Seen::default();
    let url = mutual_tls(api(&seen, |_| StatusCode::OK), &own, &own.path("ca.pem")).await;
    let mut config = ClientConfig { tls: Some(own.tls("client")), retries: Some(0), ..config(url.clone()) };
    assert!(Client::new(&config).unwrap().instant("up", None).await.is_err(), "127.0.0.1 is not in the certificate");
    config.tls.as_mut().unwrap().server_name = Some("prometheus.internal".to_owned());
    assert_eq!(Client::new(&config).unwrap().instant("up", None).await.unwrap().len(), 1);
    let authority = url.trim_start_matches("https://").trim_end_matches("/base");
    assert_eq!(seen.lock().unwrap()[0].0["host"], authority, "the server still sees the host of the URL");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_client_certificate_is_taken_anew() {
    let (own, next) = (Authority::new(), Authority::new());
    own.sign("server", "127.0.0.1");
    own.sign("client", "predictor");
    next.sign("client", "predictor");
    // The server knows clients of the next authority only.
    let url = mutual_tls(api(&Seen::default(), |_| StatusCode::OK), &own, &next.path("ca.pem")).await;
    let config = ClientConfig { tls: Some(own.tls("client")), retries: Some(0), ..config(url) };
    let client = Client::new(&config).unwrap();
    assert!(client.instant("up", None).await.is_err());
    // Between the two writes certificate and key do not fit: the last ones are used on.
    std::fs::copy(next.path("client.pem"), own.path("client.pem")).unwrap();
    assert!(client.instant("up", None).await.is_err());
    std::fs::copy(next.path("client.key"), own.path("client.key")).unwrap();
    assert_eq!(client.instant("up", None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_nothing_else() {
    let first_two = |status: StatusCode| move |number: usize| if number <= 2 { status } else { StatusCode::OK };
    for (status, requests) in [
        (StatusCode::SERVICE_UNAVAILABLE, 3),
        (StatusCode::TOO_MANY_REQUESTS, 3),
        // A query that is wrong stays wrong; this stand-in answers in Prometheus' form, which is taken at its word.
        (StatusCode::BAD_REQUEST, 1),
    ] {
        let seen = Seen::default();
        let client = Client::new(&config(plain(api(&seen, first_two(status))).await)).unwrap();
        assert_eq!(client.instant("up", None).await.unwrap().len(), 1, "{status}");
        assert_eq!(seen.lock().unwrap().len(), requests, "{status}");
    }
    let seen = Seen::default();
    let url = plain(api(&seen, |_| StatusCode::SERVICE_UNAVAILABLE)).await;
    let client = Client::new(&ClientConfig { retries: Some(1), ..config(url) }).unwrap();
    let error = client.instant("up", None).await.unwrap_err();
    assert_eq!((error.reason(), seen.lock().unwrap().len()), ("busy", 2));
    assert!(error.to_string().contains("is busy (HTTP 503)"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_than_allowed_are_under_way() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&now), Arc::clone(&most));
    let answer = move || async move {
        let (now, most) = counters;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(30)).await;
        now.fetch_sub(1, Ordering::SeqCst);
        ANSWER
    };
    let url = plain(Router::new().route("/base/api/v1/query", post(answer))).await;
    let client = Client::new(&ClientConfig { max_concurrent_queries: Some(3), ..config(url) }).unwrap();
    let asked: Vec<_> = (0..12)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.instant("up", None).await })
        })
        .collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap().unwrap().len(), 1);
    }
    let most = most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most} at once");
}
