use std::collections::BTreeMap;

use cloudpulse_policy::time::Timestamp;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use prometheus::Registry;
use serde_json::Value as Json;
use tokio::sync::watch;

use super::*;
use crate::external::Item;
use crate::external::authentication::settings::Settings;
use crate::external::identity::User;
use crate::external::kept::Failed;
use crate::external::review::Reviewer;
use crate::external::testing::Ca;

/// Everybody who is known may read; of the user `unlucky` nobody can tell.
#[derive(Debug)]
struct Rights;

impl Reviewer for Rights {
    fn token(&self, token: String) -> BoxFuture<'static, Result<Option<User>, Failed>> {
        let user = (token != "garbage").then(|| User { name: token, groups: vec![], ..User::anonymous() });
        async { Ok(user) }.boxed()
    }

    fn access(&self, user: &User, action: &Action) -> BoxFuture<'static, Result<bool, Failed>> {
        let reads = match action {
            Action::Metric { verb, namespace, .. } => namespace == "shop" && ["list", "watch"].contains(verb),
            Action::Path { verb, .. } => verb == "get" || verb == "post",
        };
        let known = user.groups.contains(&"system:authenticated".to_owned());
        let answer = if user.name == "unlucky" { Err(Failed::new("away")) } else { Ok(known && reads) };
        async { answer }.boxed()
    }
}

/// One metric, `load`, of each kind of answer by its selector.
#[derive(Debug)]
struct Load;

impl Provider for Load {
    fn values<'a>(
        &'a self,
        namespace: &'a str,
        metric: &'a str,
        _: &'a Selector,
    ) -> BoxFuture<'a, Result<Vec<Arc<Item>>, NoValue>> {
        let item = |value| {
            let labels = BTreeMap::from([("namespace".to_owned(), namespace.to_owned())]);
            Ok(vec![Arc::new(Item { labels, value, at: Timestamp::from_unix_milliseconds(0), window: None })])
        };
        let answer = match metric {
            "load" => item(12.5),
            "negative" => item(-1.0),
            "stale" => Err(NoValue::Unavailable("forecast is stale".to_owned())),
            "picky" => Err(NoValue::BadRequest("a horizon is needed".to_owned())),
            _ => Err(NoValue::NotFound { metric: metric.to_owned(), selector: String::new() }),
        };
        async { answer }.boxed()
    }
}

fn server() -> Server {
    let reviewer: Arc<dyn Reviewer> = Arc::new(Rights);
    Server {
        authenticator: Authenticator::new(
            watch::Sender::new(Arc::new(Settings::default())).subscribe(),
            Arc::clone(&reviewer),
        ),
        authorizer: Authorizer::new(reviewer),
        provider: Arc::new(Load),
        metrics: Metrics::new(&Registry::new()).unwrap(),
        seldom: Seldom::default(),
    }
}

async fn ask(method: Method, path: &str, token: &str) -> (u16, Json) {
    let mut headers = HeaderMap::new();
    if !token.is_empty() {
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let answer = server().answer(&Peer::default(), &method, &path.parse().unwrap(), &headers).await;
    let body = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.code.as_u16(), body)
}

#[test]
fn words_are_seldom() {
    let (seldom, now) = (Seldom::default(), Instant::now());
    let said: Vec<bool> = [0, 1, 9, 10, 11, 25].map(|after| seldom.may(now + Duration::from_secs(after))).into();
    assert_eq!(said, [true, false, false, true, false, true]);
}

const BASE: &str = "/apis/external.metrics.k8s.io/v1beta1";

