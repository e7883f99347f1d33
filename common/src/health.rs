//! The `health` command of a program: the address that it listens on in; whether it answers there, and one line on it, out.
//!
//! It is what a container's health check runs, where there is no shell and no curl. It blocks, and needs nothing but a socket.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::duration::PromDuration;

#[cfg(feature = "web")]
mod tls;

/// More than an answer of ours has.
const ANSWER_BYTES: u64 = 16 * 1024;

/// What to ask; flatten it into the arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct HealthArgs {
    /// Ask whether it can do its work (/readyz), and not only whether it answers (/healthz).
    #[arg(long)]
    pub ready: bool,
    /// Time in which the answer must be there.
    #[arg(long, value_name = "DURATION", default_value = "3s")]
    pub timeout: PromDuration,
}

/// Why a program is taken for unhealthy.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {fault}")]
pub struct Unhealthy {
    url: String,
    fault: Fault,
}

impl Unhealthy {
    /// Whether somebody answered, but not in HTTP: it may be TLS.
    pub fn is_other_protocol(&self) -> bool {
        matches!(self.fault, Fault::NoHttp)
    }
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("nobody listens there")]
    Refused,
    #[error("no answer within {0}")]
    Late(PromDuration),
    #[error("the answer is no HTTP")]
    NoHttp,
    #[error("it answers, and asks for a user or a client certificate, so that /readyz cannot be read")]
    Guarded,
    #[error("{status}: {reason}")]
    Status { status: u16, reason: String },
    #[error("{0}")]
    Io(io::Error),
}

impl Fault {
    fn of(error: io::Error, args: &HealthArgs) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Late(args.timeout),
            _ => Self::Io(error),
        }
    }
}

/// What a server said: the status and the first line of the body, or that it lets nobody in whom it does not know.
enum Answer {
    Http {
        status: u16,
        line: String,
    },
    #[cfg_attr(not(feature = "web"), expect(dead_code, reason = "certificates are a thing of TLS"))]
    Guarded,
}

/// Asks the program that listens on one of `addresses` over plain HTTP, and returns what it says in one line. An unspecified
/// address, which is every interface, is asked for on the loopback.
///
/// A server that answers and wants to know who asks is healthy: no password is known here. Whether it is ready is not known then.
///
/// # Errors
/// When it does not answer in time, or with another status than one of success; the fault of the last address.
pub fn ask(addresses: &[SocketAddr], args: &HealthArgs) -> Result<String, Unhealthy> {
    ask_with(addresses, args, "http", speak)
}

/// Asks as [`ask`] does, and where the answer is no HTTP, again with TLS. The certificate is not verified, as a kubelet does not
/// in its probes: it is made out to the names that others know, and not to the loopback.
///
/// # Errors
/// As [`ask`].
#[cfg(feature = "web")]
pub fn ask_also_with_tls(addresses: &[SocketAddr], args: &HealthArgs) -> Result<String, Unhealthy> {
    match ask(addresses, args) {
        Err(unhealthy) if unhealthy.is_other_protocol() => ask_with(addresses, args, "https", tls::speak),
        answer => answer,
    }
}

fn ask_with(
    addresses: &[SocketAddr],
    args: &HealthArgs,
    scheme: &str,
    speak: impl Fn(Timed, &str) -> io::Result<Answer>,
) -> Result<String, Unhealthy> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let until = Instant::now() + args.timeout.0;
    let mut last = Unhealthy { url: format!("{scheme}://{path}"), fault: Fault::Refused };
    for address in addresses.iter().copied().map(reachable) {
        let url = format!("{scheme}://{address}{path}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let answer = connect(address, until).and_then(|stream| speak(Timed { stream, until }, &request));
        let fault = match answer {
            Ok(Answer::Http { status: 200..300, line }) => return Ok(format!("{url}: {line}")),
            Ok(Answer::Http { status: 401 | 403, .. } | Answer::Guarded) if !args.ready => {
                return Ok(format!("{url}: it answers, and asks for a user or a client certificate"));
            }
            Ok(Answer::Http { status: 401 | 403, .. } | Answer::Guarded) => Fault::Guarded,
            Ok(Answer::Http { status, line }) => Fault::Status { status, reason: line },
            Err(error) if error.kind() == ErrorKind::InvalidData => Fault::NoHttp,
            Err(error) => Fault::of(error, args),
        };
        let nobody = matches!(fault, Fault::Refused);
        last = Unhealthy { url, fault };
        if !nobody {
            break;
        }
    }
    Err(last)
}

fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn connect(address: SocketAddr, until: Instant) -> io::Result<TcpStream> {
    match TcpStream::connect_timeout(&address, left(until)?) {
        // A machine without IPv6 has nobody there either.
        Err(error) if matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::NetworkUnreachable) => {
            Err(ErrorKind::ConnectionRefused.into())
        }
        connected => connected,
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// A connection whose reads and writes all end by the same moment.
#[derive(Debug)]
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Sends the request and reads the answer. What is no HTTP is [`ErrorKind::InvalidData`].
fn speak(mut stream: impl Read + Write, request: &str) -> io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let ended = stream.take(ANSWER_BYTES).read_to_end(&mut bytes);
    match (read(&bytes), ended) {
        // A server may close without a word of parting once it has said all.
        (Some(answer), _) => Ok(answer),
        (None, Err(error)) if !was_cut(&error) => Err(error),
        (None, _) => Err(ErrorKind::InvalidData.into()),
    }
}

/// What a server of TLS does to one who speaks HTTP.
fn was_cut(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe)
}

fn read(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer::Http { status, line: body.lines().next().unwrap_or_default().trim().to_owned() })
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { status, line } => write!(f, "{status} {line:?}"),
            Self::Guarded => f.write_str("guarded"),
        }
    }
}

#[cfg(test)]
mod tests;
