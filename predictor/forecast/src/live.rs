//! Every issued forecast is scored when its time comes: issued forecasts and what came true in; skill against the better
//! baseline, coverage, bias and breaches over the last day out.
//!
//! A target that falls into a gap is not counted. All are compared on the same targets.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::ensemble::AtHorizon;
use crate::history::History;

/// What is counted reaches back this far, by whole hours.
const HOURS: i64 = 24;
/// With fewer resolved forecasts nothing is said.
const MIN_RESOLVED: u32 = 30;
/// A value that comes later than this many steps is not waited for.
const LATE_STEPS: i64 = 3;
/// Levels of the central intervals that are watched.
pub const LEVELS: [f64; 3] = [0.8, 0.9, 0.95];

/// The quantiles of the intervals of [`LEVELS`]: lower and upper of each.
pub const INTERVAL_QUANTILES: [f64; 6] = [0.1, 0.9, 0.05, 0.95, 0.025, 0.975];

/// Places of the two baselines among the models of a forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaselinePlaces {
    /// The last value.
    pub persistence: usize,
    /// The value one day before the target.
    pub seasonal_naive: usize,
}

/// The issued forecasts of one series and horizon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scoreboard {
    horizon: i64,
    waiting: VecDeque<Waiting>,
    hours: VecDeque<Hour>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Waiting {
    at: i64,
    point: f64,
    persistence: f64,
    seasonal: f64,
    /// In the order of [`INTERVAL_QUANTILES`].
    bounds: [f64; 6],
    models: Vec<f64>,
}

/// Sums over one hour of targets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Hour {
    hour: i64,
    count: u32,
    absolute: f64,
    signed: f64,
    persistence: f64,
    seasonal: f64,
    /// Targets whose seasonal naive forecast was known.
    seasonal_count: u32,
    inside: [u32; 3],
    covered: [u32; 3],
    models: Vec<(f64, u32)>,
}

/// What the last day says of one horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Resolved forecasts.
    pub count: u32,
    /// 1 − MAE / MAE of the better of persistence and seasonal naive: positive is better, 0 as good. `None` where the
    /// baseline made no error: there is nothing to be better than.
    pub skill: Option<f64>,
    /// Mean of forecast − value, in the unit of the series.
    pub bias: f64,
    /// Share of values inside the intervals of [`LEVELS`]; `None` where none were issued.
    pub coverage: [Option<f64>; 3],
    /// Skill of each model, in the order of the forecasts; empty unless models are watched.
    pub models: Vec<Option<f64>>,
}

impl Scoreboard {
    /// Returns an empty board for a horizon in steps.
    pub fn new(horizon: usize) -> Self {
        Self { horizon: horizon as i64, waiting: VecDeque::new(), hours: VecDeque::new() }
    }

    /// Returns the horizon in steps.
    pub const fn horizon(&self) -> usize {
        self.horizon as usize
    }

    /// Notes a forecast that was issued at the grid point `at`, with its values at [`INTERVAL_QUANTILES`]; `models` says
    /// whether each model is watched too. A second one of the same time replaces the first.
    pub fn issue(&mut self, at: i64, entry: &AtHorizon, bounds: [f64; 6], baselines: BaselinePlaces, models: bool) {
        if self.waiting.back().is_some_and(|last| last.at >= at) {
            self.waiting.pop_back();
        }
        self.waiting.push_back(Waiting {
            at,
            point: entry.point,
            persistence: entry.models[baselines.persistence],
            seasonal: entry.models[baselines.seasonal_naive],
            bounds,
            models: if models { entry.models.clone() } else { Vec::new() },
        });
    }

    /// Scores the forecasts whose target is known by now.
    pub fn resolve(&mut self, history: &History) {
        let Some(now) = history.now() else { return };
        while let Some(first) = self.waiting.front() {
            let target = first.at + self.horizon;
            if target > now {
                break;
            }
            let actual = history.get(target);
            if actual.is_none() && now < target + LATE_STEPS {
                break;
            }
            if let (Some(waiting), Some(actual)) = (self.waiting.pop_front(), actual) {
                self.learn(&waiting, actual, (target * history.step()).div_euclid(3600));
            }
        }
        let hour = (now * history.step()).div_euclid(3600);
        while self.hours.front().is_some_and(|first| first.hour <= hour - HOURS) {
            self.hours.pop_front();
        }
    }

