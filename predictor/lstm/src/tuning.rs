//! Fine-tuning: the histories of an installation's own series in; weights that forecast them better out, or why there are
//! none.
//!
//! The histories are replayed from their start, so that every window shows what was known at its time. They are cut into
//! three spans of time: on the first the network is trained, on the second the training is stopped where it no longer helps,
//! on the third the new weights are compared with those that they would replace. No window of a span knows what came in a later one.

use rayon::prelude::*;

use cloudpulse_forecast::ensemble::Ensemble;
use cloudpulse_forecast::series::{Series, steps};

use crate::corpus::{self, Corpus};
use crate::engine::Engine;
use crate::training::{self, Course, Fitted, Worth};
use crate::{BatchError, Weights};

/// The first span ends at this share of the time, the second at the other.
const SPANS: [f64; 2] = [0.6, 0.8];
/// Windows of all series together at most, of all spans.
const MOST_WINDOWS: usize = 12_000;
/// And of one series.
const MOST_OF_SERIES: usize = 150;
/// Fewer windows to train on make no network better, and on fewer held back no one could tell.
const LEAST: [usize; 3] = [300, 100, 100];
/// A replay knows the usual day only after some: no window lies before this, in seconds, where there is more history.
const SETTLED_SECONDS: i64 = 86_400;
/// Passes over the windows at most.
const PASSES: usize = 30;
const BATCH: usize = 256;
const LEAST_STEPS: usize = 150;
const RATE: f32 = 5e-4;
/// Looks at the second span, and after how many without a better one the training ends.
const LOOKS: usize = 15;
const PATIENCE: usize = 3;
/// New weights replace others only where their loss is smaller by this share.
pub const LEAST_GAIN: f64 = 0.01;

/// A history to learn from.
#[derive(Debug, Clone)]
pub struct Past {
    /// The values.
    pub series: Series,
    /// No window lies before this index: what is older is kept more coarsely than it was.
    pub first: usize,
}

/// What fine-tuning found.
#[derive(Debug, Clone)]
pub struct Tuned {
    /// The weights that were trained.
    pub weights: Weights,
    /// Windows by span.
    pub windows: [usize; 3],
    /// Training steps until the weights that were best on the second span.
    pub steps: usize,
    /// Worth on the third span: of the weights that come with the program, of those in use, and of the trained ones.
    pub bundled: Worth,
    /// See [`Tuned::bundled`].
    pub before: Worth,
    /// See [`Tuned::bundled`].
    pub after: Worth,
    /// See [`Fitted::lost_device`].
    pub lost_device: Option<String>,
}

/// Which weights are best on the third span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The trained ones, by [`LEAST_GAIN`] at least.
    Tuned,
    /// Those in use.
    Before,
    /// Those that come with the program, better than the ones in use by as much.
    Bundled,
}

impl Tuned {
    /// Returns which weights are best.
    pub fn verdict(&self) -> Verdict {
        let loss = [&self.bundled, &self.before, &self.after].map(|worth| worth.quantile_loss);
        let better = |new: f64, old: f64| new < (1.0 - LEAST_GAIN) * old;
        if better(loss[2], loss[1]) && better(loss[2], loss[0]) {
            Verdict::Tuned
        } else if better(loss[0], loss[1]) {
            Verdict::Bundled
        } else {
            Verdict::Before
        }
    }
}

/// Why there are no trained weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuningError {
    /// The histories are too short, too few, or never change.
    #[error("{found:?} windows to train, stop and compare on; {LEAST:?} are needed")]
    TooLittle {
        /// Windows by span.
        found: [usize; 3],
    },
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
    /// The windows do not fit the network: a defect.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Trains `current` further on `pasts`, all of one step, with `engine` and on the threads of the current rayon pool; `stop` is asked often, and
