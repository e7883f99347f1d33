//! The pages of `docs/reference` about the predictor are what the predictor says.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use cloudpulse_common::exposition::Kind;
use cloudpulse_predictor::metrics::{Metrics, PREFIX};
use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::{free_port, http_client};
use cloudpulse_testkit::reference::{Family, cell, families, help_page, hold, metrics_table};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_cloudpulse-predictor");

/// Labels that the predictor adds to those of the source series, for what only a forecast shows. `make test-docs` holds them to
/// the page of a predictor that forecasts.
const ADDED: [(&str, &[&str]); 11] = [
    ("cloudpulse_forecast", &["forecast", "horizon", "quantile", "model"]),
    ("cloudpulse_forecast_peak", &["forecast", "horizon", "quantile", "model"]),
    ("cloudpulse_forecast_timestamp_seconds", &["forecast"]),
    ("cloudpulse_forecast_skill_ratio", &["forecast", "horizon", "model"]),
    ("cloudpulse_forecast_coverage_ratio", &["forecast", "horizon", "level"]),
    ("cloudpulse_forecast_bias", &["forecast", "horizon"]),
    ("cloudpulse_forecast_demoted", &["forecast", "horizon", "model"]),
    ("cloudpulse_forecast_breaches", &["forecast", "predicted"]),
    ("cloudpulse_anomaly_score", &["forecast"]),
    ("cloudpulse_anomaly_alarms_total", &["forecast", "cause"]),
    ("cloudpulse_outlier_ratio", &["forecast"]),
];

#[test]
fn flags() {
    hold("flags-predictor.md", &help_page(Path::new(BINARY)).unwrap()).unwrap();
}

#[tokio::test]
async fn metrics() {
    let url = format!("http://127.0.0.1:{}", free_port().unwrap());
    let listen = url.trim_start_matches("http://");
    let arguments = ["serve", "--prometheus", "http://127.0.0.1:1", "--listen", listen];
    let health = format!("{url}/healthz");
    let mut program =
        Program::start(Path::new(BINARY), &arguments, &[("MODEL_SAVE_PATH", "a-value")], Some(&health)).await.unwrap();
    let page = http_client().unwrap().get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    let log = std::fs::read_to_string(program.process().log_path()).unwrap();
    assert_eq!(log.matches("set and without effect").count(), 1, "{log}");
    assert!(log.contains("MODEL_SAVE_PATH (now CLOUDPULSE_PREDICTOR_STATE_DIR)") && !log.contains("a-value"), "{log}");
    drop(program);
    // Families of forecasts stand on the page before there is one, without samples.
    let mut families = families(&page);
    for (name, labels) in ADDED {
        families.get_mut(name).unwrap().labels.extend(labels.iter().map(|label| (*label).to_owned()));
    }
    for of in Metrics::new().unwrap().described() {
        let kind = match of.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary | Kind::Untyped => panic!("{of:?}"),
        };
        let labels: BTreeSet<String> = of.labels.into_iter().collect();
        families.insert(format!("{PREFIX}_{}", of.name), Family { kind: kind.to_owned(), help: of.help, labels });
    }
    let page = format!(
        "# Metrics of the predictor\n\nMade by a test from the predictor's own page. Series of forecasts, scores and anomalies carry \
         the labels of the series that they are about,\nbeside those named here. `cloudpulse_forecast_path`, the curve at its \
         future timestamps, is not scraped: Prometheus asks for it over remote read.\n\n{}",
        metrics_table(&families)
    );
    hold("metrics-predictor.md", &page).unwrap();
}

#[test]
fn configuration() {
    let schema = cloudpulse_predictor::config::schema().to_value();
    let mut page = String::from(
        "# Configuration of the predictor\n\nMade by a test from the types that read the file. [What to forecast](../forecasting.md) \
         explains it in an example;\n`cloudpulse-predictor check FILE` says what is wrong with yours, all at once.\n\n\
         | field | type | default | meaning |\n|---|---|---|---|\n",
    );
    fields("", &schema, &mut page);
    hold("predictor-config.md", &page).unwrap();
}

fn fields(path: &str, schema: &Value, page: &mut String) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let needed = if required.contains(&name.as_str()) { ", needed" } else { "" };
        // An object's own default is that of its fields.
        let default = property.get("default").filter(|value| !value.is_null() && !value.is_object());
        let default = default.filter(|value| !matches!(value.as_str(), Some("")));
        let default = default.map(|value| format!("`{value}`").replace('"', "").replace(',', ", ")).unwrap_or_default();
        let description = property["description"].as_str().unwrap_or_default();
        assert!(!description.is_empty(), "{path} has no description");
        let _ = writeln!(page, "| `{path}` | {}{needed} | {default} | {} |", type_of(property), cell(description));
        let object = match property["anyOf"].as_array() {
            Some(parts) => &parts[0],
            None => property,
        };
        fields(&path, object, page);
        fields(&format!("{path}[]"), &object["items"], page);
    }
}

fn type_of(schema: &Value) -> String {
    let schema = schema["anyOf"].as_array().map_or(schema, |parts| &parts[0]);
    let name = match &schema["type"] {
        Value::Array(names) => names[0].as_str().unwrap(),
        name => name.as_str().unwrap_or_else(|| panic!("a field without a type: {schema}")),
    };
    match (name, schema["format"].as_str()) {
        (_, Some("duration")) => "duration".to_owned(),
        ("string", _) => "text".to_owned(),
        ("boolean", _) => "true or false".to_owned(),
        ("array", _) => format!("list of {}", type_of(&schema["items"])),
        ("object", _) if schema["properties"].is_null() => "object of texts".to_owned(),
        (name, _) => name.to_owned(),
    }
}
