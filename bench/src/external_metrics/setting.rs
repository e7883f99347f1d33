//! What the benchmark runs on: a control plane, a Prometheus with a page that it scrapes, and the two servers.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::bail;
use axum::Router;
use axum::routing::get;
use cloudpulse_testkit::binary::cargo_build;
use cloudpulse_testkit::binary::workspace_binary;
use cloudpulse_testkit::kubernetes::ControlPlane;
use cloudpulse_testkit::kubernetes::ControlPlaneOptions;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::process::Process;
use cloudpulse_testkit::process::run as run_command;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;
use hyper::StatusCode;
use serde_json::Value;

use crate::external_metrics::load;
use crate::external_metrics::load::Identity;
use crate::external_metrics::load::Question;
use crate::table;

/// The user who may list all external metrics in the namespace `shop`.
pub(super) const READER: &str = "alice";
/// The user who may not.
pub(super) const STRANGER: &str = "mallory";
/// The number of the metric that is asked for.
pub(super) const MEASURED: usize = 7;

const WAIT: Duration = Duration::from_secs(120);

const MANIFESTS: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: server, namespace: bench}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: 'bench:auth-delegator'}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:auth-delegator'}
subjects: [{kind: ServiceAccount, name: server, namespace: bench}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: bench-auth-reader, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: extension-apiserver-authentication-reader}
subjects: [{kind: ServiceAccount, name: server, namespace: bench}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: bench-server}
rules:
  - {apiGroups: [''], resources: [namespaces, pods, services], verbs: [get, list, watch]}
  - {apiGroups: [apiregistration.k8s.io], resources: [apiservices], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bench-server}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bench-server}
subjects: [{kind: ServiceAccount, name: server, namespace: bench}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: metrics, namespace: shop}
rules: [{apiGroups: [external.metrics.k8s.io], resources: ['*'], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: metrics, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: metrics}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: alice}]
";

/// The adapter's configuration: one rule for all metrics.
const ADAPTER: &str = r#"
externalRules:
- seriesQuery: '{__name__=~"^bench_.*",queue!=""}'
  resources: {overrides: {namespace: {resource: namespace}}}
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
"#;

/// Everything that runs; it ends with the value.
#[derive(Debug)]
pub(super) struct Setting {
    /// Who asks.
    pub(super) identity: Identity,
    /// The scaler.
    pub(super) ours: Side,
    /// prometheus-adapter.
    pub(super) theirs: Side,
    prometheus_pid: u32,
    api_server_pid: u32,
    _processes: [Process; 2],
    _prometheus: Prometheus,
    _cluster: ControlPlane,
    _folder: tempfile::TempDir,
}

/// One of the two servers.
#[derive(Debug)]
pub(super) struct Side {
    /// Its name.
    pub(super) name: &'static str,
    /// Its process.
    pub(super) pid: u32,
    address: SocketAddr,
}

impl Side {
    /// Returns the request for a metric by a user.
    pub(super) fn question(&self, metric: usize, user: &'static str) -> Question {
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/bench_{metric}?labelSelector=queue%3Dorders"
        );
        Question { address: self.address, path, user, group: "system:authenticated" }
    }
}

impl Setting {
    /// Starts everything and waits until both servers give the same values.
    pub(super) async fn start(metrics: usize) -> anyhow::Result<Self> {
        let adapter = adapter_binary()?;
        // By itself, as an image of it is built.
        table::progress("building the scaler by itself");
        run_command(cargo_build().args(["--release", "-p", "cloudpulse-scaler"]))?;
        let scaler = workspace_binary("cloudpulse-scaler", true)?;

        table::progress("starting a control plane, Prometheus and both servers");
        let cluster = ControlPlane::start(ControlPlaneOptions::default()).await?;
        cluster.apply(MANIFESTS).await?;
        let kubeconfig = cluster.kubeconfig_of("bench", "server").await?.display().to_string();
        cluster.certificate("extension-ca", "extension", "/CN=bench", Some(&format!("DNS:{}", load::SERVER_NAME)))?;
        let pki = |file: &str| cluster.pki(file);
        let identity =
            Identity::read(&pki("extension-ca.crt"), &pki("front-proxy-client.crt"), &pki("front-proxy-client.key"))?;
        let (certificate, key) = (path_text(&pki("extension.crt")), path_text(&pki("extension.key")));

        let mut prometheus = start_prometheus(metrics).await?;
        let everything = format!("count({{__name__=~\"bench_.*\"}}) >= {metrics}");
        prometheus.wait_for_any(&everything, WAIT).await?;
        let url = prometheus.url.clone();

        let folder = tempfile::tempdir()?;
        let file = |name: &str| path_text(&folder.path().join(name));
        let (adapter_config, our_config) = (file("adapter.yaml"), file("ours.yaml"));
        std::fs::write(&adapter_config, ADAPTER)?;
        let convert = ["convert", "adapter", &adapter_config, "--prometheus", &url];
        std::fs::write(&our_config, run_command(Command::new(&scaler).args(convert))?)?;

        let port = cluster.extension_port();
        let address = |last: u8| SocketAddr::from(([127, 96, 0, last], port));
        let (ours_at, theirs_at) = (address(10).to_string(), address(11));
        let plain = format!("127.0.0.1:{}", free_port()?);
        let our_arguments = [
            ["serve", "--prometheus", &url, "--listen", &plain, "--kubeconfig", &kubeconfig].as_slice(),
            &["--external-metrics.listen-address", &ours_at, "--external-metrics.config", &our_config],
            &["--external-metrics.tls-cert-file", &certificate, "--external-metrics.tls-private-key-file", &key],
        ]
        .concat();
        let their_port = port.to_string();
        let their_arguments = [
            ["--bind-address", "127.96.0.11", "--secure-port", &their_port, "--lister-kubeconfig", &kubeconfig]
                .as_slice(),
            &["--authentication-kubeconfig", &kubeconfig, "--authorization-kubeconfig", &kubeconfig],
            &["--tls-cert-file", &certificate, "--tls-private-key-file", &key],
            &["--prometheus-url", &url, "--config", &adapter_config],
        ]
        .concat();
        let start = |name: &str, program: &PathBuf, arguments: &[&str]| {
            Process::start(name, Command::new(program).args(arguments), &folder.path().join(name))
        };
        let mut processes = [
            start("cloudpulse-scaler", &scaler, &our_arguments)?,
            start("prometheus-adapter", &adapter, &their_arguments)?,
        ];
        let ours = Side { name: "cloudpulse", pid: processes[0].pid(), address: address(10) };
        let theirs = Side { name: "prometheus-adapter", pid: processes[1].pid(), address: theirs_at };
        let mut values = Vec::new();
        for (side, process) in [&ours, &theirs].into_iter().zip(&mut processes) {
            values.push(value(side, &identity, process).await?);
        }
        anyhow::ensure!(values[0] == values[1], "the servers say {} and {}", values[0], values[1]);
        // As where each has an HPA: from now on all are kept fresh.
        for metric in 0..metrics {
            let question = Question { group: "system:masters", ..ours.question(metric, "admin") };
            let (status, body) = load::ask(&question, &identity).await?;
            anyhow::ensure!(status == StatusCode::OK, "{}: {status}: {body:?}", question.path);
        }
        let prometheus_pid = prometheus.process().pid();
        let pid_file = cluster.folder().join("run/kube-apiserver.pid");
        let api_server_pid = std::fs::read_to_string(pid_file)?.trim().parse()?;
        Ok(Self {
            identity,
            ours,
            theirs,
            prometheus_pid,
            api_server_pid,
            _processes: processes,
            _prometheus: prometheus,
            _cluster: cluster,
            _folder: folder,
        })
    }

