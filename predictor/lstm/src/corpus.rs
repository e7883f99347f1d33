//! What a network is trained on: series in; windows at random places with what came after them, out.
//!
//! A window holds what [`Tracker`] shows a network, so that training and serving see the same numbers.

use cloudpulse_forecast::ensemble::{Bounds, Ensemble, KEEP_SECONDS};
use cloudpulse_forecast::network;
use cloudpulse_forecast::series::{Series, steps};
use cloudpulse_forecast::tracker::{Schedule, Spec, Tracker};

use crate::{Inputs, Targets};

/// Horizons of every window, in seconds, after the first step.
const HORIZONS_SECONDS: [i64; 8] = [300, 600, 900, 1800, 3600, 10_800, 21_600, 86_400];
/// Horizons of a window.
pub const QUERIES: usize = HORIZONS_SECONDS.len() + 1;
/// One window in so many lies in the first days, where little is known.
const YOUNG: usize = 4;
/// The share of a series that counts as its first days.
const YOUNG_SHARE: f64 = 0.15;
/// Before a window the targets of the longest horizon that matters must be known.
const TARGET_SECONDS: i64 = 3600;
/// Prophet is fitted this often meanwhile: oftener costs much and changes little.
const REFIT_SECONDS: i64 = 7200;
/// A window on which the combination is wrong by so many units over all horizons counts a quarter.
const WILD: f32 = 20.0;

/// Windows, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    windows: usize,
    /// By [`Part`].
    parts: [Vec<f32>; PARTS],
}

/// The arrays of a corpus.
#[derive(Clone, Copy)]
enum Part {
    Coarse,
    Fine,
    Window,
    Query,
    Anchor,
    Known,
    QuantileAnchor,
    QuantileKnown,
    Target,
    Weight,
}

const PARTS: usize = 10;

impl Corpus {
    /// Returns the number of windows.
    pub const fn len(&self) -> usize {
        self.windows
    }

    /// Returns whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.windows == 0
    }

    /// Appends the windows of another.
    pub fn append(&mut self, mut other: Self) {
        self.windows += other.windows;
        for (all, more) in self.parts.iter_mut().zip(&mut other.parts) {
            all.append(more);
        }
    }

    /// Returns the windows at `places`, in that order.
    pub fn pick(&self, places: &[usize]) -> Self {
        let parts = std::array::from_fn(|part| {
            let all = &self.parts[part];
            let each = all.len() / self.windows.max(1);
            places.iter().flat_map(|place| &all[place * each..(place + 1) * each]).copied().collect()
        });
        Self { windows: places.len(), parts }
    }

    /// Returns the arrays as a network takes them; one without recurrence takes no tokens.
    pub fn batch(&self, recurrent: bool) -> (Inputs<'_>, Targets<'_>) {
        let part = |part: Part| self.parts[part as usize].as_slice();
        let tokens = |which: Part| if recurrent { part(which) } else { &[] };
        let inputs = Inputs {
            windows: self.windows,
            queries: QUERIES,
            coarse: tokens(Part::Coarse),
            fine: tokens(Part::Fine),
            window: part(Part::Window),
            query: part(Part::Query),
            anchor: part(Part::Anchor),
            known: part(Part::Known),
            quantile_anchor: part(Part::QuantileAnchor),
            quantile_known: part(Part::QuantileKnown),
        };
        (inputs, Targets { target: part(Part::Target), weight: part(Part::Weight) })
    }

    /// Returns all that the network is shown, and the targets.
    #[cfg(test)]
    pub(crate) fn shown(&self) -> &[Vec<f32>] {
        &self.parts[..Part::Weight as usize]
    }

    /// Returns the forecasts of one anchor and the targets with their weights, by window and horizon.
    pub fn anchor(&self, anchor: usize) -> impl Iterator<Item = (f32, f32, f32)> + '_ {
        let anchors = &self.parts[Part::Anchor as usize];
        let each = anchors.len() / (self.windows * QUERIES).max(1);
        let forecasts = anchors.iter().skip(anchor).step_by(each.max(1)).copied();
        let targets = self.parts[Part::Target as usize].iter().zip(&self.parts[Part::Weight as usize]);
        forecasts.zip(targets).map(|(forecast, (target, weight))| (forecast, *target, *weight))
    }

    fn push(&mut self, inputs: &network::Inputs, targets: &[f32], weights: &[f32]) {
        self.windows += 1;
        let arrays = [
            &inputs.coarse,
            &inputs.fine,
            &inputs.window,
            &inputs.queries,
            &inputs.anchors,
            &inputs.known,
            &inputs.quantile_anchors,
            &inputs.quantile_known,
        ];
        for (part, array) in self.parts.iter_mut().zip(arrays) {
            part.extend_from_slice(array);
        }
        self.parts[Part::Target as usize].extend_from_slice(targets);
        self.parts[Part::Weight as usize].extend_from_slice(weights);
    }
}

