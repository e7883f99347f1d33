//! Training: windows in; weights, and what they are worth on windows that were held back, out. The same seed gives the same
//! weights, whatever the number of threads.

use crate::corpus::{Corpus, QUERIES};
use crate::engine::{Engine, EngineError};
use crate::kernel::{self, Scratch};
use crate::optimiser::{AdamW, Settings, Step, learning_rate};
use crate::{BatchError, Weights};

/// Windows in a step.
const BATCH: usize = 256;
/// Windows that are forecast at once in a validation.
const VALIDATED: usize = 1024;

/// How long and how fast weights are trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
    /// Steps, each on 256 windows.
    pub steps: usize,
    /// Highest rate of learning.
    pub rate: f32,
    /// Steps until it is reached.
    pub warm_up: usize,
    /// Validations, spread evenly.
    pub looks: usize,
    /// Which windows are drawn.
    pub seed: u64,
}

impl Course {
    /// Returns the course of weights that know nothing yet.
    pub const fn pretraining(steps: usize, seed: u64) -> Self {
        Self { steps, rate: 2e-3, warm_up: 100, looks: 10, seed }
    }
}

/// What weights are worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Worth {
    /// Steps taken.
    pub step: usize,
    /// Quantile loss as a share of persistence's absolute error, over all horizons; lower is better.
    pub quantile_loss: f64,
    /// By horizon: absolute error as a share of persistence's, of the combination and of the network's median.
    pub errors: Vec<[f64; 2]>,
}

/// What training made.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The running mean of the weights that was best on the windows held back: the weights as they were, where training made
    /// none better.
    pub weights: Weights,
    /// What they are worth there.
    pub worth: Worth,
    /// Why the engine was given up on the way and the CPU went on in its place, if it was.
    pub lost_device: Option<String>,
}

/// Trains `weights` on windows of `train` with `engine`, and looks now and then what they are worth on `valid`. `watch` sees
/// every look, and ends the training early by returning false.
///
/// # Errors
/// When the windows do not fit the network.
pub fn fit(
    mut weights: Weights,
    train: &Corpus,
    valid: &Corpus,
    course: &Course,
    mut engine: Engine,
    mut watch: impl FnMut(&Worth) -> bool,
) -> Result<Fitted, BatchError> {
    let Course { steps, rate, warm_up, looks, seed } = *course;
    let recurrent = weights.shape().recurrent;
    let settings = Settings { weight_decay: 1e-3, average: 0.995, ..Settings::default() };
    let mut optimiser = AdamW::new(settings, &weights);
    let (mut gradient, mut lost_device) = (vec![0.0; weights.values().len()], None);
    let mut best = (weights.clone(), worth(&weights, valid, 0)?);
    let mut state = seed ^ 0x5851_f42d_4c95_7f2d;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % train.len().max(1)
    };
    for step in 0..steps {
        let places: Vec<usize> = (0..BATCH).map(|_| draw()).collect();
        let picked = train.pick(&places);
        let (inputs, targets) = picked.batch(recurrent);
        let loss = loop {
            match engine.gradient(&weights, &inputs, &targets, &mut gradient) {
                Ok(loss) => break loss,
                Err(EngineError::Batch(error)) => return Err(error),
                // The weights are here, so nothing but this step is lost.
                Err(EngineError::Device(why)) => {
                    lost_device = Some(why);
                    engine = Engine::default();
                }
            }
        };
        let rate = learning_rate(step, warm_up, steps, rate);
        // A step that makes no numbers is left out; the next draws other windows.
        let (Step::Taken { .. } | Step::Refused) = optimiser.step(&mut weights, loss.mean, &gradient, rate);
        if (step + 1) % (steps / looks.max(1)).max(1) == 0 {
            let mean = optimiser.average(&weights);
            let worth = worth(&mean, valid, step + 1)?;
            let go_on = watch(&worth);
            if worth.quantile_loss < best.1.quantile_loss {
                best = (mean, worth);
            }
            if !go_on {
                break;
            }
        }
    }
    let (weights, worth) = best;
    Ok(Fitted { weights, worth, lost_device })
}

