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
use crate::network::LEVELS;
use crate::tails::Tails;
use judged::{Judged, Rivals};
use window::Window;

mod judged;
mod window;

/// Errors of forecasts that overlap are alike: at a long horizon they are taken this many to a horizon, so that the window
/// reaches over as many days as it takes.
const ERRORS_PER_HORIZON: usize = 12;
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
/// How far the intervals follow the network, where it expects another spread than usual: 0 is not at all, 1 wholly.
const TRUST: f64 = 0.5;
/// They grow and shrink by this factor at most.
const MOST_SCALE: f64 = 4.0;
/// Resolved forecasts that a mean error remembers: about a day, and about three hours.
const RECENT: [f32; 2] = [288.0, 36.0];

/// The resolved past of one horizon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) horizon: i64,
    pending: VecDeque<Pending>,
    weighting: Weighting,
    /// Mean absolute errors of the combination and of the network where both said something, over about a day.
    rivals: Rivals,
    /// Divided by the scale at their time.
    errors: Window,
    /// Usual spread that the network expects, below and above; NaN before any.
    usual: [f32; 2],
    /// Of the resolved errors one in so many makes the quantiles.
    spacing: u32,
    /// Forecasts that have resolved.
    resolved: u32,
    /// The watched quantiles as corrected.
    corrected: [f64; WATCHED.len()],
    judged: Judged,
    /// Mean absolute errors of the models and the combination, over [`RECENT`]; NaN where none has resolved.
    recent: [Vec<f32>; 2],
    /// Quantiles of the combination's errors.
    tails: Tails,
}

/// What was said of one horizon.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// What each model forecasts, the network as the last where there is one; NaN where one says nothing.
    pub(crate) models: Vec<f64>,
    /// Their combination, without the network.
    pub(crate) combination: f64,
    /// The forecast itself.
    pub(crate) point: f64,
    /// What the network counts in it beside the combination, from 0 to 1; `None` where it says nothing.
    pub(crate) network_weight: Option<f64>,
    /// How far below and above the point the network expects the values to lie; NaN without a network.
    pub(crate) spread: [f64; 2],
    /// The quantiles of the network around its median; NaN without one.
    pub(crate) network: [f64; LEVELS.len()],
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    at: i64,
    combination: f64,
    point: f64,
    /// See [`Column::scale`].
    scale: [f32; 2],
    /// The watched quantiles as they would have been issued; NaN where unknown.
    quantiles: [f32; WATCHED.len()],
    models: Vec<f32>,
}

impl Column {
    pub(crate) fn new(horizon: usize, stride: usize, models: usize) -> Self {
        Self {
            horizon: horizon as i64,
            pending: VecDeque::new(),
            weighting: Weighting::new(models),
            rivals: Rivals::default(),
            usual: [f32::NAN; 2],
            errors: Window::new(spacing(horizon, stride)),
            spacing: spacing(horizon, stride),
            resolved: 0,
            corrected: WATCHED,
            judged: Judged::default(),
            recent: [vec![f32::NAN; models + 1], vec![f32::NAN; models + 1]],
            tails: Tails::default(),
        }
    }

    /// Returns the quantiles of the combination's errors, at the levels of a network; NaN while too little is known.
    pub(crate) fn tails(&self) -> [f64; LEVELS.len()] {
        self.tails.quantiles()
    }

    /// Returns the mean absolute errors of the models and, as the last, of the combination: over about a day and about
    /// three hours. NaN where none has resolved.
    pub(crate) const fn recent(&self) -> &[Vec<f32>; 2] {
        &self.recent
    }

    pub(crate) fn models(&self) -> usize {
        self.weighting.models()
    }

    /// Returns how many errors the quantiles rest on.
    pub(crate) fn calibrated_on(&self) -> usize {
        self.errors.sorted.len()
    }

    /// Notes a forecast made at the grid point `at`; its error is learnt later.
    pub(crate) fn issue(&mut self, at: i64, said: &Said) {
        let scale = self.scale(said);
        for (usual, spread) in self.usual.iter_mut().zip(said.spread) {
            let spread = spread as f32;
            if spread.is_finite() {
                *usual = if usual.is_finite() { *usual + (spread - *usual) / RECENT[0] } else { spread };
            }
        }
        let quantiles = WATCHED.map(|quantile| (said.point + self.offset(quantile, scale)) as f32);
        let models = said.models.iter().map(|value| *value as f32).collect();
        let scale = scale.map(|scale| scale as f32);
        self.pending.push_back(Pending {
            at,
            combination: said.combination,
            point: said.point,
            scale,
            quantiles,
            models,
        });
    }

    /// Returns by how much errors below and above the point are expected to be larger than usual, going by the network; 1
    /// without one.
    pub(crate) fn scale(&self, said: &Said) -> [f64; 2] {
        std::array::from_fn(|side| {
            let ratio = said.spread[side] / f64::from(self.usual[side]);
            if ratio.is_finite() { ratio.powf(TRUST).clamp(1.0 / MOST_SCALE, MOST_SCALE) } else { 1.0 }
        })
    }

