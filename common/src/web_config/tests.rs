mod faults;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::server::serve_under;

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, in PEM.
    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn server(&self) -> (String, String) {
        self.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn client(&self, name: &str) -> (String, String) {
        self.issue(name, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

/// A folder with a server's certificate, its CA, and a web config.
struct Folder {
    folder: tempfile::TempDir,
    ca: Ca,
}

impl Folder {
    fn new(config: &str) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap(), ca: Ca::new() };
        let (certificate, key) = this.ca.server();
        this.write("tls.crt", &certificate);
        this.write("tls.key", &key);
        this.write("ca.crt", &this.ca.0.pem());
        this.write("web.yml", config);
        this
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn load(&self) -> Result<WebConfig, Findings> {
        WebConfig::load(&self.folder.path().join("web.yml"))
    }

    fn findings(&self) -> Vec<String> {
        self.load().unwrap_err().0.iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect()
    }
}

const TLS: &str = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n";

fn tls(more: &str) -> String {
    TLS.replace('}', &format!(", {more}}}"))
}

async fn start(web: WebConfig) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/", get(|| async { "page" }));
    tokio::spawn(serve_under(listener, Some(web), router, CancellationToken::new()));
    port
}

/// A client, by the CA that it trusts.
struct Client<'c> {
    ca: &'c Ca,
    certificate: Option<(String, String)>,
    versions: &'static [&'static SupportedProtocolVersion],
    alpn: &'static [&'static str],
}

impl<'c> Client<'c> {
    fn of(folder: &'c Folder) -> Self {
        Self { ca: &folder.ca, certificate: None, versions: BOTH, alpn: &[] }
    }

    fn with(folder: &'c Folder, certificate: (String, String)) -> Self {
        Self { certificate: Some(certificate), ..Self::of(folder) }
    }

    async fn connect(&self, port: u16) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    /// The answer to a request, or why there is none. Only with it does a client of TLS 1.3 know that it was let in.
    async fn get(&self, port: u16, headers: &str) -> std::io::Result<String> {
        let mut stream = self.connect(port).await?;
        get_over(&mut stream, headers).await
    }

    async fn is_let_in(&self, port: u16) -> bool {
        self.get(port, "").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

async fn get_over(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), headers: &str) -> std::io::Result<String> {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

async fn get_plain(port: u16, headers: &str) -> String {
    get_over(&mut TcpStream::connect(("127.0.0.1", port)).await.unwrap(), headers).await.unwrap()
}

#[tokio::test]
async fn an_empty_file_is_plain_http_for_everybody() {
    for text in ["", "# nothing\n", "---\n", "tls_server_config:\nbasic_auth_users:\nhttp_server_config: {}\n"] {
        let web = Folder::new(text).load().unwrap();
        assert!(!web.is_tls());
        assert!(get_plain(start(web).await, "").await.starts_with("HTTP/1.1 200"), "{text}");
    }
    assert!(WebConfig::load_optional(None).unwrap().is_none());
    assert!(WebConfig::load_optional(Some(Path::new(""))).unwrap().is_none());
}

#[tokio::test]
async fn versions_and_suites_are_those_asked_for() {
    const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
    const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let suite = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]";
    for (more, tls12, tls13) in [
        ("key: ''", true, true),
        ("min_version: TLS13", false, true),
        ("max_version: TLS12", true, false),
        (suite, true, true),
        ("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]", false, true),
        ("cipher_suites: [TLS_AES_128_GCM_SHA256]", false, true),
        ("curve_preferences: [CurveP384]", true, true),
    ] {
        let folder = Folder::new(&tls(more));
        let port = start(folder.load().unwrap()).await;
        for (versions, expected) in [(TLS12, tls12), (TLS13, tls13)] {
            let client = Client { versions, ..Client::of(&folder) };
            assert_eq!(client.is_let_in(port).await, expected, "{more}: {versions:?}");
        }
        if more == suite {
            let stream = Client { versions: TLS12, ..Client::of(&folder) }.connect(port).await.unwrap();
            let chosen = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(chosen, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
        }
        if more.starts_with("curve") {
            let stream = Client::of(&folder).connect(port).await.unwrap();
            let chosen = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
            assert_eq!(chosen, rustls::NamedGroup::secp384r1);
        }
    }
}

#[tokio::test]
async fn http2_is_spoken_unless_it_is_off() {
    for (more, alpn, expected) in [
        ("", &["h2", "http/1.1"][..], Some(&b"h2"[..])),
        ("", &["http/1.1"], Some(b"http/1.1")),
        ("", &[], None),
        ("http_server_config: {http2: false}\n", &["h2", "http/1.1"], Some(b"http/1.1")),
    ] {
        let folder = Folder::new(&format!("{TLS}{more}"));
        let port = start(folder.load().unwrap()).await;
        let client = Client { alpn, ..Client::of(&folder) };
        let stream = client.connect(port).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), expected);
        if expected == Some(b"h2") {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            for _ in 0..2 {
                let request = Request::get("https://localhost/").body(Body::empty()).unwrap();
                assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
            }
        } else {
            assert!(client.is_let_in(port).await);
        }
    }
}

