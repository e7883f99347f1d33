//! Histories from Prometheus: whole at the start, then only what is new; bounded whatever the query returns.

use std::collections::BTreeSet;

use cloudpulse_common::query::{Client, Labels, QueryError, Series};

use crate::config::ForecastConfig;

/// Samples that one request may return.
const REQUEST_SAMPLES: usize = 2_000_000;
/// Samples that the whole history of one forecast may return; a query of very many series gets a shorter history.
const HISTORY_SAMPLES: usize = 40_000_000;
/// Steps that are fetched again each time, for samples that came late.
const OVERLAP_STEPS: i64 = 3;

/// Returns the last time at or before `now` that is a multiple of the step, Unix seconds.
pub fn last_step(now: f64, step: i64) -> i64 {
    (now.floor() as i64).div_euclid(step) * step
}

/// A fetched range.
#[derive(Debug)]
pub struct Range {
    /// Samples of the kept series.
    pub series: Vec<Series>,
    /// Series that the query returned but that are left out.
    pub dropped: usize,
    /// Length of the history in seconds, where it was cut because the query returns so many series.
    pub shortened_to: Option<i64>,
}

/// Fetches the whole history up to `end`. `keep` is given the labels that the query returns at `end` and says which of
/// them are kept, and how many are not.
///
/// # Errors
/// The first [`QueryError`].
pub async fn history(
    client: &Client,
    config: &ForecastConfig,
    end: i64,
    keep: impl FnOnce(Vec<Labels>) -> (BTreeSet<Labels>, usize),
) -> Result<Range, QueryError> {
    let returned: Vec<Labels> =
        client.instant(&config.query, Some(end)).await?.into_iter().map(|series| series.labels).collect();
    let count = returned.len().max(1);
    let (kept, dropped) = keep(returned);
    let wanted = config.history / config.step;
    let points = wanted.min((HISTORY_SAMPLES / count).max(2) as i64);
    let per_request = (REQUEST_SAMPLES / count).clamp(1, cloudpulse_common::query::MAX_POINTS) as i64;
    let mut joined: std::collections::BTreeMap<Labels, Series> = std::collections::BTreeMap::new();
    let mut from = end - points * config.step;
    while from <= end {
        let to = (from + (per_request - 1) * config.step).min(end);
        for series in client.range(&config.query, from, to, config.step, per_request as usize).await? {
            let mut labels = series.labels.clone();
            labels.remove("__name__");
            // Series of the past that are gone at `end` are not forecast.
            if kept.contains(&labels) {
                joined.entry(labels).and_modify(|known| known.samples.extend(&series.samples)).or_insert(series);
            }
        }
        from = to + config.step;
    }
    let shortened_to = (points < wanted).then_some(points * config.step);
    Ok(Range { series: joined.into_values().collect(), dropped, shortened_to })
}

/// Fetches what is new since `since` up to `end`, some steps again.
///
/// # Errors
/// [`QueryError`].
pub async fn recent(client: &Client, config: &ForecastConfig, since: i64, end: i64) -> Result<Vec<Series>, QueryError> {
    let from = since - OVERLAP_STEPS * config.step;
    client.range(&config.query, from, end, config.step, cloudpulse_common::query::MAX_POINTS).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_aligned_for_all_series() {
        assert_eq!(last_step(1_700_000_059.9, 60), 1_700_000_040);
        assert_eq!(last_step(1_700_000_040.0, 60), 1_700_000_040);
    }
}
