//! The network as a member of the forecast: weights and what a series shows in; quantiles out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use cloudpulse_forecast::ensemble::Ensemble;
use cloudpulse_forecast::network::{self, COARSE, FINE, LEVELS, Network};

use crate::kernel::{self, Scratch};
use crate::store::{self, StoreError};
use crate::{Inputs, Shape, Weights};

/// The weights that come with the program: trained on synthetic series alone, by `cloudpulse-predictor pretrain`.
static BUNDLED: &[u8] = include_bytes!("../weights/bundled.safetensors");

/// Names of the notes in a file of weights that say what the inputs mean.
const FEATURES: &str = "features";
const ANCHORS: &str = "anchors";
const RECURRENT: &str = "recurrent";

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A trained network, whose weights can be replaced while it forecasts.
#[derive(Debug)]
pub struct Member {
    weights: RwLock<Arc<Weights>>,
}

/// Why bytes are no network for this program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// They are no weights, or of another shape.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// They were trained on other inputs.
    #[error("the weights were trained for {name} {found:?}; this program has {expected:?}; train them anew")]
    Inputs {
        /// The note that differs.
        name: &'static str,
        /// What it says.
        found: String,
        /// What it would say.
        expected: String,
    },
}

/// Returns the shape of the network that mixes the models of `ensemble`.
pub fn shape(ensemble: &Ensemble, recurrent: bool) -> Shape {
    // All models, and their combination.
    let anchors = ensemble.anchors().len() + 1;
    Shape {
        anchors,
        quantile_anchors: network::QUANTILE_ANCHORS,
        query: network::QUERY + 4 * anchors,
        window: network::WINDOW,
        coarse_tokens: COARSE[0],
        coarse_width: COARSE[1],
        fine_tokens: FINE[0],
        fine_width: FINE[1],
        embed: 32,
        hidden: 32,
        width: 96,
        levels: LEVELS.len(),
        recurrent,
    }
}

/// Returns the notes that say what the inputs of a network for `ensemble` mean.
pub fn notes(ensemble: &Ensemble, recurrent: bool) -> BTreeMap<String, String> {
    BTreeMap::from([
        (FEATURES.to_owned(), network::VERSION.to_string()),
        (ANCHORS.to_owned(), ensemble.anchors().join(",")),
        (RECURRENT.to_owned(), recurrent.to_string()),
    ])
}

impl Member {
    /// Returns the network of a file of weights.
    ///
    /// # Errors
    /// [`MemberError`] where the bytes are no weights, or were trained on other models or features than `ensemble` shows.
    pub fn load(ensemble: &Ensemble, bytes: &[u8]) -> Result<Self, MemberError> {
        let found = store::metadata(bytes)?;
        let recurrent = found.get(RECURRENT).is_none_or(|value| value != "false");
        let expected = notes(ensemble, recurrent);
        for name in [FEATURES, ANCHORS] {
            let (found, expected) = (found.get(name).cloned().unwrap_or_default(), expected[name].clone());
            if found != expected {
                return Err(MemberError::Inputs { name, found, expected });
            }
        }
        Ok(Self::new(store::load(shape(ensemble, recurrent), bytes)?))
    }

    /// Returns the network that comes with the program.
    ///
    /// # Errors
    /// As [`Member::load`]; a test rules it out.
    pub fn bundled(ensemble: &Ensemble) -> Result<Self, MemberError> {
        Self::load(ensemble, BUNDLED)
    }

    /// Returns the network with these weights.
    pub fn new(weights: Weights) -> Self {
        Self { weights: RwLock::new(Arc::new(weights)) }
    }

