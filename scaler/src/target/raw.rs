//! A request to a Docker engine whose answer is kept as it is: an address, a path and a body in; a status and JSON out.
//!
//! The client's own types drop what they do not know, such as the health check of a Swarm service, whose field they
//! spell otherwise than the engine does. What is read in order to be written back must not lose anything.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::UnixStream;

/// Deadline of a request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// No service is that long.
const MAX_ANSWER: u64 = 8 << 20;

/// What the engine answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body; null where it is empty.
    pub(crate) body: Value,
}

/// Asks the engine at `address`, `unix://PATH`, `tcp://HOST:PORT` or `http://HOST:PORT`: a GET of `path`, or a POST where
/// there is a body.
///
/// # Errors
/// Where the engine does not answer within 30 s, or not with JSON in HTTP, or with more than 8 MiB.
pub(crate) async fn request(address: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    tokio::time::timeout(TIMEOUT, exchange(address, &text(path, body)))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", TIMEOUT.as_secs())))?
}

/// HTTP 1.0: the answer ends with the connection, in one piece.
fn text(path: &str, body: Option<&Value>) -> String {
    match body {
        None => format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n"),
        Some(body) => {
            let body = body.to_string();
            let length = body.len();
            format!(
                "POST {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        }
    }
}

async fn exchange(address: &str, request: &str) -> io::Result<Answer> {
    let answer = if let Some(path) = address.strip_prefix("unix://") {
        ask(UnixStream::connect(path).await?, request).await?
    } else if let Some(host) = address.strip_prefix("tcp://").or_else(|| address.strip_prefix("http://")) {
        ask(TcpStream::connect(host.trim_end_matches('/')).await?, request).await?
    } else {
        return Err(odd(format!("{address} is no address of the form unix://PATH or tcp://HOST:PORT")));
    };
    parse(&answer)
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    if read as u64 == MAX_ANSWER { Err(odd("an answer of more than 8 MiB".to_owned())) } else { Ok(answer) }
}

fn parse(answer: &[u8]) -> io::Result<Answer> {
    const END: &[u8] = b"\r\n\r\n";
    let not_http = || odd("the answer is no HTTP".to_owned());
    let end = answer.windows(END.len()).position(|bytes| bytes == END).ok_or_else(not_http)?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.get(..3)?.parse().ok());
    let body = &answer[end + END.len()..];
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body)? };
    Ok(Answer { status: status.ok_or_else(not_http)?, body })
}

fn odd(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_http_1_0() {
        assert_eq!(text("/a?b=1", None), "GET /a?b=1 HTTP/1.0\r\nHost: docker\r\n\r\n");
        let post = text("/a", Some(&serde_json::json!({"ü": 1})));
        assert!(
            post.starts_with("POST /a HTTP/1.0\r\n") && post.ends_with("Content-Length: 8\r\n\r\n{\"ü\":1}"),
            "{post}"
        );
    }

    #[test]
    fn answers_are_read_and_odd_ones_refused() {
        let answer = parse(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n{\"message\":\"no\"}").unwrap();
        assert_eq!((answer.status, answer.body["message"].as_str()), (404, Some("no")));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), Answer { status: 204, body: Value::Null });
        for odd in [
            &b""[..],
            b"HTTP/1.0 200 OK\r\n",
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\n<html>",
            b"HTTP/1.0 x\r\n\r\n",
        ] {
            assert!(parse(odd).is_err(), "{}", String::from_utf8_lossy(odd));
        }
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
        });
        let error = request(&address, "/", None).await.unwrap_err();
        assert!(error.to_string().contains("more than 8 MiB"), "{error}");
        assert!(request("ssh://somewhere", "/", None).await.is_err());
        assert!(request("unix:///no/such/socket", "/", None).await.is_err());
    }
}
