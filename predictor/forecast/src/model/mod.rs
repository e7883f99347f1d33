//! The models behind one trait, and the visible registry of the pool.
//!
//! A model starts one memory for each series. In: the history as it grows, one grid point at a time. Out: forecasts by
//! output and horizon. A memory costs the same for each grid point, however long the history; what costs more is done in
//! `refit`, at times that the caller chooses.

pub mod autoregression;
pub mod cycle;
pub mod direct;
pub mod holt;
pub mod holt_winters;
pub mod median;
pub mod persistence;
pub mod profile;
pub mod prophet;
pub mod seasonal;
pub mod ses;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::history::History;
use crate::known::Known;

/// A model, or a family of models that share their work.
pub trait Model: fmt::Debug + Send + Sync {
    /// Returns the names of what it forecasts.
    fn outputs(&self) -> &'static [&'static str];

    /// Returns the memory of a new series with values `step` seconds apart, that is asked for `horizons` (steps ahead).
    fn start(&self, step: i64, horizons: &[usize]) -> Box<dyn Memory>;

    /// Returns how often the model wants to be fitted anew, in seconds; `None` where it needs no fit.
    fn refit_seconds(&self) -> Option<i64> {
        None
    }

    /// Returns the memory that was saved; `None` where the bytes are no such memory, or of other horizons.
    fn restore(&self, step: i64, horizons: &[usize], saved: &[u8]) -> Option<Box<dyn Memory>>;
}

/// What a model has learnt of one series.
pub trait Memory: fmt::Debug + Send + Sync {
    /// Learns what is known beforehand; said at the start, and again whenever something else is known.
    fn know(&mut self, _known: &Arc<Known>) {}

    /// Takes in the newest grid point of `history`; called once for each, in order.
    fn advance(&mut self, history: &History);

    /// Fits anew on `history`.
    fn refit(&mut self, _history: &History) {}

    /// Writes forecasts from the newest grid point of `history` into `out`: for each output one value a horizon (steps
    /// ahead, those that the memory was started for). `out` is NaN where the model says nothing.
    fn forecast(&self, history: &History, horizons: &[usize], out: &mut [f64]);

    /// Returns what [`Model::restore`] understands; nothing for a model without memory.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Returns the bytes that are held on the heap, itself included.
    fn heap_bytes(&self) -> usize;
}

/// All models of the pool, in the order in which ties are broken.
pub fn registry() -> Vec<Box<dyn Model>> {
    vec![
        Box::new(persistence::Persistence),
        Box::new(seasonal::Seasonal),
        Box::new(profile::Profile),
        Box::new(cycle::Cycle),
        Box::new(median::Median),
        Box::new(ses::Ses),
        Box::new(holt::DampedHolt),
        Box::new(holt_winters::HoltWinters),
        Box::new(autoregression::Autoregression),
        Box::new(direct::Direct),
        Box::new(prophet::Prophet::default()),
    ]
}

/// Returns a state as bytes; empty where it cannot be written, which a test of each model rules out.
fn saved(state: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(state).unwrap_or_default()
}

/// Returns a state from bytes; `None` for other bytes.
fn restored<T: DeserializeOwned>(saved: &[u8]) -> Option<T> {
    postcard::from_bytes(saved).ok()
}

/// Mean absolute errors of `N` candidates, the older the lighter.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Candidates<const N: usize> {
    #[serde(with = "array")]
    errors: [f64; N],
}

/// Usual weight of a new one-step error: a memory of some 250.
const CANDIDATE_RATE: f64 = 1.0 / 250.0;

impl<const N: usize> Candidates<N> {
    fn new() -> Self {
        Self { errors: [0.0; N] }
    }

    fn add(&mut self, errors: [f64; N], rate: f64) {
        for (mean, error) in self.errors.iter_mut().zip(errors) {
            *mean += rate * (error - *mean);
        }
    }

    /// Returns the candidate with the least error, the first of equals.
    fn best(&self) -> usize {
        let mut best = 0;
        for candidate in 1..N {
            if self.errors[candidate] < self.errors[best] {
                best = candidate;
            }
        }
        best
    }
}

