//! Connections under a web config: a handshake where it asks for TLS, HTTP/1.1 or HTTP/2 by ALPN, and the gate before each
//! request.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::WebConfig;
use super::users::Verdict;
use crate::server::accept;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection of HTTP/1.1 may be idle, or take for a request's head; longer than a scrape interval mostly is.
const HEAD_TIMEOUT: Duration = Duration::from_secs(150);
/// How often a silent peer of HTTP/2 is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const HEADER_BYTES: u32 = 32 * 1024;
const STREAMS: u32 = 64;

/// Serves as [`crate::server::serve`] does, under `web`.
///
/// # Errors
/// When the listener cannot be used.
pub(crate) async fn serve<S>(
    listener: TcpListener,
    web: WebConfig,
    service: S,
    shutdown: CancellationToken,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    accept(listener, &shutdown, |stream| connection(stream, web.clone(), service.clone(), shutdown.clone())).await
}

async fn connection<S>(stream: TcpStream, web: WebConfig, service: S, shutdown: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let _ = stream.set_nodelay(true);
    let Some(tls) = web.current().tls.clone() else {
        return speak(stream, false, web, service, shutdown).await;
    };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream));
    let stream = tokio::select! {
        handshake = handshake => match handshake {
            Ok(Ok(stream)) => stream,
            failed => {
                tracing::debug!(?failed, "a TLS handshake failed");
                return;
            }
        },
        () = shutdown.cancelled() => return,
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    speak(stream, is_http2, web, service, shutdown).await;
}

async fn speak<I, S>(stream: I, is_http2: bool, web: WebConfig, service: S, shutdown: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send,
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let service = TowerToHyperService::new(service);
    let service = service_fn(move |request: Request<Incoming>| {
        let (web, service) = (web.clone(), service.clone());
        async move { Ok::<_, Infallible>(answer(&web, request, move |request| service.call(request)).await) }
    });
    let stream = TokioIo::new(stream);
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADER_BYTES);
        let mut connection = pin!(builder.serve_connection(stream, service));
        return note(tokio::select! {
            result = connection.as_mut() => result,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        });
    }
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(stream, service));
    note(tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    });
}

fn note(result: hyper::Result<()>) {
    if let Err(error) = result {
        // A peer that went away or spoke no HTTP: its own affair.
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer<F>(
    web: &WebConfig,
    request: Request<Incoming>,
    service: impl FnOnce(Request<Incoming>) -> F,
) -> Response
where
    F: Future<Output = Result<Response, Infallible>>,
{
    let settings = web.current();
    let verdict = match settings.users.is_empty() {
        true => Verdict::Pass,
        false => web.0.gate.look(&settings.users, request.headers().get(header::AUTHORIZATION)).await,
    };
    let mut response = match verdict {
        Verdict::Pass => match service(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Verdict::Refused => {
            let mut response = (StatusCode::UNAUTHORIZED, "Unauthorized\n").into_response();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            response
        }
        Verdict::Busy => (StatusCode::SERVICE_UNAVAILABLE, Body::from("Too many passwords to check\n")).into_response(),
    };
    for (name, value) in &settings.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}