#[tokio::test]
async fn each_request_has_its_answer() {
    let metric = |name: &str| format!("{BASE}/namespaces/shop/{name}");
    for (method, path, token, code) in [
        (Method::GET, "/healthz".to_owned(), "", 200),
        (Method::GET, "/readyz".to_owned(), "garbage", 200),
        (Method::HEAD, "/livez".to_owned(), "", 200),
        (Method::POST, "/livez".to_owned(), "", 403),
        (Method::GET, "/apis".to_owned(), "alice", 200),
        (Method::GET, "/apis".to_owned(), "", 403),
        (Method::GET, "/apis/external.metrics.k8s.io".to_owned(), "alice", 200),
        (Method::GET, BASE.to_owned(), "alice", 200),
        (Method::POST, BASE.to_owned(), "alice", 405),
        (Method::GET, "/openapi/v2".to_owned(), "alice", 404),
        (Method::GET, "/openapi/v3".to_owned(), "alice", 404),
        (Method::GET, "/openapi/v2".to_owned(), "", 403),
        (Method::GET, metric("load"), "alice", 200),
        (Method::GET, metric("LOAD"), "alice", 200),
        (Method::GET, metric("load?limit=500&fieldSelector=a"), "alice", 200),
        (Method::GET, metric("load"), "", 403),
        (Method::GET, metric("load"), "garbage", 401),
        (Method::GET, metric("load"), "unlucky", 500),
        (Method::GET, format!("{BASE}/namespaces/other/load"), "alice", 403),
        (Method::GET, metric("load?watch=true"), "alice", 405),
        (Method::POST, metric("load"), "alice", 403),
        (Method::DELETE, metric("load"), "alice", 403),
        (Method::GET, metric("nothing"), "alice", 404),
        (Method::GET, metric("picky"), "alice", 400),
        (Method::GET, metric("stale"), "alice", 503),
        (Method::GET, metric("negative"), "alice", 503),
        (Method::GET, metric("load?labelSelector=a%20in%20%28"), "alice", 400),
    ] {
        let (status, body) = ask(method.clone(), &path, token).await;
        assert_eq!(status, code, "{method} {path} of {token:?}: {body}");
        if code >= 400 {
            assert_eq!((&body["kind"], &body["code"]), (&Json::from("Status"), &Json::from(code)), "{path}");
        }
    }
}

#[tokio::test]
async fn errors_say_what_is_wrong_in_the_words_of_kubernetes() {
    let (_, body) = ask(Method::GET, &format!("{BASE}/namespaces/shop/nothing"), "alice").await;
    assert_eq!(body["message"], "the server could not find the metric nothing for ");
    let (_, body) = ask(Method::GET, &format!("{BASE}/namespaces/shop/load"), "").await;
    let message = body["message"].as_str().unwrap();
    assert!(
        message.starts_with("load.external.metrics.k8s.io is forbidden: User \"system:anonymous\" cannot list"),
        "{message}"
    );
    let (_, body) = ask(Method::GET, &format!("{BASE}/namespaces/shop/load"), "garbage").await;
    assert_eq!(body["message"], "Unauthorized");
}

#[tokio::test]
async fn it_speaks_both_versions_of_http_over_tls_and_ends_when_asked() {
    let ca = Ca::new("ca");
    let pair = ca.server("localhost");
    let serving = crate::external::tls::Serving::from_pem(Ca::to_pem(&pair.0).as_bytes(), pair.1.as_bytes()).unwrap();
    let config = crate::external::tls::server_config(crate::external::tls::InForce::new(&serving)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shutdown = CancellationToken::new();
    let tls = TlsAcceptor::from(Arc::new(config));
    let serving = tokio::spawn(serve(listener, tls, Arc::new(server()), shutdown.clone()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]).build().unwrap();
    let path = format!("{BASE}/namespaces/shop/load");
    let response = client.get(format!("https://localhost:{port}{path}")).bearer_auth("alice").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, hyper::Version::HTTP_11));
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Json = response.json().await.unwrap();
    let item = &body["items"][0];
    assert_eq!((&item["value"], &item["metricLabels"]["namespace"]), (&"12500m".into(), &"shop".into()));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let http2 = tokio::spawn(connection);
    let request = Request::get(format!("https://localhost{path}")).header("authorization", "Bearer alice");
    let response = send.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, hyper::Version::HTTP_2));

    // A peer that speaks no TLS harms nobody.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(client.get(format!("https://localhost:{port}/healthz")).send().await.unwrap().status(), 200);
    shutdown.cancel();
    serving.await.unwrap();
    http2.await.unwrap().unwrap();
}