    fn learn(&mut self, waiting: &Waiting, actual: f64, hour: i64) {
        if !waiting.point.is_finite() || !waiting.persistence.is_finite() {
            return;
        }
        if self.hours.back().is_none_or(|last| last.hour != hour) {
            self.hours.push_back(Hour { hour, ..Hour::default() });
        }
        let Some(sums) = self.hours.back_mut() else { return };
        sums.count += 1;
        sums.absolute += (waiting.point - actual).abs();
        sums.signed += waiting.point - actual;
        sums.persistence += (waiting.persistence - actual).abs();
        if waiting.seasonal.is_finite() {
            sums.seasonal += (waiting.seasonal - actual).abs();
            sums.seasonal_count += 1;
        }
        for (level, bounds) in waiting.bounds.chunks_exact(2).enumerate() {
            if bounds[0].is_finite() && bounds[1].is_finite() {
                sums.covered[level] += 1;
                sums.inside[level] += u32::from(bounds[0] <= actual && actual <= bounds[1]);
            }
        }
        sums.models.resize(waiting.models.len(), (0.0, 0));
        for ((sum, count), value) in sums.models.iter_mut().zip(&waiting.models) {
            if value.is_finite() {
                *sum += (value - actual).abs();
                *count += 1;
            }
        }
    }

    /// Returns what the last day says; `None` until 30 forecasts have resolved.
    pub fn standing(&self) -> Option<Standing> {
        let sum = |of: fn(&Hour) -> f64| self.hours.iter().map(of).sum::<f64>();
        let count: u32 = self.hours.iter().map(|hour| hour.count).sum();
        if count < MIN_RESOLVED {
            return None;
        }
        let total = f64::from(count);
        let seasonal_count = sum(|hour| f64::from(hour.seasonal_count));
        let persistence = sum(|hour| hour.persistence) / total;
        // A seasonal naive that was silent now and then is compared by its mean; one that is mostly silent is not.
        let better = if seasonal_count >= 0.9 * total {
            persistence.min(sum(|hour| hour.seasonal) / seasonal_count)
        } else {
            persistence
        };
        let skill = |mae: f64| (better > 0.0).then(|| 1.0 - mae / better);
        let coverage = std::array::from_fn(|level| {
            let covered: u32 = self.hours.iter().map(|hour| hour.covered[level]).sum();
            let inside: u32 = self.hours.iter().map(|hour| hour.inside[level]).sum();
            (covered > 0).then(|| f64::from(inside) / f64::from(covered))
        });
        let models = self.hours.back().map_or(0, |hour| hour.models.len());
        let models = (0..models)
            .map(|model| {
                let of_model = self.hours.iter().filter_map(|hour| hour.models.get(model));
                let (sum, known) = of_model.fold((0.0, 0), |(a, b), (sum, count)| (a + sum, b + count));
                (known >= MIN_RESOLVED).then(|| skill(sum / f64::from(known))).flatten()
            })
            .collect();
        Some(Standing {
            count,
            skill: skill(sum(|hour| hour.absolute) / total),
            bias: sum(|hour| hour.signed) / total,
            coverage,
            models,
        })
    }

    /// Returns the bytes that are held on the heap.
    pub fn heap_bytes(&self) -> usize {
        let models = self.waiting.front().map_or(0, |waiting| waiting.models.len());
        self.waiting.capacity() * (size_of::<Waiting>() + models * 8)
            + self.hours.capacity() * (size_of::<Hour>() + models * 16)
    }
}

/// Counts the times that a series went above a limit, and whether a forecast had said so in time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Breaches {
    /// Steps before the breach at which a forecast must have seen it.
    lead: i64,
    /// Whether the forecast issued at each of the last grid points saw the limit passed.
    seen: VecDeque<(i64, bool)>,
    above: bool,
    /// Grid points of the last breaches, and whether they were seen.
    last: VecDeque<(i64, bool)>,
}

/// Breaches that are remembered.
const REMEMBERED: usize = 100;
/// For how many steps the limit must have held before a new breach counts.
const APART_STEPS: i64 = 5;

impl Breaches {
    /// Returns a counter for forecasts that look `lead` steps ahead.
    pub fn new(lead: usize) -> Self {
        Self { lead: lead as i64, seen: VecDeque::new(), above: true, last: VecDeque::new() }
    }

