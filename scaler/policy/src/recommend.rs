//! Replicas that one metric asks for: by the load now as the HPA does it, and by the forecast of the peak.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::Replicas;
use crate::forecast::ForecastParts;
use crate::forecast::ROUNDING;
use crate::forecast::Sizing;
use crate::forecast::by_forecast;
use crate::forecast::replicas_for;
use crate::observation::MetricObservation;
use crate::observation::Missing;
use crate::observation::PeakAhead;
use crate::observation::Reading;
use crate::peak::PeakDistribution;
use crate::policy::Demand;
use crate::policy::MetricPolicy;
use crate::policy::Mode;
use crate::policy::ScalingRules;
use crate::policy::Side;
use crate::time::optional_seconds;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Behavior;

    const LOAD: Demand =
        Demand::Load { replica_capacity: 100.0, target_utilization: 1.0, activation_threshold: 0.0, forecast: None };

    fn asked(current: Option<Replicas>, demand: Demand, value: f64, sources: Option<Reading<f64>>) -> Option<Replicas> {
        let behavior = Behavior::default();
        let context = Context {
            mode: Mode::Floor,
            scale_up: &behavior.scale_up,
            scale_down: &behavior.scale_down,
            current,
            mean_wanted: None,
            may_be_zero: false,
        };
        let seen = MetricObservation {
            name: "metric".to_owned(),
            load: fresh(value),
            sources,
            peak: None,
            horizon: None,
            ahead: Vec::new(),
        };
        recommend(&MetricPolicy { name: "metric".to_owned(), demand }, Some(&seen), context).wanted
    }

    fn fresh(value: f64) -> Reading<f64> {
        Reading::Fresh { value, age: Duration::ZERO }
    }

    /// Kubernetes documentation, "Algorithm details": ceil(current · metric / target), left alone within 0.1.
    #[test]
    fn the_reactive_part_is_the_hpa_s() {
        for (current, load_per_replica, expected) in [
            (1, 200.0, 2), // "200m against 100m: doubled"
            (4, 50.0, 2),  // "50m: halved"
            (10, 109.0, 10),
            (10, 110.0, 10), // "sufficiently close to 1.0, within 0.1"
            (10, 111.0, 12),
            (10, 90.0, 10),
            (10, 89.0, 9),
            (3, 0.0, 0),
        ] {
            let load = load_per_replica * f64::from(current);
            assert_eq!(asked(Some(current), LOAD, load, None), Some(expected), "{current} × {load_per_replica}");
        }
    }

    /// The same, for the target type Value: ceil(current · value / target).
    #[test]
    fn a_value_that_replicas_move_changes_them_by_its_ratio() {
        let asked = |current, value| asked(current, Demand::Value { target: 0.2 }, value, None);
        assert_eq!(asked(Some(4), 0.4), Some(8));
        assert_eq!(asked(Some(4), 0.1), Some(2));
        assert_eq!(asked(Some(4), 0.21), Some(4), "within the tolerance");
        assert_eq!(asked(Some(0), 0.3), Some(2), "from none as from one");
        assert_eq!(asked(None, 0.3), None);
    }

    #[test]
    fn what_could_not_be_read_neither_raises_nor_lowers() {
        let asked = |current, load, share: Option<f64>| asked(current, LOAD, load, share.map(fresh));
        // 10 replicas took 1,000; half of them cannot be read, and 500 is left of it.
        assert_eq!(asked(Some(10), 500.0, None), Some(5));
        assert_eq!(asked(Some(10), 500.0, Some(0.5)), Some(10));
        assert_eq!(asked(Some(20), 500.0, Some(0.5)), Some(10), "fewer, but for the whole load");
        assert_eq!(asked(Some(3), 500.0, Some(0.5)), Some(5), "more, for what is known");
        assert_eq!(asked(Some(10), 500.0, Some(1.0)), Some(5));
        assert_eq!(asked(None, 500.0, Some(0.5)), Some(5));
    }
}
