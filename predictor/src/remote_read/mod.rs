//! Prometheus' remote-read protocol: a request for `cloudpulse_forecast_path` in, the future curve out.
//!
//! The curve is served at its real, future timestamps and stored nowhere. Only what matches all matchers is answered; the
//! answer is always of the sampled kind, which every Prometheus accepts.

mod matcher;
pub mod proto;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use cloudpulse_common::names::{ENSEMBLE, FORECAST_LABEL, FORECAST_PATH, MODEL_LABEL, QUANTILE_LABEL};
use cloudpulse_common::query::Labels;
use prost::Message;

use crate::clock::Clock;
use crate::publish::{Batch, Board};
use matcher::Matchers;
use proto::{Label, QueryResult, ReadRequest, ReadResponse, Sample, TimeSeries};

/// A request is some hundred bytes; more is no request.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Samples are one step apart, and at most this far: Prometheus looks back five minutes.
const MAX_SPACING_MS: i64 = 60_000;
/// Samples in one answer; beyond it the answer is an error.
const MAX_SAMPLES: usize = 5_000_000;

#[derive(Clone)]
struct Served {
    board: Board,
    clock: Clock,
}

/// Returns the route `POST /api/v1/read` over the forecasts of `board`; `clock` says which are fresh.
pub fn router(board: Board, clock: Clock) -> Router {
    Router::new()
        .route("/api/v1/read", post(read))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Served { board, clock })
}

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The body is no snappy block.
    #[error("the body is not compressed with snappy: {0}")]
    Snappy(#[from] snap::Error),
    /// The body is larger than a request can be.
    #[error("the request would be {0} bytes long")]
    TooLong(usize),
    /// The body is no request.
    #[error("the body is no remote-read request: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A regular expression cannot be read.
    #[error("matcher {name}: {reason}")]
    Matcher {
        /// Label.
        name: String,
        /// Why.
        reason: String,
    },
    /// The answer would be too large.
    #[error("the answer would hold more than {MAX_SAMPLES} samples; ask for a shorter range or fewer series")]
    TooMany,
}

async fn read(State(served): State<Served>, body: Bytes) -> Response {
    let now = served.clock.now();
    match respond(&body, &served.board.fresh(now)) {
        Ok(body) => {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            (headers, body).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "remote read refused");
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
    }
}

/// Returns the compressed answer to a compressed request.
///
/// # Errors
/// [`ReadError`] for a body that is no request, or an answer beyond the limits.
pub fn respond(body: &[u8], batches: &[Arc<Batch>]) -> Result<Vec<u8>, ReadError> {
    let length = snap::raw::decompress_len(body)?;
    if length > MAX_BODY_BYTES {
        return Err(ReadError::TooLong(length));
    }
    let request = ReadRequest::decode(snap::raw::Decoder::new().decompress_vec(body)?.as_slice())?;
    let mut budget = MAX_SAMPLES;
    let mut results = Vec::with_capacity(request.queries.len());
    for query in &request.queries {
        let matchers = Matchers::new(&query.matchers)?;
        let mut timeseries = Vec::new();
        for batch in batches {
            collect(
                batch,
                &matchers,
                (query.start_timestamp_ms, query.end_timestamp_ms),
                &mut budget,
                &mut timeseries,
            )?;
        }
        timeseries.sort_by(|a, b| {
            let key = |series: &TimeSeries| {
                series.labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect::<Vec<_>>()
            };
            key(a).cmp(&key(b))
        });
        results.push(QueryResult { timeseries });
    }
    let answer = ReadResponse { results }.encode_to_vec();
    Ok(snap::raw::Encoder::new().compress_vec(&answer)?)
}

fn collect(
    batch: &Batch,
    matchers: &Matchers,
    range: (i64, i64),
    budget: &mut usize,
    found: &mut Vec<TimeSeries>,
) -> Result<(), ReadError> {
    let spacing = (batch.config.step * 1000).min(MAX_SPACING_MS);
    for issued in &batch.issued {
        let mut labels: Labels = issued.labels.clone();
        labels.insert("__name__".to_owned(), FORECAST_PATH.name.to_owned());
        labels.insert(FORECAST_LABEL.to_owned(), batch.config.name.clone());
        labels.insert(MODEL_LABEL.to_owned(), ENSEMBLE.to_owned());
        for (i, quantile) in batch.config.quantiles.iter().enumerate() {
            labels.insert(QUANTILE_LABEL.to_owned(), quantile.to_string());
            if !matchers.matches(&labels) {
                continue;
            }
            let samples = sample_path(&issued.path, i, spacing, range);
            if samples.is_empty() {
                continue;
            }
            *budget = budget.checked_sub(samples.len()).ok_or(ReadError::TooMany)?;
            let labels =
                labels.iter().map(|(name, value)| Label { name: name.clone(), value: value.clone() }).collect();
            found.push(TimeSeries { labels, samples });
        }
    }
    Ok(())
}

