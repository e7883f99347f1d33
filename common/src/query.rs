//! The Prometheus HTTP API: PromQL in, series out, or a typed error.
//!
//! An empty result is an empty vector and never an error; NaN samples are handed on as NaN. Nothing here turns an absent
//! sample into zero.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use prometheus_http_query::response::{Data, PromqlResult};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::duration::PromDuration;

/// Labels of a series, sorted by name, without `__name__` where the caller dropped it.
pub type Labels = BTreeMap<String, String>;

/// Prometheus refuses range queries with more points a series than this.
pub const MAX_POINTS: usize = 11_000;

/// One observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Unix time in seconds.
    pub timestamp: f64,
    /// Value in the unit of the query; may be NaN or infinite.
    pub value: f64,
}

/// One series of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The labels that the query left.
    pub labels: Labels,
    /// Samples in ascending time; exactly one for an instant query.
    pub samples: Vec<Sample>,
}

/// Where Prometheus is and how to be let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(deny_unknown_fields, default))]
pub struct ClientConfig {
    /// Base URL, such as `http://127.0.0.1:9090`.
    pub url: String,
    /// File that holds a bearer token; read at start.
    pub bearer_token_file: Option<PathBuf>,
    /// User name and the file that holds the password.
    pub basic_auth: Option<BasicAuth>,
    /// Further headers, such as `X-Scope-OrgID` for Mimir.
    pub headers: BTreeMap<String, String>,
    /// Deadline of one request; 30 s where absent.
    pub timeout: Option<PromDuration>,
}

/// Basic authentication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(deny_unknown_fields))]
pub struct BasicAuth {
    /// User name.
    pub username: String,
    /// File that holds the password; read at start.
    pub password_file: PathBuf,
}

/// Why a query gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No connection, or none in time.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// Base URL.
        url: String,
        /// What the HTTP client said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The deadline passed.
    #[error("{url} did not answer within {timeout}")]
    Timeout {
        /// Base URL.
        url: String,
        /// The deadline.
        timeout: PromDuration,
    },
    /// Prometheus answered that it will not evaluate the query.
    #[error("prometheus refused the query {query:?}: {message}")]
    Refused {
        /// The query.
        query: String,
        /// Prometheus' own words.
        message: String,
    },
    /// What answered does not speak Prometheus' API.
    #[error("{url} answered HTTP {status} with {what}; is this the address of a Prometheus server?")]
    NotPrometheus {
        /// Base URL.
        url: String,
        /// HTTP status.
        status: u16,
        /// What came instead of the API's JSON.
        what: String,
    },
    /// The answer was larger than the client takes.
    #[error("the answer to {query:?} is larger than {limit_bytes} bytes; narrow the query or lengthen its step")]
    TooLarge {
        /// The query.
        query: String,
        /// The limit.
        limit_bytes: usize,
    },
}

impl QueryError {
    /// Returns a word for a metric label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::Refused { .. } => "refused",
            Self::NotPrometheus { .. } => "not_prometheus",
            Self::TooLarge { .. } => "too_large",
        }
    }
}

/// A client of one Prometheus server; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: prometheus_http_query::Client,
    url: String,
    timeout: PromDuration,
}

/// Largest body that is read: 11,000 points of some thousand series.
const MAX_BODY_BYTES: usize = 512 << 20;

