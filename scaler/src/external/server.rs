//! The HTTPS server of the external metrics API: connections in; answers out.
//!
//! A request costs a few lookups in memory: the certificate is verified once a connection, the right is asked for every
//! ten seconds, and the values are there. Nothing of a request's body is read.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::Uri;
use hyper::header::ACCEPT;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::external::NoValue;
use crate::external::Provider;
use crate::external::authentication::Authenticator;
use crate::external::authentication::Peer;
use crate::external::authorization::Authorizer;
use crate::external::metrics::Metrics;
use crate::external::protocol::Answer;
use crate::external::protocol::Endpoint;
use crate::external::protocol::Options;
use crate::external::review::Action;
use crate::external::selector::Selector;

/// Connections at once; a kube-apiserver needs one or two.
const CONNECTIONS: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection of HTTP/1.1 may be idle, or take for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
const HEADER_BYTES: usize = 32 * 1024;
const STREAMS: u32 = 256;
/// How often a silent peer of HTTP/2 is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How long requests that are under way may go on after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// The time from one warning of a refused request to the next; the metrics count all.
const WORDS_INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Answers requests.
#[derive(Debug)]
pub struct Server {
    /// Tells who asks.
    pub authenticator: Authenticator,
    /// Tells whether they may.
    pub authorizer: Authorizer,
    /// Has the values.
    pub provider: Arc<dyn Provider>,
    /// Counts.
    pub metrics: Metrics,
    /// Keeps those who come without a name from filling the log.
    pub seldom: Seldom,
}

/// Says now and then that something may be said aloud: anybody in the cluster can send requests.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Returns whether nothing was said for a while; then it counts as said.
    fn may(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| now.duration_since(last) >= WORDS_INTERVAL);
        if may {
            *last = Some(now);
        }
        may
    }
}

impl Server {
    /// Returns the answer to a request of `peer`.
    pub async fn answer(&self, peer: &Peer, method: &Method, uri: &Uri, headers: &HeaderMap) -> Answer {
        let path = uri.path();
        let endpoint = Endpoint::of(path);
        if endpoint == Endpoint::Probe && is_get(method) {
            return Answer::healthy();
        }
        let user = match self.authenticator.user(peer, headers).await {
            Ok(user) => user,
            Err(error) => {
                self.metrics.not_authenticated();
                if self.seldom.may(Instant::now()) {
                    tracing::warn!(%error, path, "a request to the external metrics API was not authenticated");
                }
                return Answer::failure(StatusCode::UNAUTHORIZED, "Unauthorized");
            }
        };
        let options = Options::of(uri.query());
        let action = action(&endpoint, method, path, options.watch);
        let (name, verb) = (user.name.clone(), verb(method, &endpoint, options.watch));
        match self.authorizer.may(user, action).await {
            Ok(true) => {}
            Ok(false) => {
                self.metrics.not_authorized();
                tracing::debug!(user = name, path, "a request to the external metrics API was refused");
                return Answer::forbidden(&name, &verb, &endpoint, path);
            }
            Err(error) => {
                if self.seldom.may(Instant::now()) {
                    tracing::warn!(%error, user = name, path, "whether a request is allowed cannot be found out");
                }
                return Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, "the SubjectAccessReview failed");
            }
        }
        if !is_get(method) || options.watch {
            return Answer::failure(StatusCode::METHOD_NOT_ALLOWED, "metrics can be listed and nothing else");
        }
        match endpoint {
            Endpoint::Probe => Answer::healthy(),
            Endpoint::Groups => {
                Answer::groups(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default())
            }
            Endpoint::Group => Answer::group(),
            Endpoint::Resources => Answer::resources(),
            Endpoint::Metric { namespace, name } => self.values(&namespace, &name, &options.selector).await,
            Endpoint::Unknown => {
                Answer::failure(StatusCode::NOT_FOUND, "the server could not find the requested resource")
            }
        }
    }

    async fn values(&self, namespace: &str, metric: &str, selector: &str) -> Answer {
        let selector = match Selector::parse(selector) {
            Ok(selector) => selector,
            Err(error) => return Answer::failure(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let items = match self.provider.values(namespace, metric, &selector).await {
            Ok(items) => items,
            Err(error) => {
                let code = match error {
                    NoValue::NotFound { .. } => StatusCode::NOT_FOUND,
                    NoValue::BadRequest(_) => StatusCode::BAD_REQUEST,
                    NoValue::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                };
                return Answer::failure(code, &error.to_string());
            }
        };
        Answer::values(metric, &items).unwrap_or_else(|error| {
            Answer::failure(StatusCode::SERVICE_UNAVAILABLE, &format!("metric {metric:?} cannot be served: {error}"))
        })
    }

    async fn respond(&self, peer: &Peer, request: &Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let answer = self.answer(peer, request.method(), request.uri(), request.headers()).await;
        self.metrics.answered(answer.code, began.elapsed());
        let mut response = Response::new(Full::new(answer.body));
        *response.status_mut() = answer.code;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        response
    }
}

fn is_get(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Returns Kubernetes' verb for a metric, and the method for a path.
fn verb(method: &Method, endpoint: &Endpoint<'_>, watch: bool) -> std::borrow::Cow<'static, str> {
    if let Endpoint::Metric { .. } = endpoint {
        verb_of_metric(method, watch).into()
    } else {
        method.as_str().to_ascii_lowercase().into()
    }
}

fn verb_of_metric(method: &Method, watch: bool) -> &'static str {
    match *method {
        Method::GET | Method::HEAD if watch => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "deletecollection",
        _ => "",
    }
}

fn action(endpoint: &Endpoint<'_>, method: &Method, path: &str, watch: bool) -> Action {
    match endpoint {
        Endpoint::Metric { namespace, name } => Action::Metric {
            namespace: namespace.clone().into_owned(),
            metric: name.clone(),
            verb: verb_of_metric(method, watch),
        },
        _ => Action::Path { path: path.to_owned(), verb: verb(method, endpoint, watch).into_owned() },
    }
}

/// Serves on `listener` until `shutdown` is cancelled, then lets requests that are under way finish.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, server: Arc<Server>, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (tls, server, shutdown) = (tls.clone(), Arc::clone(&server), shutdown.clone());
                connections.spawn(async move {
                    connection(stream, tls, server, shutdown).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Mostly too many open files: others will be closed, and to try at once would only burn CPU.
                tracing::warn!(%error, "cannot accept a connection to the external metrics API");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    let _ = tokio::time::timeout(GRACE, connections.wait()).await;
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, server: Arc<Server>, shutdown: CancellationToken) {
    // Without this the last part of an answer may wait for the acknowledgement of the one before it.
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
    let stream = tokio::select! {
        handshake = handshake => match handshake {
            Ok(Ok(stream)) => stream,
            failed => {
                server.metrics.handshake_failed();
                tracing::debug!(?failed, "a TLS handshake with the external metrics API failed");
                return;
            }
        },
        () = shutdown.cancelled() => return,
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = Arc::new(Peer::new(chain.iter().map(|certificate| certificate.clone().into_owned()).collect()));
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (server, peer) = (Arc::clone(&server), Arc::clone(&peer));
        async move { Ok::<_, Infallible>(server.respond(&peer, &request).await) }
    });
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A peer that went away or spoke no HTTP: its own affair.
        tracing::debug!(%error, "connection to the external metrics API ended");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

#[cfg(test)]
mod tests;