#[tokio::test]
async fn clients_are_let_in_by_what_their_certificates_are() {
    let stranger = Ca::new();
    let verify = "client_ca_file: ca.crt, client_auth_type";
    // Without a certificate; with one of a stranger; with one of ours; with one of ours for servers only.
    for (more, expected) in [
        ("client_auth_type: NoClientCert".to_owned(), [true; 4]),
        ("client_auth_type: RequestClientCert".to_owned(), [true; 4]),
        ("client_auth_type: RequireAnyClientCert".to_owned(), [false, true, true, true]),
        (format!("{verify}: VerifyClientCertIfGiven"), [true, false, true, false]),
        (format!("{verify}: RequireAndVerifyClientCert"), [false, false, true, false]),
        (format!("{verify}: RequireAndVerifyClientCert, client_allowed_sans: [b, a.x]"), [false, false, true, false]),
        (format!("{verify}: RequireAndVerifyClientCert, client_allowed_sans: [b.x]"), [false; 4]),
        (format!("{verify}: VerifyClientCertIfGiven, client_allowed_sans: [a.x]"), [false, false, true, false]),
        ("client_auth_type: RequireAnyClientCert, client_allowed_sans: [a.x]".to_owned(), [false, true, true, true]),
    ] {
        let folder = Folder::new(&tls(&more));
        let port = start(folder.load().unwrap()).await;
        let clients = [
            Client::of(&folder),
            Client::with(&folder, stranger.client("a.x")),
            Client::with(&folder, folder.ca.client("a.x")),
            Client::with(&folder, folder.ca.issue("a.x", ExtendedKeyUsagePurpose::ServerAuth)),
        ];
        for (at, (client, expected)) in clients.iter().zip(expected).enumerate() {
            for versions in [&BOTH[..1], &BOTH[1..]] {
                let client = Client { versions, certificate: client.certificate.clone(), ..Client::of(&folder) };
                assert_eq!(client.is_let_in(port).await, expected, "{more}: client {at}, {versions:?}");
            }
        }
    }
}

#[tokio::test]
async fn inline_certificates_serve() {
    let folder = Folder::new("");
    let (certificate, key) = folder.ca.server();
    let indent = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let config = format!(
        "tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n  cert: |\n{}  key: |\n{}  client_ca: |\n{}",
        indent(&certificate),
        indent(&key),
        indent(&folder.ca.0.pem()),
    );
    folder.write("web.yml", &config);
    let port = start(folder.load().unwrap()).await;
    assert!(Client::with(&folder, folder.ca.client("a")).is_let_in(port).await);
    assert!(!Client::of(&folder).is_let_in(port).await);
    // The bytes of a key are in no finding.
    folder.write("web.yml", &config.replace("-----BEGIN CERT", "-----BEGIN CERTS"));
    let secret = key.lines().nth(1).unwrap();
    assert!(!folder.findings().iter().any(|finding| finding.contains(secret)));
}

