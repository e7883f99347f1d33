//! What is asked of Prometheus, and when: the whole history at the start, in pieces of bounded size, then only what is new.

use std::collections::BTreeSet;

use cloudpulse_common::query::{Client, Labels, MAX_POINTS, QueryError, Series};

use crate::config::ForecastConfig;

/// Samples that one request may return.
const REQUEST_SAMPLES: usize = 400_000;
/// And at least this many points of each series, or a query of very many would be asked all day.
const LEAST_POINTS: usize = 100;
/// Samples that the whole history may return.
const HISTORY_SAMPLES: usize = 120_000_000;
/// The same where most of the series are not forecast: a query returns all or nothing.
const WASTED_SAMPLES: usize = 20_000_000;
/// Steps that are fetched again each time, for samples that came late.
const OVERLAP_STEPS: i64 = 3;
/// The last part of a history is read at the step: what models learn from, and a day before it that they look back at.
const FINE_SECONDS: i64 = 5 * 86_400;
/// The older part is read at this step, where the series' own is not longer: it is kept as five-minute means.
const COARSE_SECONDS: i64 = 300;

/// Returns the last time at or before `now` that is a multiple of the step, Unix seconds.
pub fn last_step(now: f64, step: i64) -> i64 {
    (now.floor() as i64).div_euclid(step) * step
}

/// Returns the distance, in seconds, of the means that the older part of a history is kept as: five minutes, or the step
/// where that does not divide them.
pub fn coarse_step(step: i64) -> i64 {
    (COARSE_SECONDS / step).max(1) * step
}

/// One range query: first and last time (Unix seconds), and distance of samples in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First evaluated time.
    pub from: i64,
    /// Last evaluated time.
    pub to: i64,
    /// Distance in seconds.
    pub step: i64,
}

/// Returns the pieces, ascending in time, of the history up to `end` of a query that returns `series` series, of which
/// `kept` are forecast: the whole one, or its latest part where the query returns very many.
pub fn pieces(config: &ForecastConfig, end: i64, series: usize, kept: usize) -> Vec<Piece> {
    let coarse = coarse_step(config.step);
    let start = (end - config.history).div_euclid(coarse) * coarse;
    let fine = ((end - FINE_SECONDS).div_euclid(coarse) * coarse).max(start);
    let points = (REQUEST_SAMPLES / series.max(1)).clamp(LEAST_POINTS, MAX_POINTS) as i64;
    let mut pieces = Vec::new();
    for (first, last, step) in [(start, fine - coarse, coarse), (fine, end, config.step)] {
        let mut from = first;
        while from <= last {
            let to = (from + (points - 1) * step).min(last);
            pieces.push(Piece { from, to, step });
            from = to + step;
        }
    }
    let mut left = if series > 2 * kept { WASTED_SAMPLES } else { HISTORY_SAMPLES };
    let affordable = pieces.iter().rev().take_while(|piece| {
        let samples = ((piece.to - piece.from) / piece.step + 1) as usize * series;
        let enough = samples <= left;
        left = left.saturating_sub(samples);
        enough
    });
    let count = affordable.count().max(1);
    pieces.split_off(pieces.len().saturating_sub(count))
}

/// Fetches one piece; only the series of `kept` are returned: those of the past that are gone now are not forecast.
///
/// # Errors
/// [`QueryError`].
pub async fn piece(
    client: &Client,
    config: &ForecastConfig,
    piece: Piece,
    kept: &BTreeSet<Labels>,
) -> Result<Vec<Series>, QueryError> {
    let mut series = client.range(&config.query, piece.from, piece.to, piece.step, MAX_POINTS).await?;
    series.retain(|series| {
        let mut labels = series.labels.clone();
        labels.remove("__name__");
        kept.contains(&labels)
    });
    Ok(series)
}

/// Fetches what is new since `since` up to `end`, some steps again.
///
/// # Errors
/// [`QueryError`].
pub async fn recent(client: &Client, config: &ForecastConfig, since: i64, end: i64) -> Result<Vec<Series>, QueryError> {
    let from = since - OVERLAP_STEPS * config.step;
    client.range(&config.query, from, end, config.step, MAX_POINTS).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_aligned_for_all_series() {
        assert_eq!(last_step(1_700_000_059.9, 60), 1_700_000_040);
        assert_eq!(last_step(1_700_000_040.0, 60), 1_700_000_040);
    }

    #[test]
    fn pieces_hold_each_time_once_and_are_bounded() {
        let mut config = crate::config::built_in().swap_remove(0);
        for (step, series) in [(15, 1), (60, 10_000), (300, 7), (420, 1), (3600, 3)] {
            config.step = step;
            let end = last_step(1_700_000_000.0, step);
            let pieces = pieces(&config, end, series, series);
            assert!(pieces.windows(2).all(|pair| pair[0].to < pair[1].from), "{step}: {pieces:?}");
            assert!(pieces.iter().all(|piece| (piece.from % step, piece.to % step) == (0, 0)), "{step}");
            let points = |p: &Piece| ((p.to - p.from) / p.step + 1) as usize;
            assert!(pieces.iter().all(|p| points(p) <= LEAST_POINTS || points(p) * series <= REQUEST_SAMPLES));
            assert!(
                pieces[0].from <= end - config.history && pieces[0].from > end - config.history - 2 * step.max(300)
            );
            assert_eq!(pieces.last().map(|piece| (piece.to, piece.step)), Some((end, step)));
        }
    }

    #[test]
    fn a_query_of_very_many_series_gets_the_latest_part() {
        let config = crate::config::built_in().swap_remove(0);
        let end = last_step(1_700_000_000.0, config.step);
        let samples = |pieces: &[Piece], series: i64| -> i64 {
            pieces.iter().map(|p| ((p.to - p.from) / p.step + 1) * series).sum()
        };
        let many = pieces(&config, end, 20_000, 20_000);
        let read = samples(&many, 20_000);
        assert!((100_000_000..=HISTORY_SAMPLES as i64).contains(&read), "{read}");
        let pieces = pieces(&config, end, 100_000, 50);
        let read = samples(&pieces, 100_000);
        assert!((10_000_000..=WASTED_SAMPLES as i64).contains(&read), "{read}");
        assert_eq!(pieces.last().map(|piece| piece.to), Some(end));
    }
}