/// Returns the windows at `origins` (ascending indices into the series), in one corpus for each span: `ends` are the indices
/// at which spans end, ascending, and what comes at or after the end of a window's span is unknown to its targets. A
/// window without any target is left out. All are empty for a series that never changes, and for one of a step that the network does not know.
pub fn windows(ensemble: &Ensemble, series: &Series, origins: &[usize], ends: &[usize]) -> Vec<Corpus> {
    let mut spans = vec![Corpus::default(); ends.len()];
    let horizons: Vec<usize> =
        [1].into_iter().chain(HORIZONS_SECONDS.map(|seconds| steps(seconds, series.step()))).collect();
    let naive: Vec<f64> = horizons.iter().map(|horizon| naive_error(series, *horizon)).collect();
    let level = series.values().iter().filter(|value| value.is_finite()).map(|value| value.abs()).sum::<f64>();
    let moves = naive[0] > 1e-9 * level / series.len() as f64;
    if !moves || series.step() > network::LONGEST_STEP_SECONDS {
        return spans;
    }
    let mut asked = horizons.clone();
    asked.sort_unstable();
    asked.dedup();
    let spec =
        Spec { step: series.step(), keep: KEEP_SECONDS, horizons: asked, bounds: Bounds::default(), ..Spec::default() };
    let mut tracker = Tracker::new(ensemble, spec, Schedule { least_refit_seconds: REFIT_SECONDS, ..Schedule::REPLAY });
    let mut next = 0;
    for origin in origins {
        for index in next..=*origin {
            tracker.push(series.absolute(index), series.values()[index]);
        }
        next = origin + 1;
        let span = ends.partition_point(|end| end <= origin);
        let (Some(inputs), Some(corpus)) = (tracker.network_inputs(&horizons), spans.get_mut(span)) else { continue };
        let (targets, weights) = targets(series, *origin, ends[span], &horizons, &inputs, &naive);
        if weights.iter().any(|weight| *weight > 0.0) {
            corpus.push(&inputs, &targets, &weights);
        }
    }
    spans
}

/// What came after a window, in the network's unit, and how much it counts: errors count as shares of the series' own naive
/// error, so that no series weighs more than another.
fn targets(
    series: &Series,
    origin: usize,
    end: usize,
    horizons: &[usize],
    inputs: &network::Inputs,
    naive: &[f64],
) -> (Vec<f32>, Vec<f32>) {
    let (mut targets, mut weights, mut wrong) = (Vec::new(), Vec::new(), 0.0);
    for (place, (horizon, naive)) in horizons.iter().zip(naive).enumerate() {
        let actual = series.get(origin + horizon).filter(|_| *naive > 0.0 && origin + horizon < end);
        let target = actual.map_or(0.0, |actual| inputs.target(place, actual));
        let weight = actual.map_or(0.0, |_| (inputs.unit(place) / naive).clamp(0.0, 10.0) as f32);
        let combination = inputs.anchors[(place + 1) * inputs.anchor_count() - 1];
        wrong += weight * (target - combination).abs() / 2.0;
        targets.push(target);
        weights.push(weight);
    }
    let calm = (1.0 + wrong / WILD).powi(-2);
    (targets, weights.into_iter().map(|weight| weight * calm).collect())
}

fn naive_error(series: &Series, horizon: usize) -> f64 {
    let pairs =
        (0..series.len().saturating_sub(horizon)).filter_map(|at| Some((series.get(at + horizon)?, series.get(at)?)));
    let (mut sum, mut count) = (0.0, 0_u32);
    for (later, now) in pairs {
        sum += (later - now).abs();
        count += 1;
    }
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

/// Returns up to `count` places in the series, ascending, that follow from `seed`: in the first days oftener than by chance.
pub fn origins(series: &Series, count: usize, seed: u64) -> Vec<usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let end = series.len().saturating_sub(steps(TARGET_SECONDS, series.step()));
    let mut origins: Vec<usize> = (0..count)
        .map(|place| {
            let young = YOUNG_SHARE * uniform().powi(2);
            let later = YOUNG_SHARE + (1.0 - YOUNG_SHARE) * uniform();
            ((if place % YOUNG == 0 { young } else { later }) * series.len() as f64) as usize
        })
        .filter(|origin| *origin < end)
        .collect();
    origins.sort_unstable();
    origins.dedup();
    origins
}

