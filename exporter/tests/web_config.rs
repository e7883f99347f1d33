//! The exporter under a web config file: a real Prometheus that scrapes it with TLS, users and client certificates, and a
//! real node_exporter that takes the same files beside it.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::{free_port, http_client};
use cloudpulse_testkit::process::{Process, find_program};
use cloudpulse_testkit::prometheus::{Prometheus, PrometheusOptions};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};

const WAIT: Duration = Duration::from_secs(60);
const OURS: &str = env!("CARGO_BIN_EXE_cloudpulse-exporter");
/// One collector is enough, and both have it.
const FLAGS: [&str; 2] = ["--collector.disable-defaults", "--collector.loadavg"];
const SAMPLE: &str = "\nnode_load1 ";
const TLS: &str = "cert_file: server.crt, key_file: server.key";

/// A folder with the certificates of a server and of clients.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.issue("ca", "server", "stranger");
        this
    }

    /// Writes a CA, what it issued to a server and a client, and what another issued to a stranger.
    fn issue(&self, ca: &str, server: &str, stranger: &str) {
        let own = authority();
        self.write(&format!("{ca}.crt"), &own.pem());
        self.write_pair(server, issued(&own, ExtendedKeyUsagePurpose::ServerAuth));
        self.write_pair("client", issued(&own, ExtendedKeyUsagePurpose::ClientAuth));
        self.write_pair(stranger, issued(&authority(), ExtendedKeyUsagePurpose::ClientAuth));
    }

    fn write_pair(&self, name: &str, (certificate, key): (String, String)) {
        self.write(&format!("{name}.crt"), &certificate);
        self.write(&format!("{name}.key"), &key);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Starts an exporter under `web.yml`, and waits until it listens.
    async fn start(&self, binary: &Path) -> (u16, Program) {
        let port = free_port().unwrap();
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        let web = format!("--web.config.file={}", self.path("web.yml").display());
        let flags = [&FLAGS[..], &[&listen, &web]].concat();
        let mut program = Program::start(binary, &flags, &[], None).await.unwrap();
        let deadline = Instant::now() + WAIT;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = program.process().exit_status().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{}", program.process().log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (port, program)
    }

    /// A request; the status, or `None` where no connection came about.
    async fn get(&self, port: u16, ask: &Ask) -> Option<u16> {
        self.send(port, ask).await.map(|response| response.status().as_u16())
    }

    async fn send(&self, port: u16, ask: &Ask) -> Option<reqwest::Response> {
        let Ask { scheme, user, certificate, tls12_only } = ask;
        // Chooses what all TLS clients of the process compute with.
        http_client().unwrap();
        let authority = reqwest::Certificate::from_pem(self.read("ca.crt").as_bytes()).unwrap();
        let mut client = reqwest::Client::builder().no_proxy().timeout(WAIT).tls_certs_only([authority]);
        if let Some(name) = certificate {
            let pem = self.read(&format!("{name}.crt")) + &self.read(&format!("{name}.key"));
            client = client.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        if *tls12_only {
            client = client.tls_version_max(reqwest::tls::Version::TLS_1_2);
        }
        let mut request = client.build().unwrap().get(format!("{scheme}://127.0.0.1:{port}/metrics"));
        if let Some((name, password)) = user {
            request = request.basic_auth(name, Some(password));
        }
        request.send().await.ok()
    }
}

/// All of it: where RUST_BACKTRACE is set, the end of it says nothing.
fn log_of(process: &Process) -> String {
    std::fs::read_to_string(process.log_path()).unwrap()
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(by: &CertifiedIssuer<'static, KeyPair>, usage: ExtendedKeyUsagePurpose) -> (String, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        vec![SanType::IpAddress("127.0.0.1".parse().unwrap()), SanType::DnsName("scraper.example".try_into().unwrap())];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

#[derive(Debug, Clone, Copy)]
struct Ask {
    scheme: &'static str,
    user: Option<(&'static str, &'static str)>,
    certificate: Option<&'static str>,
    tls12_only: bool,
}

const HTTP: Ask = Ask { scheme: "http", user: None, certificate: None, tls12_only: false };
const HTTPS: Ask = Ask { scheme: "https", ..HTTP };
const ANN: Option<(&str, &str)> = Some(("ann", "secret"));

fn users() -> String {
    format!("basic_auth_users: {{ann: '{}'}}\n", bcrypt::hash("secret", 5).unwrap())
}

#[tokio::test]
async fn the_same_file_means_the_same_as_in_node_exporter() {
    let theirs = find_program(&["prometheus-node-exporter", "node_exporter"], "prometheus-node-exporter").unwrap();
    let users = users();
    let verify = "client_ca_file: ca.crt, client_auth_type";
    let tls = |more: &str| format!("tls_server_config: {{{TLS}, {more}}}\n");
    let suites = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256], curve_preferences: [CurveP256]";
    let (own, stranger) = (Some("client"), Some("stranger"));
    let all_users = |ask: Ask| {
        [None, ANN, Some(("ann", "wrong")), Some(("eve", "secret")), Some(("", ""))].map(|user| Ask { user, ..ask })
    };
    let all_clients = [None, own, stranger].map(|certificate| Ask { certificate, ..HTTPS });
    let old = Ask { tls12_only: true, ..HTTPS };
    // Each with what must come out at least once, so that a comparison of two failures is none.
    let table: Vec<(String, Vec<Ask>, Vec<Option<u16>>)> = vec![
        (String::new(), vec![HTTP, Ask { user: ANN, ..HTTP }], vec![Some(200)]),
        (users.clone(), all_users(HTTP).to_vec(), vec![Some(200), Some(401)]),
        (tls("prefer_server_cipher_suites: true"), vec![HTTPS, old], vec![Some(200)]),
        (format!("{}{users}", tls("min_version: TLS12")), all_users(HTTPS).to_vec(), vec![Some(200), Some(401)]),
        (tls("min_version: TLS13"), vec![HTTPS, old], vec![Some(200), None]),
        (tls("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]"), vec![HTTPS, old], vec![Some(200), None]),
        (tls(&format!("max_version: TLS12, {suites}")), vec![HTTPS, old], vec![Some(200)]),
        (tls("client_auth_type: RequestClientCert"), all_clients.to_vec(), vec![Some(200)]),
        (tls("client_auth_type: RequireAnyClientCert"), all_clients.to_vec(), vec![Some(200), None]),
        (tls(&format!("{verify}: VerifyClientCertIfGiven")), all_clients.to_vec(), vec![Some(200), None]),
        (tls(&format!("{verify}: RequireAndVerifyClientCert")), all_clients.to_vec(), vec![Some(200), None]),
        (
            format!("{}{users}", tls(&format!("{verify}: RequireAndVerifyClientCert"))),
            vec![Ask { user: ANN, certificate: own, ..HTTPS }, Ask { certificate: own, ..HTTPS }, HTTPS],
            vec![Some(200), Some(401), None],
        ),
    ];
    for (web, asks, must) in table {
        let folder = Folder::new();
        folder.write("web.yml", &web);
        let (their_port, _theirs) = folder.start(&theirs).await;
        let (our_port, _ours) = folder.start(Path::new(OURS)).await;
        let mut seen = Vec::new();
        for ask in asks {
            let outcome = folder.get(our_port, &ask).await;
            assert_eq!(outcome, folder.get(their_port, &ask).await, "{web}: {ask:?}: ours, then node_exporter's");
            seen.push(outcome);
        }
        assert!(must.iter().all(|outcome| seen.contains(outcome)), "{web}: {seen:?}");
    }
}

#[tokio::test]
async fn both_set_the_headers_and_ask_for_a_user() {
    let theirs = find_program(&["prometheus-node-exporter", "node_exporter"], "prometheus-node-exporter").unwrap();
    let folder = Folder::new();
    let headers =
        "{X-Frame-Options: deny, X-Content-Type-Options: nosniff, Content-Security-Policy: default-src 'self'}";
    folder.write("web.yml", &format!("{}http_server_config: {{http2: false, headers: {headers}}}\n", users()));
    let (their_port, _theirs) = folder.start(&theirs).await;
    let (our_port, _ours) = folder.start(Path::new(OURS)).await;
    for user in [None, ANN] {
        let ask = Ask { user, ..HTTP };
        let (ours, theirs) = (folder.send(our_port, &ask).await.unwrap(), folder.send(their_port, &ask).await.unwrap());
        for name in ["x-frame-options", "x-content-type-options", "content-security-policy", "www-authenticate"] {
            assert_eq!(ours.headers().get(name), theirs.headers().get(name), "{name}");
        }
        assert!(ours.headers().contains_key("x-frame-options"));
        assert_eq!(ours.headers().contains_key("www-authenticate"), user.is_none());
        assert_eq!(ours.text().await.unwrap().contains(SAMPLE), user.is_some());
    }
}

#[tokio::test]
async fn what_node_exporter_refuses_ends_the_start_here_too() {
    let theirs = find_program(&["prometheus-node-exporter", "node_exporter"], "prometheus-node-exporter").unwrap();
    let folder = Folder::new();
    for (web, said) in [
        ("tls_server_config: {cert_file: server.crt}", "tls_server_config.key_file: is missing"),
        ("tls_server_config: {cert_file: server.crt, key_file: client.key}", "do not go together"),
        ("tls_server_config: {cert_file: gone, key_file: server.key}", "tls_server_config.cert_file: gone cannot"),
        (
            "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt}",
            "client_auth_type",
        ),
        ("tls_server_config: {cert_file: server.crt, key_file: server.key, client_auth_type: x}", "there is no \"x\""),
        ("tls_server_config: {cert_file: server.crt, key_file: server.key, cipher_suites: [x]}", "cipher_suites[0]"),
        (
            "tls_server_config: {cert_file: server.crt, key_file: server.key, curve_preferences: [x]}",
            "there is no curve",
        ),
        ("tls_server_config: {cert_file: server.crt, key_file: server.key, max_version: TLS9}", "max_version"),
        ("basic_auth_users: {ann: secret}", "basic_auth_users.ann: is no bcrypt hash"),
        ("http_server_config: {headers: {Server: x}}", "http_server_config.headers.Server: cannot be set"),
        ("http_server_config: {headers: {X-Frame-Options: x}}", "is none of its values"),
        ("basic_auth_user: {}", "did you mean \"basic_auth_users\"?"),
    ] {
        folder.write("web.yml", web);
        for binary in [Path::new(OURS), &theirs] {
            let listen = format!("--web.listen-address=127.0.0.1:{}", free_port().unwrap());
            let mut command = Command::new(binary);
            command.args(FLAGS).arg(listen).arg("--web.config.file").arg(folder.path("web.yml"));
            let mut process = Process::start("exporter", &mut command, &folder.path("log")).unwrap();
            let status = process.wait_exit(WAIT).await.unwrap();
            assert_eq!(status.code(), Some(1), "{web}: {}", process.log_tail());
            if binary == Path::new(OURS) {
                let log = log_of(&process);
                assert!(log.contains(said) && log.contains("web.yml"), "{web}: {log}");
            }
        }
    }
}

/// The part with TLS is a program of its own, beside the other.
#[tokio::test]
async fn without_the_program_beside_it_nothing_is_served() {
    let folder = Folder::new();
    folder.write("web.yml", &users());
    std::fs::copy(OURS, folder.path("cloudpulse-exporter")).unwrap();
    let mut command = Command::new(folder.path("cloudpulse-exporter"));
    command.env("CLOUDPULSE_EXPORTER_WEB_CONFIG_FILE", folder.path("web.yml"));
    let mut process = Process::start("exporter", &mut command, &folder.path("log")).unwrap();
    assert_eq!(process.wait_exit(WAIT).await.unwrap().code(), Some(1));
    let log = log_of(&process);
    assert!(log.contains(&folder.path(cloudpulse_exporter::WITH_WEB_CONFIG).display().to_string()), "{log}");
}

#[tokio::test]
async fn prometheus_scrapes_with_tls_a_user_and_a_certificate_and_not_without() {
    let folder = Folder::new();
    let client = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt";
    let allowed = "client_allowed_sans: [other.example, scraper.example]";
    folder.write("web.yml", &format!("tls_server_config: {{{TLS}, {client}, {allowed}}}\n{}", users()));
    let (port, mut exporter) = folder.start(Path::new(OURS)).await;
    folder.write("secret", "secret");
    let file = |name: &str| folder.path(name).display().to_string();
    let ca = format!("ca_file: {}", file("ca.crt"));
    let certificate =
        |name: &str| format!("cert_file: {}, key_file: {}", file(&format!("{name}.crt")), file(&format!("{name}.key")));
    let user = format!("basic_auth: {{username: ann, password_file: {}}}", file("secret"));
    let with = |tls: &str, more: &str| format!("scheme: https, tls_config: {{{ca}, {tls}}}, {more}");
    let jobs = [
        ("good", with(&certificate("client"), &user)),
        ("good_http1", with(&certificate("client"), &format!("{user}, enable_http2: false"))),
        ("no_user", with(&certificate("client"), "")),
        ("wrong_user", with(&certificate("client"), "basic_auth: {username: ann, password: guess}")),
        ("stranger", with(&certificate("stranger"), &user)),
        ("no_certificate", with("", &user)),
        ("no_ca", format!("scheme: https, {user}, tls_config: {{{}}}", certificate("client"))),
        ("plain", user.clone()),
    ];
    let mut config = "global: {scrape_interval: 300ms}\nscrape_configs:\n".to_owned();
    for (name, settings) in &jobs {
        config.push_str(&format!(
            "- {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{port}']}}], {settings}}}\n"
        ));
    }
    let prometheus = Prometheus::start(PrometheusOptions { config, ..PrometheusOptions::default() }).await.unwrap();
    prometheus.wait_for("up == 1", WAIT, |up| up.len() == 2).await.unwrap();
    let up = prometheus.wait_for("up", WAIT, |up| up.len() == jobs.len()).await.unwrap();
    for (labels, up) in up {
        assert_eq!(up == 1.0, labels["job"].starts_with("good"), "{labels:?}");
    }
    prometheus.wait_for("node_load1", WAIT, |series| series.len() == 2).await.unwrap();
    let targets = prometheus.get("/api/v1/targets", &[]).await.unwrap();
    let error = |job: &str| {
        let targets = targets["activeTargets"].as_array().unwrap();
        let target = targets.iter().find(|target| target["labels"]["job"] == job).unwrap();
        target["lastError"].as_str().unwrap().to_owned()
    };
    for (job, said) in [("no_user", "401"), ("wrong_user", "401"), ("no_ca", "x509")] {
        assert!(error(job).contains(said), "{job}: {}", error(job));
    }
    // A client of TLS 1.3 has said its request before it hears that its certificate is refused: now and then the closed
    // connection is what it hears of first.
    for job in ["stranger", "no_certificate"] {
        let said = error(job);
        assert!(["tls: ", "broken pipe", "connection reset"].iter().any(|words| said.contains(words)), "{job}: {said}");
    }

    // A rotation: all certificates are new, of a new CA, which is the only one that counts from now on.
    let before = [folder.read("client.crt"), folder.read("client.key")];
    folder.issue("ca", "server", "stranger");
    let good = Ask { user: ANN, certificate: Some("client"), ..HTTPS };
    assert_eq!(folder.get(port, &good).await, Some(200));
    folder.write("old.crt", &before[0]);
    folder.write("old.key", &before[1]);
    assert_eq!(folder.get(port, &Ask { certificate: Some("old"), ..good }).await, None);
    folder.write("web.yml", "basic_auth_users: [");
    for _ in 0..3 {
        assert_eq!(folder.get(port, &good).await, Some(200), "a bad edit keeps what was in force");
    }
    let log = log_of(exporter.process());
    assert_eq!(log.matches("what was before stays in force").count(), 1, "{log}");
    folder.write("web.yml", &format!("tls_server_config: {{{TLS}, {client}, client_allowed_sans: [other.example]}}\n"));
    assert_eq!(folder.get(port, &good).await, None, "its name is no longer allowed");
}

/// With the flags of a plain exporter: the health check of a container does not know what the program in it was started with.
#[tokio::test]
async fn health_is_asked_for_with_tls_where_it_is_spoken() {
    let folder = Folder::new();
    let users = users();
    let guarded = "it answers, and asks for a user or a client certificate";
    let require = "client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert";
    for (web, scheme, well, ready) in [
        (String::new(), "http", "ok", Some("ready")),
        (users.clone(), "http", guarded, None),
        (format!("tls_server_config: {{{TLS}}}\n"), "https", "ok", Some("ready")),
        (format!("tls_server_config: {{{TLS}}}\n{users}"), "https", guarded, None),
        (format!("tls_server_config: {{{TLS}, {require}}}\n"), "https", guarded, None),
        (format!("tls_server_config: {{{TLS}, {require}, max_version: TLS12}}\n"), "https", guarded, None),
    ] {
        folder.write("web.yml", &web);
        let (port, _program) = folder.start(Path::new(OURS)).await;
        let ask = |more: &[&str]| {
            let port = format!("--port={port}");
            let output = Command::new(OURS).args(["health", &port]).args(more).output().unwrap();
            (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
        };
        let expected = format!("{scheme}://127.0.0.1:{port}/healthz: {well}\n");
        assert_eq!(ask(&[]), (Some(0), expected), "{web}");
        let (code, said) = ask(&["--ready"]);
        if let Some(line) = ready {
            assert_eq!((code, said), (Some(0), format!("{scheme}://127.0.0.1:{port}/readyz: {line}\n")), "{web}");
        } else {
            assert!(code == Some(1) && said.contains("/readyz cannot be read"), "{web}: {said}");
        }
    }
}
