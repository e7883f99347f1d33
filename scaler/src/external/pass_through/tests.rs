use std::sync::Mutex;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::response::IntoResponse;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::external::testing::Ca;
use crate::external::tls::InForce;
use crate::external::tls::Serving;
use crate::external::tls::server_config;

/// Knows `own` and that `stale` is old.
#[derive(Debug)]
struct Ours;

fn item(value: f64) -> Arc<Item> {
    Arc::new(Item { labels: BTreeMap::new(), value, at: Timestamp::from_unix_milliseconds(0), window: None })
}

impl Provider for Ours {
    fn values<'a>(
        &'a self,
        _: &'a str,
        metric: &'a str,
        selector: &'a Selector,
    ) -> BoxFuture<'a, Result<Vec<Arc<Item>>, NoValue>> {
        let answer = match metric {
            "own" => Ok(vec![item(1.0)]),
            "stale" => Err(NoValue::Unavailable("stale".to_owned())),
            _ => Err(NoValue::NotFound { metric: metric.to_owned(), selector: selector.to_string() }),
        };
        Box::pin(async { answer })
    }
}

type Seen = Arc<Mutex<Vec<String>>>;

/// Another server over TLS: what it is asked is noted.
async fn other(ca: &Ca) -> (String, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let answer = move |uri: Uri, RawQuery(query): RawQuery, headers: HeaderMap| {
        let authorization = headers.get("authorization").unwrap().to_str().unwrap().to_owned();
        noted.lock().unwrap().push(format!("{} {} {authorization}", uri.path(), query.unwrap_or_default()));
        async move {
            match uri.path().rsplit('/').next().unwrap() {
                "s0-queue" => axum::Json(serde_json::json!({"items": [
                    {"metricName": "s0-queue", "metricLabels": null, "timestamp": "2026-11-24T02:10:00Z", "value": "12500m"},
                    {"metricName": "s0-queue", "metricLabels": {"a": "b"}, "timestamp": "2026-11-24T02:10:00Z", "window": 60, "value": "2k"},
                ]}))
                .into_response(),
                "own" => axum::Json(serde_json::json!({"items": []})).into_response(),
                "nonsense" => "hello".into_response(),
                "long" => vec![b' '; LONGEST + 1].into_response(),
                "elsewhere" => axum::response::Redirect::temporary("https://127.0.0.1:1/").into_response(),
                "broken" => {
                    (axum::http::StatusCode::INTERNAL_SERVER_ERROR, axum::Json(serde_json::json!({"message": "no Prometheus"}))).into_response()
                }
                _ => axum::http::StatusCode::NOT_FOUND.into_response(),
            }
        }
    };
    let pair = ca.server("localhost");
    let serving = Serving::from_pem(Ca::to_pem(&pair.0).as_bytes(), pair.1.as_bytes()).unwrap();
    let tls = TlsAcceptor::from(Arc::new(server_config(InForce::new(&serving)).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let router = Router::new().fallback(answer);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, router) = (tls.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(router);
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    (url, seen)
}

fn through(url: &str, ca: &Ca, token_file: PathBuf) -> PassThrough {
    let delegate = Delegate::new(url.parse().unwrap(), ca.pem().as_bytes(), token_file).unwrap();
    PassThrough::new(Arc::new(Ours), delegate)
}

#[tokio::test]
async fn what_is_not_ours_is_asked_there_and_what_is_ours_is_not() {
    let ca = Ca::new("other");
    let (url, seen) = other(&ca).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let through = through(&url, &ca, token.clone());
    let everything = Selector::default();
    assert_eq!(through.values("shop", "own", &everything).await, Ok(vec![item(1.0)]));
    assert_eq!(through.values("shop", "stale", &everything).await, Err(NoValue::Unavailable("stale".to_owned())));
    assert!(seen.lock().unwrap().is_empty());

    let selector = Selector::parse("scaledobject.keda.sh/name=web").unwrap();
    let values = through.values("shop", "s0-queue", &selector).await.unwrap();
    assert_eq!(values.iter().map(|item| item.value).collect::<Vec<_>>(), [12.5, 2000.0]);
    assert_eq!(values[1].window, Some(Duration::from_secs(60)));
    assert_eq!(values[0].at, Timestamp::from_unix_milliseconds(1_795_486_200_000));
    assert_eq!(values[1].labels, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    std::fs::write(&token, "renewed").unwrap();
    let nothing = through.values("a b", "x/y", &everything).await;
    assert_eq!(nothing, Err(NoValue::NotFound { metric: "x/y".to_owned(), selector: String::new() }));
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/s0-queue labelSelector=scaledobject.keda.sh%2Fname%3Dweb Bearer secret",
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/a%20b/x%2Fy  Bearer renewed",
        ]
    );
}

#[tokio::test]
async fn what_goes_wrong_there_is_unavailable_here() {
    let ca = Ca::new("other");
    let (url, _) = other(&ca).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let ask = async |through: PassThrough, metric: &str| {
        let error = through.values("shop", metric, &Selector::default()).await.unwrap_err();
        assert!(matches!(error, NoValue::Unavailable(_)), "{metric}: {error}");
        error.to_string()
    };
    assert!(ask(through(&url, &ca, token.clone()), "broken").await.contains("no Prometheus"));
    for metric in ["nonsense", "long", "elsewhere"] {
        ask(through(&url, &ca, token.clone()), metric).await;
    }
    ask(through(&url, &Ca::new("stranger"), token.clone()), "s0-queue").await;
    ask(through("https://localhost:1", &ca, token.clone()), "s0-queue").await;
    assert!(ask(through(&url, &ca, folder.path().join("none")), "s0-queue").await.contains("token"));
    let full = through(&url, &ca, token);
    let _all = full.delegate.permits.try_acquire_many(AT_ONCE as u32).unwrap();
    let error = full.values("shop", "s0-queue", &Selector::default()).await.unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
}
