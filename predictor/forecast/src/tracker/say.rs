//! What a tracker says: horizons in; points, quantiles, and what they are made of, out.
//!
//! The models' forecasts are combined by their weights; a network, where there is one, is shown all of them and their errors, and
//! moves the point as far as it was worth lately. The resolved errors of what was said then make the quantiles, scaled by
//! how uncertain the network is now; until there are enough the network's own, or Prophet's, stand in.

use super::{SCORE_SECONDS, Tracker};
use crate::column::Said;
use crate::combination::weighted_median;
use crate::ensemble::AtHorizon;
use crate::network::{self, Asked, Inputs, LEVELS, MEDIAN};
use crate::series::steps;

/// With fewer resolved errors, the network's quantiles are taken, or Prophet's closed-form interval where there is a fit.
const MIN_CALIBRATION_ERRORS: usize = 40;
/// A network says nothing of a series of which it was shown fewer values of the last day.
const LEAST_VALUES: usize = 8;
/// Models are clipped to the range that the series has shown, widened by this share of it at least.
const RANGE_MARGIN: f64 = 0.1;

impl Tracker {
    /// What is said of each of `horizons`, before it is calibrated.
    pub(super) fn say(&self, horizons: &[usize], with_network: bool) -> Vec<Said> {
        let values = self.models(horizons);
        let (count, pool) = (horizons.len(), self.ensemble.anchors().len());
        let models = |place: usize| (0..pool).map(|model| values[model * count + place]).collect::<Vec<f64>>();
        // A model that is wanted alone needs no network, unless it is the network.
        let wanted = with_network && self.spec.model.is_none_or(|model| model == pool);
        let network = self.ensemble.network().filter(|_| wanted && self.network_knows());
        let Some(network) = network else {
            return (0..count).map(|place| self.said(horizons[place], models(place), None)).collect();
        };
        let asked: Vec<Asked> =
            horizons.iter().enumerate().map(|(place, horizon)| self.asked(*horizon, models(place))).collect();
        let inputs = network::inputs(&self.history, &asked);
        let mixed = inputs.as_ref().map(|inputs| network.forecast(inputs));
        asked
            .into_iter()
            .enumerate()
            .map(|(place, mut asked)| {
                let mixed = inputs.as_ref().zip(mixed.as_ref()).filter(|_| self.network_reaches(asked.horizon));
                let quantiles = mixed.map_or([f64::NAN; LEVELS.len()], |(inputs, mixed)| {
                    let mut quantiles = mixed[place].map(|output| inputs.value(place, output));
                    // The band goes with the median, but may reach beyond what was seen.
                    let moved = self.clip(quantiles[MEDIAN], self.range(asked.horizon)) - quantiles[MEDIAN];
                    quantiles.iter_mut().for_each(|quantile| *quantile += moved);
                    quantiles
                });
                asked.anchors.pop();
                self.said(asked.horizon, asked.anchors, Some(quantiles))
            })
            .collect()
    }

    /// Whether a network knows what can be known: one value says nothing of the spread, and it is not told of holidays and
    /// regressors, which the models are.
    fn network_knows(&self) -> bool {
        let day = steps(86_400, self.spec.step) as i64;
        let recent = self.history.now().map_or(0, |now| self.history.known(now - day, now).take(LEAST_VALUES).count());
        self.spec.known.is_empty() && recent == LEAST_VALUES
    }

    fn network_reaches(&self, horizon: usize) -> bool {
        horizon as i64 * self.spec.step <= network::LONGEST_HORIZON_SECONDS
    }

    fn said(&self, horizon: usize, mut models: Vec<f64>, network: Option<[f64; LEVELS.len()]>) -> Said {
        let combination = weighted_median(&models, &self.weights(horizon, &models));
        let mut said = Said {
            models: Vec::new(),
            combination,
            point: combination,
            network_weight: None,
            spread: [f64::NAN; 2],
            network: network.unwrap_or([f64::NAN; LEVELS.len()]),
        };
        if let Some(quantiles) = network {
            let median = quantiles[MEDIAN];
            models.push(median);
            said.spread = [median - quantiles[0], quantiles[LEVELS.len() - 1] - median];
            let (below, above, share) = self.between(horizon);
            let (a, b) = (self.columns[below].network_weight(), self.columns[above].network_weight());
            let weight = a + share * (b - a);
            if median.is_finite() {
                said.network_weight = Some(if combination.is_finite() { weight } else { 1.0 });
                said.point =
                    if combination.is_finite() { combination + weight * (median - combination) } else { median };
            }
        }
        models.resize(self.ensemble.names().len(), f64::NAN);
        if let Some(model) = self.spec.model {
            said.point = models[model];
        }
        said.models = models;
        said
    }