/// ends it when it says so. The same histories and `seed` give the same weights.
///
/// # Errors
/// [`TuningError`].
pub fn tune(
    ensemble: &Ensemble,
    pasts: &[Past],
    [bundled, current]: [&Weights; 2],
    seed: u64,
    engine: Engine,
    stop: impl Fn() -> bool + Sync,
) -> Result<Tuned, TuningError> {
    let spans = spans(ensemble, pasts, seed, &stop);
    if stop() {
        return Err(TuningError::Stopped);
    }
    let found = [0, 1, 2].map(|span| spans[span].len());
    if found.iter().zip(LEAST).any(|(found, least)| *found < least) {
        return Err(TuningError::TooLittle { found });
    }
    let [train, hold, compare] = &spans;
    let steps = (PASSES * train.len() / BATCH).max(LEAST_STEPS);
    let course = Course { steps, rate: RATE, warm_up: steps / 10, looks: LOOKS, seed };
    let (mut best, mut worse) = (f64::INFINITY, 0);
    let watch = |worth: &Worth| {
        worse = if worth.quantile_loss < best { 0 } else { worse + 1 };
        best = best.min(worth.quantile_loss);
        worse < PATIENCE && !stop()
    };
    let Fitted { weights, worth: held, lost_device } =
        training::fit(current.clone(), train, hold, &course, engine, watch)?;
    if stop() {
        return Err(TuningError::Stopped);
    }
    let worth = |weights: &Weights| training::worth(weights, compare, held.step);
    let (bundled, before, after) = (worth(bundled)?, worth(current)?, worth(&weights)?);
    Ok(Tuned { weights, windows: found, steps: held.step, bundled, before, after, lost_device })
}

/// The windows of all series, by span.
fn spans(ensemble: &Ensemble, pasts: &[Past], seed: u64, stop: &(impl Fn() -> bool + Sync)) -> [Corpus; 3] {
    let time = |past: &Past, index: usize| past.series.start() + index as i64 * past.series.step();
    let settled = |past: &Past| past.first.max(steps(SETTLED_SECONDS, past.series.step()).min(past.series.len() / 4));
    let first = pasts.iter().map(|past| time(past, settled(past))).min().unwrap_or(0);
    let last = pasts.iter().map(|past| time(past, past.series.len())).max().unwrap_or(0);
    let each = (MOST_WINDOWS / pasts.len().max(1)).clamp(1, MOST_OF_SERIES);
    let parts: Vec<Vec<Corpus>> = pasts
        .par_iter()
        .enumerate()
        .map(|(place, past)| {
            if stop() {
                return Vec::new();
            }
            let series = &past.series;
            let index = |time: i64| ((time - series.start()) / series.step()).clamp(0, series.len() as i64) as usize;
            let share = |share: f64| index(first + ((last - first) as f64 * share) as i64);
            let from = settled(past);
            let origins = spread(from, series.len(), each, seed ^ place as u64);
            corpus::windows(ensemble, series, &origins, &[share(SPANS[0]), share(SPANS[1]), series.len()])
        })
        .collect();
    let mut spans: [Corpus; 3] = Default::default();
    for part in parts {
        spans.iter_mut().zip(part).for_each(|(all, more)| all.append(more));
    }
    spans
}

