//! Replicas that one metric asks for: by the load now as the HPA does it, and by the forecast of the peak.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::Replicas;
use crate::observation::MetricObservation;
use crate::observation::Missing;
use crate::observation::PeakAhead;
use crate::observation::Reading;
use crate::peak::PeakDistribution;
use crate::policy::Demand;
use crate::policy::ForecastRule;
use crate::policy::MetricPolicy;
use crate::policy::Mode;
use crate::policy::ScalingRules;
use crate::policy::Side;
use crate::time::optional_seconds;

/// The cost rule never goes below this quantile of the peak: with a low price it would else give up in the peaks.
const LEAST_QUANTILE: f64 = 0.8;
/// Share of the capacity that the load now may take beside a forecast, whatever the forecast says.
const SAFETY_UTILIZATION: f64 = 0.9;
/// Quotients are taken as whole when they exceed a whole number by less than this share, which is rounding.
const ROUNDING: f64 = 1e-9;

/// What all metrics of one decision share.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What a forecast may do.
    pub mode: Mode,
    /// Rules of the scale-up, for their tolerance.
    pub scale_up: &'a ScalingRules,
    /// Rules of the scale-down, for their tolerance.
    pub scale_down: &'a ScalingRules,
    /// Replicas that the target has; `None` where unknown.
    pub current: Option<Replicas>,
    /// Mean replicas wanted over the last day; `None` where unknown.
    pub mean_wanted: Option<f64>,
    /// Whether the workload may have no replica now.
    pub may_be_zero: bool,
}

/// What one metric asks for, with its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricParts {
    /// Name of the metric in the rule.
    pub name: String,
    /// The load as it was read.
    pub load: Reading<f64>,
    /// Share of its sources that could be read; `None` where it is not asked for.
    pub sources: Option<Reading<f64>>,
    /// The forecast as it was read; `None` where the rule names no forecast.
    pub peak: Option<Reading<PeakDistribution>>,
    /// The horizon of that forecast; `None` without one.
    #[serde(rename = "horizonSeconds", serialize_with = "optional_seconds")]
    #[schema(value_type = Option<f64>)]
    pub horizon: Option<Duration>,
    /// Replicas by the load alone; `None` where it is missing.
    pub reactive: Option<Replicas>,
    /// Whether the part of the load that could not be read keeps the replicas from becoming fewer.
    pub sources_held: bool,
    /// Whether the load alone is so near its target that it asks for no change.
    pub within_tolerance: bool,
    /// Replicas by the forecast; `None` where there is none.
    pub forecast: Option<ForecastParts>,
    /// Replicas that the metric asks for in this mode; `None` where nothing is known.
    pub wanted: Option<Replicas>,
    /// Replicas by the forecast until each horizon, in ascending order; empty where there is none.
    #[serde(skip)]
    pub ahead: Vec<(Duration, Replicas)>,
}

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
struct Sizing {
    /// Load that one replica serves.
    capacity: f64,
    /// Load up to which no replica is needed; `None` where there must always be one.
    idle_up_to: Option<f64>,
}

impl Sizing {
    fn is_idle(self, load: f64) -> bool {
        self.idle_up_to.is_some_and(|threshold| load <= threshold)
    }

    /// Replicas among which `load` can be shared so that each takes at most this share of its capacity.
    fn replicas(self, load: f64, utilization: f64) -> Option<Replicas> {
        let needed = replicas_for(load, self.capacity * utilization)?;
        Some(if self.is_idle(load) { 0 } else { needed })
    }
}

