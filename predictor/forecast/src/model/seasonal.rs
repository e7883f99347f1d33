//! What was there a day or a week before the target: plain (the second baseline), and moved by the change of level since.

use super::{History, Model, Table};
use crate::series::Series;

const DAY_SECONDS: i64 = 86_400;
const WEEK_SECONDS: i64 = 7 * DAY_SECONDS;
/// Levels are compared by means over this time.
const LEVEL_SECONDS: i64 = 300;

/// Forecasts from one season earlier: `seasonal_naive_day`, `seasonal_naive_week` are the value there; `day_level`,
/// `week_level` add the difference of the five-minute means now and one season before now.
#[derive(Debug, Clone, Copy)]
pub struct Seasonal;

impl Model for Seasonal {
    fn outputs(&self) -> &'static [&'static str] {
        &["seasonal_naive_day", "seasonal_naive_week", "day_level", "week_level"]
    }

    fn forecast(&self, history: &History<'_>, origins: &[usize], horizons: &[usize]) -> Vec<Table> {
        let series = history.series;
        let mut tables = vec![Table::unknown(origins.len(), horizons.len()); 4];
        for (which, season) in [DAY_SECONDS, WEEK_SECONDS].into_iter().enumerate() {
            if season < series.step() {
                continue;
            }
            let season = series.steps(season);
            for (row, origin) in origins.iter().enumerate() {
                for (column, horizon) in horizons.iter().enumerate() {
                    // The latest season that was known at the origin.
                    let back = horizon.div_ceil(season) * season;
                    let Some(source) = (origin + horizon).checked_sub(back) else { continue };
                    let Some(value) = series.get(source) else { continue };
                    tables[which].row_mut(row)[column] = value;
                    let shift =
                        origin.checked_sub(back).and_then(|then| Some(level(series, *origin)? - level(series, then)?));
                    if let Some(shift) = shift {
                        tables[which + 2].row_mut(row)[column] = value + shift;
                    }
                }
            }
        }
        tables
    }
}

/// Mean of the known values of the last five minutes up to `index`; `None` without any.
fn level(series: &Series, index: usize) -> Option<f64> {
    let width = series.steps(LEVEL_SECONDS);
    let (mut sum, mut count) = (0.0, 0_u32);
    for at in (index + 1).saturating_sub(width)..=index {
        if let Some(value) = series.get(at) {
            sum += value;
            count += 1;
        }
    }
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_latest_season_that_is_known() {
        let series = Series::new(0, 3600, (0..60).map(f64::from).collect()).unwrap();
        let tables = Seasonal.forecast(&History::new(&series), &[59], &[1, 25]);
        assert_eq!((tables[0].get(0, 0), tables[0].get(0, 1)), (36.0, 36.0));
        assert!(tables[1].get(0, 0).is_nan(), "a week is not known");
        assert_eq!(tables[2].get(0, 0), 36.0 + 24.0);
    }
}
