//! The predictor's forecast of a peak: its published quantiles in; a distribution for each horizon, and the one that the
//! rule goes by, out.

use std::collections::BTreeMap;
use std::time::Duration;

use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::names;
use cloudpulse_common::query::Client;
use cloudpulse_common::query::Series;
use cloudpulse_policy::observation::Missing;
use cloudpulse_policy::observation::PeakAhead;
use cloudpulse_policy::peak::PeakDistribution;
use cloudpulse_policy::peak::QuantilePoint;
use futures_util::future::join;

use crate::rule::ForecastQuery;
use crate::rule::Horizon;
use crate::rule::quoted;
use crate::source::NotFresh;
use crate::source::Outcome;
use crate::source::failed;
use crate::source::fresh_within;
use crate::source::missing;
use crate::source::one_value;
use crate::source::value_of;

/// What an automatic horizon reaches before a start was seen.
const UNKNOWN_LEAD_TIME: Duration = Duration::from_secs(300);

/// The distributions of the peak.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Peaks {
    /// Until the horizon that the rule goes by.
    pub(super) at_horizon: PeakDistribution,
    /// That horizon.
    pub(super) horizon: Duration,
    /// Until each published horizon, in ascending order; those without a usable distribution are left out.
    pub(super) by_horizon: Vec<PeakAhead>,
}

/// Reads the forecast. `lead_time` is what an automatic horizon must reach; `None` where it is not known yet.
pub(super) async fn read(client: &Client, forecast: &ForecastQuery, lead_time: Option<Duration>) -> Outcome<Peaks> {
    let ForecastQuery { name, horizon, max_age } = forecast;
    let of_forecast = format!("{}={}", names::FORECAST_LABEL, quoted(name));
    let peak =
        format!("{}{{{of_forecast},{}={}}}", names::FORECAST_PEAK.name, names::MODEL_LABEL, quoted(names::ENSEMBLE));
    let age = format!("time() - {}{{{of_forecast}}}", names::FORECAST_TIMESTAMP.name);
    let (peak, age) = join(client.instant(&peak, None), client.instant(&age, None)).await;
    let peaks = peaks(&peak.map_err(failed)?, name, *horizon, lead_time)?;
    let (age, _) = one_value(&age.map_err(failed)?).map_err(|not_fresh| NotFresh {
        message: format!("the time at which forecast {name:?} was made: {}", not_fresh.message),
        ..not_fresh
    })?;
    let age = Duration::try_from_secs_f64(age).unwrap_or_default();
    fresh_within(peaks, age, *max_age, "the forecast")
}

/// All horizons are looked at, so that a wrong one can be told from a forecast that does not exist.
fn peaks(series: &[Series], name: &str, horizon: Horizon, lead_time: Option<Duration>) -> Result<Peaks, NotFresh> {
    if series.is_empty() {
        return Err(missing(Missing::Empty, format!("the predictor publishes no peak of a forecast named {name:?}")));
    }
    let mut horizons: BTreeMap<PromDuration, Vec<&Series>> = BTreeMap::new();
    for one in series {
        if let Some(horizon) = label(one, names::HORIZON_LABEL).and_then(|text| text.parse().ok()) {
            horizons.entry(horizon).or_default().push(one);
        }
    }
    let chosen = choose(horizons.keys().copied(), horizon, lead_time).ok_or_else(|| {
        let wanted = match horizon {
            Horizon::Fixed(horizon) => format!("at horizon {horizon}"),
            Horizon::Auto => "at any horizon".to_owned(),
        };
        let published = horizons.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("forecast {name:?} publishes no peak {wanted}, only at {published}");
        missing(Missing::HorizonNotPublished, message)
    })?;
    let mut by_horizon = Vec::new();
    let mut at_horizon = None;
    for (horizon, series) in horizons {
        let peak = distribution(&series, name);
        if horizon == chosen {
            at_horizon = Some(peak.clone()?);
        }
        if let Ok(peak) = peak {
            by_horizon.push(PeakAhead { horizon: horizon.0, peak });
        }
    }
    let at_horizon = at_horizon.ok_or_else(|| {
        missing(Missing::HorizonNotPublished, format!("forecast {name:?} publishes no horizon {chosen}"))
    })?;
    Ok(Peaks { at_horizon, horizon: chosen.0, by_horizon })
}

/// Returns the horizon to go by among those `published` in ascending order. Where none reaches the lead time, the longest
/// is the nearest to what is needed.
fn choose(
    mut published: impl DoubleEndedIterator<Item = PromDuration> + Clone,
    horizon: Horizon,
    lead_time: Option<Duration>,
) -> Option<PromDuration> {
    match horizon {
        Horizon::Fixed(horizon) => published.find(|one| *one == horizon),
        Horizon::Auto => {
            let reach = lead_time.unwrap_or(UNKNOWN_LEAD_TIME);
            published.clone().find(|one| one.0 >= reach).or_else(|| published.next_back())
        }
    }
}

