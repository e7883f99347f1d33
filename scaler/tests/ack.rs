//! From a forecast to an acknowledged alert: a real Prometheus with the shipped rules, a real Alertmanager with the shipped
//! configuration, and the program as its users call it.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::get;
use cloudpulse_common::names::FORECAST;
use cloudpulse_testkit::alertmanager::Alertmanager;
use cloudpulse_testkit::binary::workspace_root;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::net::http_client;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_cloudpulse-scaler");
const WAIT: Duration = Duration::from_secs(60);
const CPU: &str = "CloudPulsePredictedHighCPU";
const MEMORY: &str = "CloudPulsePredictedHighMemory";

/// Name of the forecast, instance, value.
type Forecast = (&'static str, &'static str, f64);

struct World {
    alertmanager: Alertmanager,
    prometheus: Prometheus,
    /// On the page that Prometheus scrapes.
    forecasts: Arc<Mutex<Vec<Forecast>>>,
}

impl World {
    async fn new() -> Self {
        let forecasts = Arc::new(Mutex::new(vec![
            ("node-cpu", "web-1:9100", 0.97),
            ("node-cpu", "web-2:9100", 0.95),
            ("node-cpu", "web-3:9100", 0.5),
            ("node-memory", "web-1:9100", 0.99),
            ("node-memory", "web-3:9100", 0.5),
        ]));
        let shown = Arc::clone(&forecasts);
        let page = move || async move { page(&shown.lock().unwrap()) };
        let target = serve(Router::new().route("/metrics", get(page))).await;
        let shipped = std::fs::read_to_string(workspace_root().join("rules/alertmanager/alertmanager.yml")).unwrap();
        let alertmanager = Alertmanager::start(&shipped, None).await.unwrap();
        let config = format!(
            "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\n\
             scrape_configs: [{{job_name: cloudpulse-predictor, honor_labels: true, static_configs: [{{targets: ['{target}']}}]}}]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\n",
            alertmanager.address()
        );
        let prometheus = Prometheus::start(PrometheusOptions {
            config,
            rules: impatient_rules(),
            flags: vec!["--rules.alert.resend-delay=1s".to_owned()],
            ..PrometheusOptions::default()
        })
        .await
        .unwrap();
        Self { alertmanager, prometheus, forecasts }
    }

    /// Runs `ack`; returns its exit code, stdout and stderr.
    async fn ack(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        ack(&self.alertmanager.url, arguments).await
    }

    /// Reads the alert until `wanted` holds for it.
    async fn alert(&self, name: &str, instance: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            let alerts = self.alertmanager.alerts().await.unwrap();
            let found = alerts
                .iter()
                .find(|alert| alert["labels"]["alertname"] == name && alert["labels"]["instance"] == instance);
            if let Some(alert) = found.filter(|alert| wanted(alert)) {
                return alert.clone();
            }
            let log = self.prometheus.query("ALERTS", None).await;
            assert!(tokio::time::Instant::now() < deadline, "{name} of {instance} is not {what}: {alerts:#?}\n{log:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn silence(&self, id: &str) -> Value {
        let url = format!("{}/api/v2/silence/{id}", self.alertmanager.url);
        http_client().unwrap().get(url).send().await.unwrap().json().await.unwrap()
    }
}

/// As the predictor's page.
fn page(forecasts: &[Forecast]) -> String {
    let mut page = format!("# TYPE {} gauge\n", FORECAST.name);
    for (forecast, instance, value) in forecasts {
        page.push_str(&format!(
            "{}{{forecast=\"{forecast}\",horizon=\"15m\",quantile=\"0.5\",model=\"ensemble\",job=\"node\",instance=\"{instance}\"}} {value}\n",
            FORECAST.name
        ));
    }
    page
}

/// The shipped rules, of which each fires at once: how long a state has to last is promtool's to test.
fn impatient_rules() -> Vec<(String, String)> {
    let folder = workspace_root().join("rules/prometheus");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let duration = regex::Regex::new(r"(?m)^( +for: )\d+\w+$").unwrap();
    let rules: Vec<(String, String)> = files
        .filter(|path| path.is_file())
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), duration.replace_all(&text, "${1}0s").into_owned())
        })
        .collect();
    assert!(rules.iter().any(|(name, text)| name == "alerting.rules.yml" && text.contains(" for: 0s\n")), "{rules:?}");
    rules
}

