//! Replicas by a forecast: the distribution of a peak and what a replica serves in; the largest of several demands out.

use serde::Serialize;
use utoipa::ToSchema;

use crate::Replicas;
use crate::peak::PeakDistribution;
use crate::policy::ForecastRule;

/// The cost rule never goes below this quantile of the peak: with a low price it would else give up in the peaks.
const LEAST_QUANTILE: f64 = 0.8;
/// Share of the capacity that the load now may take beside a forecast, whatever the forecast says.
const SAFETY_UTILIZATION: f64 = 0.9;
/// Quotients are taken as whole when they exceed a whole number by less than this share, which is rounding.
pub(crate) const ROUNDING: f64 = 1e-9;

/// Replicas by a forecast, part by part. A part that the rule does not use is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForecastParts {
    /// The largest of the parts.
    pub wanted: Replicas,
    /// By the cost rule.
    pub cost: Option<Replicas>,
    /// Replica-minutes that one minute of violation was priced at.
    pub violation_price: Option<f64>,
    /// For the rule's quantile of the peak, or the least one beside the cost rule.
    pub quantile: Replicas,
    /// So that the load now takes at most 0.9 of the capacity; `None` where it is missing.
    pub safety_net: Option<Replicas>,
}

/// How a load becomes replicas.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizing {
    /// Load that one replica serves.
    pub(crate) capacity: f64,
    /// Load up to which no replica is needed; `None` where there must always be one.
    pub(crate) idle_up_to: Option<f64>,
}

impl Sizing {
    /// Whether no replica is needed for a load.
    pub(crate) fn is_idle(self, load: f64) -> bool {
        self.idle_up_to.is_some_and(|threshold| load <= threshold)
    }

    /// Replicas among which `load` can be shared so that each takes at most this share of its capacity.
    fn replicas(self, load: f64, utilization: f64) -> Option<Replicas> {
        let needed = replicas_for(load, self.capacity * utilization)?;
        Some(if self.is_idle(load) { 0 } else { needed })
    }
}

/// Returns the fewest replicas among which `load` can be shared with at most `per_replica` each; both in the same unit.
/// Returns `None` where `per_replica` is not positive and finite.
pub fn replicas_for(load: f64, per_replica: f64) -> Option<Replicas> {
    let usable = per_replica > 0.0 && per_replica.is_finite() && !load.is_nan();
    // The cast saturates: a negative load needs none.
    usable.then(|| (load / per_replica * (1.0 - ROUNDING)).ceil() as Replicas)
}

/// Returns argmin over n ≥ 1 of P(peak > n · `capacity`) + n / `price`: the number of replicas at which one more costs
/// more than it saves. `price` is the worth of a minute with too few replicas, in replica-minutes. The smaller number
/// wins a tie. Returns `None` where `capacity` or `price` is not positive.
///
/// The distribution is linear between its quantiles, so that only the whole numbers beside these can be cheapest, and
/// convex beyond the last one, where the derivative gives the cheapest.
pub fn cheapest_replicas(peak: &PeakDistribution, capacity: f64, price: f64) -> Option<Replicas> {
    if !(capacity > 0.0 && capacity.is_finite() && price > 0.0) {
        return None;
    }
    let mut candidates = vec![1.0];
    let mut beside = |value: f64| {
        let replicas = value / capacity;
        candidates.extend([replicas.floor(), (replicas * (1.0 - ROUNDING)).ceil(), replicas.floor() + 1.0]);
    };
    for point in peak.points() {
        beside(point.value);
    }
    if let Some(last) = peak.points().last() {
        let scale = peak.tail_scale();
        let steepness = (1.0 - last.quantile) * capacity * price / scale;
        if scale > 0.0 && steepness > 1.0 {
            beside(last.value + scale * steepness.ln());
        }
    }
    let cost = |replicas: f64| peak.exceedance(replicas * capacity * (1.0 + ROUNDING)) + replicas / price;
    let mut best = (f64::INFINITY, 1.0);
    for replicas in candidates {
        let candidate = (cost(replicas), replicas);
        if replicas >= 1.0 && candidate < best {
            best = candidate;
        }
    }
    Some(best.1 as Replicas)
}

/// The cheapest number, none among them where the workload may go away: then any load above the threshold is a violation.
fn cheapest_or_none(peak: &PeakDistribution, sizing: Sizing, price: f64) -> Option<Replicas> {
    let cheapest = cheapest_replicas(peak, sizing.capacity, price)?;
    let cost = |replicas: f64| peak.exceedance(replicas * sizing.capacity) + replicas / price;
    let none = sizing.idle_up_to.is_some_and(|threshold| peak.exceedance(threshold) < cost(cheapest.into()));
    Some(if none { 0 } else { cheapest })
}

