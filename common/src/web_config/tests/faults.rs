//! What is wrong with a web config file is found all at once.

use super::*;

#[test]
fn all_faults_are_found_at_once_with_their_fields() {
    let folder = Folder::new(
        "tls_server_config:
  cert_file: gone.crt
  key_fil: tls.key
  client_auth_type: Perhaps
  min_version: TLS10
  max_version: TLS14
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_NONE, TLS_AES_128_GCM_SHA256]
  curve_preferences: [X25519, CurveP521]
  prefer_server_cipher_suites: true
http_server_config:
  http2: maybe
  headers: {Server: x, X-Frame-Options: allow, X-XSS-Protection: \"1\\n\"}
basic_auth_users: {ann: hunter2, bob: 12345}
rate_limits: 1
",
    );
    let found = folder.findings();
    for start in [
        "tls_server_config.key_fil: unknown field",
        "tls_server_config.cert_file: gone.crt cannot be read",
        "tls_server_config.key_file: is missing",
        "tls_server_config.client_auth_type: there is no \"Perhaps\"",
        "tls_server_config.min_version: TLS10 is broken, and rustls",
        "tls_server_config.max_version: there is no version \"TLS14\"",
        "tls_server_config.cipher_suites[0]: is weak, and rustls",
        "tls_server_config.cipher_suites[1]: there is no cipher suite \"TLS_NONE\"",
        "tls_server_config.curve_preferences[1]: there is no curve \"CurveP521\"",
        "http_server_config.http2: ",
        "http_server_config.headers.Server: cannot be set",
        "http_server_config.headers.X-Frame-Options: \"allow\" is none of its values",
        "http_server_config.headers.X-XSS-Protection: is no value",
        "basic_auth_users.ann: is no bcrypt hash",
        "basic_auth_users.bob: must be a text",
        "rate_limits: unknown field",
    ] {
        assert!(found.iter().any(|finding| finding.starts_with(start)), "{start} in {found:#?}");
    }
    assert_eq!(found.len(), 16, "{found:#?}");
    assert!(!found.iter().any(|finding| finding.contains("hunter2") || finding.contains("12345")), "{found:#?}");
}

#[test]
fn fields_that_do_not_go_together_are_found() {
    for (more, finding) in [
        ("min_version: TLS13, max_version: TLS12", "tls_server_config.min_version: is above"),
        ("cert: x", "tls_server_config.cert: give cert or cert_file"),
        ("client_ca_file: ca.crt", "tls_server_config.client_ca_file: is of no use without"),
        ("client_allowed_sans: [a]", "tls_server_config.client_allowed_sans: is of no use without"),
        ("client_auth_type: RequireAndVerifyClientCert", "tls_server_config.client_ca_file: is missing"),
        ("client_auth_type: VerifyClientCertIfGiven", "tls_server_config.client_ca_file: is missing"),
        ("client_auth_type: RequireAndVerifyClientCert, client_ca: x", "tls_server_config.client_ca: there is no cert"),
        (
            "client_auth_type: RequestClientCert, client_allowed_sans: []",
            "tls_server_config.client_allowed_sans: is empty",
        ),
        ("max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]", "tls_server_config.cipher_suites: has none of"),
    ] {
        let found = Folder::new(&tls(more)).findings();
        assert!(found.len() == 1 && found[0].starts_with(finding), "{more}: {found:#?}");
    }
    let folder = Folder::new(TLS);
    folder.write("tls.key", &folder.ca.server().1);
    assert!(folder.findings()[0].starts_with("tls_server_config.key_file: certificate and private key do not"));
    folder.write("web.yml", "tls_server_config: {min_version: TLS13}");
    assert_eq!(folder.findings().len(), 2, "it never serves without TLS what asks for TLS");
    folder.write("web.yml", "a: 1\na: 2\n");
    assert_eq!(folder.findings().len(), 1);
    let missing = WebConfig::load(&folder.folder.path().join("gone.yml")).unwrap_err();
    assert!(missing.0[0].message.starts_with("cannot be read"), "{missing}");
}