fn users(list: &[(&str, &str)]) -> String {
    let mut text = "basic_auth_users:\n".to_owned();
    for (name, password) in list {
        text.push_str(&format!("  {name}: {}\n", bcrypt::hash(password, 4).unwrap()));
    }
    text
}

const ANN: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n"; // ann:secret

#[tokio::test]
async fn users_and_headers_are_those_of_the_file_also_after_an_edit() {
    let headers = "http_server_config: {headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=9}}\n";
    let folder = Folder::new(&format!("{}{headers}", users(&[("ann", "secret")])));
    let port = start(folder.load().unwrap()).await;
    let refused = get_plain(port, "").await;
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("www-authenticate: Basic\r\n"), "{refused}");
    assert!(!refused.contains("page"));
    let passed = get_plain(port, ANN).await;
    assert!(passed.starts_with("HTTP/1.1 200") && passed.ends_with("page"), "{passed}");
    for answer in [&refused, &passed] {
        assert!(answer.contains("x-frame-options: deny\r\n") && answer.contains("max-age=9\r\n"), "{answer}");
    }
    // On a connection that stays open the next request already sees the edit.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut status = async || {
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n{ANN}\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[9..12.min(length)]).into_owned()
    };
    assert_eq!(status().await, "200");
    folder.write("web.yml", &users(&[("ann", "other")]));
    assert_eq!(status().await, "401");
    folder.write("web.yml", "basic_auth_users: [");
    assert_eq!(status().await, "401", "a bad edit opens nothing");
    folder.write("web.yml", "");
    assert_eq!(status().await, "200");
}

#[tokio::test]
async fn certificates_rotate_and_a_bad_edit_changes_nothing() {
    let folder = Folder::new(TLS);
    let web = folder.load().unwrap();
    let port = start(web.clone()).await;
    let serial = async || {
        let stream = Client::of(&folder).connect(port).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let first = serial().await;
    assert_eq!(first, serial().await);
    let settings = web.current();
    assert!(Arc::ptr_eq(&settings, &web.current()), "what did not change is not made anew");
    let (certificate, key) = folder.ca.server();
    folder.write("tls.crt", &certificate);
    assert_eq!(first, serial().await, "half of a change");
    folder.write("tls.key", &key);
    let second = serial().await;
    assert_ne!(first, second);
    for bad in ["tls_server_config: {cert_file: gone, key_file: tls.key}", "x: 1", "", "tls_server_config: ["] {
        folder.write("web.yml", bad);
        assert_eq!(second, serial().await, "{bad}");
    }
    std::fs::remove_file(folder.folder.path().join("web.yml")).unwrap();
    assert_eq!(second, serial().await);
    folder.write("web.yml", &tls("client_auth_type: RequireAnyClientCert"));
    assert!(!Client::of(&folder).is_let_in(port).await);
}

#[tokio::test]
async fn tls_is_not_turned_on_by_an_edit() {
    let folder = Folder::new("");
    let port = start(folder.load().unwrap()).await;
    folder.write("web.yml", TLS);
    assert!(get_plain(port, "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_shutdown_closes_connections_with_tls_too() {
    for alpn in [&["h2"][..], &["http/1.1"]] {
        let folder = Folder::new(TLS);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = CancellationToken::new();
        let web = folder.load().unwrap();
        let server = tokio::spawn(serve_under(listener, Some(web), Router::new(), shutdown.clone()));
        let mut stream = Client { alpn, ..Client::of(&folder) }.connect(port).await.unwrap();
        if alpn == ["h2"] {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            let connection = tokio::spawn(connection);
            let request = Request::get("https://localhost/").body(Body::empty()).unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), 404);
            shutdown.cancel();
            connection.await.unwrap().unwrap();
        } else {
            shutdown.cancel();
            // Closed in whichever way: it may come before all that was sent is read.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        server.await.unwrap().unwrap();
    }
}