/// Returns what `weights` are worth on windows; errors are NaN without any.
///
/// # Errors
/// When the windows do not fit the network.
pub fn worth(weights: &Weights, windows: &Corpus, step: usize) -> Result<Worth, BatchError> {
    let shape = weights.shape();
    let levels = shape.levels;
    let (mut loss, mut naive) = (0.0, 0.0);
    let mut sums = vec![[0.0; 3]; QUERIES];
    let mut scratch = Scratch::default();
    let places: Vec<usize> = (0..windows.len()).collect();
    for places in places.chunks(VALIDATED) {
        let part = windows.pick(places);
        let mut quantiles = vec![0.0; part.len() * QUERIES * levels];
        kernel::forward(weights, &part.batch(shape.recurrent).0, &mut scratch, &mut quantiles)?;
        kernel::sort(&mut quantiles, levels);
        let combination = part.anchor(shape.anchors - 1);
        let rows = part.anchor(0).zip(combination).zip(quantiles.chunks_exact(levels)).enumerate();
        for (row, (((persistence, target, weight), (combination, ..)), quantiles)) in rows {
            let error = |forecast: f32| f64::from(weight * (target - forecast).abs());
            let pinball = |(place, quantile): (usize, &f32)| {
                let above = target - quantile;
                f64::from(weight * (shape.level(place) * above).max((shape.level(place) - 1.0) * above))
            };
            loss += 2.0 * quantiles.iter().enumerate().map(pinball).sum::<f64>() / levels as f64;
            naive += error(persistence);
            let errors = [persistence, combination, quantiles[levels / 2]].map(error);
            for (sum, error) in sums[row % QUERIES].iter_mut().zip(errors) {
                *sum += error;
            }
        }
    }
    let errors = sums.into_iter().map(|[naive, combination, network]| [combination / naive, network / naive]).collect();
    Ok(Worth { step, quantile_loss: loss / naive, errors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloudpulse_forecast::ensemble::Ensemble;
    use cloudpulse_forecast::series::Series;

    use crate::corpus;
    use crate::member::shape;

    fn windows(seed: u64) -> Corpus {
        let made = cloudpulse_synthetic::series_of(seed, 300, 3);
        let series = Series::new(made.start_seconds, made.step_seconds, made.values).unwrap();
        let origins = corpus::origins(&series, 40, seed);
        corpus::windows(&Ensemble::default(), &series, &origins, &[series.len()]).remove(0)
    }

    #[test]
    fn training_helps_and_is_the_same_each_time() {
        let (train, valid) = (windows(1), windows(2));
        let start = Weights::init(shape(&Ensemble::default(), true), 1).unwrap();
        let course = Course { steps: 60, rate: 2e-3, warm_up: 10, looks: 3, seed: 4 };
        let mut seen = Vec::new();
        let Fitted { weights, worth, .. } = fit(start.clone(), &train, &train, &course, Engine::default(), |worth| {
            seen.push(worth.step);
            true
        })
        .unwrap();
        assert_eq!(seen, [20, 40, 60]);
        let before = super::worth(&start, &train, 0).unwrap();
        assert!(worth.quantile_loss < 0.95 * before.quantile_loss, "{before:?} {worth:?}");
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let again =
            one.install(|| fit(start.clone(), &train, &train, &course, Engine::default(), |_| true).unwrap().weights);
        assert_eq!(weights.values(), again.values(), "whatever the number of threads");
        let other = Course { seed: 5, ..course };
        assert_ne!(
            weights.values(),
            fit(start.clone(), &train, &valid, &other, Engine::default(), |_| true).unwrap().weights.values()
        );
        // Told to stop at the first look.
        let stopped = fit(start, &train, &valid, &course, Engine::default(), |_| false).unwrap().worth;
        assert!(stopped.step <= 20);
    }

    #[test]
    fn a_training_that_makes_no_numbers_leaves_the_weights_as_they_were() {
        let train = windows(1);
        let start = Weights::init(shape(&Ensemble::default(), true), 1).unwrap();
        for rate in [f32::NAN, f32::INFINITY, 1e30] {
            let course = Course { steps: 12, rate, warm_up: 1, looks: 3, seed: 4 };
            let Fitted { weights, worth, .. } =
                fit(start.clone(), &train, &train, &course, Engine::default(), |_| true).unwrap();
            assert_eq!((weights.values(), worth.step), (start.values(), 0), "{rate}");
        }
    }
}