/// Serves `router` on a free port and returns its address.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn ack(url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(BINARY);
    command.args(["ack", "--alertmanager", url]).args(arguments).env("USER", "on call");
    for name in ["BEARER_TOKEN_FILE", "USERNAME", "PASSWORD_FILE"] {
        command.env_remove(format!("CLOUDPULSE_SCALER_ALERTMANAGER_{name}"));
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_predicted_alert_is_acknowledged_and_its_silence_ended() {
    let world = World::new().await;
    let active = |alert: &Value| alert["status"]["state"] == "active";
    for (name, instance) in [(CPU, "web-1:9100"), (CPU, "web-2:9100"), (MEMORY, "web-1:9100")] {
        let alert = world.alert(name, instance, "active", active).await;
        assert_eq!(alert["annotations"]["runbook_url"], format!("docs/runbooks/{name}.md"));
    }

    // What would silence nothing is refused, and it is said what there is.
    let (code, _, said) = world.ack(&["CloudPulsePredictedHighCpu"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("no alert CloudPulsePredictedHighCpu is active"), "{said}");
    assert!(said.contains(&format!("active are: {CPU}, {MEMORY}")), "{said}");
    let (code, _, said) = world.ack(&[CPU, "--matcher", "instance=web-9:9100"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("instance=\"web-1:9100\"") && said.contains("instance=\"web-2:9100\""), "{said}");
    let silences = world.ack(&["--list", "--output", "json"]).await;
    assert_eq!((silences.0, silences.1.trim()), (Some(0), "[]"), "{}", silences.2);

    // One machine's alert of two, and none of another name.
    let arguments = [CPU, "--matcher", "instance=web-1:9100", "--for", "30m", "--comment", "moving \"shop\" away"];
    let (code, out, said) = world.ack(&arguments).await;
    assert_eq!(code, Some(0), "{said}");
    let id = out.strip_prefix("silence ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    assert!(out.contains("until 20") && out.contains("(30m), by on call"), "{out}");
    assert!(out.contains("web-1:9100") && !out.contains("web-2:9100"), "{out}");
    let suppressed = |alert: &Value| alert["status"]["state"] == "suppressed";
    let alert = world.alert(CPU, "web-1:9100", "suppressed", suppressed).await;
    assert_eq!(alert["status"]["silencedBy"], serde_json::json!([id]));
    world.alert(CPU, "web-2:9100", "active", active).await;
    world.alert(MEMORY, "web-1:9100", "active", active).await;
    let silence = world.silence(&id).await;
    assert_eq!((&silence["createdBy"], &silence["comment"]), (&"on call".into(), &"moving \"shop\" away".into()));
    let time = |name: &str| silence[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    assert!((1790..=1800).contains(&(time("endsAt") - time("startsAt"))), "{silence}");

    let (code, _, said) = world.ack(&arguments).await;
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("silenced already, by {id}")), "{said}");
    let (code, out, _) = world.ack(&["--list"]).await;
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with(&id) && out.contains("by on call: moving") && out.contains("instance=\"web-1:9100\""),
        "{out}"
    );
    assert!(world.ack(&["--list", CPU]).await.1.contains(&id));
    assert_eq!(world.ack(&["--list", MEMORY]).await.1, "no silence is in force\n");

    let (code, out, said) = world.ack(&["--expire", &id]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("has ended"), "{out}");
    world.alert(CPU, "web-1:9100", "active again", active).await;
    let (code, _, said) = world.ack(&["--expire", &id]).await;
    assert!(code == Some(1) && said.contains("had ended already"), "{said}");
    for unknown in ["00000000-0000-4000-8000-000000000000", "shop"] {
        let (code, _, said) = world.ack(&["--expire", unknown]).await;
        assert!(code == Some(1) && said.contains("there is no silence"), "{said}");
    }

    // Beforehand: an alert that comes later is silent from its first moment.
    let (code, out, said) =
        world.ack(&[MEMORY, "--matcher", "instance=~web-3:.+", "--force", "--output", "json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["alerts"], serde_json::json!([]));
    world.forecasts.lock().unwrap().push(("node-memory", "web-4:9100", 0.99));
    world.forecasts.lock().unwrap()[4].2 = 0.98;
    let alert = world.alert(MEMORY, "web-3:9100", "there", |_| true).await;
    assert_eq!(alert["status"]["silencedBy"], serde_json::json!([answer["silenceID"]]));
    world.alert(MEMORY, "web-4:9100", "active", active).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_said_and_what_is_no_alertmanager_too() {
    let shipped = std::fs::read_to_string(workspace_root().join("rules/alertmanager/alertmanager.yml")).unwrap();
    let alertmanager = Alertmanager::start(&shipped, None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (token, password, empty) = (file("token", "sesame\n"), file("password", "open\n"), file("empty", "\n"));

    // Alertmanager behind a proxy, as it is where it is let out of a cluster: under a path, for who has a token or a password.
    let behind = alertmanager.url.clone();
    let proxy = serve(Router::new().fallback(move |request: Request| forward(behind.clone(), request))).await;
    let url = format!("http://{proxy}/alertmanager/");
    let (code, _, said) = ack(&url, &["--list"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("401") && said.contains("--bearer-token-file"), "{said}");
    for arguments in [
        ["--list", "--bearer-token-file", &token].as_slice(),
        &["--list", "--username", "me", "--password-file", &password],
    ] {
        let (code, out, said) = ack(&url, arguments).await;
        assert_eq!((code, out.as_str()), (Some(0), "no silence is in force\n"), "{said}");
    }
    let (_, out, said) = ack(&url, &["Later", "--force", "--bearer-token-file", &token]).await;
    let id = out.split(' ').nth(1).unwrap_or_else(|| panic!("{out}{said}"));
    let silences = format!("{}/api/v2/silence/{id}", alertmanager.url);
    assert!(http_client().unwrap().get(silences).send().await.unwrap().status().is_success());

    let other = serve(Router::new().fallback(|| async { "<html>hello" })).await;
    for (url, arguments, expected) in [
        (format!("http://{other}"), ["--list"].as_slice(), "is this the address of an Alertmanager"),
        (format!("http://127.0.0.1:{}", free_port().unwrap()), &["--list"], "cannot be reached"),
        ("127.0.0.1:9093".to_owned(), &["--list"], "is no URL"),
        (alertmanager.url.clone(), &["A", "--force", "--for", "0s"], "is no time"),
        (alertmanager.url.clone(), &["A", "--force", "--author", ""], "--author"),
        (alertmanager.url.clone(), &["--list", "--bearer-token-file", &empty], "is empty"),
        (alertmanager.url.clone(), &["A"], "no alert A is active"),
    ] {
        let (code, _, said) = ack(&url, arguments).await;
        assert!(code == Some(1) && said.contains(expected), "{expected}: {code:?} {said}");
    }
    for (arguments, expected) in [
        (["A", "--matcher", "instance"].as_slice(), "name=~regex"),
        (&["A", "--matcher", "instance=~("], "no regular expression"),
        (&[], "<ALERT>"),
        (&["A", "--expire", "x"], "cannot be used with"),
    ] {
        let mut command = Command::new(BINARY);
        let output = command.arg("ack").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{expected}: {said}");
    }
}

/// Hands a request with token or password on to Alertmanager.
async fn forward(behind: String, request: Request) -> Response {
    let said = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    // Base64 of me:open.
    if !["Bearer sesame", "Basic bWU6b3Blbg=="].map(|good| Some(good.to_owned())).contains(&said) {
        return (StatusCode::UNAUTHORIZED, "who are you?").into_response();
    }
    let (head, body) = request.into_parts();
    let Some(path) = head.uri.path_and_query().and_then(|path| path.as_str().strip_prefix("/alertmanager/")) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let request = http_client().unwrap().request(head.method, format!("{behind}/{path}"));
    let answer = request.header("Content-Type", "application/json").body(body).send().await.unwrap();
    let (status, body) = (answer.status(), answer.bytes().await.unwrap());
    (status, Body::from(body)).into_response()
}

#[test]
fn the_help_teaches() {
    let output = Command::new(BINARY).args(["ack", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for expected in ["CLOUDPULSE_SCALER_ALERTMANAGER", "Examples:", "--force", "amtool"] {
        assert!(help.contains(expected), "{expected}\n{help}");
    }
}
