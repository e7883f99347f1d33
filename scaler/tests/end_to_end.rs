//! The program between a real Prometheus and a real Docker engine: load and forecast come from a page that is scraped,
//! a recording rule sums the load, and containers of a Compose service rise, fall and stay.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::docker::Docker;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::net::http_client;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;
use cloudpulse_testkit::prometheus::promtool;
use rustix::process::Signal;
use serde_json::Value;

const WAIT: Duration = Duration::from_secs(60);

const COMPOSE: &str = "
name: cpteste2e
services:
  web: {image: 'cloudpulse-test/sleeper:e2e', pull_policy: never, init: true}
";

/// Scales in at once, so that a scale-in that should not be would show.
const RULE: &str = r#"
apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: web}
spec:
  target: {docker: {project: cpteste2e, service: web}}
  maxReplicas: 10
  metrics:
    - name: requests
      query: web:requests:sum
      maxAge: 5s
      replicaCapacity: "100"
      forecast: web-requests
      forecastMaxAge: 1m
  behavior:
    scaleDown: {stabilizationWindowSeconds: 0}
  missingData: {policy: Reactive}
"#;

const RECORDING_RULES: &str = "groups: [{name: web, rules: [{record: 'web:requests:sum', expr: sum(web_requests)}]}]";

/// What the scraped page says.
#[derive(Debug, Clone, Copy)]
struct World {
    load: f64,
    median_peak: f64,
    forecast_age_seconds: f64,
}

type Shared = Arc<Mutex<World>>;

async fn page(State(world): State<Shared>) -> String {
    let World { load, median_peak, forecast_age_seconds } = *world.lock().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let mut text =
        format!("web_requests{{instance=\"a\"}} {}\nweb_requests{{instance=\"b\"}} {}\n", load / 2.0, load / 2.0);
    text +=
        &format!("cloudpulse_forecast_timestamp_seconds{{forecast=\"web-requests\"}} {}\n", now - forecast_age_seconds);
    for (quantile, factor) in
        [(0.5, 1.0), (0.8, 1.04), (0.9, 1.06), (0.95, 1.08), (0.99, 1.1), (0.995, 1.11), (0.999, 1.12)]
    {
        // In a quarter of an hour three times as much.
        for (horizon, value) in [("5m", median_peak * factor), ("15m", 3.0 * median_peak * factor)] {
            text += &format!(
                "cloudpulse_forecast_peak{{forecast=\"web-requests\",horizon=\"{horizon}\",quantile=\"{quantile}\",model=\"ensemble\"}} {value}\n"
            );
        }
    }
    text
}

async fn start_world(world: World) -> (Shared, u16) {
    let shared = Arc::new(Mutex::new(world));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/metrics", get(page)).with_state(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (shared, port)
}

