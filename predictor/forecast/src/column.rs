//! What one horizon has taught: resolved forecasts in; what each model is worth, and quantiles of the combination's
//! error, out.
//!
//! Forecasts are noted at a fixed stride and wait until their target's time has come. A target that falls into a gap
//! teaches nothing.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::combination::Weighting;
use crate::conformal;
use crate::history::History;
use crate::live::BaselinePlaces;

/// Resolved errors that make the quantiles: a day of scored origins, so that quiet nights and busy noons both count.
const CALIBRATION_ERRORS: usize = 288;
/// Errors of forecasts that overlap are alike: at a long horizon they are taken this many to a horizon, so that the window
/// reaches over as many days as it takes.
const ERRORS_PER_HORIZON: usize = 12;
/// A spaced window holds fewer errors, but this many: it reaches back over more days, not to when little was known.
const LEAST_WINDOW: usize = 72;
/// Until there are as many, all errors are taken.
const MIN_SPACED: usize = 40;
/// With fewer there are no quantiles.
pub(crate) const LEAST_CALIBRATION_ERRORS: usize = 8;
/// Step of the adaptive correction (Gibbs and Candès, 2021).
const ADAPTATION: f64 = 0.005;
/// Quantiles whose rate of success is watched.
const WATCHED: [f64; 6] = [0.025, 0.05, 0.1, 0.9, 0.95, 0.975];
/// A corrected quantile stays between this share and its complement.
const LEAST_TAIL: f64 = 0.001;
/// Resolved forecasts before the combination can be demoted: a day of them.
const MIN_JUDGED: u32 = 288;
const JUDGE_RATE: f64 = 1.0 / 288.0;
/// It is demoted above the first ratio of its error to the better baseline's, and taken back below the second.
const DEMOTE: f64 = 1.05;
const RECOVER: f64 = 1.0;

/// The resolved past of one horizon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) horizon: i64,
    pending: VecDeque<Pending>,
    weighting: Weighting,
    errors: Window,
    /// Of the resolved errors one in so many makes the quantiles.
    spacing: u32,
    /// Forecasts that have resolved.
    resolved: u32,
    /// The watched quantiles as corrected.
    corrected: [f64; WATCHED.len()],
    judged: Judged,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    at: i64,
    point: f64,
    /// The watched quantiles as they would have been issued; NaN where unknown.
    quantiles: [f32; WATCHED.len()],
    models: Vec<f32>,
}

/// Mean absolute errors of the combination and of the baselines, over about a day.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Judged {
    combination: f64,
    persistence: f64,
    seasonal: f64,
    count: u32,
    demoted: bool,
}

impl Column {
    pub(crate) fn new(horizon: usize, stride: usize, models: usize) -> Self {
        Self {
            horizon: horizon as i64,
            pending: VecDeque::new(),
            weighting: Weighting::new(models),
            errors: Window::new(spacing(horizon, stride)),
            spacing: spacing(horizon, stride),
            resolved: 0,
            corrected: WATCHED,
            judged: Judged::default(),
        }
    }

    pub(crate) fn models(&self) -> usize {
        self.weighting.models()
    }

    /// Returns how many errors the quantiles rest on.
    pub(crate) fn calibrated_on(&self) -> usize {
        self.errors.sorted.len()
    }

    /// Notes a forecast made at the grid point `at`; its error is learnt later.
    pub(crate) fn issue(&mut self, at: i64, models: &[f64], point: f64) {
        let quantiles = WATCHED.map(|quantile| (point + self.offset(quantile)) as f32);
        let models = models.iter().map(|value| *value as f32).collect();
        self.pending.push_back(Pending { at, point, quantiles, models });
    }

    /// Learns from the forecasts whose time has come.
    pub(crate) fn resolve(&mut self, history: &History, now: i64, baselines: BaselinePlaces) {
        while self.pending.front().is_some_and(|pending| pending.at + self.horizon <= now) {
            let Some(pending) = self.pending.pop_front() else { return };
            if let Some(actual) = history.get(pending.at + self.horizon) {
                self.learn(&pending, actual, baselines);
            }
        }
    }