    /// Returns the weights in use.
    pub fn weights(&self) -> Arc<Weights> {
        // Nothing panics while it holds the lock; if something did, the weights are whole all the same.
        Arc::clone(&self.weights.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses other weights from now on.
    pub fn replace(&self, weights: Arc<Weights>) {
        *self.weights.write().unwrap_or_else(PoisonError::into_inner) = weights;
    }
}

/// Returns the file of weights that comes with the program.
pub const fn bundled_bytes() -> &'static [u8] {
    BUNDLED
}

/// Returns the models with the network that comes with the program.
///
/// # Errors
/// As [`Member::bundled`].
pub fn ensemble() -> Result<Ensemble, MemberError> {
    let models = Ensemble::default();
    let member = Member::bundled(&models)?;
    Ok(models.with_network(Arc::new(member)))
}

/// Returns what the network says of an input whose arrays do not fit it: nothing.
const fn silent() -> [f32; LEVELS.len()] {
    [f32::NAN; LEVELS.len()]
}

impl Network for Member {
    fn forecast(&self, shown: &network::Inputs) -> Vec<[f32; LEVELS.len()]> {
        let queries = shown.horizons();
        let weights = self.weights();
        let recurrent = weights.shape().recurrent;
        let inputs = Inputs {
            windows: 1,
            queries,
            coarse: if recurrent { &shown.coarse } else { &[] },
            fine: if recurrent { &shown.fine } else { &[] },
            window: &shown.window,
            query: &shown.queries,
            anchor: &shown.anchors,
            known: &shown.known,
            quantile_anchor: &shown.quantile_anchors,
            quantile_known: &shown.quantile_known,
        };
        let mut quantiles = vec![0.0; queries * LEVELS.len()];
        let done = SCRATCH.with_borrow_mut(|scratch| kernel::forward(&weights, &inputs, scratch, &mut quantiles));
        if done.is_err() {
            return vec![silent(); queries];
        }
        kernel::sort(&mut quantiles, LEVELS.len());
        quantiles.as_chunks().0.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloudpulse_forecast::ensemble::{Bounds, Request};
    use cloudpulse_forecast::series::Series;

    fn wave(len: usize, scale: f64, value: impl Fn(usize) -> Option<f64>) -> Series {
        let mut state = 3_u64;
        let values = (0..len).map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 33) as f64 / (1_u64 << 31) as f64;
            let usual = 10.0 + 4.0 * (at as f64 / 288.0 * std::f64::consts::TAU).sin() + noise;
            scale * value(at).unwrap_or(usual)
        });
        Series::new(1_700_000_100, 300, values.collect()).unwrap()
    }

    /// The forecast with the bundled network from the last value on.
    fn forecast(series: &Series) -> Vec<cloudpulse_forecast::ensemble::AtHorizon> {
        let quantiles = [0.05, 0.1, 0.5, 0.9, 0.95];
        let request = Request { horizons: &[1, 3, 12], quantiles: &quantiles, bounds: Bounds::default(), model: None };
        ensemble().unwrap().forecast(series, &[series.len() - 1], &request).remove(0).horizons
    }

    #[test]
    fn the_bundled_network_fits_and_is_small() {
        let ensemble = Ensemble::default();
        Member::bundled(&ensemble).unwrap();
        assert!(BUNDLED.len() <= 400_000, "{}", BUNDLED.len());
        let found = store::metadata(BUNDLED).unwrap();
        for name in ["generator", "seed", "series", "windows", "quantile_loss"] {
            assert!(found.contains_key(name), "{name} is missing from {found:?}");
        }
    }

    #[test]
    fn weights_for_other_inputs_are_refused_and_say_why() {
        let ensemble = Ensemble::default();
        let weights = Member::bundled(&ensemble).unwrap().weights();
        let load = |name: &str, value: &str| {
            let mut notes = notes(&ensemble, true);
            notes.insert(name.to_owned(), value.to_owned());
            Member::load(&ensemble, &store::save(&weights, &notes).unwrap()).unwrap_err().to_string()
        };
        assert!(load(FEATURES, "0").starts_with("the weights were trained for features \"0\"; this program has"));
        assert!(load(ANCHORS, "persistence").contains("anchors \"persistence\""));
        assert!(load(RECURRENT, "false").ends_with("is not the network's"), "{}", load(RECURRENT, "false"));
        assert!(Member::load(&ensemble, &BUNDLED[..5000]).is_err() && Member::load(&ensemble, b"").is_err());
    }

    #[test]
    fn it_counts_in_the_forecast_from_the_first_hours() {
        for (len, resolved) in [(12, 0), (72, 40), (600, 72)] {
            for entry in forecast(&wave(len, 1.0, |_| None)) {
                assert!(entry.network_weight.is_some_and(|weight| weight > 0.0), "{len}: {entry:?}");
                assert!(entry.resolved >= resolved || entry.horizon > 3, "{len}: {entry:?}");
                assert!(entry.quantiles.is_sorted() && entry.quantiles[0] < entry.quantiles[4], "{len}: {entry:?}");
            }
        }
    }

    #[test]
    fn hostile_series_make_no_bad_forecast() {
        let burst = |at: usize| (at == 200).then_some(10_000.0);
        let cases = [
            wave(600, 1e15, |_| None),
            wave(600, 1e-9, |_| None),
            wave(600, 1.0, burst),
            wave(600, 1.0, |_| Some(7.0)),
            wave(600, 1.0, |_| Some(0.0)),
            wave(600, 1.0, |at| (at % 100 != 0).then_some(0.0)),
            wave(600, 1.0, |at| (at % 3 == 0).then_some(f64::NAN)),
            wave(600, 1.0, |at| (at < 596).then_some(f64::NAN)),
            wave(4, 1.0, |_| None),
            wave(1, 1.0, |_| None),
        ];
        for (case, series) in cases.iter().enumerate() {
            let known: Vec<f64> = series.values().iter().copied().filter(|value| value.is_finite()).collect();
            let most = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let least = known.iter().copied().fold(f64::INFINITY, f64::min);
            let margin = 0.1 * (most - least) + 1e-9 * most.abs();
            for entry in forecast(series) {
                let inside = |value: f64| (least - margin..=most + margin).contains(&value);
                assert!(inside(entry.point), "case {case}: {entry:?}");
                let known: Vec<f64> = entry.quantiles.iter().copied().filter(|value| !value.is_nan()).collect();
                assert!(known.is_sorted() && known.iter().all(|value| value.is_finite()), "case {case}: {entry:?}");
            }
        }
        // A burst of long ago, a thousand times as large, does not make what is said now as wide.
        let (calm, burst) = (forecast(&wave(600, 1.0, |_| None)), forecast(&wave(600, 1.0, burst)));
        let width = |entry: &cloudpulse_forecast::ensemble::AtHorizon| entry.quantiles[3] - entry.quantiles[1];
        for (calm, burst) in calm.iter().zip(&burst) {
            assert!(width(burst) < 10.0 * width(calm), "{calm:?} {burst:?}");
        }
    }
}
