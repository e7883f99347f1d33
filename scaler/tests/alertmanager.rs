//! The shipped configuration of a real Alertmanager: who is told of each shipped alert, and which alert silences which.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::Path;
use axum::routing::post;
use cloudpulse_testkit::alertmanager::Alertmanager;
use cloudpulse_testkit::binary::workspace_root;
use cloudpulse_testkit::net::http_client;
use serde_json::Value;
use serde_json::json;

const WAIT: Duration = Duration::from_secs(60);

/// Who was told of what: receiver, name of the alert, severity.
type Told = BTreeSet<(String, String, String)>;

/// Starts Alertmanager on the shipped file, with its waits cut short and a web hook of ours behind each receiver.
async fn start() -> (Alertmanager, Arc<Mutex<Told>>) {
    let told = Arc::new(Mutex::new(Told::new()));
    let noted = Arc::clone(&told);
    let hook = move |Path(receiver): Path<String>, Json(message): Json<Value>| async move {
        for alert in message["alerts"].as_array().unwrap() {
            let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
            noted.lock().unwrap().insert((receiver.clone(), label("alertname"), label("severity")));
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/{receiver}", post(hook));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let shipped = std::fs::read_to_string(workspace_root().join("rules/alertmanager/alertmanager.yml")).unwrap();
    let waits = regex::Regex::new(r"(?m)^( +group_(?:wait|interval): )\w+$").unwrap();
    let config = waits.replace_all(&shipped, "${1}100ms").replace("127.0.0.1:9095", &address.to_string());
    assert_eq!(config.matches(&address.to_string()).count(), 3, "{config}");
    (Alertmanager::start(&config, None).await.unwrap(), told)
}

async fn fire(alertmanager: &Alertmanager, alerts: &[Value]) {
    let alerts: Vec<Value> = alerts.iter().map(|labels| json!({"labels": labels})).collect();
    let request = http_client().unwrap().post(format!("{}/api/v2/alerts", alertmanager.url));
    let answer =
        request.header("Content-Type", "application/json").body(json!(alerts).to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

/// Name and severity of each shipped alert.
fn shipped() -> BTreeSet<(String, String)> {
    let mut alerts = BTreeSet::new();
    for entry in std::fs::read_dir(workspace_root().join("rules/prometheus")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let file: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for rule in file["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
            if let Some(name) = rule["alert"].as_str() {
                alerts.insert((name.to_owned(), rule["labels"]["severity"].as_str().unwrap().to_owned()));
            }
        }
    }
    alerts
}

#[tokio::test]
async fn each_alert_reaches_whom_its_severity_says() {
    let (alertmanager, told) = start().await;
    let alerts = shipped();
    assert!(alerts.len() > 20, "{alerts:?}");
    // Each with labels of its own, so that none inhibits another.
    let fired: Vec<Value> = alerts
        .iter()
        .enumerate()
        .map(|(i, (name, severity))| json!({"alertname": name, "severity": severity, "cluster": i.to_string()}))
        .collect();
    fire(&alertmanager, &fired).await;
    let expected: Told = alerts
        .into_iter()
        .map(|(name, severity)| {
            let receiver = match severity.as_str() {
                "critical" => "page",
                "warning" => "ticket",
                "info" => "info",
                other => panic!("{name} has severity {other}"),
            };
            (receiver.to_owned(), name, severity)
        })
        .collect();
    let deadline = tokio::time::Instant::now() + WAIT;
    while told.lock().unwrap().len() < expected.len() {
        assert!(tokio::time::Instant::now() < deadline, "told: {:?}", told.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test]
async fn what_is_said_already_is_not_said_again() {
    let of = |name: &str, severity: &str, further: &[(&str, &str)]| {
        let mut labels = json!({"alertname": name, "severity": severity});
        for (label, value) in further {
            labels[*label] = json!(value);
        }
        labels
    };
    let web = [("rule", "web"), ("target", "docker:shop/web")];
    let disk = [("instance", "a"), ("job", "node"), ("device", "sda1"), ("mountpoint", "/")];
    let full = "NodeFilesystemAlmostOutOfSpace";
    // (what fires, what does not fire in its presence, what is like it and does)
    let cases = [
        (
            of("CloudPulseCapacityBreached", "critical", &web),
            of("CloudPulseCapacityBreachAhead", "warning", &web),
            of("CloudPulseCapacityBreachAhead", "warning", &[("rule", "db"), web[1]]),
        ),
        (
            of("CloudPulsePredictedDiskFull", "critical", &[disk.as_slice(), &[("horizon", "6h")]].concat()),
            of("CloudPulsePredictedDiskFull", "warning", &[disk.as_slice(), &[("horizon", "1d")]].concat()),
            of("CloudPulsePredictedDiskFull", "warning", &[("instance", "a"), ("job", "node"), ("mountpoint", "/var")]),
        ),
        (
            of("CloudPulsePredictedDiskFull", "critical", &[("instance", "e"), ("mountpoint", "/")]),
            of("CloudPulseDiskFillsFast", "critical", &[("instance", "e"), ("mountpoint", "/")]),
            of("CloudPulseDiskFillsFast", "critical", &[("instance", "f"), ("mountpoint", "/")]),
        ),
        (
            of(full, "critical", &[("instance", "g"), ("mountpoint", "/")]),
            of("CloudPulseDiskFillsFast", "critical", &[("instance", "g"), ("mountpoint", "/")]),
            of("CloudPulseDiskFillsFast", "critical", &[("instance", "h"), ("mountpoint", "/")]),
        ),
        (
            of(full, "warning", &[("instance", "b"), ("mountpoint", "/")]),
            of("CloudPulsePredictedDiskFull", "warning", &[("instance", "b"), ("mountpoint", "/")]),
            // Full in six hours still pages where the mixin only warns.
            of("CloudPulsePredictedDiskFull", "critical", &[("instance", "b"), ("mountpoint", "/")]),
        ),
        (
            of(full, "critical", &[("instance", "c"), ("mountpoint", "/")]),
            of("CloudPulsePredictedDiskFull", "critical", &[("instance", "c"), ("mountpoint", "/")]),
            of("CloudPulsePredictedDiskFull", "critical", &[("instance", "d"), ("mountpoint", "/")]),
        ),
        (
            of("NodeMemoryHighUtilization", "warning", &[("instance", "a")]),
            of("CloudPulsePredictedHighMemory", "warning", &[("instance", "a")]),
            of("CloudPulsePredictedHighMemory", "warning", &[("instance", "b")]),
        ),
        (
            of("NodeCPUHighUsage", "warning", &[("instance", "a")]),
            of("CloudPulsePredictedHighCPU", "warning", &[("instance", "a")]),
            of("CloudPulsePredictedHighCPU", "warning", &[("instance", "b")]),
        ),
        (
            of("CloudPulsePredictorDown", "warning", &[("instance", "p"), ("cluster", "1")]),
            of("CloudPulseForecastMissing", "warning", &[("forecast", "web"), ("cluster", "1")]),
            of("CloudPulseForecastMissing", "warning", &[("forecast", "web"), ("cluster", "2")]),
        ),
        (
            of("CloudPulseForecastStale", "warning", &[("forecast", "db"), ("instance", "p")]),
            of("CloudPulseForecastMissing", "warning", &[("forecast", "db")]),
            of("CloudPulseForecastMissing", "warning", &[("forecast", "mail")]),
        ),
        (
            of("CloudPulseTargetFails", "critical", &[("rule", "web")]),
            of("CloudPulseRuleBlind", "warning", &[("rule", "web"), ("instance", "s")]),
            of("CloudPulseRuleBlind", "warning", &[("rule", "db"), ("instance", "s")]),
        ),
    ];
    let (alertmanager, _) = start().await;
    // As the mixin ships it, it tells nobody, and so must not keep anything back.
    let quiet = of("NodeCPUHighUsage", "info", &[("instance", "b")]);
    let all: Vec<Value> = cases.iter().flat_map(|(a, b, c)| [a, b, c]).chain([&quiet]).cloned().collect();
    fire(&alertmanager, &all).await;
    let alerts = alertmanager.alerts().await.unwrap();
    assert_eq!(alerts.len(), all.len(), "each is an alert of its own: {alerts:#?}");
    // Inhibition is worked out when an alert is looked at, once the inhibitor has heard of its source.
    let deadline = tokio::time::Instant::now() + WAIT;
    let state = async |labels: &Value| {
        let alerts = alertmanager.alerts().await.unwrap();
        alerts.iter().find(|alert| alert["labels"] == *labels).unwrap()["status"]["state"].as_str().unwrap().to_owned()
    };
    for (source, target, _) in &cases {
        while state(target).await != "suppressed" {
            assert!(tokio::time::Instant::now() < deadline, "{source} does not inhibit {target}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    for (source, _, other) in &cases {
        for kept in [source, other] {
            while state(kept).await != "active" {
                assert!(tokio::time::Instant::now() < deadline, "{kept} is {}", state(kept).await);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
