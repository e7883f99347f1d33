//! The Prometheus HTTP API: PromQL in, series out, or a typed error.
//!
//! An empty result is an empty vector and never an error; NaN samples are handed on as NaN. Nothing here turns an absent
//! sample into zero.

mod retry;
mod settings;
mod transport;

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_http_query::response::{Data, PromqlResult};
use reqwest::StatusCode;

pub use self::settings::{BasicAuth, ClientConfig, TlsConfig};
use self::transport::Transport;
pub use self::transport::{http_client, with_token};
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
    /// The server is there but has no capacity: HTTP 429 or 503.
    #[error("{url} is busy (HTTP {status}): {message}")]
    Busy {
        /// Base URL.
        url: String,
        /// HTTP status.
        status: u16,
        /// Its own words.
        message: String,
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
            Self::Busy { .. } => "busy",
            Self::Refused { .. } => "refused",
            Self::NotPrometheus { .. } => "not_prometheus",
            Self::TooLarge { .. } => "too_large",
        }
    }

    /// Returns whether the same request may succeed a little later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. } | Self::Busy { .. })
    }
}

/// A client of one server that speaks Prometheus' query API; clones share connections and the limit of requests at once.
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
    url: String,
    timeout: PromDuration,
    retries: u32,
}

/// How often a request is sent again where the configuration does not say.
const DEFAULT_RETRIES: u32 = 2;

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
        let timeout = config.timeout.unwrap_or(PromDuration::from_secs(30));
        let transport = Arc::new(Transport::new(config, timeout.0)?);
        let retries = config.retries.unwrap_or(DEFAULT_RETRIES);
        Ok(Self { transport, url: config.url.clone(), timeout, retries })
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
        let mut params = vec![("query", query.to_owned())];
        if let Some(at) = at {
            params.push(("time", at.to_string()));
        }
        self.ask(query, "api/v1/query", &params).await
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
            let params = [
                ("query", query.to_owned()),
                ("start", from.to_string()),
                ("end", to.to_string()),
                ("step", step.to_string()),
            ];
            for series in self.ask(query, "api/v1/query_range", &params).await? {
                joined.entry(series.labels).or_default().extend(series.samples);
            }
        }
        Ok(joined.into_iter().map(|(labels, samples)| Series { labels, samples }).collect())
    }

    /// Asks, and again while the failure may pass and retries are left. Ends at once when it is dropped.
    async fn ask(&self, query: &str, path: &str, params: &[(&'static str, String)]) -> Result<Vec<Series>, QueryError> {
        let mut retry = 0;
        loop {
            let answer = {
                let _permit = self.transport.permit().await;
                match self.transport.post(path, params).await {
                    Ok(response) => self.read(query, response).await,
                    Err(error) => Err(self.failed(error)),
                }
            };
            match answer {
                Err(error) if error.is_transient() && retry < self.retries => {
                    let wait = retry::backoff(retry, retry::random_share());
                    tracing::debug!(url = %self.url, %error, ?wait, "asked again");
                    tokio::time::sleep(wait).await;
                    retry += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn read(&self, query: &str, mut response: reqwest::Response) -> Result<Vec<Series>, QueryError> {
        let status = response.status();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY_BYTES => {
                    return Err(QueryError::TooLarge { query: query.to_owned(), limit_bytes: MAX_BODY_BYTES });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Err(self.failed(error)),
            }
        }
        let envelope: Result<Envelope, _> = serde_json::from_slice(&body);
        let (url, status) = (self.url.clone(), status.as_u16());
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].iter().any(|busy| *busy == status) {
            let message = match envelope {
                Ok(envelope) => envelope.error.unwrap_or_else(|| "no message".to_owned()),
                Err(error) => describe_body(&body, &error),
            };
            return Err(QueryError::Busy { url, status, message });
        }
        let foreign = |what: String| QueryError::NotPrometheus { url, status, what };
        let envelope = match envelope {
            Ok(envelope) => envelope,
            Err(error) => return Err(foreign(describe_body(&body, &error))),
        };
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

    fn failed(&self, error: reqwest::Error) -> QueryError {
        if error.is_timeout() {
            QueryError::Timeout { url: self.url.clone(), timeout: self.timeout }
        } else {
            QueryError::Unreachable { url: self.url.clone(), source: Box::new(error) }
        }
    }
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
