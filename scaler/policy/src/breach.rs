//! The time left until the most replicas are too few: what a metric asks for until each horizon in; a time out.

use std::time::Duration;

use crate::Replicas;
use crate::recommend::MetricParts;

/// Returns the time until `metric` needs more than `max` replicas: zero where its load does already, else by a straight
/// line to the first horizon at which its forecast does. `None` where no horizon reaches that far, or nothing is known.
pub fn time_to_breach(metric: &MetricParts, max: Replicas) -> Option<Duration> {
    if metric.reactive.is_some_and(|needed| needed > max) {
        return Some(Duration::ZERO);
    }
    let mut before = (Duration::ZERO, metric.forecast.as_ref().and_then(|forecast| forecast.safety_net));
    for (horizon, wanted) in metric.ahead.iter().copied() {
        if wanted > max {
            let (from, at_from) = before;
            // Without a load there is no line: it may be any time from the horizon before.
            let share = at_from
                .filter(|at_from| *at_from < wanted)
                .map_or(0.0, |at_from| f64::from(max.saturating_sub(at_from)) / f64::from(wanted - at_from));
            return Some(from + horizon.saturating_sub(from).mul_f64(share));
        }
        before = (horizon, Some(wanted));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::ForecastParts;
    use crate::observation::Reading;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    fn metric(reactive: Replicas, now: Option<Replicas>, ahead: &[(u64, Replicas)]) -> MetricParts {
        MetricParts {
            name: "requests".to_owned(),
            load: Reading::Stale { age: Duration::ZERO },
            sources: None,
            peak: None,
            horizon: None,
            reactive: Some(reactive),
            sources_held: false,
            within_tolerance: false,
            forecast: Some(ForecastParts {
                wanted: 0,
                cost: None,
                violation_price: None,
                quantile: 0,
                safety_net: now,
            }),
            wanted: None,
            ahead: ahead.iter().map(|(at, wanted)| (minutes(*at), *wanted)).collect(),
        }
    }

    #[test]
    fn the_time_left_is_on_the_line_to_the_first_horizon_above_the_maximum() {
        let ahead = [(5, 6), (15, 8), (60, 14)];
        assert_eq!(time_to_breach(&metric(5, Some(4), &ahead), 11), Some(minutes(15) + minutes(45).mul_f64(0.5)));
        assert_eq!(time_to_breach(&metric(5, Some(4), &ahead), 14), None, "the maximum itself is enough");
        assert_eq!(time_to_breach(&metric(5, Some(4), &ahead), 5), Some(minutes(5).mul_f64(0.5)));
        assert_eq!(
            time_to_breach(&metric(5, None, &ahead), 5),
            Some(Duration::ZERO),
            "any time until the first horizon"
        );
        assert_eq!(time_to_breach(&metric(9, Some(4), &[]), 8), Some(Duration::ZERO), "the load alone");
        assert_eq!(time_to_breach(&metric(5, Some(4), &[]), 8), None);
    }
}