/// Returns what the rule asks for by the distribution of the peak, and by the `load` now where it is known.
pub(crate) fn by_forecast(
    rule: ForecastRule,
    peak: &PeakDistribution,
    load: Option<f64>,
    sizing: Sizing,
    mean_wanted: Option<f64>,
) -> Option<ForecastParts> {
    let (cost, violation_price, level) = match rule {
        ForecastRule::Quantile(level) => (None, None, level),
        ForecastRule::ViolationCost(minutes) => {
            // Before there is a history, the median peak tells the size of the fleet.
            let fleet = mean_wanted.unwrap_or_else(|| peak.quantile(0.5) / sizing.capacity).max(1.0);
            let price = minutes * fleet;
            (Some(cheapest_or_none(peak, sizing, price)?), Some(price), LEAST_QUANTILE)
        }
    };
    let quantile = sizing.replicas(peak.quantile(level), 1.0)?;
    let safety_net = load.and_then(|load| sizing.replicas(load, SAFETY_UTILIZATION));
    let wanted = quantile.max(cost.unwrap_or(0)).max(safety_net.unwrap_or(0));
    Some(ForecastParts { wanted, cost, violation_price, quantile, safety_net })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::peak::QuantilePoint;

    const ALWAYS: Sizing = Sizing { capacity: 10.0, idle_up_to: None };
    const SOMETIMES: Sizing = Sizing { capacity: 10.0, idle_up_to: Some(1.0) };

    fn published(values: [f64; 7]) -> PeakDistribution {
        let levels = [0.5, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999];
        PeakDistribution::from_points(
            levels.into_iter().zip(values).map(|(quantile, value)| QuantilePoint { quantile, value }),
        )
        .unwrap()
    }

    /// Kubernetes documentation, "Algorithm details": ceil(current · metric / target), left alone within 0.1.

    #[test]
    fn rounding_does_not_cost_a_replica() {
        assert_eq!(replicas_for(0.8 * 3.0 * 100.0, 0.8 * 100.0), Some(3));
        assert_eq!(replicas_for(0.1 + 0.2, 0.1), Some(3));
        assert_eq!(replicas_for(300.1, 100.0), Some(4));
        assert_eq!(replicas_for(-5.0, 100.0), Some(0));
        assert_eq!(replicas_for(f64::INFINITY, 100.0), Some(Replicas::MAX));
        for (load, per_replica) in [(1.0, 0.0), (1.0, -1.0), (f64::NAN, 1.0), (1.0, f64::NAN), (1.0, f64::INFINITY)] {
            assert_eq!(replicas_for(load, per_replica), None);
        }
    }

    #[test]
    fn a_dearer_violation_buys_more_replicas() {
        let peak = published([100.0, 150.0, 180.0, 200.0, 260.0, 300.0, 400.0]);
        let cheap = cheapest_replicas(&peak, 10.0, 10.0 * 15.0).unwrap();
        let default = cheapest_replicas(&peak, 10.0, 30.0 * 15.0).unwrap();
        let careful = cheapest_replicas(&peak, 10.0, 100.0 * 15.0).unwrap();
        assert!(cheap <= default && default <= careful && cheap < careful, "{cheap} {default} {careful}");
        assert_eq!(cheapest_replicas(&peak, 10.0, 0.5), Some(1), "a violation that costs nothing is not avoided");
        assert_eq!(cheapest_replicas(&peak, 0.0, 1.0), None);
    }

    #[test]
    fn the_cost_rule_never_gives_up_below_the_quantile() {
        let peak = published([100.0, 150.0, 180.0, 200.0, 260.0, 300.0, 400.0]);
        let parts = by_forecast(ForecastRule::ViolationCost(1e-3), &peak, Some(170.0), ALWAYS, Some(10.0)).unwrap();
        assert_eq!((parts.cost, parts.quantile, parts.safety_net, parts.wanted), (Some(1), 15, Some(19), 19));
        let parts = by_forecast(ForecastRule::Quantile(0.99), &peak, None, ALWAYS, None).unwrap();
        assert_eq!((parts.cost, parts.quantile, parts.safety_net, parts.wanted), (None, 26, None, 26));
    }

    #[test]
    fn none_are_wanted_only_where_hardly_any_load_is_to_come() {
        let rule = ForecastRule::ViolationCost(30.0);
        let wanted =
            |peak: &PeakDistribution, load, sizing| by_forecast(rule, peak, load, sizing, Some(1.0)).unwrap().wanted;
        let idle = published([0.0, 0.0, 0.1, 0.2, 0.5, 0.6, 0.9]);
        assert_eq!(wanted(&idle, Some(0.0), SOMETIMES), 0);
        assert_eq!(wanted(&idle, Some(0.0), ALWAYS), 1);
        assert_eq!(wanted(&idle, Some(1.5), SOMETIMES), 1, "a load now is a load");
        let perhaps = published([0.0, 0.0, 3.0, 5.0, 8.0, 9.0, 9.5]);
        assert_eq!(
            wanted(&perhaps, Some(0.0), SOMETIMES),
            1,
            "one minute in seven without a replica costs more than it"
        );
        let by_quantile = |sizing| by_forecast(ForecastRule::Quantile(0.99), &idle, None, sizing, None).unwrap().wanted;
        assert_eq!((by_quantile(SOMETIMES), by_quantile(ALWAYS)), (0, 1));
    }

    proptest! {
        #[test]
        fn the_cheapest_is_what_trying_all_finds(
            steps in proptest::collection::vec(0.0_f64..80.0, 7),
            capacity in 3.0_f64..50.0,
            price in 0.5_f64..5000.0,
        ) {
            let mut at = 0.0;
            let values: Vec<f64> = steps.iter().map(|step| { at += step; at }).collect();
            let peak = published(values.try_into().unwrap());
            let cost = |n: u32| peak.exceedance(f64::from(n) * capacity * (1.0 + ROUNDING)) + f64::from(n) / price;
            let tried = (1..2000).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap();
            let found = cheapest_replicas(&peak, capacity, price).unwrap();
            prop_assert!((cost(found) - cost(tried)).abs() < 1e-12, "found {} at {}, tried {} at {}", found, cost(found), tried, cost(tried));
        }
    }
}