#[derive(serde::Deserialize)]
struct Envelope {
    status: String,
    data: Option<PromqlResult>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Client {
    /// Returns a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the URL, a header or a secret's file is unusable.
    pub fn new(config: &ClientConfig) -> anyhow::Result<Self> {
        // Fails only where a provider was installed before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let timeout = config.timeout.unwrap_or(PromDuration::from_secs(30));
        let http = reqwest::Client::builder()
            .default_headers(headers(config)?)
            .connect_timeout(Duration::from_secs(10).min(timeout.0))
            .timeout(timeout.0)
            .redirect(reqwest::redirect::Policy::limited(3))
            .build()?;
        let inner = prometheus_http_query::Client::from(http, &config.url)
            .map_err(|error| anyhow::anyhow!("{:?} is no URL of a Prometheus server: {error}", config.url))?;
        Ok(Self { inner, url: config.url.clone(), timeout })
    }

    /// Returns the base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Evaluates `query` at `at` (Unix seconds), or at the server's now.
    ///
    /// # Errors
    /// [`QueryError`]; an empty result is not an error.
    pub async fn instant(&self, query: &str, at: Option<i64>) -> Result<Vec<Series>, QueryError> {
        let mut builder = self.inner.query(query);
        if let Some(at) = at {
            builder = builder.at(at);
        }
        self.read(query, builder.post_raw().await).await
    }

    /// Evaluates `query` from `start` to `end` (Unix seconds, both included) at each `step`, split into requests of at
    /// most `max_points` points a series; Prometheus refuses more than [`MAX_POINTS`].
    ///
    /// # Errors
    /// [`QueryError`] of the first request that fails.
    pub async fn range(
        &self,
        query: &str,
        start: i64,
        end: i64,
        step: i64,
        max_points: usize,
    ) -> Result<Vec<Series>, QueryError> {
        let mut joined: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
        for (from, to) in split_range(start, end, step, max_points.min(MAX_POINTS)) {
            let answer = self.inner.query_range(query, from, to, step as f64).post_raw().await;
            for series in self.read(query, answer).await? {
                joined.entry(series.labels).or_default().extend(series.samples);
            }
        }
        Ok(joined.into_iter().map(|(labels, samples)| Series { labels, samples }).collect())
    }

    async fn read(
        &self,
        query: &str,
        answer: Result<reqwest::Response, prometheus_http_query::Error>,
    ) -> Result<Vec<Series>, QueryError> {
        let mut response = answer.map_err(|error| self.transport(error))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY_BYTES => {
                    return Err(QueryError::TooLarge { query: query.to_owned(), limit_bytes: MAX_BODY_BYTES });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(source) => return Err(self.http(source)),
            }
        }
        let foreign = |what: String| QueryError::NotPrometheus { url: self.url.clone(), status, what };
        let envelope: Envelope =
            serde_json::from_slice(&body).map_err(|error| foreign(describe_body(&body, &error)))?;
        match (envelope.status.as_str(), envelope.data) {
            ("success", Some(result)) => {
                series_of(result.into_inner().0).ok_or_else(|| foreign("a result of unknown type".to_owned()))
            }
            ("error", _) => Err(QueryError::Refused {
                query: query.to_owned(),
                message: format!(
                    "{}: {}",
                    envelope.error_type.as_deref().unwrap_or("error"),
                    envelope.error.as_deref().unwrap_or("no message")
                ),
            }),
            _ => Err(foreign("JSON without status and data".to_owned())),
        }
    }

    fn transport(&self, error: prometheus_http_query::Error) -> QueryError {
        let timed_out = match &error {
            prometheus_http_query::Error::Client(client) => client.inner().is_some_and(reqwest::Error::is_timeout),
            _ => false,
        };
        if timed_out { self.timed_out() } else { self.unreachable(error) }
    }

    fn http(&self, error: reqwest::Error) -> QueryError {
        if error.is_timeout() { self.timed_out() } else { self.unreachable(error) }
    }

    fn unreachable(&self, source: impl std::error::Error + Send + Sync + 'static) -> QueryError {
        QueryError::Unreachable { url: self.url.clone(), source: Box::new(source) }
    }

    fn timed_out(&self) -> QueryError {
        QueryError::Timeout { url: self.url.clone(), timeout: self.timeout }
    }
}