    fn learn(&mut self, pending: &Pending, actual: f64, baselines: BaselinePlaces) {
        if !pending.point.is_finite() {
            return;
        }
        self.weighting.learn(&pending.models, pending.point, actual);
        for ((corrected, quantile), value) in self.corrected.iter_mut().zip(WATCHED).zip(pending.quantiles) {
            if value.is_finite() {
                let below = if actual <= f64::from(value) { 1.0 } else { 0.0 };
                *corrected = (*corrected + ADAPTATION * (quantile - below)).clamp(LEAST_TAIL, 1.0 - LEAST_TAIL);
            }
        }
        // The corrections keep the order of what they correct.
        for i in 1..self.corrected.len() {
            self.corrected[i] = self.corrected[i].max(self.corrected[i - 1]);
        }
        self.resolved = self.resolved.wrapping_add(1);
        if self.calibrated_on() < MIN_SPACED || self.resolved.is_multiple_of(self.spacing) {
            self.errors.push((actual - pending.point) as f32);
        }
        let error = |model: usize| (f64::from(pending.models[model]) - actual).abs();
        self.judged.add((actual - pending.point).abs(), error(baselines.persistence), error(baselines.seasonal_naive));
    }

    /// Returns what each model counts, where `models` are their forecasts; see [`Weighting::weights`].
    pub(crate) fn weights(&self, models: &[f64]) -> Vec<f64> {
        self.weighting.weights(models)
    }

    /// Returns the baseline that is better, where the combination is demoted to it.
    pub(crate) fn demoted(&self, baselines: BaselinePlaces) -> Option<usize> {
        let Judged { persistence, seasonal, demoted, .. } = self.judged;
        demoted.then_some(if seasonal < persistence { baselines.seasonal_naive } else { baselines.persistence })
    }

    /// Returns the distance of `quantile` from the point, by conformal calibration on the resolved errors and the adaptive
    /// correction; NaN where too little is known.
    pub(crate) fn offset(&self, quantile: f64) -> f64 {
        if quantile == 0.5 {
            return 0.0;
        }
        if self.errors.sorted.len() < LEAST_CALIBRATION_ERRORS {
            return f64::NAN;
        }
        conformal::offset(&self.errors.sorted, self.correct(quantile)).unwrap_or(f64::NAN)
    }

    /// The corrected quantile: between watched ones by straight lines, beyond them in proportion to the tail.
    fn correct(&self, quantile: f64) -> f64 {
        let at = WATCHED.partition_point(|watched| *watched <= quantile);
        let last = WATCHED.len() - 1;
        let corrected = match at {
            0 => quantile * self.corrected[0] / WATCHED[0],
            at if at > last => 1.0 - (1.0 - quantile) * (1.0 - self.corrected[last]) / (1.0 - WATCHED[last]),
            at => {
                let share = (quantile - WATCHED[at - 1]) / (WATCHED[at] - WATCHED[at - 1]);
                self.corrected[at - 1] + share * (self.corrected[at] - self.corrected[at - 1])
            }
        };
        // A quantile does not pass the median.
        if quantile > 0.5 { corrected.max(0.5) } else { corrected.min(0.5) }
    }

    /// Returns the bytes that are held on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let pending = size_of::<Pending>() + self.models() * size_of::<f32>();
        self.pending.capacity() * pending + self.weighting.heap_bytes() + CALIBRATION_ERRORS * 8
    }
}

impl Judged {
    fn add(&mut self, combination: f64, persistence: f64, seasonal: f64) {
        // A day is compared on the same targets only.
        if !persistence.is_finite() {
            return;
        }
        self.count = self.count.saturating_add(1);
        let rate = JUDGE_RATE.max(1.0 / f64::from(self.count));
        self.combination += rate * (combination - self.combination);
        self.persistence += rate * (persistence - self.persistence);
        // Unknown for the first day: the better of two is then the other. A gap a day ago says nothing later.
        if self.count == 1 {
            self.seasonal = f64::INFINITY;
        }
        if seasonal.is_finite() {
            self.seasonal = if self.seasonal.is_finite() {
                self.seasonal + rate * (seasonal - self.seasonal)
            } else {
                self.persistence.max(seasonal)
            };
        }
        let better = self.persistence.min(self.seasonal);
        if self.demoted {
            self.demoted = self.combination > RECOVER * better;
        } else {
            self.demoted = self.count >= MIN_JUDGED && self.combination > DEMOTE * better;
        }
    }
}

