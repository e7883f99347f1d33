//! The HTTP server that all programs share: `/metrics`, `/healthz`, `/health`, `/readyz` and a landing page.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::exposition::Format;

/// How long open requests may go on after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Whether the program can do its work now, and if not, why. Clones share one state.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<RwLock<Result<(), String>>>);

impl Readiness {
    /// Returns a state that is not ready, for the given reason.
    pub fn not_yet(reason: &str) -> Self {
        Self(Arc::new(RwLock::new(Err(reason.to_owned()))))
    }

    /// Marks the program ready.
    pub fn ready(&self) {
        self.set(Ok(()));
    }

    /// Marks the program not ready, for the given reason.
    pub fn unready(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    /// Returns `Ok` when ready, else the reason.
    ///
    /// # Errors
    /// The reason why the program is not ready.
    pub fn get(&self) -> Result<(), String> {
        self.0.read().map_or_else(|poisoned| poisoned.into_inner().clone(), |state| state.clone())
    }

    fn set(&self, state: Result<(), String>) {
        match self.0.write() {
            Ok(mut guard) => *guard = state,
            Err(poisoned) => *poisoned.into_inner() = state,
        }
    }
}

/// Makes the page at a scrape, in the asked format.
pub type MetricsPage = Arc<dyn Fn(Format) -> Vec<u8> + Send + Sync>;

/// Returns the routes that every program has. `program` is its name without prefix, such as `predictor`.
pub fn base_router(program: &'static str, readiness: Readiness, page: MetricsPage) -> Router {
    probe_router(program, readiness).merge(Router::new().route("/metrics", get(metrics)).with_state(page))
}

/// Returns the routes of [`base_router`] without `/metrics`, for a program that answers it in its own way.
pub fn probe_router(program: &'static str, readiness: Readiness) -> Router {
    Router::new()
        .route("/", get(move || landing(program)))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/health", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

/// Serves `service`, such as a router, on `listener` until `shutdown` is cancelled, then lets open requests finish for a
/// few seconds. It speaks HTTP/1.1 and runs each connection in a task of its own.
///
/// This is `axum::serve` without what our programs do not use: at a few scrapes a minute the machine finds every line of
/// code on the way cold, and a shorter way is measurably cheaper.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve<S>(listener: TcpListener, service: S, shutdown: CancellationToken) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    accept(listener, &shutdown, |stream| connection(stream, service.clone(), shutdown.clone())).await
}

/// Serves `service` as [`serve`] does, under a web config where there is one: with TLS, for users, with headers.
///
/// # Errors
/// When the listener cannot be used.
#[cfg(feature = "web")]
pub async fn serve_under<S>(
    listener: TcpListener,
    web: Option<crate::web_config::WebConfig>,
    service: S,
    shutdown: CancellationToken,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    match web {
        None => serve(listener, service, shutdown).await,
        // Boxed: whoever serves plain HTTP does not carry its state.
        Some(web) => Box::pin(crate::web_config::serve(listener, web, service, shutdown)).await,
    }
}

/// Runs what `connection` returns for each connection, in a task of its own, until `shutdown` is cancelled.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    shutdown: &CancellationToken,
    connection: impl Fn(TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    listener.local_addr()?;
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream));
            }
            Err(error) if is_of_peer(&error) => {}
            Err(error) => {
                // Mostly too many open files: others will be closed, and to try at once would only burn CPU.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    let _ = tokio::time::timeout(GRACE, connections.wait()).await;
    Ok(())
}

async fn connection<S>(stream: TcpStream, service: S, shutdown: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone,
{
    // Without this the last part of a page waits for the acknowledgement of the one before it.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A peer that went away or spoke no HTTP: its own affair.
        tracing::debug!(%error, "connection ended");
    }
}

fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Returns a response with the body and the content type of `format`.
pub fn metrics_response(format: Format, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

/// Returns the format that the request asks for.
pub fn negotiate(headers: &HeaderMap) -> Format {
    Format::negotiate(headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()))
}

async fn metrics(State(page): State<MetricsPage>, headers: HeaderMap) -> Response {
    let format = negotiate(&headers);
    metrics_response(format, page(format))
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.get() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn landing(program: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><title>CloudPulse {program}</title><h1>CloudPulse {program}</h1>\
         <p><a href=\"metrics\">Metrics</a> · <a href=\"healthz\">Health</a> · <a href=\"readyz\">Readiness</a></p>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn start(shutdown: CancellationToken) -> (std::net::SocketAddr, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let page: MetricsPage = Arc::new(|format| format!("page in {format:?}\n").into_bytes());
        let readiness = Readiness::not_yet("for a test");
        let router = base_router("test", readiness, page);
        (address, tokio::spawn(serve(listener, router, shutdown)))
    }

    async fn get(stream: &mut TcpStream, path: &str, header: &str) -> String {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{header}\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test]
    async fn one_connection_serves_many_requests() {
        let (address, _) = start(CancellationToken::new()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for (path, header, status, body) in [
            ("/metrics", "", "200", "page in Text"),
            ("/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n", "200", "page in OpenMetrics"),
            ("/health", "", "200", "ok"),
            ("/healthz", "", "200", "ok"),
            ("/readyz", "", "503", "not ready: for a test"),
            ("/", "", "200", "CloudPulse test"),
            ("/nowhere", "", "404", ""),
        ] {
            let answer = get(&mut stream, path, header).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
            assert!(answer.contains(body), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn shutdown_closes_idle_connections_and_ends() {
        let shutdown = CancellationToken::new();
        let (address, server) = start(shutdown.clone()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        get(&mut stream, "/healthz", "").await;
        shutdown.cancel();
        server.await.unwrap().unwrap();
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_peer_that_speaks_no_http_harms_nobody() {
        let (address, _) = start(CancellationToken::new()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"\x16\x03\x01 no http\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(get(&mut stream, "/health", "").await.contains("ok"));
    }
}