    /// Returns the processes that work for a side.
    pub(super) fn pids(&self, side: &Side) -> [u32; 3] {
        [side.pid, self.prometheus_pid, self.api_server_pid]
    }

    /// Returns the CPU seconds per second of a side's processes while nobody asks.
    pub(super) async fn idle(&self, side: &Side, duration: Duration) -> anyhow::Result<[f64; 3]> {
        // Several turns of ours, which come each 15 s.
        let duration = duration.max(Duration::from_secs(30));
        let (before, begin) = (cpu(self.pids(side))?, Instant::now());
        tokio::time::sleep(duration).await;
        let after = cpu(self.pids(side))?;
        let seconds = begin.elapsed().as_secs_f64();
        Ok([0, 1, 2].map(|part| (after[part] - before[part]) / seconds))
    }
}

/// Asks until the server has the measured metric, and returns its value.
async fn value(side: &Side, identity: &Identity, process: &mut Process) -> anyhow::Result<Value> {
    let deadline = Instant::now() + WAIT;
    let question = side.question(MEASURED, READER);
    loop {
        let answer = load::ask(&question, identity).await;
        if let Ok((StatusCode::OK, body)) = &answer {
            let mut answer: Value = serde_json::from_slice(body)?;
            let value = answer["items"][0]["value"].take();
            if value.is_string() {
                return Ok(value);
            }
        }
        if process.exit_status()?.is_some() || Instant::now() >= deadline {
            bail!("{} does not answer: {answer:?}; its log:\n{}", side.name, process.log_tail());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A Prometheus that scrapes a page with the metrics.
async fn start_prometheus(metrics: usize) -> anyhow::Result<Prometheus> {
    let page: String = (0..metrics)
        .flat_map(|metric| {
            ["orders", "mail"].map(|queue| {
                format!("bench_{metric}{{namespace=\"shop\",queue=\"{queue}\"}} {}\n", metric + queue.len())
            })
        })
        .collect();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let router = Router::new().route("/metrics", get(move || async move { page }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = format!(
        "global: {{scrape_interval: 5s}}\n\
         scrape_configs: [{{job_name: page, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    );
    Prometheus::start(PrometheusOptions { config, ..PrometheusOptions::default() }).await
}

fn adapter_binary() -> anyhow::Result<PathBuf> {
    let cache = match (std::env::var_os("CLOUDPULSE_KUBE_CACHE"), std::env::var_os("XDG_CACHE_HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(cache)) => PathBuf::from(cache).join("cloudpulse/kube"),
        (None, None) => {
            PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache/cloudpulse/kube")
        }
    };
    let binary = cache.join("bin/prometheus-adapter");
    anyhow::ensure!(
        binary.exists(),
        "{} is not there; run testkit/kubernetes/control-plane.sh build-adapter",
        binary.display()
    );
    Ok(binary)
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// Returns the CPU seconds that processes took so far.
pub(super) fn cpu(pids: [u32; 3]) -> anyhow::Result<[f64; 3]> {
    let mut seconds = [0.0; 3];
    for (seconds, pid) in seconds.iter_mut().zip(pids) {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may have spaces and brackets in it; behind it come the state and eleven more before utime.
        let (_, rest) = text.rsplit_once(") ").context("/proc/PID/stat has no name")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |at: usize| -> anyhow::Result<f64> { Ok(fields.get(at).context("too short")?.parse()?) };
        *seconds = (ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64;
    }
    Ok(seconds)
}

/// Returns the resident memory of a process.
pub(super) fn rss_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
