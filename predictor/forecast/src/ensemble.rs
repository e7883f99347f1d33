//! The pool, and what a series was forecast to be at many origins: a series in, one point and its quantiles per origin and
//! horizon out.
//!
//! Per horizon the point is the weighted median of the models, by what they were worth in the last days; the quantiles are
//! split conformal on the combination's own resolved errors. "Resolved" means that the target's time had come at the
//! origin: nothing later is read.

use std::sync::Arc;

use crate::live::BaselinePlaces;
use crate::model::prophet::Prophet;
use crate::model::{Model, registry};
use crate::network::Network;
use crate::series::Series;
use crate::tracker::{Schedule, Spec, Tracker};

/// Longest history that is kept of a series, in seconds: four weeks.
pub const KEEP_SECONDS: i64 = 28 * 86_400;

/// The network's name among the models.
pub const NETWORK: &str = "lstm";

/// Values that the series can take at all.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// Least value, such as 0 for a rate.
    pub lower: Option<f64>,
    /// Largest value, such as 1 for a ratio.
    pub upper: Option<f64>,
}

impl Bounds {
    /// Returns the nearest possible value; NaN stays NaN.
    pub fn clip(self, value: f64) -> f64 {
        let value = self.lower.map_or(value, |lower| if value < lower { lower } else { value });
        self.upper.map_or(value, |upper| if value > upper { upper } else { value })
    }
}

/// What is asked of a forecast.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// Steps ahead, each at least 1.
    pub horizons: &'r [usize],
    /// Quantiles in (0, 1).
    pub quantiles: &'r [f64],
    /// Values that the series can take.
    pub bounds: Bounds,
    /// One model alone, by its place in [`Ensemble::names`]; the combination where absent. Its quantiles are calibrated
    /// on its own errors.
    pub model: Option<usize>,
}

/// A forecast made at one origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Index of the last value that was known.
    pub origin: usize,
    /// One entry for each horizon asked for, in that order.
    pub horizons: Vec<AtHorizon>,
}

/// A forecast for one horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct AtHorizon {
    /// Steps ahead.
    pub horizon: usize,
    /// The combined point forecast; NaN where nothing is known.
    pub point: f64,
    /// One value for each quantile asked for, never crossing; NaN where too little is known for honest ones.
    pub quantiles: Vec<f64>,
    /// Each model's forecast, by [`Ensemble::names`]; NaN where the model knows nothing.
    pub models: Vec<f64>,
    /// Models that count in the point, by place in [`Ensemble::names`].
    pub combined: Vec<usize>,
    /// Resolved errors behind the quantiles.
    pub resolved: usize,
    /// Whether the combination lost to the better baseline over a day, and that one is given in its place.
    pub demoted: bool,
    /// What the network counts in the point beside the other models, from 0 to 1; `None` where it says nothing.
    pub network_weight: Option<f64>,
}

/// The models and what they share; clones share one state.
#[derive(Debug, Clone)]
pub struct Ensemble {
    pool: Arc<Pool>,
    network: Option<Arc<dyn Network>>,
}

#[derive(Debug)]
struct Pool {
    models: Vec<Box<dyn Model>>,
    /// The names of the models' outputs, and that of the network.
    names: Vec<&'static str>,
    baselines: BaselinePlaces,
    fallback: Prophet,
}

impl Default for Ensemble {
    fn default() -> Self {
        let models = registry();
        let mut names: Vec<&'static str> = models.iter().flat_map(|model| model.outputs()).copied().collect();
        names.push(NETWORK);
        let place = |name: &str| names.iter().position(|known| *known == name).unwrap_or(0);
        let baselines =
            BaselinePlaces { persistence: place("persistence"), seasonal_naive: place("seasonal_naive_day") };
        let pool = Arc::new(Pool { models, names, baselines, fallback: Prophet::default() });
        Self { pool, network: None }
    }
}

impl Ensemble {
    /// Returns the same models, mixed by `network` too.
    #[must_use]
    pub fn with_network(&self, network: Arc<dyn Network>) -> Self {
        Self { pool: Arc::clone(&self.pool), network: Some(network) }
    }

