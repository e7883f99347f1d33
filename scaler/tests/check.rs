//! `check` beside a real Prometheus that scrapes a predictor's page: what is wrong is an error, what is doubtful a warning.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::SystemTime;

use axum::Router;
use axum::routing::get;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;

const WAIT: Duration = Duration::from_secs(60);

const RULE: &str = "apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: web}
spec:
  target: {dryRun: {}}
  maxReplicas: 10
  metrics: [{name: requests, query: vector(240), replicaCapacity: 100, forecast: web-requests, horizon: 5m}]
";

/// A forecast of what a node exporter says, and what a scaler had learned of a rule that starts slowly.
async fn page() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut text =
        format!("cloudpulse_forecast_timestamp_seconds{{forecast=\"web-requests\",instance=\"a:9100\"}} {now}\n");
    for quantile in ["0.5", "0.9"] {
        text += &format!(
            "cloudpulse_forecast_peak{{forecast=\"web-requests\",horizon=\"5m\",quantile=\"{quantile}\",model=\"ensemble\",instance=\"a:9100\"}} 300\n"
        );
    }
    text + "cloudpulse_scaler_lead_time_seconds{rule=\"web\",target=\"dryRun\"} 420\n"
}

async fn start(honor_labels: bool) -> Prometheus {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", get(page))).await });
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
         scrape_configs: [{{job_name: predictor, honor_labels: {honor_labels}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    );
    let prometheus = Prometheus::start(PrometheusOptions { config, ..PrometheusOptions::default() }).await.unwrap();
    prometheus.wait_for_any("cloudpulse_scaler_lead_time_seconds", WAIT).await.unwrap();
    prometheus
}

/// Returns the exit code, and what was said on stderr.
fn check(rule: &Path, prometheus: Option<&Prometheus>, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloudpulse-scaler"));
    command.arg("check").arg(rule).args(more);
    if let Some(prometheus) = prometheus {
        command.args(["--prometheus", &prometheus.url]);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_doubtful_is_a_warning_and_strict_makes_it_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let rule = folder.path().join("rule.yaml");
    let write = |text: &str| std::fs::write(&rule, text).unwrap();

    let prometheus = start(false).await;
    write(RULE);
    let (code, said) = check(&rule, Some(&prometheus), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("warning: rule web: metric requests, horizon: is 5m, but replicas took 420 s"), "{said}");
    assert!(
        said.contains("warning: rule web: metric requests, forecast: its series have labels named exported_"),
        "{said}"
    );
    let (code, said) = check(&rule, Some(&prometheus), &["--strict"]);
    assert!(code == Some(1) && said.contains("2 errors found"), "{said}");

    // Scraped as it should be, and with a horizon that follows the starts, there is nothing to say.
    let prometheus = start(true).await;
    write(&RULE.replace("horizon: 5m", "horizon: auto"));
    assert_eq!(check(&rule, Some(&prometheus), &["--strict"]), (Some(0), String::new()));

    write(&RULE.replace("forecast: web-requests", "forecast: nothing"));
    let (code, said) = check(&rule, Some(&prometheus), &[]);
    assert!(code == Some(1) && said.contains("publishes no peak of a forecast named \"nothing\""), "{said}");

    write(&RULE.replace("vector(240)", "avg(up)"));
    let (code, said) = check(&rule, None, &[]);
    assert!(code == Some(0) && said.contains("spec.metrics[0].query: it is an average over the replicas"), "{said}");
}
