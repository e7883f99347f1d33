//! The panels of a rule's dashboard: its metrics in; titles, units and queries out. Pure.

use cloudpulse_common::names;
use serde::Serialize;

use crate::generate::context::Metric;
use crate::rule::quoted;

/// One panel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Panel {
    kind: &'static str,
    title: String,
    description: &'static str,
    unit: &'static str,
    targets: Vec<Target>,
}

/// One query of a panel.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Target {
    id: String,
    expr: String,
    legend: String,
}

/// Returns a panel for the replicas, one for the time left, and one for each metric.
pub(super) fn panels(rule: &str, metrics: &[Metric]) -> Vec<Panel> {
    let of_rule = |metric: &str, more: &str| format!("max({metric}{{rule={}{more}}})", quoted(rule));
    let replicas = [
        (of_rule(names::CURRENT_REPLICAS.name, ""), "replicas"),
        (of_rule(names::DESIRED_REPLICAS.name, ""), "wanted"),
        (of_rule("cloudpulse_scaler_recommended_replicas", ",source=\"reactive\""), "for the load now"),
        (of_rule("cloudpulse_scaler_recommended_replicas", ",source=\"forecast\""), "for the forecast"),
        (of_rule("cloudpulse_scaler_bound_replicas", ",bound=\"max\""), "most"),
    ];
    let mut panels = vec![
        panel(
            "timeseries",
            "Replicas".to_owned(),
            "What the workload has, what the rule wants, and what load and forecast ask for before all limits.",
            "short",
            replicas.into(),
        ),
        panel(
            "stat",
            "Time until more than the most replicas are needed".to_owned(),
            "Empty while no horizon of the forecast needs more; 0 while it is needed now.",
            "s",
            vec![(of_rule(names::CAPACITY_BREACH.name, ""), "left")],
        ),
    ];
    for metric in metrics {
        let mut targets = vec![(metric.query.clone(), "load")];
        if let Some(forecast) = &metric.forecast {
            targets.push((forecast.query.clone(), "forecast peak"));
        }
        if let Some(capacity) = metric.capacity {
            targets.push((format!("{} * {capacity}", of_rule(names::CURRENT_REPLICAS.name, "")), "capacity"));
        }
        panels.push(panel(
            "timeseries",
            format!("Load and capacity: {}", metric.name),
            "The load, the forecast of its peak, and what the replicas serve. Load above capacity is a violation.",
            "short",
            targets,
        ));
    }
    panels
}

fn panel(
    kind: &'static str,
    title: String,
    description: &'static str,
    unit: &'static str,
    targets: Vec<(String, &str)>,
) -> Panel {
    let targets = ('A'..='Z')
        .zip(targets)
        .map(|(id, (expr, legend))| Target { id: id.to_string(), expr, legend: legend.to_owned() })
        .collect();
    Panel { kind, title, description, unit, targets }
}