    /// Returns what the network counts in the forecast beside the combination, from 0 to 1.
    pub(crate) fn network_weight(&self) -> f64 {
        self.rivals.network_weight()
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
        let pool = self.weighting.models();
        let Pending { combination, point, .. } = *pending;
        self.weighting.learn(&pending.models[..pool], combination, actual);
        if let Some(network) = pending.models.get(pool).filter(|network| network.is_finite()) {
            self.rivals.add((combination - actual).abs(), (f64::from(*network) - actual).abs());
        }
        let forecasts = pending.models[..pool].iter().map(|value| f64::from(*value)).chain([combination]);
        for (place, value) in forecasts.enumerate() {
            let error = (value - actual).abs() as f32;
            for (mean, memory) in self.recent.iter_mut().zip(RECENT) {
                if error.is_finite() {
                    let mean = &mut mean[place];
                    // The first few count alike.
                    let rate = (1.0 / (self.resolved as f32 + 1.0)).max(1.0 / memory);
                    *mean = if mean.is_finite() { *mean + rate * (error - *mean) } else { error };
                }
            }
        }
        let mean = self.recent[0].last().copied().unwrap_or(f32::NAN);
        self.tails.learn((actual - combination) as f32, mean);
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
            let error = actual - point;
            let scale = pending.scale[usize::from(error > 0.0)];
            self.errors.push(error as f32 / scale);
        }
        let error = |model: usize| (f64::from(pending.models[model]) - actual).abs();
        self.judged.add((actual - point).abs(), error(baselines.persistence), error(baselines.seasonal_naive));
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
    pub(crate) fn offset(&self, quantile: f64, scale: [f64; 2]) -> f64 {
        if quantile == 0.5 {
            return 0.0;
        }
        if self.errors.sorted.len() < LEAST_CALIBRATION_ERRORS {
            return f64::NAN;
        }
        let offset = conformal::offset(&self.errors.sorted, self.correct(quantile)).unwrap_or(f64::NAN);
        offset * scale[usize::from(offset > 0.0)]
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
        let recent = self.recent.iter().map(|means| means.capacity() * size_of::<f32>()).sum::<usize>();
        self.pending.capacity() * pending + self.weighting.heap_bytes() + recent + window::MOST * 8
    }
}

/// One error in so many is taken at a horizon, of those that resolve at each stride; both in steps.
fn spacing(horizon: usize, stride: usize) -> u32 {
    (horizon / (stride * ERRORS_PER_HORIZON)).max(1) as u32
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
            column.issue(at, &said(forecasts(at).to_vec(), [f64::NAN; 2]));
        }
        column
    }

    /// The third model is the combination; a fourth the network, which is left out of it.
    fn said(models: Vec<f64>, spread: [f64; 2]) -> Said {
        Said {
            combination: models[2],
            point: models[2],
            models,
            network_weight: None,
            spread,
            network: [f64::NAN; LEVELS.len()],
        }
    }

    #[test]
    fn the_network_counts_for_what_it_was_worth() {
        let weight = |network: f64, combination: f64| {
            let mut history = History::new(300, 14 * 86_400);
            let mut column = Column::new(1, 1, 3);
            for at in 0..100 {
                history.push(0, 0.0);
                column.resolve(&history, at, BASELINES);
                column.issue(at, &said(vec![9.0, 9.0, combination, network], [1.0; 2]));
            }
            column.network_weight()
        };
        assert!(weight(1.0, 2.0) > 0.99 && weight(2.0, 1.0) < 0.01);
        assert!((weight(3.0, 3.0) - 0.5).abs() < 1e-9);
        assert_eq!([weight(0.0, 1.0), weight(1.0, 0.0), weight(0.0, 0.0)], [1.0, 0.0, 0.5]);
        assert_eq!(
            weight(f64::NAN, 1.0),
            0.5,
            "nothing is known of it; what it says counts nothing where it is silent"
        );
    }

    #[test]
    fn errors_are_measured_in_the_spread_that_was_expected() {
        // Calm and wild by turns, and the network knows which.
        let mut history = History::new(300, 14 * 86_400);
        let mut column = Column::new(1, 1, 3);
        let wild = |at: i64| if at / 10 % 2 == 0 { 1.0 } else { 9.0 };
        for at in 0..600_i64 {
            let sign = [1.0, -1.0, 0.4, -0.4][at.rem_euclid(4) as usize];
            history.push(0, sign * wild(at - 1));
            column.resolve(&history, at, BASELINES);
            column.issue(at, &said(vec![0.0; 4], [wild(at); 2]));
        }
        let upper = |spread: f64| {
            let said = said(vec![0.0; 4], [spread; 2]);
            column.offset(0.9, column.scale(&said))
        };
        assert!(upper(9.0) > 2.5 * upper(1.0), "{} {}", upper(9.0), upper(1.0));
        assert_eq!(upper(f64::NAN), column.offset(0.9, [1.0; 2]), "without a network all are alike");
        assert!(upper(1e9) <= MOST_SCALE * upper(f64::NAN), "whatever it says");
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
            prop_assert!(column.offset(a.min(b), [1.0; 2]) <= column.offset(a.max(b), [1.0; 2]));
            prop_assert!(column.offset(0.5, [1.0; 2]) == 0.0);
        }
    }
}
