//! The socket of an engine that speaks Docker's API → what it calls its containers. One request and no library for it: the
//! exporter is small, and wants nothing else of the engine. Never its statistics, which take it a second.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// Without a version: every engine since Docker 1.0 answers it, in the form of its newest.
const REQUEST: &[u8] =
    b"GET /containers/json HTTP/1.1\r\nHost: docker\r\nAccept: application/json\r\nConnection: close\r\n\r\n";
/// A container takes 1 to 3 kB of the answer.
const LONGEST: usize = 32 << 20;
/// A label's value may have any length; a longer one is cut.
const LONGEST_VALUE: usize = 1024;

/// What an engine says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) image: String,
    /// Those of the wanted labels that it has, under the names that they are exported with.
    pub(super) labels: Vec<(String, String)>,
}

/// A label of a container that is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// As the engine calls it.
    pub(super) label: String,
    /// As Prometheus does.
    pub(super) name: String,
}

/// By the id of the container.
pub(super) type Descriptions = HashMap<String, Description>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the answer is longer than {} MiB", LONGEST >> 20)]
    TooLong,
    #[error("the answer is no HTTP: {0}")]
    NotHttp(&'static str),
    #[error("HTTP {0}")]
    Status(String),
    #[error("the answer is no list of containers: {0}")]
    Content(#[from] serde_json::Error),
}

/// Asks the engine for its running containers.
///
/// # Errors
/// When it does not answer, not in time, or not what was asked for.
pub(super) fn containers(socket: &Path, wanted: &[Wanted], patience: Duration) -> Result<Descriptions, EngineError> {
    let deadline = Instant::now() + patience;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(REQUEST).map_err(|error| late(error, patience))?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(EngineError::Late(patience));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(late(error, patience)),
        }
        if answer.len() > LONGEST {
            return Err(EngineError::TooLong);
        }
    }
    descriptions(&body(&answer)?, wanted)
}

fn late(error: io::Error, patience: Duration) -> EngineError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => EngineError::Late(patience),
        _ => EngineError::Io(error),
    }
}

/// Returns the body of an answer that was read to its end.
fn body(answer: &[u8]) -> Result<Cow<'_, [u8]>, EngineError> {
    let end =
        answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(EngineError::NotHttp("no end of its header"))?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| EngineError::NotHttp("its header is no text"))?;
    let rest = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.split_once(' '));
    let (_, status) = status.ok_or(EngineError::NotHttp("no status"))?;
    if !status.starts_with("200") {
        return Err(EngineError::Status(status.chars().take(100).collect()));
    }
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("transfer-encoding") && value.to_ascii_lowercase().contains("chunked") {
            return without_chunks(rest).map(Cow::Owned).ok_or(EngineError::NotHttp("its chunks are broken"));
        }
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse().map_err(|_| EngineError::NotHttp("its length is no number"))?);
        }
    }
    let length = length.unwrap_or(rest.len());
    rest.get(..length).map(Cow::Borrowed).ok_or(EngineError::NotHttp("it ends too early"))
}

/// Returns what is in the chunks; `None` where they are not well formed or do not end.
fn without_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(rest.len());
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        // What may follow a semicolon is of no use here.
        let digits = std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim();
        let length = usize::from_str_radix(digits, 16).ok()?;
        rest = &rest[line + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length..)?.strip_prefix(b"\r\n")?;
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    labels: Option<HashMap<String, String>>,
}

fn descriptions(body: &[u8], wanted: &[Wanted]) -> Result<Descriptions, EngineError> {
    let list: Vec<Listed> = serde_json::from_slice(body)?;
    let describe = |listed: Listed| {
        let names = listed.names.unwrap_or_default();
        // A link of another container is a name too: /other/alias.
        let own = names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
        let labels = listed.labels.unwrap_or_default();
        let labels = wanted.iter().filter_map(|wanted| Some((wanted.name.clone(), cut(labels.get(&wanted.label)?))));
        let description = Description {
            name: cut(own.unwrap_or_default()),
            image: cut(&listed.image.unwrap_or_default()),
            labels: labels.collect(),
        };
        (listed.id, description)
    };
    Ok(list.into_iter().map(describe).collect())
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_VALUE)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIST: &str = r#"[{"Id":"4d5e","Names":["/db/web","/shop-web-1"],"Image":"shop/web:1","Created":1,"Ports":[{}],
        "Labels":{"com.docker.compose.service":"web","secret":"x"}},{"Id":"77","Names":null,"Image":null,"Labels":null}]"#;

    fn wanted() -> Vec<Wanted> {
        let label = "com.docker.compose.service".to_owned();
        vec![Wanted { label, name: "service".to_owned() }, Wanted { label: "absent".to_owned(), name: "a".to_owned() }]
    }

    #[test]
    fn containers_have_a_name_an_image_and_the_wanted_labels() {
        let descriptions = descriptions(LIST.as_bytes(), &wanted()).unwrap();
        let expected = Description {
            name: "shop-web-1".to_owned(),
            image: "shop/web:1".to_owned(),
            labels: vec![("service".to_owned(), "web".to_owned())],
        };
        assert_eq!(descriptions["4d5e"], expected);
        assert_eq!(descriptions["77"], Description { name: String::new(), image: String::new(), labels: Vec::new() });
        assert!(super::descriptions(b"{\"message\":\"x\"}", &wanted()).is_err());
        assert_eq!(cut(&"é".repeat(LONGEST_VALUE)), "é".repeat(LONGEST_VALUE / 2));
    }

    #[test]
    fn bodies_are_read_in_all_three_forms() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Type: x\r\ncontent-length: 4\r\n\r\n[12]rest",
            "HTTP/1.0 200 OK\r\n\r\n[12]",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\n[\r\n3;x=y\r\n12]\r\n0\r\n\r\n",
        ] {
            assert_eq!(*body(answer.as_bytes()).unwrap(), *b"[12]", "{answer}");
        }
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n[]",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[12]",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n[12]",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[12]\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[12]\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n[12]\r\n",
        ] {
            assert!(body(answer.as_bytes()).is_err(), "{answer}");
        }
    }

    #[test]
    fn an_engine_that_says_nothing_is_late_and_one_that_is_away_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        assert!(matches!(containers(&socket, &[], Duration::from_secs(60)), Err(EngineError::Io(_))));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(matches!(containers(&socket, &[], Duration::from_millis(20)), Err(EngineError::Late(_))));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(content: Vec<u8>, chunks in "([0-9a-f]{1,3}(;x)?\r\n[a-z]{0,5}\r\n){0,4}") {
            let _ = body(&content);
            let _ = without_chunks(chunks.as_bytes());
            let _ = descriptions(&content, &wanted());
        }
    }
}