fn headers(config: &ClientConfig) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let name: HeaderName = name.parse().map_err(|_| anyhow::anyhow!("headers: {name:?} is no header name"))?;
        let value = value.parse().map_err(|_| anyhow::anyhow!("headers.{name}: the value is no header value"))?;
        headers.insert(name, value);
    }
    let secret = |path: &PathBuf| -> anyhow::Result<String> {
        let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        Ok(text.trim_end().to_owned())
    };
    let authorization = match (&config.bearer_token_file, &config.basic_auth) {
        (Some(_), Some(_)) => anyhow::bail!("bearer_token_file and basic_auth exclude each other"),
        (Some(path), None) => Some(format!("Bearer {}", secret(path)?)),
        (None, Some(basic)) => Some(format!(
            "Basic {}",
            base64(format!("{}:{}", basic.username, secret(&basic.password_file)?).as_bytes())
        )),
        (None, None) => None,
    };
    if let Some(text) = authorization {
        let mut value: HeaderValue =
            text.parse().map_err(|_| anyhow::anyhow!("the secret holds characters that no header may hold"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            if position <= chunk.len() {
                text.push(char::from(ALPHABET[group >> (18 - 6 * position) & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// Returns what a body that is not the API's JSON seems to be.
fn describe_body(body: &[u8], error: &serde_json::Error) -> String {
    let start = String::from_utf8_lossy(&body[..body.len().min(80)]);
    let start = start.trim();
    if start.is_empty() {
        "an empty body".to_owned()
    } else if start.starts_with('<') {
        "an HTML page".to_owned()
    } else if start.starts_with('{') {
        format!("JSON of another shape ({error})")
    } else {
        format!("{start:?}")
    }
}

fn series_of(data: Data) -> Option<Vec<Series>> {
    let labels = |map: std::collections::HashMap<String, String>| map.into_iter().collect::<Labels>();
    let sample = |s: &prometheus_http_query::response::Sample| Sample { timestamp: s.timestamp(), value: s.value() };
    match data {
        Data::Vector(vector) => Some(
            vector
                .into_iter()
                .map(|element| {
                    let (metric, value) = element.into_inner();
                    Series { labels: labels(metric), samples: vec![sample(&value)] }
                })
                .collect(),
        ),
        Data::Matrix(matrix) => Some(
            matrix
                .into_iter()
                .map(|element| {
                    let (metric, values) = element.into_inner();
                    Series { labels: labels(metric), samples: values.iter().map(sample).collect() }
                })
                .collect(),
        ),
        Data::Scalar(value) => Some(vec![Series { labels: Labels::new(), samples: vec![sample(&value)] }]),
    }
}

/// Splits a range of steps into ranges of at most `max_points` points each; together they hold the same timestamps.
/// Empty where `end` lies before `start` or `step` is not positive.
fn split_range(start: i64, end: i64, step: i64, max_points: usize) -> Vec<(i64, i64)> {
    let mut ranges = Vec::new();
    if step <= 0 {
        return ranges;
    }
    let span = step * (i64::try_from(max_points).unwrap_or(i64::MAX).max(1) - 1);
    let mut from = start;
    while from <= end {
        let to = from.saturating_add(span).min(end);
        ranges.push((from, to));
        let points = (to - from) / step + 1;
        from += points * step;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_is_the_standard_one() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded); // RFC 4648, section 10
        }
    }

    proptest! {
        #[test]
        fn split_ranges_hold_each_timestamp_once(start in -1000_i64..1000, span in 0_i64..5000, step in 1_i64..70, max in 1_usize..60) {
            let all = |from: i64, to: i64| (from..=to).step_by(step as usize).collect::<Vec<_>>();
            let ranges = split_range(start, start + span, step, max);
            let joined: Vec<i64> = ranges.iter().flat_map(|(from, to)| all(*from, *to)).collect();
            prop_assert_eq!(joined, all(start, start + span));
            for (from, to) in ranges {
                prop_assert!(all(from, to).len() <= max);
            }
        }
    }
}
