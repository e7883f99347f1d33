//! Prophet's Stan program compiled to WebAssembly, as augurs brings it. Behind the feature `wasmstan`, because wasmtime takes
//! long to build.

#[cfg(feature = "wasmstan")]
pub(crate) use enabled::Stan;

#[cfg(feature = "wasmstan")]
mod enabled {
    use std::sync::{Arc, Mutex, PoisonError};

    use anyhow::Context as _;
    use augurs_prophet::optimizer::{Data, Error, InitialParams, OptimizeOpts, OptimizedParams};
    use augurs_prophet::wasmstan::WasmstanOptimizer;
    use augurs_prophet::{
        FeatureMode, Optimizer, PredictionData, Prophet, ProphetOptions, SeasonalityOption, TrainingData,
    };
    use cloudpulse_forecast::prophet::plan::SeasonalityMode;

    use super::super::{PeerFit, cpu_seconds};

    /// The compiled program.
    #[derive(Debug)]
    pub(crate) struct Stan(WasmstanOptimizer);

    impl Stan {
        /// Compiles the program, once.
        pub(crate) fn new() -> Option<Self> {
            Some(Self(WasmstanOptimizer::new()))
        }

        /// Fits a series by Prophet's defaults, with daily and weekly season; only the optimizer is timed.
        ///
        /// # Errors
        /// When Stan fails.
        pub(crate) fn fit(
            &mut self,
            values: &[f64],
            step_seconds: i64,
            mode: SeasonalityMode,
            horizon: usize,
        ) -> anyhow::Result<PeerFit> {
            let options = ProphetOptions {
                seasonality_mode: match mode {
                    SeasonalityMode::Additive => FeatureMode::Additive,
                    SeasonalityMode::Multiplicative => FeatureMode::Multiplicative,
                },
                daily_seasonality: SeasonalityOption::Manual(true),
                weekly_seasonality: SeasonalityOption::Manual(true),
                yearly_seasonality: SeasonalityOption::Manual(false),
                uncertainty_samples: 0,
                ..ProphetOptions::default()
            };
            let seen = Arc::new(Mutex::new(None));
            let mut prophet = Prophet::new(options, Timed { stan: self.0.clone(), seen: Arc::clone(&seen) });
            let time = |i: usize| 1_700_000_100 + step_seconds * i as i64;
            let times = (0..values.len()).map(time).collect();
            prophet.fit(TrainingData::new(times, values.to_vec())?, OptimizeOpts::default())?;
            let (cpu_seconds, objective) =
                seen.lock().unwrap_or_else(PoisonError::into_inner).take().context("Stan was not asked")?;
            let future = (values.len()..values.len() + horizon).map(time).collect();
            let forecast = prophet.predict(PredictionData::new(future))?.yhat.point;
            Ok(PeerFit { cpu_seconds, objective, forecast })
        }
    }

    /// Notes the seconds and the negative log posterior of a fit, which augurs keeps to itself.
    #[derive(Debug)]
    struct Timed {
        stan: WasmstanOptimizer,
        seen: Arc<Mutex<Option<(f64, f64)>>>,
    }

    impl Optimizer for Timed {
        fn optimize(&self, init: &InitialParams, data: &Data, opts: &OptimizeOpts) -> Result<OptimizedParams, Error> {
            let started = cpu_seconds();
            let best = self.stan.optimize(init, data, opts)?;
            let seconds = cpu_seconds() - started;
            let noted = Some((seconds, negative_log_posterior(data, &best)));
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = noted;
            Ok(best)
        }
    }

    /// T ln s + RSS/(2s²) + k²/50 + m²/50 + Σ|δ|/τ + Σβ²/(2sd²) + 2s², as Stan's program has it.
    fn negative_log_posterior(data: &Data, best: &OptimizedParams) -> f64 {
        let width = best.beta.len();
        let sigma = *best.sigma_obs;
        let mut sum = data.t.len() as f64 * sigma.ln() + (best.k.powi(2) + best.m.powi(2)) / 50.0 + 2.0 * sigma * sigma;
        for (i, (t, y)) in data.t.iter().zip(&data.y).enumerate() {
            let changes: f64 = best.delta.iter().zip(&data.t_change).map(|(d, s)| d * (t - s).max(0.0)).sum();
            let total = |indicator: &[i32]| -> f64 {
                let row = &data.X[i * width..(i + 1) * width];
                row.iter().zip(&best.beta).zip(indicator).map(|((x, b), on)| x * b * f64::from(*on)).sum()
            };
            let mean = (best.k * t + best.m + changes) * (1.0 + total(&data.s_m)) + total(&data.s_a);
            sum += (y - mean).powi(2) / (2.0 * sigma * sigma);
        }
        sum += best.delta.iter().map(|d| d.abs() / *data.tau).sum::<f64>();
        sum + best.beta.iter().zip(&data.sigmas).map(|(b, sd)| b * b / (2.0 * **sd * **sd)).sum::<f64>()
    }
}

/// Stands in where the feature is off.
#[cfg(not(feature = "wasmstan"))]
#[derive(Debug)]
pub(crate) enum Stan {}

#[cfg(not(feature = "wasmstan"))]
impl Stan {
    pub(crate) fn new() -> Option<Self> {
        None
    }

    pub(crate) fn fit(
        &mut self,
        _values: &[f64],
        _step_seconds: i64,
        _mode: cloudpulse_forecast::prophet::plan::SeasonalityMode,
        _horizon: usize,
    ) -> anyhow::Result<super::PeerFit> {
        match *self {}
    }
}
