//! The combined forecast: models' tables in, one point and its quantiles per origin and horizon out.
//!
//! Per horizon the point is the median of the five models that did best on the last resolved forecasts; the quantiles are
//! split conformal on the combination's own resolved errors. "Resolved" means that the target's time had come at the
//! origin: nothing later is read.

use std::collections::VecDeque;

use crate::conformal;
use crate::model::median::median;
use crate::model::prophet::Prophet;
use crate::model::{History, Model, Table, registry};
use crate::series::Series;

/// Models that are combined.
const BEST: usize = 5;
/// Resolved forecasts that choose the models.
const SELECTION_ERRORS: usize = 60;
/// With fewer resolved forecasts all models count.
const MIN_SELECTION_ERRORS: usize = 8;
/// Resolved errors that make the quantiles: a day of scored origins, so that quiet nights and busy noons both count.
const CALIBRATION_ERRORS: usize = 288;
/// With fewer, Prophet's closed-form interval is taken where there is a fit.
const MIN_CALIBRATION_ERRORS: usize = 40;
/// With fewer, and no fit, there are no quantiles.
const LEAST_CALIBRATION_ERRORS: usize = 8;
/// Distance of the scored origins, where the step is not longer.
const SCORE_SECONDS: i64 = 300;
/// Models are clipped to the range that the series has shown, widened by this share of it.
const RANGE_MARGIN: f64 = 0.1;

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
    /// Models whose median the point is, by place in [`Ensemble::names`].
    pub combined: Vec<usize>,
    /// Resolved errors behind the quantiles.
    pub resolved: usize,
}

/// The pool and how it is combined.
#[derive(Debug)]
pub struct Ensemble {
    pool: Vec<Box<dyn Model>>,
    names: Vec<&'static str>,
    fallback: Prophet,
}

impl Default for Ensemble {
    fn default() -> Self {
        let pool = registry();
        let names = pool.iter().flat_map(|model| model.outputs()).copied().collect();
        Self { pool, names, fallback: Prophet::default() }
    }
}

impl Ensemble {
    /// Returns the names of all models.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Returns one forecast for each of `origins` (ascending indices into the series). A forecast reads the values up to
    /// its origin only.
    pub fn forecast(&self, series: &Series, origins: &[usize], request: &Request<'_>) -> Vec<Forecast> {
        let Request { horizons, quantiles, bounds, model } = *request;
        let mut forecasts: Vec<Forecast> =
            origins.iter().map(|origin| Forecast { origin: *origin, horizons: Vec::new() }).collect();
        let Some(longest) = horizons.iter().max() else { return forecasts };
        if origins.is_empty() {
            return forecasts;
        }
        let history = History::new(series);
        let scored = scored_origins(series, origins, *longest);
        let mut all: Vec<usize> = scored.iter().chain(origins).copied().collect();
        all.sort_unstable();
        all.dedup();
        let mut tables: Vec<Table> =
            self.pool.iter().flat_map(|model| model.forecast(&history, &all, horizons)).collect();
        clip(&mut tables, &history, &all, bounds);
        for (column, horizon) in horizons.iter().enumerate() {
            let scorer =
                Scorer { series, tables: &tables, all: &all, scored: &scored, column, horizon: *horizon, model };
            for (forecast, entry) in forecasts.iter_mut().zip(scorer.run(origins, quantiles)) {
                forecast.horizons.push(entry);
            }
        }
        for forecast in &mut forecasts {
            self.widen_young(series, forecast, quantiles);
            for entry in &mut forecast.horizons {
                for value in &mut entry.quantiles {
                    *value = bounds.clip(*value);
                }
            }
        }
        forecasts
    }

    /// Takes Prophet's closed-form interval where too few errors have resolved.
    fn widen_young(&self, series: &Series, forecast: &mut Forecast, quantiles: &[f64]) {
        if forecast.horizons.iter().all(|entry| entry.resolved >= MIN_CALIBRATION_ERRORS) {
            return;
        }
        let Some(fit) = self.fallback.in_force(series, forecast.origin) else { return };
        let origin = series.absolute(forecast.origin);
        for entry in forecast.horizons.iter_mut().filter(|entry| entry.resolved < MIN_CALIBRATION_ERRORS) {
            for (value, quantile) in entry.quantiles.iter_mut().zip(quantiles) {
                *value = entry.point + fit.offset(origin + entry.horizon as i64, *quantile);
            }
        }
    }
}

/// Origins on a grid of fixed times, so that the same origin is scored the same way whenever it is asked for: enough
/// before the first of `origins` for both windows to be full, and all up to the last one.
fn scored_origins(series: &Series, origins: &[usize], longest: usize) -> Vec<usize> {
    let stride = series.steps(SCORE_SECONDS);
    let reach = (SELECTION_ERRORS + CALIBRATION_ERRORS + 2) * stride + 2 * longest;
    let first = origins[0].saturating_sub(reach);
    let last = origins[origins.len() - 1];
    let offset = series.absolute(first).rem_euclid(stride as i64) as usize;
    let start = first + (stride - offset) % stride;
    (start..=last).step_by(stride).collect()
}

