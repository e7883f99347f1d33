//! The configuration files of the demonstration: ports in, texts out.

use std::path::Path;

/// Where each part listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) load: u16,
    pub(crate) exporter: u16,
    pub(crate) predictor: u16,
    pub(crate) scaler: u16,
    pub(crate) alertmanager: u16,
}

/// The forecast's and the rule's name of the load.
pub(crate) const FORECAST: &str = "shop-requests";
/// The load on the whole service.
pub(crate) const LOAD: &str = "sum(rate(http_requests_total{job=\"shop\"}[1m]))";
/// The rule.
pub(crate) const RULE: &str = "shop";
/// Compose project and service.
pub(crate) const PROJECT: &str = "cloudpulse-demo";
pub(crate) const SERVICE: &str = "web";
/// The image that is built for the service.
pub(crate) const IMAGE: &str = "cloudpulse-demo/web:dev";
/// Requests per second that one replica serves.
pub(crate) const REPLICA_CAPACITY: f64 = 20.0;

/// Returns Prometheus' configuration; rule files are named by the caller.
pub(crate) fn prometheus(ports: Ports, rules: &[&Path]) -> String {
    let rules: Vec<String> = rules.iter().map(|path| format!("{:?}", path.display().to_string())).collect();
    let Ports { load, exporter, predictor, scaler, alertmanager } = ports;
    format!(
        "global: {{scrape_interval: 5s, evaluation_interval: 5s}}
rule_files: [{rules}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: [\"127.0.0.1:{alertmanager}\"]}}]}}]}}
scrape_configs:
- job_name: node
  static_configs: [{{targets: [\"127.0.0.1:{exporter}\"]}}]
- job_name: shop
  static_configs: [{{targets: [\"127.0.0.1:{load}\"]}}]
- job_name: cloudpulse-predictor
  honor_labels: true
  static_configs: [{{targets: [\"127.0.0.1:{predictor}\"]}}]
- job_name: cloudpulse-scaler
  static_configs: [{{targets: [\"127.0.0.1:{scaler}\"]}}]
remote_read:
- url: http://127.0.0.1:{predictor}/api/v1/read
  read_recent: true
  required_matchers: {{__name__: cloudpulse_forecast_path}}
",
        rules = rules.join(", ")
    )
}

/// Returns the alert of the demonstration: it fires on a series that lies in the future.
pub(crate) fn alert() -> String {
    format!(
        "groups:
- name: demo
  rules:
  - alert: DemoLoadWillRise
    expr: max_over_time(cloudpulse_forecast_path{{forecast=\"{FORECAST}\",quantile=\"0.9\"}}[15m] offset -15m) > 1.5 * scalar({LOAD})
    labels: {{severity: info}}
    annotations:
      summary: The load of the shop will rise by more than half within 15 minutes.
"
    )
}

/// Returns the predictor's configuration: the shop's load, and the built-in node forecasts.
pub(crate) fn predictor(prometheus: &str) -> String {
    format!(
        "prometheus: {{url: {prometheus:?}}}
defaults: true
forecasts:
- name: {FORECAST}
  query: {LOAD}
  step: 15s
  interval: 15s
  history: 14d
  horizons: [5m, 10m, 15m]
  quantiles: [0.05, 0.5, 0.9, 0.95]
  peak_horizons: [5m, 15m]
  bounds: {{lower: 0}}
"
    )
}

/// Returns the scaler's rule.
pub(crate) fn rule(docker: bool) -> String {
    let target =
        if docker { format!("docker: {{project: {PROJECT}, service: {SERVICE}}}") } else { "dryRun: {}".to_owned() };
    format!(
        "apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {{name: {RULE}}}
spec:
  target: {{{target}}}
  minReplicas: 2
  maxReplicas: 15
  metrics:
  - name: requests
    query: {LOAD}
    forecast: {FORECAST}
    horizon: 5m
    replicaCapacity: \"{REPLICA_CAPACITY}\"
"
    )
}

/// Returns the Compose file of the service.
pub(crate) fn compose() -> String {
    format!(
        "name: {PROJECT}
services:
  {SERVICE}:
    image: {IMAGE}
    init: true
    pull_policy: never
    read_only: true
    cap_drop: [ALL]
    user: \"65532:65532\"
    stop_grace_period: 2s
"
    )
}
