//! Load on a server of external metrics: requests over kept-open connections of one thread in; times out.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::bail;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::Request;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The name in the servers' certificate.
pub(super) const SERVER_NAME: &str = "cloudpulse-scaler.cloudpulse.svc";

/// Which version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Who asks: kube-apiserver's front proxy for a user.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// Reads the CA of the servers, and the certificate and key of the front proxy.
    pub(super) fn read(ca: &Path, certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
        let key = Arc::new(PrivateKeyDer::from_pem_file(key)?);
        Ok(Self { roots, chain, key })
    }

    fn config(&self, protocol: Protocol) -> anyhow::Result<Arc<ClientConfig>> {
        let mut config = ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        Ok(Arc::new(config))
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) address: SocketAddr,
    pub(super) path: String,
    pub(super) user: &'static str,
    pub(super) group: &'static str,
}

/// A connection.
enum Connection {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    async fn open(question: &Question, identity: &Identity, protocol: Protocol) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(question.address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(identity.config(protocol)?);
        let stream = connector.connect(ServerName::try_from(SERVER_NAME)?, stream).await?;
        let stream = TokioIo::new(stream);
        Ok(match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Self::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        })
    }

    async fn ask(&mut self, question: &Question) -> anyhow::Result<(StatusCode, Bytes)> {
        let uri = match self {
            Self::Http1(_) => question.path.clone(),
            Self::Http2(_) => format!("https://{SERVER_NAME}{}", question.path),
        };
        let request = Request::get(uri)
            .header("X-Remote-User", question.user)
            .header("X-Remote-Group", question.group)
            .header("Accept", "application/json");
        let request = match self {
            Self::Http1(_) => request.header("Host", SERVER_NAME),
            Self::Http2(_) => request,
        };
        let request = request.body(Empty::new())?;
        let response: hyper::Response<Incoming> = match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => sender.send_request(request).await?,
        };
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

/// Asks once.
pub(super) async fn ask(question: &Question, identity: &Identity) -> anyhow::Result<(StatusCode, Bytes)> {
    Connection::open(question, identity, Protocol::Http1).await?.ask(question).await
}

/// Asks for `duration` over so many connections, one request at a time on each, and returns the time of each request.
/// Blocks: it is to have a thread of its own.
///
/// # Errors
/// Where a connection fails, or an answer has another status than `expected`.
pub(super) fn run(
    question: &Question,
    identity: &Identity,
    protocol: Protocol,
    connections: usize,
    duration: Duration,
    expected: StatusCode,
) -> anyhow::Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(Connection::open(question, identity, protocol).await.context("no connection")?);
        }
        let end = Instant::now() + duration;
        let tasks = open.into_iter().map(|mut connection| {
            let question = question.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < end {
                    let begin = Instant::now();
                    let (status, body) = connection.ask(&question).await?;
                    times.push(begin.elapsed());
                    if status != expected {
                        bail!("{} answered {status}: {}", question.path, String::from_utf8_lossy(&body));
                    }
                }
                anyhow::Ok(times)
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await??);
        }
        Ok(times)
    })
}