async fn start_prometheus(page_port: u16, port: u16, data: &Path) -> Prometheus {
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
         scrape_configs: [{{job_name: page, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{page_port}']}}]}}]\n"
    );
    let rules = vec![("web.rules.yml".to_owned(), RECORDING_RULES.to_owned())];
    let options = PrometheusOptions {
        config,
        rules,
        data_dir: Some(data.to_owned()),
        port: Some(port),
        ..PrometheusOptions::default()
    };
    Prometheus::start(options).await.unwrap()
}

/// Reads the newest decision until `wanted` holds for it.
async fn decision(url: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let client = http_client().unwrap();
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let answer = client.get(format!("{url}/api/v1/decisions?rule=web&limit=1")).send().await.unwrap();
        let newest = answer.json::<Value>().await.unwrap()["decisions"][0].take();
        if wanted(&newest) {
            return newest;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}; last: {newest:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until so many turns are over that began after this call.
async fn turns(url: &str, count: usize) {
    let mut seen = decision(url, "a turn", |newest| newest["time"].is_number()).await["time"].clone();
    for _ in 0..count {
        seen = decision(url, "a turn", |newest| newest["time"] != seen).await["time"].clone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compose_service_follows_load_and_forecast_and_stays_when_both_are_gone() {
    let docker = Docker::start().await.unwrap().expect(Docker::HOW_TO_GET_ONE);
    docker
        .build_image("cloudpulse-test/sleeper:e2e", "fn main() { std::thread::sleep(std::time::Duration::MAX) }")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("compose.yaml"), COMPOSE).unwrap();
    std::fs::write(folder.path().join("rule.yaml"), RULE).unwrap();
    docker.compose(&["up", "--detach"], folder.path()).unwrap();
    let containers = || docker.compose(&["ps", "--quiet", "web"], folder.path()).unwrap().split_whitespace().count();

    let (world, page_port) = start_world(World { load: 230.0, median_peak: 450.0, forecast_age_seconds: 5.0 }).await;
    let prometheus_port = free_port().unwrap();
    let data = folder.path().join("data");
    let mut prometheus = start_prometheus(page_port, prometheus_port, &data).await;
    prometheus.wait_for_any("web:requests:sum", WAIT).await.unwrap();
    prometheus.wait_for_any("cloudpulse_forecast_peak", WAIT).await.unwrap();

    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let url = format!("http://{listen}");
    let rule = folder.path().join("rule.yaml").display().to_string();
    let arguments =
        ["serve", "--rules", &rule, "--prometheus", &prometheus.url, "--listen", &listen, "--interval", "300ms"];
    let binary = Path::new(env!("CARGO_BIN_EXE_cloudpulse-scaler"));
    let env = [("DOCKER_HOST", docker.address())];
    let _scaler = Program::start(binary, &arguments, &env, Some(&format!("{url}/readyz"))).await.unwrap();

    // Up: the load asks for 3, the forecast for more; the service gets what the forecast asks for.
    let newest = decision(&url, "the forecast raises", |newest| {
        newest["parts"]["forecast"].as_u64() >= Some(5) && newest["current"] == newest["desired"]
    })
    .await;
    assert_eq!(newest["parts"]["reactive"], 3, "{newest:#}");
    let raised = newest["desired"].as_u64().unwrap();
    assert!((5..=6).contains(&raised), "{newest:#}");
    assert_eq!(containers() as u64, raised);
    let metric = &newest["parts"]["metrics"][0];
    assert_eq!((&metric["load"]["state"], &metric["load"]["value"]), (&"fresh".into(), &230.0.into()));
    assert_eq!(metric["peak"]["value"].as_array().unwrap().len(), 7);
    assert!(metric["forecast"]["cost"].as_u64() >= Some(5), "{newest:#}");

    let page = http_client().unwrap().get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    for expected in [
        &format!("cloudpulse_scaler_desired_replicas{{rule=\"web\",target=\"docker:cpteste2e/web\"}} {raised}"),
        "cloudpulse_scaler_recommended_replicas{rule=\"web\",source=\"reactive\"} 3",
        "cloudpulse_scaler_scale_events_total{direction=\"up\",rule=\"web\"}",
        "cloudpulse_scaler_metric_age_seconds{rule=\"web\",metric=\"requests\",input=\"forecast\"}",
        "cloudpulse_scaler_last_success_timestamp_seconds{rule=\"web\"}",
    ] {
        assert!(page.contains(expected), "{expected}\n{page}");
    }
    // More than the maximum is foreseen between the two horizons.
    let breach = newest["parts"]["breachInSeconds"].as_f64().unwrap();
    assert!((300.0..900.0).contains(&breach), "{newest:#}");
    assert!(page.contains("cloudpulse_scaler_capacity_breach_seconds{rule=\"web\","), "{page}");
    let checked = promtool(&["check", "metrics"], page.as_bytes()).await.unwrap();
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));

    // Stale forecast: by the load alone, and the parts say so.
    world.lock().unwrap().forecast_age_seconds = 120.0;
    let newest =
        decision(&url, "the load alone decides", |newest| newest["current"] == 3 && newest["desired"] == 3).await;
    assert_eq!(newest["parts"]["metrics"][0]["peak"]["state"], "stale");
    assert_eq!(newest["parts"]["forecast"], Value::Null);
    assert!(newest["problems"][0]["message"].as_str().unwrap().contains("old, more than 1m"), "{newest:#}");

    // Prometheus gone: nothing moves, though the last load before it was low.
    world.lock().unwrap().load = 10.0;
    prometheus.process().signal(Signal::KILL).unwrap();
    prometheus.process().wait_exit(WAIT).await.unwrap();
    let newest = decision(&url, "the loss is said", |newest| newest["reason"] == "MissingDataHeld").await;
    let held = newest["desired"].as_u64().unwrap();
    assert_eq!(newest["parts"]["metrics"][0]["load"]["why"], "unreachable");
    turns(&url, 5).await;
    let newest = decision(&url, "a turn", |newest| newest["time"].is_number()).await;
    assert_eq!((newest["current"].as_u64(), newest["desired"].as_u64()), (Some(held), Some(held)));

    // Prometheus back, with a higher load: it goes on.
    world.lock().unwrap().load = 560.0;
    let _prometheus = start_prometheus(page_port, prometheus_port, &data).await;
    decision(&url, "it goes on", |newest| newest["current"] == 7 && newest["desired"] == 7).await;
    assert_eq!(containers(), 7);

    // `docker compose down` is not fought: nothing comes back, and the absence is said.
    docker.compose(&["down", "--timeout", "1"], folder.path()).unwrap();
    let newest = decision(&url, "the absence is said", |newest| newest["reason"] == "FailedGetScale").await;
    assert!(newest["outcome"]["error"].as_str().unwrap().contains("has no container"), "{newest:#}");
    assert_eq!(
        docker.cli(&["ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=cpteste2e"]).unwrap(),
        ""
    );
}