/// Returns what `policy` asks for given what was seen of its metric; `None` for `seen` counts as an empty reading.
pub fn recommend(policy: &MetricPolicy, seen: Option<&MetricObservation>, context: Context<'_>) -> MetricParts {
    let load = seen.map_or(Reading::Missing { why: Missing::Empty }, |metric| finite(metric.load.clone()));
    let value = load.fresh().copied();
    let mut parts = MetricParts {
        name: policy.name.clone(),
        load,
        sources: seen.and_then(|metric| metric.sources.clone()).map(usable_share),
        peak: None,
        horizon: seen.and_then(|metric| metric.horizon),
        reactive: None,
        sources_held: false,
        within_tolerance: false,
        forecast: None,
        wanted: None,
        ahead: Vec::new(),
    };
    match &policy.demand {
        Demand::Value { target } => {
            if let Some((value, current)) = value.zip(context.current) {
                // As if each of the current replicas had a share of the value as large as the value itself.
                let load = value * f64::from(current.max(1));
                (parts.reactive, parts.within_tolerance) = reactive(load, *target, context);
            }
            parts.wanted = parts.reactive;
        }
        Demand::Threshold { side, threshold, replicas } => {
            parts.reactive =
                value.and_then(|value| beyond_threshold(*side, *threshold, *replicas, value, context.current));
            parts.wanted = parts.reactive;
        }
        Demand::Load { replica_capacity, target_utilization, activation_threshold, forecast } => {
            let sizing = Sizing {
                capacity: *replica_capacity,
                idle_up_to: context.may_be_zero.then_some(*activation_threshold),
            };
            if let Some(value) = value {
                let per_replica = replica_capacity * target_utilization;
                let by_load = |load| {
                    if sizing.is_idle(load) { (Some(0), false) } else { reactive(load, per_replica, context) }
                };
                (parts.reactive, parts.within_tolerance) = by_load(value);
                if let Some(share) = parts.sources.as_ref().and_then(Reading::fresh).filter(|share| **share < 1.0) {
                    let most = by_load(value / share).0;
                    (parts.reactive, parts.sources_held) = between(parts.reactive, most, context.current);
                }
            }
            if let Some(rule) = forecast {
                let peak =
                    seen.and_then(|metric| metric.peak.clone()).unwrap_or(Reading::Missing { why: Missing::Empty });
                if let Some(distribution) = peak.fresh() {
                    parts.forecast = by_forecast(*rule, distribution, value, sizing, context.mean_wanted);
                    parts.ahead = seen
                        .into_iter()
                        .flat_map(|metric| &metric.ahead)
                        .filter_map(|PeakAhead { horizon, peak }| {
                            let parts = by_forecast(*rule, peak, value, sizing, context.mean_wanted)?;
                            Some((*horizon, parts.wanted))
                        })
                        .collect();
                }
                parts.peak = Some(peak);
            }
            let forecast = parts.forecast.as_ref().map(|forecast| forecast.wanted);
            parts.wanted = match context.mode {
                Mode::Observe | Mode::Floor => parts.reactive.max(forecast),
                Mode::Full => forecast.or(parts.reactive),
            };
        }
    }
    parts
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

/// A share that is none is not known.
fn usable_share(share: Reading<f64>) -> Reading<f64> {
    match share {
        Reading::Fresh { value, .. } if !(value > 0.0 && value <= 1.0) => Reading::Missing { why: Missing::NotANumber },
        other => other,
    }
}

fn finite(load: Reading<f64>) -> Reading<f64> {
    match load {
        Reading::Fresh { value, .. } if !value.is_finite() => Reading::Missing { why: Missing::NotANumber },
        other => other,
    }
}

/// The HPA's algorithm: replicas at which each has `per_replica`, unless the current ones are near enough.
fn reactive(load: f64, per_replica: f64, context: Context<'_>) -> (Option<Replicas>, bool) {
    let Some(needed) = replicas_for(load, per_replica) else { return (None, false) };
    let Some(current) = context.current.filter(|current| *current > 0) else { return (Some(needed), false) };
    let ratio = load / (per_replica * f64::from(current));
    let near =
        ratio >= 1.0 - context.scale_down.tolerance - ROUNDING && ratio <= 1.0 + context.scale_up.tolerance + ROUNDING;
    (Some(if near { current } else { needed }), near)
}

/// What a load of which a part could not be read asks for: as the HPA does it with missing pods, the part counts as nothing
/// where more replicas are asked for, and as its share where fewer are.
fn between(least: Option<Replicas>, most: Option<Replicas>, current: Option<Replicas>) -> (Option<Replicas>, bool) {
    match (least, most, current) {
        (Some(least), Some(most), Some(current)) if least < current => {
            let most = most.max(least);
            (Some(most.min(current)), most >= current)
        }
        _ => (least, false),
    }
}

/// Beyond the threshold at least (above) or at most (below) `replicas`; else the current ones, where they are known.
fn beyond_threshold(
    side: Side,
    threshold: f64,
    replicas: Replicas,
    value: f64,
    current: Option<Replicas>,
) -> Option<Replicas> {
    let current = current?;
    Some(match side {
        Side::Above if value > threshold => current.max(replicas),
        Side::Below if value < threshold => current.min(replicas),
        Side::Above | Side::Below => current,
    })
}

/// The cheapest number, none among them where the workload may go away: then any load above the threshold is a violation.
fn cheapest_or_none(peak: &PeakDistribution, sizing: Sizing, price: f64) -> Option<Replicas> {
    let cheapest = cheapest_replicas(peak, sizing.capacity, price)?;
    let cost = |replicas: f64| peak.exceedance(replicas * sizing.capacity) + replicas / price;
    let none = sizing.idle_up_to.is_some_and(|threshold| peak.exceedance(threshold) < cost(cheapest.into()));
    Some(if none { 0 } else { cheapest })
}

fn by_forecast(
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
    use crate::policy::Behavior;

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
    fn the_reactive_part_is_the_hpa_s() {
        let behavior = Behavior::default();
        for (current, load_per_replica, target, expected) in [
            (1, 200.0, 100.0, 2), // "200m against 100m: doubled"
            (4, 50.0, 100.0, 2),  // "50m: halved"
            (10, 109.0, 100.0, 10),
            (10, 110.0, 100.0, 10), // "sufficiently close to 1.0, within 0.1"
            (10, 111.0, 100.0, 12),
            (10, 90.0, 100.0, 10),
            (10, 89.0, 100.0, 9),
            (3, 0.0, 100.0, 0),
        ] {
            let context = Context {
                mode: Mode::Floor,
                scale_up: &behavior.scale_up,
                scale_down: &behavior.scale_down,
                current: Some(current),
                mean_wanted: None,
                may_be_zero: false,
            };
            let load = load_per_replica * f64::from(current);
            assert_eq!(reactive(load, target, context).0, Some(expected), "{current} × {load_per_replica} / {target}");
        }
    }

    /// Kubernetes documentation, "Algorithm details": for the target type Value, ceil(current · value / target).
    #[test]
    fn a_value_that_replicas_move_changes_them_by_its_ratio() {
        let behavior = Behavior::default();
        let asked = |current, value| {
            let seen = MetricObservation {
                name: "latency".to_owned(),
                load: Reading::Fresh { value, age: Duration::ZERO },
                sources: None,
                peak: None,
                horizon: None,
                ahead: Vec::new(),
            };
            let context = Context {
                mode: Mode::Floor,
                scale_up: &behavior.scale_up,
                scale_down: &behavior.scale_down,
                current,
                mean_wanted: None,
                may_be_zero: false,
            };
            let policy = MetricPolicy { name: "latency".to_owned(), demand: Demand::Value { target: 0.2 } };
            recommend(&policy, Some(&seen), context).wanted
        };
        assert_eq!(asked(Some(4), 0.4), Some(8));
        assert_eq!(asked(Some(4), 0.1), Some(2));
        assert_eq!(asked(Some(4), 0.21), Some(4), "within the tolerance");
        assert_eq!(asked(Some(0), 0.3), Some(2), "from none as from one");
        assert_eq!(asked(None, 0.3), None);
    }

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

    #[test]
    fn what_could_not_be_read_neither_raises_nor_lowers() {
        let behavior = Behavior::default();
        let policy = MetricPolicy {
            name: "requests".to_owned(),
            demand: Demand::Load {
                replica_capacity: 100.0,
                target_utilization: 1.0,
                activation_threshold: 0.0,
                forecast: None,
            },
        };
        let fresh = |value| Reading::Fresh { value, age: Duration::ZERO };
        let asked = |current, load, sources| {
            let seen = MetricObservation {
                name: "requests".to_owned(),
                load: fresh(load),
                sources,
                peak: None,
                horizon: None,
                ahead: Vec::new(),
            };
            let context = Context {
                mode: Mode::Floor,
                scale_up: &behavior.scale_up,
                scale_down: &behavior.scale_down,
                current,
                mean_wanted: None,
                may_be_zero: false,
            };
            recommend(&policy, Some(&seen), context).reactive
        };
        // 10 replicas took 1,000; half of them cannot be read, and 500 is left of it.
        assert_eq!(asked(Some(10), 500.0, None), Some(5));
        assert_eq!(asked(Some(10), 500.0, Some(fresh(0.5))), Some(10));
        assert_eq!(asked(Some(20), 500.0, Some(fresh(0.5))), Some(10), "fewer, but for the whole load");
        assert_eq!(asked(Some(3), 500.0, Some(fresh(0.5))), Some(5), "more, for what is known");
        assert_eq!(asked(Some(10), 500.0, Some(fresh(1.0))), Some(5));
        assert_eq!(asked(None, 500.0, Some(fresh(0.5))), Some(5));
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