    /// Returns the names of all models: of those that look at the series alone, and, where there is one, of the network
    /// that mixes them.
    pub fn names(&self) -> &[&'static str] {
        let names = &self.pool.names;
        if self.network.is_some() { names } else { &names[..names.len() - 1] }
    }

    /// Returns the names of the models that look at the series alone: what a network mixes, followed by their combination.
    pub fn anchors(&self) -> &[&'static str] {
        &self.pool.names[..self.pool.names.len() - 1]
    }

    /// Returns the network.
    pub fn network(&self) -> Option<&Arc<dyn Network>> {
        self.network.as_ref()
    }

    /// Returns where the two baselines are among the models.
    pub fn baselines(&self) -> BaselinePlaces {
        self.pool.baselines
    }

    pub(crate) fn pool(&self) -> &[Box<dyn Model>] {
        &self.pool.models
    }

    pub(crate) fn fallback(&self) -> &Prophet {
        &self.pool.fallback
    }

    /// Returns one forecast for each of `origins` (ascending indices into the series), by pushing the series into a
    /// [`Tracker`] value by value: a forecast depends on the values up to its origin only.
    pub fn forecast(&self, series: &Series, origins: &[usize], request: &Request<'_>) -> Vec<Forecast> {
        self.replay(series, origins, request, &[], |_, _| {})
    }

    /// The same, and shows the tracker at each origin; it also follows the peaks until each of `peaks` (steps).
    pub fn replay(
        &self,
        series: &Series,
        origins: &[usize],
        request: &Request<'_>,
        peaks: &[usize],
        mut show: impl FnMut(usize, &Tracker),
    ) -> Vec<Forecast> {
        let Request { horizons, quantiles, bounds, model } = *request;
        let spec = Spec {
            step: series.step(),
            keep: KEEP_SECONDS,
            horizons: horizons.to_vec(),
            peaks: peaks.to_vec(),
            bounds,
            known: Arc::default(),
            model,
        };
        let mut tracker = Tracker::new(self, spec, Schedule::REPLAY);
        let mut forecasts = Vec::with_capacity(origins.len());
        let mut next = 0;
        for origin in origins {
            for index in next..=*origin {
                tracker.push(series.absolute(index), series.values()[index]);
            }
            next = next.max(origin + 1);
            forecasts.push(Forecast { origin: *origin, horizons: tracker.forecast(horizons, quantiles) });
            show(*origin, &tracker);
        }
        forecasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{Coverage, Score, resolved, rolling_origins};
    use proptest::prelude::*;

    fn uniform(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as f64 / (1_u64 << 31) as f64
    }

    /// A daily wave with correlated noise and a few gaps.
    fn load(len: usize, step: i64) -> Series {
        let (mut state, mut noise) = (11, 0.0);
        let values = (0..len)
            .map(|i| {
                noise = 0.8 * noise + 6.0 * (uniform(&mut state) - 0.5);
                let t = (i as i64 * step) as f64 / 86_400.0 * std::f64::consts::TAU;
                if i % 211 < 3 { f64::NAN } else { 50.0 + 30.0 * t.sin() + noise }
            })
            .collect();
        Series::new(1_700_000_030, step, values).unwrap()
    }

    const QUANTILES: [f64; 5] = [0.05, 0.1, 0.5, 0.9, 0.95];

    fn request(horizons: &[usize], bounds: Bounds) -> Request<'_> {
        Request { horizons, quantiles: &QUANTILES, bounds, model: None }
    }

    #[test]
    fn a_backtest_row_is_the_forecast_of_the_cut_series() {
        let series = load(3000, 300);
        let ensemble = Ensemble::default();
        let origins = [0, 5, 100, 1500, 2222, 2800];
        let horizons = [1, 2, 3, 12];
        let bounds = Bounds { lower: Some(0.0), upper: None };
        for forecast in ensemble.forecast(&series, &origins, &request(&horizons, bounds)) {
            let cut = series.cut(forecast.origin);
            let alone = Ensemble::default().forecast(&cut, &[forecast.origin], &request(&horizons, bounds));
            // NaN is not equal to itself; its text is.
            assert_eq!(format!("{forecast:?}"), format!("{:?}", alone[0]));
        }
    }