/// Clips each forecast to what the series has shown up to the origin, a margin added, to 0 where it never was below, and
/// to the bounds.
fn clip(tables: &mut [Table], history: &History<'_>, origins: &[usize], bounds: Bounds) {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    let mut seen = 0;
    for (row, origin) in origins.iter().enumerate() {
        for value in &history.series.values()[seen..=*origin] {
            // NaN is ignored by min and max.
            least = least.min(*value);
            most = most.max(*value);
        }
        seen = origin + 1;
        let margin = RANGE_MARGIN * (most - least);
        let floor = if least >= 0.0 { (least - margin).max(0.0) } else { least - margin };
        let ceiling = most + margin;
        for table in &mut *tables {
            for value in table.row_mut(row) {
                if !value.is_nan() {
                    *value = bounds.clip(value.max(floor).min(ceiling));
                }
            }
        }
    }
}

/// Scores the models at one horizon and combines them.
struct Scorer<'a> {
    series: &'a Series,
    tables: &'a [Table],
    /// Origins of the tables' rows.
    all: &'a [usize],
    /// The subset of `all` whose forecasts are scored.
    scored: &'a [usize],
    column: usize,
    horizon: usize,
    model: Option<usize>,
}

impl Scorer<'_> {
    /// Returns one entry for each of `origins`, a subset of `all`.
    fn run(&self, origins: &[usize], quantiles: &[f64]) -> Vec<AtHorizon> {
        let mut resolved = self.scored.iter().peekable();
        // Rows wait here from their origin until their target's time has come: (row, combined point).
        let mut pending: VecDeque<(usize, f64)> = VecDeque::new();
        let mut selection: VecDeque<Vec<f64>> = VecDeque::with_capacity(SELECTION_ERRORS);
        let mut errors: VecDeque<f64> = VecDeque::with_capacity(CALIBRATION_ERRORS);
        let mut entries = Vec::with_capacity(origins.len());
        let mut wanted = origins.iter().peekable();
        for (row, origin) in self.all.iter().enumerate() {
            while let Some((past, point)) = pending.front().copied() {
                if self.all[past] + self.horizon > *origin {
                    break;
                }
                pending.pop_front();
                // A target that fell into a gap teaches nothing.
                let Some(actual) = self.series.get(self.all[past] + self.horizon) else { continue };
                if selection.len() == SELECTION_ERRORS {
                    selection.pop_front();
                }
                selection
                    .push_back(self.tables.iter().map(|table| (table.get(past, self.column) - actual).abs()).collect());
                if point.is_finite() {
                    if errors.len() == CALIBRATION_ERRORS {
                        errors.pop_front();
                    }
                    errors.push_back(actual - point);
                }
            }
            let models: Vec<f64> = self.tables.iter().map(|table| table.get(row, self.column)).collect();
            let combined = self.model.map_or_else(|| best(&models, &selection), |model| vec![model]);
            let mut members: Vec<f64> = combined.iter().map(|model| models[*model]).collect();
            let point = median(&mut members).unwrap_or(f64::NAN);
            if resolved.next_if(|scored| *scored == origin).is_some() {
                pending.push_back((row, point));
            }
            if wanted.next_if(|wanted| *wanted == origin).is_some() {
                let quantiles = calibrated(point, &errors, quantiles);
                entries.push(AtHorizon {
                    horizon: self.horizon,
                    point,
                    quantiles,
                    models,
                    combined,
                    resolved: errors.len(),
                });
            }
        }
        entries
    }
}

/// The models with the least mean error over the resolved forecasts, of those that know something now.
fn best(models: &[f64], selection: &VecDeque<Vec<f64>>) -> Vec<usize> {
    let known: Vec<usize> = (0..models.len()).filter(|model| models[*model].is_finite()).collect();
    if selection.len() < MIN_SELECTION_ERRORS {
        return known;
    }
    let mut ranked: Vec<(f64, usize)> = known
        .into_iter()
        .filter_map(|model| {
            let (mut sum, mut count) = (0.0, 0_usize);
            for errors in selection {
                if errors[model].is_finite() {
                    sum += errors[model];
                    count += 1;
                }
            }
            // A model that was silent half of the time is not known well enough.
            (2 * count >= selection.len()).then(|| (sum / count as f64, model))
        })
        .collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    ranked.truncate(BEST);
    ranked.into_iter().map(|(_, model)| model).collect()
}

fn calibrated(point: f64, errors: &VecDeque<f64>, quantiles: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = errors.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    if sorted.len() < LEAST_CALIBRATION_ERRORS {
        sorted.clear();
    }
    quantiles.iter().map(|q| point + conformal::offset(&sorted, *q).unwrap_or(f64::NAN)).collect()
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