#[cfg(test)]
mod tests {
    use cloudpulse_forecast::network::{COARSE, FINE, LEVELS};

    use super::*;

    fn noise(len: usize) -> Series {
        let mut state = 5_u64;
        let values = (0..len).map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let wave = (at as f64 / 288.0 * std::f64::consts::TAU).sin();
            if at % 97 == 0 { f64::NAN } else { 10.0 + 4.0 * wave + (state >> 33) as f64 / (1_u64 << 31) as f64 }
        });
        Series::new(1_700_000_000, 300, values.collect()).unwrap()
    }

    fn all(ensemble: &Ensemble, series: &Series, origins: &[usize]) -> Corpus {
        windows(ensemble, series, origins, &[series.len()]).remove(0)
    }

    #[test]
    fn targets_end_with_their_span() {
        let (ensemble, series) = (Ensemble::default(), noise(700));
        let spans = windows(&ensemble, &series, &[300, 399, 450, 650], &[400, 500, 600]);
        assert_eq!(
            spans.iter().map(Corpus::len).collect::<Vec<_>>(),
            [1, 1, 0],
            "650 lies in no span, after 399 none is known"
        );
        let known = |corpus: &Corpus, window: usize| {
            let weights = &corpus.parts[Part::Weight as usize][window * QUERIES..(window + 1) * QUERIES];
            weights.iter().filter(|weight| **weight > 0.0).count()
        };
        assert_eq!(known(&spans[0], 0), 8, "1 step, 5 to 60 min, 3 and 6 h; not 24 h");
        assert_eq!(known(&spans[1], 0), 7, "up to 3 h");
    }

    #[test]
    fn the_future_changes_targets_but_no_input() {
        let ensemble = Ensemble::default();
        let series = noise(900);
        let places = origins(&series, 12, 3);
        let whole = all(&ensemble, &series, &places);
        assert!(whole.len() > 6, "{}", whole.len());
        // The last windows, where all that follows the last origin is otherwise.
        let last = places.iter().copied().max().unwrap();
        let mut values = series.values().to_vec();
        for value in &mut values[last + 1..] {
            *value = -1e3;
        }
        let other = all(&ensemble, &Series::new(series.start(), 300, values).unwrap(), &places);
        assert_eq!(whole.len(), other.len());
        for (part, (a, b)) in whole.parts.iter().zip(&other.parts).enumerate() {
            let targets = part == Part::Target as usize || part == Part::Weight as usize;
            assert!(targets || a == b, "array {part}");
        }
        assert_ne!(whole.parts[Part::Target as usize], other.parts[Part::Target as usize]);
    }

    /// Numbers that one window has.
    fn window_numbers(anchors: usize) -> usize {
        let query = network::QUERY + 4 * anchors;
        let horizon = query + 2 * anchors + (LEVELS.len() + 1) * network::QUANTILE_ANCHORS + 2;
        COARSE[0] * COARSE[1] + FINE[0] * FINE[1] + network::WINDOW + QUERIES * horizon
    }

    #[test]
    fn arrays_fit_the_network_and_are_finite() {
        let ensemble = Ensemble::default();
        let series = noise(700);
        let corpus = all(&ensemble, &series, &origins(&series, 10, 1));
        let shape = crate::member::shape(&ensemble, true);
        let (inputs, targets) = corpus.batch(true);
        inputs.check(&shape).unwrap();
        targets.check(&inputs).unwrap();
        assert!(corpus.parts.iter().flatten().all(|value| value.is_finite()));
        assert_eq!(corpus.parts.iter().map(Vec::len).sum::<usize>(), corpus.len() * window_numbers(shape.anchors));
        let picked = corpus.pick(&[2, 0]);
        assert_eq!(picked.len(), 2);
        assert_eq!(
            picked.anchor(0).take(QUERIES).collect::<Vec<_>>(),
            corpus.anchor(0).skip(2 * QUERIES).take(QUERIES).collect::<Vec<_>>()
        );
        let constant = Series::new(0, 300, vec![4.0; 900]).unwrap();
        assert!(all(&ensemble, &constant, &origins(&constant, 10, 1)).is_empty());
    }
}
