//! The external metrics API behind a real kube-apiserver: as the ServiceAccount with the rights of the shipped manifests.

mod certificates;
mod identities;
mod other_servers;

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::kubernetes::ControlPlane;
use cloudpulse_testkit::kubernetes::ControlPlaneOptions;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::net::http_client;
use cloudpulse_testkit::process::Process;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;
use reqwest::Certificate;
use reqwest::Client;
use reqwest::Identity;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::manifest;
use crate::support::register;

const WAIT: Duration = Duration::from_secs(60);
const HOST: &str = "cloudpulse-scaler.cloudpulse.svc";
const SECRET: &str = "cloudpulse/cloudpulse-scaler-certificates";
const API: &str = "/apis/external.metrics.k8s.io/v1beta1";
const QUEUE: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/queue";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Who may read, and a Service whose address is ours: without a kubelet nothing else makes its endpoints.
const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: queue, namespace: shop}
rules: [{apiGroups: [external.metrics.k8s.io], resources: [queue, nothing], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: queue, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: queue}
subjects: [{kind: ServiceAccount, name: reader, namespace: shop}, {kind: User, name: alice, apiGroup: rbac.authorization.k8s.io}]
"#;

/// A control plane with the manifests, and a Prometheus.
struct World {
    cluster: ControlPlane,
    prometheus: Prometheus,
    folder: TempDir,
    kubeconfig: PathBuf,
    port: u16,
}

/// A running scaler.
struct Scaler {
    program: Program,
    page: String,
}

async fn world() -> World {
    let cluster = ControlPlane::start(ControlPlaneOptions::default()).await.unwrap();
    let port = cluster.extension_port();
    cluster.kubectl(&["apply", "-f", &manifest("scaler.yaml").display().to_string()]).await.unwrap();
    register(&cluster).await;
    cluster.apply(SHOP).await.unwrap();
    let kubeconfig = cluster.kubeconfig_of("cloudpulse", "cloudpulse-scaler").await.unwrap();
    let prometheus = Prometheus::start(PrometheusOptions::default()).await.unwrap();
    World { cluster, prometheus, folder: tempfile::tempdir().unwrap(), kubeconfig, port }
}

impl World {
    fn service(&self) -> SocketAddr {
        ([127, 96, 0, 10], self.port).into()
    }

    /// Starts a scaler with one metric that is always 12.5.
    async fn scaler(&self, listen: SocketAddr, metric: &str, flags: &[&str]) -> Scaler {
        let page = format!("127.0.0.1:{}", free_port().unwrap());
        let config = self.folder.path().join(format!("{metric}.yaml"));
        let text = format!("metrics: [{{name: {metric}, query: vector(12.5), namespaced: false}}]\n");
        std::fs::write(&config, text).unwrap();
        let (listen, config) = (listen.to_string(), config.display().to_string());
        let kubeconfig = self.kubeconfig.display().to_string();
        let mut arguments = vec!["serve", "--prometheus", &self.prometheus.url, "--web.listen-address", &page];
        arguments.extend(["--kubeconfig", &kubeconfig, "--external-metrics.config", &config]);
        arguments.extend(["--external-metrics.listen-address", &listen]);
        arguments.extend(flags);
        let page = format!("http://{page}");
        let program = Program::start(
            Path::new(env!("CARGO_BIN_EXE_cloudpulse-scaler")),
            &arguments,
            &[],
            Some(&format!("{page}/healthz")),
        )
        .await
        .unwrap();
        Scaler { program, page }
    }

    async fn available(&self) {
        let api = ["apiservice", "v1beta1.external.metrics.k8s.io"];
        let condition = "{.status.conditions[?(@.type=='Available')].status}";
        self.cluster.wait_for(&api, condition, WAIT, |status| status == "True").await.unwrap();
    }

    async fn bundle(&self) -> String {
        let raw = ["get", "apiservice", "v1beta1.external.metrics.k8s.io", "-o", "json"];
        let object: Value = serde_json::from_str(&self.cluster.kubectl(&raw).await.unwrap()).unwrap();
        let encoded = object["spec"]["caBundle"].clone();
        let bytes: Option<k8s_openapi::ByteString> = serde_json::from_value(encoded).unwrap();
        String::from_utf8(bytes.map(|bytes| bytes.0).unwrap_or_default()).unwrap()
    }

    /// A client that dials the Service itself, trusts `bundle`, and shows a certificate from the folder `pki`.
    fn direct(&self, to: SocketAddr, bundle: &str, certificate: Option<&str>) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let roots = Certificate::from_pem_bundle(bundle.as_bytes()).unwrap();
        let mut builder = Client::builder().no_proxy().tls_certs_only(roots).resolve(HOST, to).timeout(WAIT);
        if let Some(name) = certificate {
            let read = |suffix| std::fs::read(self.cluster.pki(&format!("{name}.{suffix}"))).unwrap();
            builder = builder.identity(Identity::from_pem(&[read("crt"), read("key")].concat()).unwrap());
        }
        builder.build().unwrap()
    }

    /// A client of kube-apiserver as the administrator.
    fn through(&self) -> Client {
        let ca = std::fs::read_to_string(self.cluster.pki("ca.crt")).unwrap();
        self.direct(self.service(), &ca, Some("admin"))
    }

    fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.port)
    }
}

impl Scaler {
    async fn metric(&self, name: &str) -> Option<f64> {
        let client = http_client().unwrap();
        let page = client.get(format!("{}/metrics", self.page)).send().await.unwrap().text().await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    fn log(&mut self) -> String {
        std::fs::read_to_string(self.program.process().log_path()).unwrap()
    }
}

/// Looks until `wanted` gives something.
async fn until<T>(what: &str, mut wanted: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(found) = wanted().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
