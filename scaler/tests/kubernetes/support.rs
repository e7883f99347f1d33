//! What the tests share: a load and a forecast that a real Prometheus scrapes, the shipped manifests in a real cluster, and
//! the scaler with exactly the rights that they give.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::binary::workspace_root;
use cloudpulse_testkit::kubernetes::ControlPlane;
use cloudpulse_testkit::kubernetes::ControlPlaneOptions;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;
use serde_json::Value;

pub(crate) const WAIT: Duration = Duration::from_secs(90);
pub(crate) const SCALER: &str = env!("CARGO_BIN_EXE_cloudpulse-scaler");

/// What the scraped page says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    pub(crate) load: f64,
    /// Median of the peak until any horizon; without one there is no forecast on the page.
    pub(crate) peak: Option<f64>,
    pub(crate) forecast_age_seconds: f64,
}

pub(crate) type Shared = Arc<Mutex<World>>;

async fn page(State(world): State<Shared>) -> String {
    let World { load, peak, forecast_age_seconds } = *world.lock().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let mut text = format!("web_requests {load}\n");
    if let Some(peak) = peak {
        text += &format!("cloudpulse_forecast_timestamp_seconds{{forecast=\"web\"}} {}\n", now - forecast_age_seconds);
        for (quantile, factor) in [(0.5, 1.0), (0.8, 1.01), (0.9, 1.02), (0.95, 1.03), (0.99, 1.04), (0.999, 1.05)] {
            let value = peak * factor;
            for (name, horizon) in
                [("forecast_peak", "5m"), ("forecast_peak", "15m"), ("forecast", "5m"), ("forecast", "15m")]
            {
                text += &format!(
                    "cloudpulse_{name}{{forecast=\"web\",horizon=\"{horizon}\",quantile=\"{quantile}\",model=\"ensemble\"}} {value}\n"
                );
            }
        }
    }
    text
}

/// A Prometheus that scrapes a page of ours twice a second.
#[derive(Debug)]
pub(crate) struct Scraped {
    pub(crate) world: Shared,
    pub(crate) prometheus: Prometheus,
    page_port: u16,
    port: u16,
    data: tempfile::TempDir,
}

impl Scraped {
    pub(crate) async fn start(world: World) -> Self {
        let world = Arc::new(Mutex::new(world));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let page_port = listener.local_addr().unwrap().port();
        let router = Router::new().route("/metrics", get(page)).with_state(Arc::clone(&world));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (port, data) = (free_port().unwrap(), tempfile::tempdir().unwrap());
        let prometheus = prometheus(page_port, port, data.path()).await;
        prometheus.wait_for_any("web_requests", WAIT).await.unwrap();
        Self { world, prometheus, page_port, port, data }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
    }

    /// Kills Prometheus with no time to say goodbye.
    pub(crate) async fn kill(&mut self) {
        self.prometheus.process().signal(rustix::process::Signal::KILL).unwrap();
        self.prometheus.process().wait_exit(WAIT).await.unwrap();
    }

    /// Starts it again at the same address with the same data.
    pub(crate) async fn resume(&mut self) {
        self.prometheus = prometheus(self.page_port, self.port, self.data.path()).await;
    }
}

async fn prometheus(page_port: u16, port: u16, data: &Path) -> Prometheus {
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
         scrape_configs: [{{job_name: page, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{page_port}']}}]}}]\n"
    );
    let options =
        PrometheusOptions { config, data_dir: Some(data.to_owned()), port: Some(port), ..PrometheusOptions::default() };
    Prometheus::start(options).await.unwrap()
}

/// Starts a control plane with the shipped definition and rights, and a namespace `shop`.
pub(crate) async fn cluster() -> ControlPlane {
    let cluster = ControlPlane::start(ControlPlaneOptions::default()).await.unwrap();
    let definition = std::process::Command::new(SCALER).arg("crd").output().unwrap();
    assert!(definition.status.success());
    let file = cluster.folder().join("crd.yaml");
    std::fs::write(&file, definition.stdout).unwrap();
    cluster.kubectl(&["apply", "--server-side", "-f", &file.display().to_string()]).await.unwrap();
    cluster.kubectl(&["apply", "-f", &manifest("scaler.yaml").display().to_string()]).await.unwrap();
    cluster.kubectl(&["create", "namespace", "shop"]).await.unwrap();
    let established = "{.status.conditions[?(@.type==\"Established\")].status}";
    let crd = ["crd", "scalingrules.cloudpulse.io"];
    cluster.wait_for(&crd, established, WAIT, |status| status == "True").await.unwrap();
    // The API serves a new kind a moment after it is established.
    cluster.wait_for(&["scalingrules", "-A"], "{.kind}", WAIT, |kind| kind == "List").await.unwrap();
    cluster
}

pub(crate) fn manifest(name: &str) -> PathBuf {
    workspace_root().join("scaler/manifests").join(name)
}

/// A Deployment in `shop` whose pods are ready after some seconds.
pub(crate) fn deployment(name: &str, replicas: u32, ready_after_seconds: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}, annotations: {{cloudpulse.io/ready-after: {ready_after_seconds}s}}}}
    spec: {{containers: [{{name: {name}, image: none}}]}}
