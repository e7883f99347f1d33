//! The HTTP server that all programs share: `/metrics`, `/healthz`, `/health`, `/readyz` and a landing page.

use std::io;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::exposition::Format;

/// How long open requests may go on after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(5);

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

/// Serves `router` on `listener` until `shutdown` is cancelled, then lets open requests finish for a few seconds.
///
/// # Errors
/// When accepting connections fails.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let graceful = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = async { graceful.await } => result,
        () = deadline => Ok(()),
    }
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
