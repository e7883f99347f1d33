//! The models behind one trait, and the visible registry of the pool.
//!
//! In: a history and the origins at which a forecast is asked for. Out: one table of forecasts per output. A model may
//! read values up to and including each origin and no later one; a test holds every registered model to it.

pub mod holt;
pub mod median;
pub mod persistence;
pub mod prophet;
pub mod seasonal;
pub mod ses;

use std::fmt;

use crate::series::Series;

/// A history as the models read it.
#[derive(Debug)]
pub struct History<'s> {
    /// The series, with gaps.
    pub series: &'s Series,
    /// The series with each gap filled by the last known value before it; NaN before the first known value.
    pub filled: Vec<f64>,
}

impl<'s> History<'s> {
    /// Prepares a series.
    pub fn new(series: &'s Series) -> Self {
        let mut last = f64::NAN;
        let filled = series
            .values()
            .iter()
            .map(|value| {
                if value.is_finite() {
                    last = *value;
                }
                last
            })
            .collect();
        Self { series, filled }
    }
}

/// Forecasts by origin and horizon; NaN where the model knows nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    horizons: usize,
    values: Vec<f64>,
}

impl Table {
    /// Returns a table of unknowns.
    pub fn unknown(origins: usize, horizons: usize) -> Self {
        Self { horizons, values: vec![f64::NAN; origins * horizons] }
    }

    /// Returns the forecast, NaN where there is none.
    pub fn get(&self, origin: usize, horizon: usize) -> f64 {
        self.values[origin * self.horizons + horizon]
    }

    /// Returns the forecasts of one origin, by horizon.
    pub fn row_mut(&mut self, origin: usize) -> &mut [f64] {
        &mut self.values[origin * self.horizons..(origin + 1) * self.horizons]
    }
}

/// A model, or a family of models that share their work.
pub trait Model: fmt::Debug + Send + Sync {
    /// Returns the names of what it forecasts, one for each table.
    fn outputs(&self) -> &'static [&'static str];

    /// Returns one table for each output. `origins` are indices into the series, ascending; `horizons` are steps ahead,
    /// each at least 1.
    fn forecast(&self, history: &History<'_>, origins: &[usize], horizons: &[usize]) -> Vec<Table>;
}

/// All models of the pool, in the order in which ties are broken.
pub fn registry() -> Vec<Box<dyn Model>> {
    vec![
        Box::new(persistence::Persistence),
        Box::new(seasonal::Seasonal),
        Box::new(median::Median),
        Box::new(ses::Ses),
        Box::new(holt::DampedHolt),
        Box::new(prophet::Prophet::default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize) -> Series {
        let value = |i: usize| {
            let gap = i % 97 == 13 || (500..520).contains(&i);
            let noise = ((i * 7919) % 101) as f64 / 50.0;
            if gap { f64::NAN } else { 20.0 + 8.0 * (i as f64 * std::f64::consts::TAU / 288.0).sin() + noise }
        };
        Series::new(1_700_000_100, 300, (0..len).map(value).collect()).unwrap()
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
    fn no_model_looks_ahead() {
        let series = wave(2600);
        let origins: Vec<usize> = vec![1, 40, 700, 1205, 1206, 1999];
        let horizons = [1, 3, 12, 288, 700];
        for origin in &origins {
            let mut values = series.values().to_vec();
            for value in &mut values[origin + 1..] {
                *value = 1e6;
            }
            let other = Series::new(series.start(), series.step(), values).unwrap();
            let cut = series.cut(*origin);
            for model in registry() {
                let all = model.forecast(&History::new(&series), &origins, &horizons);
                let future_changed = model.forecast(&History::new(&other), &[*origin], &horizons);
                let alone = model.forecast(&History::new(&cut), &[*origin], &horizons);
                let at = origins.iter().position(|o| o == origin).unwrap();
                for (output, name) in model.outputs().iter().enumerate() {
                    for (h, horizon) in horizons.iter().enumerate() {
                        let expected = all[output].get(at, h);
                        for got in [future_changed[output].get(0, h), alone[output].get(0, h)] {
                            assert_eq!(got.to_bits(), expected.to_bits(), "{name} at {origin} + {horizon}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn degenerate_series_never_panic() {
        let shapes =
            [vec![f64::NAN; 50], vec![3.0], vec![0.0; 700], vec![5.0; 700], vec![1e300; 40], vec![-1e-300; 40]];
        for values in shapes {
            let last = values.len() - 1;
            for step in [1, 15, 60, 3600, 86_400 * 3] {
                let series = Series::new(0, step, values.clone()).unwrap();
                for model in registry() {
                    for table in model.forecast(&History::new(&series), &[0, last], &[1, 2, 100_000]) {
                        for h in 0..3 {
                            let value = table.get(1, h);
                            assert!(value.is_nan() || value.is_finite());
                        }
                    }
                }
            }
        }
    }
}