/// One error in so many is taken at a horizon, of those that resolve at each stride; both in steps.
fn spacing(horizon: usize, stride: usize) -> u32 {
    (horizon / (stride * ERRORS_PER_HORIZON)).max(1) as u32
}

/// The last errors, in order of time and of size.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Window {
    most: usize,
    ring: VecDeque<f32>,
    sorted: Vec<f32>,
}

impl Window {
    fn new(spacing: u32) -> Self {
        let most = (CALIBRATION_ERRORS / spacing as usize).max(LEAST_WINDOW);
        Self { most, ring: VecDeque::new(), sorted: Vec::new() }
    }

    fn push(&mut self, error: f32) {
        if !error.is_finite() {
            return;
        }
        if self.ring.len() == self.most
            && let Some(oldest) = self.ring.pop_front()
        {
            let place = self.sorted.partition_point(|value| value.total_cmp(&oldest).is_lt());
            self.sorted.remove(place);
        }
        self.ring.push_back(error);
        let place = self.sorted.partition_point(|value| value.total_cmp(&error).is_lt());
        self.sorted.insert(place, error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASELINES: BaselinePlaces = BaselinePlaces { persistence: 0, seasonal_naive: 1 };

    /// A column that has resolved `count` forecasts of one step; the models are persistence, seasonal naive and a third.
    fn resolved(count: i64, forecasts: impl Fn(i64) -> [f64; 3], actual: impl Fn(i64) -> f64) -> Column {
        let mut history = History::new(300, 14 * 86_400);
        let mut column = Column::new(1, 1, 3);
        for at in 0..count {
            history.push(0, actual(at));
            column.resolve(&history, at, BASELINES);
            let models = forecasts(at);
            column.issue(at, &models, models[2]);
        }
        column
    }

    #[test]
    fn weight_goes_to_the_models_that_are_right() {
        let column = resolved(200, |_| [1.0, 2.0, 9.0], |_| 2.1);
        let weights = column.weights(&[1.0, 2.0, 9.0]);
        assert!(weights[1] > weights[2] && weights[0] > weights[2], "{weights:?}");
    }

    #[test]
    fn a_losing_combination_is_demoted_and_comes_back() {
        let bad = |at: i64| if at < 400 { 5.0 } else { 0.0 };
        let demoted = |count| resolved(count, |at| [1.0, 2.0, bad(at)], |_| 0.0).demoted(BASELINES);
        assert_eq!(demoted(200), None, "a day must have passed");
        assert_eq!(demoted(400), Some(0));
        assert_eq!(demoted(1200), None);
    }

    #[test]
    fn a_change_of_the_noise_is_corrected() {
        let mut state = 1_u64;
        let noise: Vec<f64> = (0..4000)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let uniform = (state >> 33) as f64 / (1_u64 << 31) as f64 - 0.5;
                // Ever wilder: the past is always too calm.
                uniform * (1.0 + f64::from(i) / 400.0)
            })
            .collect();
        let column = resolved(4000, |_| [0.0, 0.0, 0.0], |at| noise[at as usize]);
        assert!(column.corrected[3] > 0.91 && column.corrected[1] < 0.045, "{:?}", column.corrected);
    }

    #[test]
    fn long_horizons_remember_more_days() {
        assert_eq!([1, 12, 23, 24, 288].map(|horizon| spacing(horizon, 1)), [1, 1, 1, 2, 24]);
    }

    proptest! {
        #[test]
        fn quantiles_never_cross(errors in proptest::collection::vec(-1e6_f64..1e6, 20..400), a in 0.001_f64..0.999, b in 0.001_f64..0.999) {
            let column = resolved(errors.len() as i64, |_| [0.0; 3], |at| errors[at as usize]);
            prop_assert!(column.offset(a.min(b)) <= column.offset(a.max(b)));
            prop_assert!(column.offset(0.5) == 0.0);
        }
    }
}