/// Arrays of any length for serde.
pub(crate) mod array {
    use serde::de::{DeserializeOwned, Error};
    use serde::{Deserialize as _, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer, T: Serialize, const N: usize>(
        values: &[T; N],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        values.as_slice().serialize(to)
    }

    pub(crate) fn deserialize<'d, D: Deserializer<'d>, T: DeserializeOwned, const N: usize>(
        from: D,
    ) -> Result<[T; N], D::Error> {
        Vec::<T>::deserialize(from)?.try_into().map_err(|_| D::Error::custom("another number of values"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize) -> Vec<f64> {
        let mut state = 7_u64;
        let value = |i: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 33) as f64 / (1_u64 << 31) as f64;
            let gap = i % 97 < 4;
            if gap { f64::NAN } else { 20.0 + 8.0 * (i as f64 * std::f64::consts::TAU / 288.0).sin() + noise }
        };
        (0..len).map(value).collect()
    }

    const HORIZONS: [usize; 5] = [1, 3, 12, 288, 700];

    fn feed(model: &dyn Model, memory: &mut Box<dyn Memory>, history: &mut History, values: &[f64]) {
        let refit = model.refit_seconds().map(|seconds| history.steps(seconds) as i64);
        for value in values {
            history.push(5_666_667, *value);
            memory.advance(history);
            if refit.is_some_and(|steps| history.now().is_some_and(|now| now % steps == 0)) {
                memory.refit(history);
            }
        }
    }

    fn forecast(memory: &dyn Memory, history: &History, outputs: usize) -> Vec<u64> {
        let mut out = vec![f64::NAN; outputs * HORIZONS.len()];
        memory.forecast(history, &HORIZONS, &mut out);
        out.into_iter().map(f64::to_bits).collect()
    }

    #[test]
    fn names_are_unique_words() {
        let names: Vec<&str> = registry().iter().flat_map(|model| model.outputs()).copied().collect();
        for (i, name) in names.iter().enumerate() {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            assert!(!names[..i].contains(name), "{name}");
        }
    }

    #[test]
    fn a_saved_memory_goes_on_as_if_nothing_had_happened() {
        let values = wave(2600);
        for model in registry() {
            let mut history = History::new(300, 14 * 86_400);
            let mut memory = model.start(300, &HORIZONS);
            feed(&*model, &mut memory, &mut history, &values[..2000]);
            let mut again = model.restore(300, &HORIZONS, &memory.save()).unwrap();
            let mut same = history.clone();
            feed(&*model, &mut memory, &mut history, &values[2000..]);
            feed(&*model, &mut again, &mut same, &values[2000..]);
            let outputs = model.outputs().len();
            assert_eq!(forecast(&*memory, &history, outputs), forecast(&*again, &same, outputs), "{model:?}");
        }
    }

    #[test]
    fn foreign_bytes_are_no_memory() {
        for model in registry() {
            let saved = model.start(300, &HORIZONS).save();
            if !saved.is_empty() {
                assert!(model.restore(300, &HORIZONS, &saved[..saved.len() - 1]).is_none(), "{model:?}");
            }
        }
    }

    #[test]
    fn degenerate_series_never_panic() {
        let shapes =
            [vec![f64::NAN; 50], vec![3.0], vec![0.0; 700], vec![5.0; 700], vec![1e300; 40], vec![-1e-300; 40]];
        for values in shapes {
            for step in [1, 15, 60, 3600, 86_400 * 3] {
                for model in registry() {
                    let horizons = [1, 2, 100_000];
                    let mut history = History::new(step, 14 * 86_400);
                    let mut memory = model.start(step, &horizons);
                    feed(&*model, &mut memory, &mut history, &values);
                    memory.refit(&history);
                    let mut out = vec![f64::NAN; model.outputs().len() * horizons.len()];
                    memory.forecast(&history, &horizons, &mut out);
                    assert!(out.iter().all(|value| !value.is_infinite()), "{model:?}");
                }
            }
        }
    }
}