"
    )
}

/// A rule for a Deployment in `shop` that one replica serves 100 of. Scales in after some seconds.
pub(crate) fn rule(name: &str, more: &str, calm_seconds: u32) -> String {
    format!(
        "apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {{name: {name}, namespace: shop}}
spec:
  target: {{kubernetes: {{name: {name}}}}}
  minReplicas: 2
  maxReplicas: 20
  metrics: [{{name: requests, query: web_requests, maxAge: 5s, replicaCapacity: \"100\", forecast: web, forecastMaxAge: 30s}}]
  behavior: {{scaleDown: {{stabilizationWindowSeconds: {calm_seconds}}}}}
{more}"
    )
}

/// A scaler that runs.
#[derive(Debug)]
pub(crate) struct Scaler {
    pub(crate) program: Program,
    pub(crate) url: String,
}

impl Scaler {
    /// Starts a scaler as the ServiceAccount of the shipped manifests.
    pub(crate) async fn start(cluster: &ControlPlane, prometheus: &str, more: &[&str]) -> Self {
        let kubeconfig = cluster.kubeconfig_of("cloudpulse", "cloudpulse-scaler").await.unwrap().display().to_string();
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        let url = format!("http://{listen}");
        let mut arguments = vec!["serve", "--kubernetes", "--kubeconfig", &kubeconfig, "--prometheus", prometheus];
        arguments.extend(["--listen", &listen, "--interval", "1s"]);
        arguments.extend(more);
        let ready = format!("{url}/readyz");
        let program = Program::start(Path::new(SCALER), &arguments, &[], Some(&ready)).await.unwrap();
        Self { program, url }
    }

    pub(crate) fn log(&mut self) -> String {
        std::fs::read_to_string(self.program.process().log_path()).unwrap()
    }
}

/// Waits until `jsonpath` of an object in `shop` is as `wanted`.
pub(crate) async fn wait_in_shop(
    cluster: &ControlPlane,
    object: &[&str],
    jsonpath: &str,
    wanted: impl Fn(&str) -> bool,
) -> String {
    let mut arguments = vec!["-n", "shop"];
    arguments.extend(object);
    cluster.wait_for(&arguments, jsonpath, WAIT, wanted).await.unwrap()
}

/// The path of a condition's field.
pub(crate) fn condition(kind: &str, field: &str) -> String {
    format!("{{.status.conditions[?(@.type==\"{kind}\")].{field}}}")
}

pub(crate) async fn json(cluster: &ControlPlane, arguments: &[&str]) -> Value {
    let mut all = vec!["get", "-n", "shop", "-o", "json"];
    all.extend(arguments);
    serde_json::from_str(&cluster.kubectl(&all).await.unwrap()).unwrap()
}

/// Registers the external metrics API with the shipped manifest. Without a kubelet the Service's address is one of ours, which
/// kube-apiserver dials directly, so that the Service's port is the one that is listened on.
pub(crate) async fn register(cluster: &ControlPlane) {
    let port = cluster.extension_port();
    let text = std::fs::read_to_string(manifest("external-metrics.yaml")).unwrap();
    assert_eq!(text.matches("port: 443").count(), 2);
    let text = text.replace("port: 443", &format!("port: {port}"));
    let selector = "  selector: {app.kubernetes.io/name: cloudpulse-scaler}\n";
    assert!(text.contains(selector));
    cluster.apply(&text.replace(selector, "  clusterIP: 127.96.0.10\n")).await.unwrap();
    let slice = format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{{name: external-metrics, port: {port}}}], \
         endpoints: [{{addresses: [192.0.2.1], conditions: {{ready: true}}}}], \
         metadata: {{name: cloudpulse-scaler, namespace: cloudpulse, labels: {{kubernetes.io/service-name: cloudpulse-scaler}}}}}}"
    );
    cluster.apply(&slice).await.unwrap();
}

/// Registers the external metrics API, and returns the flags by which a scaler serves it.
pub(crate) async fn external_metrics(cluster: &ControlPlane) -> Vec<String> {
    register(cluster).await;
    vec![
        format!("--external-metrics.listen-address=127.96.0.10:{}", cluster.extension_port()),
        "--external-metrics.certificate-secret=cloudpulse/cloudpulse-scaler-certificates".to_owned(),
    ]
}

/// An HPA of a user's own on the forecast of the peak of `web`, for a Deployment in `shop`.
pub(crate) fn forecast_hpa(deployment: &str) -> String {
    format!(
        "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: {deployment}, namespace: shop}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {deployment}}}
  minReplicas: 2
  maxReplicas: 20
  behavior: {{scaleDown: {{stabilizationWindowSeconds: 4}}}}
  metrics:
    - type: External
      external:
        metric: {{name: cloudpulse-forecast-web, selector: {{matchLabels: {{horizon: 5m, quantile: '0.99'}}}}}}
        target: {{type: AverageValue, averageValue: '100'}}
"
    )
}
