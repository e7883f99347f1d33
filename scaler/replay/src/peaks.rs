//! A load in; for each grid point as origin, the distribution of its highest value over the next ones, out: what the
//! predictor would have published then, as far as the scaler reads it.

use cloudpulse_forecast::history::History;
use cloudpulse_forecast::peak::PEAK_QUANTILES;
use cloudpulse_forecast::peak::PeakModel;
use cloudpulse_forecast::series::Series;
use cloudpulse_policy::peak::PeakDistribution;
use cloudpulse_policy::peak::QuantilePoint;

/// History that the model may look at, in seconds; the predictor's default.
const KEEP_SECONDS: i64 = 14 * 86_400;

/// By origin: the distribution of the highest value in (origin, origin + horizon]; `None` where there is no forecast.
pub type Peaks = Vec<Option<PeakDistribution>>;

/// Where the peaks of a load over a horizon (in steps) come from, so that another model can be tried in this one's place.
/// What is said for an origin may depend on the values up to it alone.
pub type PeakSource<'a> = &'a (dyn Fn(&Series, usize) -> Peaks + std::marker::Sync);

/// Returns the peaks of the predictor's own peak model, pushed one value at a time, so that nothing can look ahead. There
/// is none until the model has learnt for some hours, and none at an origin whose value is missing: what is published
/// goes stale then.
pub fn of_peak_model(series: &Series, horizon: usize) -> Peaks {
    let mut history = History::new(series.step(), KEEP_SECONDS);
    let mut model = PeakModel::new(series.step(), horizon);
    (0..series.len())
        .map(|origin| {
            history.push(series.absolute(origin), series.get(origin).unwrap_or(f64::NAN));
            model.advance(&history);
            series.get(origin)?;
            let distribution = model.distribution(&history)?;
            PeakDistribution::from_points(
                PEAK_QUANTILES.map(|quantile| QuantilePoint { quantile, value: distribution.quantile(quantile) }),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::tests::days;

    #[test]
    fn what_comes_later_changes_nothing_said_before() {
        let series = days(2);
        let mut changed = series.values().to_vec();
        let cut = 2000;
        changed[cut + 1..].iter_mut().for_each(|value| *value *= 5.0);
        let other = Series::new(series.start(), series.step(), changed).unwrap();
        let (a, b) = (of_peak_model(&series, 3), of_peak_model(&other, 3));
        assert_eq!(a[..=cut], b[..=cut]);
        assert_ne!(a[cut + 10], b[cut + 10]);
        assert!(a[100].is_none() && a[cut].is_some());
    }

    #[test]
    fn a_gap_has_no_forecast() {
        let mut values = days(1).values().to_vec();
        values[1000] = f64::NAN;
        let peaks = of_peak_model(&Series::new(0, 60, values).unwrap(), 3);
        assert!(peaks[999].is_some() && peaks[1000].is_none() && peaks[1001].is_some());
    }
}