    /// What the models count at a horizon, where `models` are their forecasts.
    fn weights(&self, horizon: usize, models: &[f64]) -> Vec<f64> {
        let (below, above, share) = self.between(horizon);
        let mut weights = self.columns[below].weights(models);
        if share > 0.0 {
            for (weight, other) in weights.iter_mut().zip(self.columns[above].weights(models)) {
                *weight += share * (other - *weight);
            }
        }
        weights
    }

    /// Every model's forecast at every horizon, by model, but the network's; clipped.
    fn models(&self, horizons: &[usize]) -> Vec<f64> {
        let mut values = vec![f64::NAN; self.ensemble.anchors().len() * horizons.len()];
        let mut rest = values.as_mut_slice();
        for (memory, model) in self.memories.iter().zip(self.ensemble.pool()) {
            let (own, others) = rest.split_at_mut(model.outputs().len() * horizons.len());
            memory.forecast(&self.history, horizons, own);
            rest = others;
        }
        let ranges: Vec<_> = horizons.iter().map(|horizon| self.range(*horizon)).collect();
        for (value, range) in values.iter_mut().zip(ranges.iter().cycle()) {
            *value = self.clip(*value, *range);
        }
        values
    }

    /// What a model may say: what the series has shown, a margin added, not below 0 where it never was. In a time that is a
    /// longer share of the history the series may go further: a disk that has grown for half a day may grow half as much
    /// again in the next six hours.
    fn range(&self, horizon: usize) -> Option<(f64, f64)> {
        let (least, most) = self.history.range()?;
        let age = (self.history.now()? - self.history.oldest()).max(1);
        let margin = (horizon as f64 / age as f64).clamp(RANGE_MARGIN, 1.0) * (most - least);
        let floor = if least >= 0.0 { (least - margin).max(0.0) } else { least - margin };
        Some((floor, most + margin))
    }

    fn clip(&self, value: f64, range: Option<(f64, f64)>) -> f64 {
        match range {
            Some((floor, ceiling)) if !value.is_nan() => self.spec.bounds.clip(value.max(floor).min(ceiling)),
            _ => value,
        }
    }

    /// Returns a forecast for each of `horizons` (steps ahead of the newest grid point, at least 1), none longer than
    /// asked for in the [`Spec`](super::Spec).
    pub fn forecast(&self, horizons: &[usize], quantiles: &[f64]) -> Vec<AtHorizon> {
        let mut entries = Vec::with_capacity(horizons.len());
        let mut young = false;
        for (horizon, said) in horizons.iter().zip(self.say(horizons, true)) {
            let network = said.network;
            let mut entry = self.at_horizon(*horizon, said, quantiles);
            if entry.resolved < MIN_CALIBRATION_ERRORS {
                if network[MEDIAN].is_finite() {
                    for (value, quantile) in entry.quantiles.iter_mut().zip(quantiles) {
                        *value = entry.point + network::offset(&network, *quantile);
                    }
                } else {
                    young = true;
                }
            }
            entries.push(entry);
        }
        if young {
            self.widen_young(&mut entries, quantiles);
        }
        for value in entries.iter_mut().flat_map(|entry| &mut entry.quantiles) {
            *value = self.spec.bounds.clip(*value);
        }
        entries
    }

    fn at_horizon(&self, horizon: usize, said: Said, quantiles: &[f64]) -> AtHorizon {
        let (below, above, share) = self.between(horizon);
        let (below, above) = (&self.columns[below], &self.columns[above]);
        let demoted = if self.spec.model.is_none() { below.demoted(self.ensemble.baselines()) } else { None };
        let (lower, upper) = (below.scale(&said), above.scale(&said));
        let mut offsets: Vec<f64> = quantiles
            .iter()
            .map(|quantile| {
                let (a, b) = (below.offset(*quantile, lower), above.offset(*quantile, upper));
                if a == b { a } else { a + share * (b - a) }
            })
            .collect();
        let mut combined = match self.spec.model {
            Some(model) => vec![model],
            None => self.counted(horizon, &said),
        };
        let Said { mut point, models, mut network_weight, .. } = said;
        if let Some(baseline) = demoted.filter(|baseline| models[*baseline].is_finite()) {
            point = models[baseline];
            combined = vec![baseline];
            network_weight = network_weight.map(|_| 0.0);
            let errors = self.baseline_errors(baseline, horizon as i64);
            for (offset, quantile) in offsets.iter_mut().zip(quantiles) {
                *offset = crate::conformal::offset(&errors, *quantile).unwrap_or(f64::NAN);
            }
        }
        AtHorizon {
            horizon,
            point,
            quantiles: offsets.into_iter().map(|offset| point + offset).collect(),
            models,
            combined,
            resolved: below.calibrated_on().min(above.calibrated_on()),
            demoted: demoted.is_some(),
            network_weight,
        }
    }