/// Up to `count` indices in `from..to` at even distances, from a first one that follows from `seed`.
fn spread(from: usize, to: usize, count: usize, seed: u64) -> Vec<usize> {
    let count = count.min(to.saturating_sub(from));
    let distance = (to - from.min(to)) as f64 / count.max(1) as f64;
    let phase = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1_u64 << 53) as f64;
    (0..count).map(|place| from + ((place as f64 + phase) * distance) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member;

    /// A daily wave with noise, of `len` values from `start` on.
    fn past(seed: u64, start: i64, len: usize) -> Past {
        let mut state = seed;
        let values = (0..len).map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 33) as f64 / (1_u64 << 31) as f64;
            20.0 + 8.0 * (at as f64 / 288.0 * std::f64::consts::TAU).sin() + 3.0 * noise
        });
        Past { series: Series::new(start, 300, values.collect()).unwrap(), first: 0 }
    }

    fn pasts(len: usize) -> Vec<Past> {
        (1..=6).map(|seed| past(seed, 1_700_000_100, len)).collect()
    }

    fn untrained(ensemble: &Ensemble) -> Weights {
        Weights::init(member::shape(ensemble, true), 3).unwrap()
    }

    #[test]
    fn weights_that_know_nothing_learn_from_the_series_and_again_the_same() {
        let ensemble = Ensemble::default();
        let start = untrained(&ensemble);
        let pasts = pasts(900);
        let tuned = tune(&ensemble, &pasts, [&start, &start], 5, Engine::default(), || false).unwrap();
        assert!(tuned.windows.iter().zip(LEAST).all(|(found, least)| *found >= least), "{:?}", tuned.windows);
        assert!(tuned.after.quantile_loss < 0.9 * tuned.before.quantile_loss, "{tuned:?}");
        assert_eq!(tuned.verdict(), Verdict::Tuned);
        // On one thread the same weights come out.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let again = pool.install(|| tune(&ensemble, &pasts, [&start, &start], 5, Engine::default(), || false)).unwrap();
        assert_eq!(again.weights.values(), tuned.weights.values());
    }

    #[test]
    fn what_comes_later_changes_nothing_earlier() {
        let ensemble = Ensemble::default();
        let known = pasts(700);
        let other: Vec<Past> = known
            .iter()
            .map(|past| {
                let mut values = past.series.values().to_vec();
                // The third span begins at 80 % of the time after the settling.
                let from = 175 + (525.0 * SPANS[1]) as usize + 1;
                values[from..].fill(-500.0);
                Past { series: Series::new(past.series.start(), 300, values).unwrap(), first: past.first }
            })
            .collect();
        let never = || false;
        let (a, b) = (spans(&ensemble, &known, 1, &never), spans(&ensemble, &other, 1, &never));
        for span in 0..2 {
            assert!(!a[span].is_empty());
            assert_eq!(a[span].shown(), b[span].shown(), "span {span}");
        }
        assert_ne!(a[2].shown(), b[2].shown());
    }

    #[test]
    fn too_little_and_stopped_are_said() {
        let ensemble = Ensemble::default();
        let start = untrained(&ensemble);
        let tune = |pasts: &[Past], stop: bool| {
            tune(&ensemble, pasts, [&start, &start], 5, Engine::default(), || stop).unwrap_err()
        };
        assert!(matches!(tune(&[], false), TuningError::TooLittle { found: [0, 0, 0] }));
        // Twenty minutes of history, and one series that never changes.
        assert!(matches!(tune(&pasts(4), false), TuningError::TooLittle { .. }));
        let constant = Past { series: Series::new(0, 300, vec![5.0; 900]).unwrap(), first: 0 };
        assert!(matches!(tune(&[constant], false), TuningError::TooLittle { found: [0, 0, 0] }));
        assert!(matches!(tune(&pasts(900), true), TuningError::Stopped));
    }

    #[test]
    fn the_best_on_the_newest_span_is_used() {
        let worth = |quantile_loss: f64| Worth { step: 0, quantile_loss, errors: Vec::new() };
        let verdict = |[bundled, before, after]: [f64; 3]| {
            let weights = untrained(&Ensemble::default());
            let [bundled, before, after] = [bundled, before, after].map(worth);
            Tuned { weights, windows: [0; 3], steps: 0, bundled, before, after, lost_device: None }.verdict()
        };
        assert_eq!(verdict([0.7, 0.7, 0.6]), Verdict::Tuned);
        assert_eq!(verdict([0.7, 0.7, 0.699]), Verdict::Before, "too small a gain");
        assert_eq!(verdict([0.6, 0.7, 0.65]), Verdict::Bundled, "the ones in use have grown old");
        assert_eq!(verdict([0.7, 0.6, 0.65]), Verdict::Before);
        assert_eq!(verdict([0.7, 0.7, f64::NAN]), Verdict::Before);
    }
}