    /// Takes the value of the grid point `at`; call it before [`Breaches::issue`] of the same grid point.
    pub fn observe(&mut self, at: i64, value: f64, limit: f64) {
        if !value.is_finite() {
            return;
        }
        let above = value > limit;
        let apart = self.last.back().is_none_or(|(last, _)| at - last >= APART_STEPS);
        // Any forecast of the last `lead` steps that reached this grid point was in time to warn. Where none was made, nobody
        // can say whether the breach could have been seen.
        let mut reached = self.seen.iter().filter(|(issued, _)| *issued < at && *issued + self.lead >= at).peekable();
        if above && !self.above && apart && reached.peek().is_some() {
            let warned = reached.any(|(_, expected)| *expected);
            if self.last.len() == REMEMBERED {
                self.last.pop_front();
            }
            self.last.push_back((at, warned));
        }
        self.above = above;
    }

    /// Notes whether the forecast issued at the grid point `at`, where there was one, expects the peak until the lead time above the limit.
    pub fn issue(&mut self, at: i64, expects: bool) {
        self.seen.push_back((at, expects));
        while self.seen.front().is_some_and(|(issued, _)| issued + self.lead < at) {
            self.seen.pop_front();
        }
    }

    /// Returns how many of the remembered breaches no forecast had seen, and how many are remembered, at most 100.
    pub fn unpredicted(&self) -> (usize, usize) {
        (self.last.iter().filter(|(_, seen)| !seen).count(), self.last.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: BaselinePlaces = BaselinePlaces { persistence: 0, seasonal_naive: 1 };

    fn entry(point: f64, persistence: f64, seasonal: f64) -> AtHorizon {
        let models = vec![persistence, seasonal];
        let (quantiles, combined) = (Vec::new(), Vec::new());
        AtHorizon { horizon: 2, point, quantiles, models, combined, resolved: 0, demoted: false, network_weight: None }
    }

    /// A value of 10 at each minute but for gaps, forecast two steps ahead.
    fn board(steps: i64, gap: impl Fn(i64) -> bool, forecast: &AtHorizon) -> Scoreboard {
        let mut board = Scoreboard::new(2);
        let mut history = History::new(60, 86_400);
        for at in 0..steps {
            history.push(0, if gap(at) { f64::NAN } else { 10.0 });
            board.resolve(&history);
            board.issue(at, forecast, [9.0, 11.0, 8.0, 12.0, f64::NAN, 13.0], PLACES, true);
        }
        board
    }

    #[test]
    fn skill_is_against_the_better_baseline() {
        let standing = board(100, |_| false, &entry(11.0, 12.0, 6.0)).standing().unwrap();
        assert_eq!((standing.count, standing.skill, standing.bias), (98, Some(0.5), 1.0));
        assert_eq!(standing.coverage, [Some(1.0), Some(1.0), None]);
        assert_eq!(standing.models, [Some(0.0), Some(-1.0)]);
        let unknown = board(100, |_| false, &entry(11.0, 14.0, f64::NAN)).standing().unwrap();
        assert_eq!((unknown.skill, unknown.models[1]), (Some(0.75), None));
        let perfect = board(100, |_| false, &entry(11.0, 10.0, 6.0)).standing().unwrap();
        assert_eq!(perfect.skill, None, "no baseline error, no ratio");
    }

    #[test]
    fn a_gap_is_not_counted_and_does_not_block() {
        let standing = board(100, |at| at % 10 == 9, &entry(11.0, 12.0, 6.0)).standing().unwrap();
        assert_eq!(standing.count, 98 - 10);
        assert!(board(20, |_| false, &entry(11.0, 12.0, 6.0)).standing().is_none());
    }

    #[test]
    fn only_the_last_day_counts() {
        let board = board(3 * 1440, |_| false, &entry(11.0, 12.0, 6.0));
        let count = board.standing().unwrap().count;
        assert!((23 * 60..=24 * 60).contains(&count), "{count}");
    }

    #[test]
    fn breaches_are_told_apart() {
        let mut breaches = Breaches::new(5);
        let value = |at: i64| if (20..25).contains(&at) || (40..45).contains(&at) { 9.0 } else { 1.0 };
        for at in 0..60 {
            breaches.observe(at, value(at), 5.0);
            breaches.issue(at, (15..22).contains(&at));
        }
        assert_eq!(breaches.unpredicted(), (1, 2));
    }

    #[test]
    fn a_breach_without_any_forecast_is_not_judged() {
        let mut breaches = Breaches::new(5);
        for at in 0..60 {
            breaches.observe(at, if at % 20 < 10 { 1.0 } else { 9.0 }, 5.0);
            if at > 40 {
                breaches.issue(at, false);
            }
        }
        assert_eq!(breaches.unpredicted(), (1, 1), "only the one at 50 had forecasts before it");
    }
}