    #[test]
    fn it_beats_both_baselines_and_covers() {
        let series = load(4032, 300);
        let ensemble = Ensemble::default();
        let origins = rolling_origins(&series, 1000, 12, 500);
        let mut scores = [Score::default(), Score::default(), Score::default()];
        let (mut eighty, mut ninety) = (Coverage::default(), Coverage::default());
        let seasonal = ensemble.names().iter().position(|name| *name == "seasonal_naive_day").unwrap();
        for forecast in ensemble.forecast(&series, &origins, &request(&[1, 3, 12], Bounds::default())) {
            for (actual, i) in resolved(&series, &forecast) {
                let entry = &forecast.horizons[i];
                scores[0].add(actual, entry.point, []);
                scores[1].add(actual, entry.models[0], []);
                scores[2].add(actual, entry.models[seasonal], []);
                eighty.add(actual, entry.quantiles[1], entry.quantiles[3]);
                ninety.add(actual, entry.quantiles[0], entry.quantiles[4]);
            }
        }
        let mae = scores.map(|score| score.accuracy(None).mae);
        assert!(mae[0] < 0.9 * mae[1] && mae[0] < 0.9 * mae[2], "{mae:?}");
        assert!((eighty.ratio().unwrap() - 0.8).abs() < 0.03, "{eighty:?}");
        assert!((ninety.ratio().unwrap() - 0.9).abs() < 0.03, "{ninety:?}");
    }

    #[test]
    fn little_history_gives_a_point_but_no_made_up_interval() {
        let series = Series::new(0, 60, vec![4.0]).unwrap();
        let forecast = &Ensemble::default().forecast(&series, &[0], &request(&[5], Bounds::default()))[0];
        assert_eq!(forecast.horizons[0].point, 4.0);
        let quantiles = &forecast.horizons[0].quantiles;
        assert_eq!(quantiles[2], 4.0, "the median is the point");
        assert!([0, 1, 3, 4].iter().all(|i| quantiles[*i].is_nan()));
        let unknown = Series::new(0, 60, vec![f64::NAN; 9]).unwrap();
        let forecast = &Ensemble::default().forecast(&unknown, &[8], &request(&[5], Bounds::default()))[0];
        assert!(forecast.horizons[0].point.is_nan());
    }

    #[test]
    fn a_constant_stays_constant() {
        let series = Series::new(0, 60, vec![7.0; 2000]).unwrap();
        let forecast = &Ensemble::default().forecast(&series, &[1999], &request(&[5, 60], Bounds::default()))[0];
        for entry in &forecast.horizons {
            assert_eq!(entry.point, 7.0);
            assert_eq!(entry.quantiles, [7.0; 5]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn quantiles_never_cross_and_stay_in_bounds(seed in 0_u64..1000, len in 2_usize..700, step in 1_i64..4000) {
            let mut state = seed;
            let values = (0..len).map(|_| if uniform(&mut state) < 0.1 { f64::NAN } else { uniform(&mut state) * 3.0 - 1.0 });
            let series = Series::new(0, step, values.collect()).unwrap();
            let bounds = Bounds { lower: Some(0.0), upper: Some(1.0) };
            let forecast = &Ensemble::default().forecast(&series, &[len - 1], &request(&[1, 7], bounds))[0];
            for entry in &forecast.horizons {
                let known: Vec<f64> = entry.quantiles.iter().copied().filter(|q| !q.is_nan()).collect();
                prop_assert!(known.windows(2).all(|pair| pair[0] <= pair[1]), "{known:?}");
                prop_assert!(known.iter().all(|q| (0.0..=1.0).contains(q)));
                prop_assert!(entry.point.is_nan() || (0.0..=1.0).contains(&entry.point));
            }
        }
    }
}