fn distribution(series: &[&Series], name: &str) -> Result<PeakDistribution, NotFresh> {
    let mut points: Vec<QuantilePoint> = Vec::new();
    for one in series {
        let Some(quantile) = label(one, names::QUANTILE_LABEL).and_then(|text| text.parse::<f64>().ok()) else {
            continue;
        };
        if points.iter().any(|point| point.quantile == quantile) {
            let message = format!("forecast {name:?} has several series at quantile {quantile}; it must forecast one");
            return Err(missing(Missing::SeveralSeries, message));
        }
        let value = value_of(one).filter(|value| value.is_finite()).ok_or_else(|| {
            missing(Missing::NotANumber, format!("forecast {name:?} is no number at quantile {quantile}"))
        })?;
        points.push(QuantilePoint { quantile, value });
    }
    PeakDistribution::from_points(points).ok_or_else(|| {
        missing(Missing::TooFewQuantiles, format!("forecast {name:?} publishes fewer than two usable quantiles"))
    })
}

fn label<'s>(series: &'s Series, name: &str) -> Option<&'s String> {
    series.labels.get(name)
}

#[cfg(test)]
mod tests {
    use cloudpulse_common::query::Sample;

    use super::*;

    fn peak(horizon: &str, quantile: &str, value: f64) -> Series {
        Series {
            labels: [("horizon", horizon), ("quantile", quantile)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into_iter()
                .collect(),
            samples: vec![Sample { timestamp: 100.0, value }],
        }
    }

    fn minutes(minutes: u64) -> Horizon {
        Horizon::Fixed(PromDuration::from_secs(minutes * 60))
    }

    fn missing_of(found: &[Series], horizon: Horizon) -> (Missing, String) {
        let not_fresh = peaks(found, "web", horizon, None).map(|value| panic!("{value:?}")).unwrap_err();
        (not_fresh.why, not_fresh.message)
    }

    #[test]
    fn quantiles_at_the_horizon_make_a_distribution() {
        let found = [peak("5m", "0.5", 10.0), peak("5m", "0.9", 20.0), peak("10m", "0.5", 99.0)];
        let peaks = peaks(&found, "web", minutes(5), None).ok().unwrap();
        assert_eq!(peaks.at_horizon.points().len(), 2);
        assert_eq!(peaks.by_horizon.len(), 1, "that of ten minutes is no distribution");
        let (why, message) = missing_of(&found, minutes(15));
        assert_eq!(why, Missing::HorizonNotPublished);
        assert!(message.contains("horizon 15m, only at 5m, 10m"), "{message}");
    }

    #[test]
    fn an_automatic_horizon_is_the_shortest_that_reaches_the_lead_time() {
        let both = |horizon: &str, value| [peak(horizon, "0.5", value), peak(horizon, "0.9", value + 1.0)];
        let found = [both("15m", 2.0), both("1h", 3.0), both("5m", 1.0)].concat();
        for (lead_seconds, expected) in [(Some(20), 5), (Some(300), 5), (Some(301), 15), (Some(4000), 60), (None, 5)] {
            let lead_time = lead_seconds.map(Duration::from_secs);
            let peaks = peaks(&found, "web", Horizon::Auto, lead_time).ok().unwrap();
            assert_eq!(peaks.horizon, Duration::from_secs(expected * 60), "{lead_seconds:?}");
        }
        let peaks = peaks(&found, "web", Horizon::Auto, None).ok().unwrap();
        let horizons: Vec<u64> = peaks.by_horizon.iter().map(|ahead| ahead.horizon.as_secs() / 60).collect();
        assert_eq!(horizons, [5, 15, 60]);
    }

    #[test]
    fn a_forecast_that_tells_no_distribution_is_missing() {
        let cases = [
            (vec![], Missing::Empty),
            (vec![peak("5m", "0.5", 1.0)], Missing::TooFewQuantiles),
            (vec![peak("5m", "0.5", 1.0), peak("5m", "0.5", 2.0)], Missing::SeveralSeries),
            (vec![peak("5m", "0.5", 1.0), peak("5m", "0.9", f64::NAN)], Missing::NotANumber),
            (vec![peak("5m", "high", 1.0), peak("5m", "0.9", 2.0)], Missing::TooFewQuantiles),
        ];
        for (found, expected) in cases {
            assert_eq!(missing_of(&found, minutes(5)).0, expected, "{found:?}");
        }
    }
}