    /// Returns what a network is shown for each of `horizons`; `None` where it has nothing to go by.
    pub fn network_inputs(&self, horizons: &[usize]) -> Option<Inputs> {
        let values = self.models(horizons);
        let (count, pool) = (horizons.len(), self.ensemble.anchors().len());
        let asked: Vec<Asked> = horizons
            .iter()
            .enumerate()
            .map(|(place, horizon)| {
                self.asked(*horizon, (0..pool).map(|model| values[model * count + place]).collect())
            })
            .collect();
        network::inputs(&self.history, &asked)
    }

    fn asked(&self, horizon: usize, models: Vec<f64>) -> Asked {
        let combined = weighted_median(&models, &self.weights(horizon, &models));
        let (below, above, share) = self.between(horizon);
        let (below, above) = (&self.columns[below], &self.columns[above]);
        let mean = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a + share as f32 * (b - a)).collect();
        let (mut offsets, upper) = (below.tails(), above.tails());
        for (offset, other) in offsets.iter_mut().zip(upper) {
            *offset += share * (other - *offset);
        }
        let mut anchors = models;
        anchors.push(combined);
        let (lower, upper) = (below.recent(), above.recent());
        Asked { horizon, anchors, day: mean(&lower[0], &upper[0]), hours: mean(&lower[1], &upper[1]), offsets }
    }

    /// The models that count in what is said.
    fn counted(&self, horizon: usize, said: &Said) -> Vec<usize> {
        let pool = self.ensemble.anchors().len();
        let weights = self.weights(horizon, &said.models[..pool]);
        let network = said.models.get(pool).filter(|_| said.point != said.combination).map(|_| pool);
        (0..pool).filter(|model| weights[*model] > 0.0).chain(network).collect()
    }

    /// The errors that a baseline would have made over the last day, ascending.
    fn baseline_errors(&self, baseline: usize, horizon: i64) -> Vec<f32> {
        let Some(now) = self.history.now() else { return Vec::new() };
        let stride = steps(SCORE_SECONDS, self.spec.step) as i64;
        let back = if baseline == self.ensemble.baselines().seasonal_naive {
            let day = steps(86_400, self.spec.step) as i64;
            (horizon + day - 1) / day * day
        } else {
            horizon
        };
        let mut errors: Vec<f32> = (0..288)
            .map(|i| now - i * stride)
            .filter_map(|at| Some((self.history.get(at)? - self.history.near(at - back)?) as f32))
            .collect();
        errors.sort_unstable_by(f32::total_cmp);
        errors
    }

    /// The scored horizons on both sides of `horizon`, and how far it is from the first to the second.
    fn between(&self, horizon: usize) -> (usize, usize, f64) {
        let above = self.knots.partition_point(|knot| *knot < horizon).min(self.knots.len() - 1);
        if self.knots[above] <= horizon || above == 0 {
            return (above, above, 0.0);
        }
        let (a, b) = (self.knots[above - 1], self.knots[above]);
        (above - 1, above, (horizon - a) as f64 / (b - a) as f64)
    }

    /// Takes Prophet's closed-form interval where too few errors have resolved.
    fn widen_young(&self, entries: &mut [AtHorizon], quantiles: &[f64]) {
        let (Some(now), Some(fit)) = (self.history.now(), self.ensemble.fallback().fit(&self.history)) else { return };
        let network = self.ensemble.names().len() - 1;
        let young = |entry: &&mut AtHorizon| {
            let silent = self.ensemble.network().is_none() || entry.models[network].is_nan();
            entry.resolved < MIN_CALIBRATION_ERRORS && silent
        };
        for entry in entries.iter_mut().filter(young) {
            for (value, quantile) in entry.quantiles.iter_mut().zip(quantiles) {
                *value = entry.point + fit.offset(now + entry.horizon as i64, *quantile);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::ensemble::{AtHorizon, Bounds, Ensemble, KEEP_SECONDS};
    use crate::network::{Inputs, LEVELS, Network};
    use crate::tracker::{Schedule, Spec, Tracker};

    /// Says the same of everything: a median of so many units from the centre, and a spread.
    #[derive(Debug)]
    struct Says {
        median: f32,
        spread: f32,
    }

    impl Network for Says {
        fn forecast(&self, inputs: &Inputs) -> Vec<[f32; LEVELS.len()]> {
            let quantiles = LEVELS.map(|level| self.median + self.spread * (level as f32 - 0.5));
            vec![quantiles; inputs.horizons()]
        }
    }

    const QUANTILES: [f64; 5] = [0.05, 0.1, 0.5, 0.9, 0.95];

    /// Noise around a level, of `count` values; the level is the best forecast.
    fn forecast(network: Option<Says>, count: i64, model: Option<&str>) -> Vec<AtHorizon> {
        let mut ensemble = Ensemble::default();
        if let Some(network) = network {
            ensemble = ensemble.with_network(Arc::new(network));
        }
        let model = model.map(|name| ensemble.names().iter().position(|known| *known == name).unwrap());
        let bounds = Bounds { lower: Some(0.0), upper: None };
        let spec = Spec { step: 300, keep: KEEP_SECONDS, horizons: vec![1, 3], bounds, model, ..Spec::default() };
        let mut tracker = Tracker::new(&ensemble, spec, Schedule::REPLAY);
        let mut state = 7_u64;
        for at in 0..count {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            tracker.push(at, 50.0 + 10.0 * ((state >> 33) as f64 / (1_u64 << 31) as f64));
        }
        tracker.forecast(&[1, 2, 3], &QUANTILES)
    }

    fn points(entries: &[AtHorizon]) -> Vec<f64> {
        entries.iter().map(|entry| entry.point).collect()
    }

    #[test]
    fn a_silent_network_changes_nothing() {
        let silent = forecast(Some(Says { median: f32::NAN, spread: 1.0 }), 600, None);
        let none = forecast(None, 600, None);
        for (a, b) in silent.iter().zip(&none) {
            assert_eq!((a.point, &a.quantiles, a.network_weight), (b.point, &b.quantiles, None));
            assert!(a.models.last().unwrap().is_nan() && a.models.len() == b.models.len() + 1);
        }
    }

    #[test]
    fn a_network_that_is_wrong_is_not_listened_to() {
        let none = forecast(None, 600, None);
        let wrong = forecast(Some(Says { median: 40.0, spread: 1.0 }), 600, None);
        assert!(wrong.iter().all(|entry| entry.network_weight.unwrap() < 0.01), "{wrong:?}");
        for (a, b) in points(&wrong).iter().zip(points(&none)) {
            assert!((a - b).abs() < 0.05, "{a} {b}");
        }
        assert!(
            wrong.iter().all(|entry| entry.models.last().unwrap() <= &61.0),
            "clipped to what was seen and a margin"
        );
    }

    #[test]
    fn a_network_that_is_right_counts_in_the_point() {
        let right = forecast(Some(Says { median: 0.0, spread: 1.0 }), 600, None);
        assert!(right.iter().all(|entry| entry.network_weight.unwrap() > 0.2), "{right:?}");
        let names = Ensemble::default().names().len();
        assert!(right.iter().all(|entry| entry.combined.contains(&names)));
        let alone = forecast(Some(Says { median: 0.0, spread: 1.0 }), 600, Some("lstm"));
        assert!(alone.iter().all(|entry| entry.point == *entry.models.last().unwrap() && entry.combined == [names]));
    }

    /// A disk that fills: five days of it are known, and the next day is asked for.
    #[test]
    fn a_growth_may_leave_the_range_by_as_much_as_the_horizon_is_of_the_history() {
        let ensemble = Ensemble::default();
        let (day, slope) = (288, 0.000_25);
        let model = ensemble.names().iter().position(|name| *name == "prophet");
        let spec = Spec { step: 300, keep: KEEP_SECONDS, horizons: vec![day], model, ..Spec::default() };
        let mut tracker = Tracker::new(&ensemble, spec, Schedule::REPLAY);
        for at in 0..5 * day as i64 {
            tracker.push(at, 0.3 + slope * at as f64);
        }
        let point = tracker.forecast(&[day], &[])[0].point;
        let expected = 0.3 + slope * (6 * day - 1) as f64;
        assert!((point - expected).abs() < 1e-6, "{point} {expected}");
    }

    #[test]
    fn a_young_series_has_the_quantiles_of_the_network() {
        let young = forecast(Some(Says { median: 0.0, spread: 2.0 }), 12, None);
        for entry in &young {
            assert!(entry.quantiles.is_sorted() && entry.quantiles[0] < entry.quantiles[4], "{entry:?}");
            // 0.1 and 0.9 lie as far from the median as in the network: 0.8 units each.
            let (below, above) = (entry.point - entry.quantiles[1], entry.quantiles[3] - entry.point);
            assert!((below - above).abs() < 1e-4 * above && above > 0.0, "{entry:?}");
        }
    }
}
