//! The sample service of the stack, and what loads it: one static program, std only.
//!
//! - `cloudpulse-sample serve` answers every request with one line, on port 8080 of every interface; `/metrics` counts them.
//! - `cloudpulse-sample load ADDRESS` sends it requests: between 20 and 80 a second, up and down within ten minutes, so that
//!   there is something to forecast soon. Each request looks the name up anew, so that new replicas get their share.
//! - `cloudpulse-sample health [FILE]` asks the service beside it, or whether the load went through within ten seconds.
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PORT: u16 = 8080;
const TIMEOUT: Duration = Duration::from_secs(2);
/// Requests per second in the middle, how far they go up and down, and the seconds in which they do so.
const MIDDLE: f64 = 50.0;
const SWING: f64 = 30.0;
const PERIOD: f64 = 600.0;
/// How often the next burst of requests is sent.
const TICK: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        ["load", address] => load(address),
        ["health"] => get(&SocketAddr::from(([127, 0, 0, 1], PORT)), "/healthz").map(|_| ()),
        ["health", file] => is_fresh(file),
        _ => Err(io::Error::other("usage: cloudpulse-sample serve | load HOST:PORT | health [FILE]")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloudpulse-sample: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        std::thread::spawn(move || -> io::Result<()> {
            stream.set_read_timeout(Some(TIMEOUT))?;
            let mut request = [0; 1024];
            let length = stream.read(&mut request)?;
            let body = if request[..length].starts_with(b"GET /metrics") {
                let requests = REQUESTS.load(Ordering::Relaxed);
                format!("# TYPE http_requests_total counter\nhttp_requests_total {requests}\n")
            } else if request[..length].starts_with(b"GET /healthz") {
                "ok\n".to_owned()
            } else {
                REQUESTS.fetch_add(1, Ordering::Relaxed);
                "hello\n".to_owned()
            };
            let kind = "content-type: text/plain; version=0.0.4\r\nconnection: close";
            write!(stream, "HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        });
    }
    Ok(())
}

/// Requests per second at a time.
fn rate(seconds: f64) -> f64 {
    MIDDLE + SWING * (seconds / PERIOD * std::f64::consts::TAU).sin()
}

fn load(address: &str) -> io::Result<()> {
    let mut due = 0.0;
    let mut turn: usize = 0;
    loop {
        std::thread::sleep(TICK);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        due += rate(now.as_secs_f64()) * TICK.as_secs_f64();
        // While the service is away its users do not queue up.
        let Ok(replicas) = address.to_socket_addrs().map(Iterator::collect::<Vec<_>>) else {
            due = 0.0;
            continue;
        };
        let mut answered = 0;
        while due >= 1.0 && !replicas.is_empty() {
            due -= 1.0;
            turn += 1;
            answered += usize::from(get(&replicas[turn % replicas.len()], "/").is_ok());
        }
        if answered > 0 {
            std::fs::write("/tmp/answered", "")?;
        }
    }
}

fn get(address: &SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: sample\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.starts_with("HTTP/1.1 200 ") {
        true => Ok(answer),
        false => Err(io::Error::other(format!("{address}{path}: {:?}", answer.lines().next().unwrap_or_default()))),
    }
}

fn is_fresh(file: &str) -> io::Result<()> {
    let age = std::fs::metadata(file)?.modified()?.elapsed().map_err(io::Error::other)?;
    match age < Duration::from_secs(10) {
        true => Ok(()),
        false => Err(io::Error::other(format!("no request was answered for {} s", age.as_secs()))),
    }
}