/// The curve of one quantile at multiples of `spacing`, within the range (both ends included, milliseconds).
fn sample_path(path: &[(i64, Vec<f64>)], quantile: usize, spacing: i64, range: (i64, i64)) -> Vec<Sample> {
    let (Some(first), Some(last)) = (path.first(), path.last()) else { return Vec::new() };
    let from = range.0.max(first.0 * 1000);
    let to = range.1.min(last.0 * 1000);
    let mut samples = Vec::new();
    let mut at = from.div_euclid(spacing) * spacing + if from.rem_euclid(spacing) == 0 { 0 } else { spacing };
    let mut knot = 0;
    while at <= to {
        while knot + 2 < path.len() && path[knot + 1].0 * 1000 < at {
            knot += 1;
        }
        let (left, right) = (&path[knot], &path[(knot + 1).min(path.len() - 1)]);
        let span = (right.0 - left.0) as f64 * 1000.0;
        let share = if span > 0.0 { (at - left.0 * 1000) as f64 / span } else { 0.0 };
        let value = left.1[quantile] + share * (right.1[quantile] - left.1[quantile]);
        if value.is_finite() {
            samples.push(Sample { value, timestamp: at });
        }
        at += spacing;
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::built_in;
    use crate::publish::Issued;
    use proptest::prelude::*;
    use proto::{LabelMatcher, MatcherType, Query};

    fn batch() -> Arc<Batch> {
        let config = built_in().swap_remove(0);
        let issued = |instance: &str| Issued {
            labels: Labels::from([("instance".to_owned(), instance.to_owned())]),
            horizons: Vec::new(),
            peaks: Vec::new(),
            path: vec![(1000, vec![0.0, 0.0]), (1300, vec![0.3, 0.6]), (1900, vec![0.3, f64::NAN])],
            breaches: None,
            anomaly_score: None,
            alarms: Vec::new(),
            outlying_ratio: None,
        };
        Arc::new(Batch { config: Arc::new(config), made_at: 1000, issued: vec![issued("b"), issued("a")] })
    }

    fn ask(matchers: &[(MatcherType, &str, &str)], start: i64, end: i64) -> Vec<TimeSeries> {
        let matchers = matchers
            .iter()
            .map(|(kind, name, value)| LabelMatcher {
                kind: *kind as i32,
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            })
            .collect();
        let request =
            ReadRequest { queries: vec![Query { start_timestamp_ms: start, end_timestamp_ms: end, matchers }] };
        let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
        let answer = respond(&body, &[batch()]).unwrap();
        let plain = snap::raw::Decoder::new().decompress_vec(&answer).unwrap();
        ReadResponse::decode(plain.as_slice()).unwrap().results.swap_remove(0).timeseries
    }

    #[test]
    fn only_what_matches_is_answered() {
        use MatcherType::{Equal, NotEqual, NotRegex, Regex};
        let name = (Equal, "__name__", "cloudpulse_forecast_path");
        assert_eq!(ask(&[name], 0, i64::MAX).len(), 4);
        assert_eq!(ask(&[name, (Equal, "quantile", "0.9")], 0, i64::MAX).len(), 2);
        assert_eq!(ask(&[name, (Regex, "instance", "a|c"), (NotEqual, "quantile", "0.9")], 0, i64::MAX).len(), 1);
        assert_eq!(ask(&[name, (NotRegex, "instance", "a.*")], 0, i64::MAX).len(), 2);
        assert_eq!(ask(&[name, (Regex, "instance", "aa")], 0, i64::MAX).len(), 0, "regular expressions are anchored");
        assert_eq!(ask(&[(Equal, "__name__", "up")], 0, i64::MAX).len(), 0);
        assert_eq!(ask(&[name, (Equal, "absent", "")], 0, i64::MAX).len(), 4, "an absent label is empty");
        assert_eq!(ask(&[name], 3_000_000, 4_000_000).len(), 0, "past the end of the curve");
    }

    #[test]
    fn a_short_curve_of_a_fine_step_has_samples() {
        let path = [(1_000_001, vec![1.0]), (1_000_009, vec![2.0])];
        assert_eq!(sample_path(&path, 0, 1000, (0, i64::MAX)).len(), 9);
    }

    #[test]
    fn the_curve_is_interpolated_and_sorted() {
        let name = (MatcherType::Equal, "__name__", "cloudpulse_forecast_path");
        let series = ask(&[name, (MatcherType::Equal, "quantile", "0.5")], 1_020_000, 1_140_000);
        assert_eq!(
            series[0].labels.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(),
            ["__name__", "forecast", "instance", "model", "quantile"]
        );
        assert_eq!((series[0].labels[2].value.as_str(), series[1].labels[2].value.as_str()), ("a", "b"));
        let samples: Vec<(i64, f64)> =
            series[0].samples.iter().map(|s| (s.timestamp, (s.value * 1e9).round() / 1e9)).collect();
        assert_eq!(samples, [(1_020_000, 0.02), (1_080_000, 0.08), (1_140_000, 0.14)]);
        let upper = ask(&[name, (MatcherType::Equal, "quantile", "0.9")], 0, i64::MAX);
        assert!(upper[0].samples.iter().all(|s| s.timestamp <= 1_300_000), "an unknown end is left out");
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = respond(&body, &[batch()]);
            let wrapped = snap::raw::Encoder::new().compress_vec(&body).unwrap();
            let _ = respond(&wrapped, &[batch()]);
        }
    }
}
