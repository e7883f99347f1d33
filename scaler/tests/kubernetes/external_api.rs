//! The external metrics API behind a real kube-apiserver: as the ServiceAccount with the rights of the shipped manifests.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::binary::workspace_root;
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
    cluster.apply(&manifest("scaler.yaml")).await.unwrap();
    // The cluster IP is dialled directly: the Service's port is the one that is listened on.
    let manifest = manifest("external-metrics.yaml");
    assert_eq!(manifest.matches("port: 443").count(), 2);
    let manifest = manifest.replace("port: 443", &format!("port: {port}"));
    let selector = "  selector: {app.kubernetes.io/name: cloudpulse-scaler}\n";
    assert!(manifest.contains(selector));
    cluster.apply(&manifest.replace(selector, "  clusterIP: 127.96.0.10\n")).await.unwrap();
    let slice = format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{{name: external-metrics, port: {port}}}], \
         endpoints: [{{addresses: [192.0.2.1], conditions: {{ready: true}}}}], \
         metadata: {{name: cloudpulse-scaler, namespace: cloudpulse, labels: {{kubernetes.io/service-name: cloudpulse-scaler}}}}}}"
    );
    cluster.apply(&slice).await.unwrap();
    cluster.apply(SHOP).await.unwrap();
    let kubeconfig = cluster.kubeconfig_of("cloudpulse", "cloudpulse-scaler").await.unwrap();
    let prometheus = Prometheus::start(PrometheusOptions::default()).await.unwrap();
    World { cluster, prometheus, folder: tempfile::tempdir().unwrap(), kubeconfig, port }
}

fn manifest(name: &str) -> String {
    std::fs::read_to_string(workspace_root().join("scaler/manifests").join(name)).unwrap()
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

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_held_to_kubernetes_own_rules() {
    let world = world().await;
    let cluster = &world.cluster;
    let mut scaler = world.scaler(world.service(), "queue", &["--external-metrics.certificate-secret", SECRET]).await;
    world.available().await;
    discovery(&world).await;
    an_hpa(&world).await;
    forged_identities(&world).await;
    changed_proxies(&world).await;
    assert!(scaler.metric("cloudpulse_scaler_external_metrics_requests_total{code=\"200\"}").await.unwrap() > 0.0);
    assert!(scaler.metric("cloudpulse_scaler_external_metrics_requests_total{code=\"401\"}").await.unwrap() > 0.0);
    assert_eq!(scaler.metric("cloudpulse_scaler_external_metrics_requests_total{code=\"500\"}").await, Some(0.0));
    assert_eq!(scaler.metric("cloudpulse_scaler_api_service_foreign").await, Some(0.0));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let expiry =
        scaler.metric("cloudpulse_scaler_external_metrics_certificate_expiry_timestamp_seconds").await.unwrap();
    assert!((89.0..90.1).contains(&((expiry - now) / 86_400.0)), "{expiry}");
    // The key of the CA is in the Secret and nowhere else.
    let key = cluster
        .kubectl(&[
            "-n",
            "cloudpulse",
            "get",
            "secret",
            "cloudpulse-scaler-certificates",
            "-o",
            "jsonpath={.data.ca\\.key}",
        ])
        .await
        .unwrap();
    assert!(key.len() > 100 && !scaler.log().contains("PRIVATE KEY"));
    kube_apiserver_is_away(&world).await;
    assert!(
        scaler.metric("cloudpulse_scaler_external_metrics_reviews_total{kind=\"access\",result=\"error\"}").await
            > Some(0.0)
    );
    assert!(scaler.program.process().stop().unwrap().success(), "{}", scaler.log());
}

/// What cannot be found out is not allowed, and what is known goes on.
async fn kube_apiserver_is_away(world: &World) {
    let cluster = &world.cluster;
    let bundle = world.bundle().await;
    let proxy = world.direct(world.service(), &bundle, Some("front-proxy-client"));
    let anybody = world.direct(world.service(), &bundle, None);
    let ask = async |user: &str, groups: &[&str]| {
        let mut request = proxy.get(world.url(QUEUE)).header("X-Remote-User", user);
        for group in groups {
            request = request.header("X-Remote-Group", *group);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("carol", &[]).await, 403);
    cluster.kill("kube-apiserver").unwrap();
    let token = anybody.get(world.url(QUEUE)).bearer_auth("never seen");
    let (dave, token, health) = tokio::join!(ask("dave", &[]), token.send(), anybody.get(world.url("/readyz")).send());
    assert_eq!((dave, token.unwrap().status().as_u16(), health.unwrap().status().as_u16()), (500, 401, 200));
    assert_eq!(ask("root", &["system:masters"]).await, 200);
    cluster.resume("kube-apiserver").unwrap();
    until("kube-apiserver is back", async || (ask("dave", &[]).await == 403).then_some(())).await;
}

/// A real HPA divides 12.5 by 5.
async fn an_hpa(world: &World) {
    let workload = r#"
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {replicas: 1,
 selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: none}]}}}}
---
{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: web, namespace: shop}, spec: {maxReplicas: 9,
 scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web},
 metrics: [{type: External, external: {metric: {name: queue}, target: {type: AverageValue, averageValue: 5}}}]}}
"#;
    world.cluster.apply(workload).await.unwrap();
    let web = ["-n", "shop", "deployment", "web"];
    world.cluster.wait_for(&web, "{.spec.replicas}", WAIT, |replicas| replicas == "3").await.unwrap();
}

async fn discovery(world: &World) {
    let cluster = &world.cluster;
    let raw = async |path: &str| -> Value {
        let text = cluster.kubectl(&["get", "--raw", path]).await.unwrap();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(raw(API).await["resources"][0]["name"], "externalmetrics");
    let group = raw("/apis/external.metrics.k8s.io").await;
    assert_eq!(group["preferredVersion"]["groupVersion"], "external.metrics.k8s.io/v1beta1");
    let resources = cluster.kubectl(&["api-resources", "--api-group", "external.metrics.k8s.io"]).await.unwrap();
    assert!(resources.contains("ExternalMetricValueList"), "{resources}");
    // kube-apiserver has read our own aggregated document.
    let client = world.through();
    let url = format!("{}/apis", cluster.api());
    until("aggregated discovery", async || {
        let list: Value = client.get(&url).header("accept", AGGREGATED).send().await.unwrap().json().await.unwrap();
        let group =
            list["items"].as_array()?.iter().find(|item| item["metadata"]["name"] == "external.metrics.k8s.io")?;
        let version = &group["versions"][0];
        (version["resources"][0]["resource"] == "externalmetrics" && version["freshness"] == "Current").then_some(())
    })
    .await;
    let values = raw(&format!("{QUEUE}?labelSelector=")).await;
    assert_eq!((&values["items"][0]["value"], &values["items"][0]["metricName"]), (&"12500m".into(), &"queue".into()));
    let upper = raw(&QUEUE.replace("queue", "QUEUE")).await;
    assert_eq!(upper["items"][0]["value"], "12500m");
    for (path, wanted) in [
        (format!("{API}/namespaces/shop/nothing"), "could not find"),
        (format!("{QUEUE}?labelSelector=a%20in%20("), "unable to parse"),
        (format!("{QUEUE}?watch=true"), "metrics can be listed"),
    ] {
        let error = cluster.kubectl(&["get", "--raw", &path]).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{path}: {error}");
    }
}

/// Requests that go past kube-apiserver, to the Service itself.
async fn forged_identities(world: &World) {
    let cluster = &world.cluster;
    cluster.certificate("front-proxy-ca", "intruder", "/CN=intruder", None).unwrap();
    cluster.certificate("extension-ca", "stranger", "/O=system:masters/CN=front-proxy-client", None).unwrap();
    cluster.certificate("ca", "alice", "/O=dev/CN=alice", None).unwrap();
    cluster.certificate("ca", "bob", "/O=dev/CN=bob", None).unwrap();
    let reader = cluster.token("shop", "reader").await.unwrap();
    let default = cluster.token("shop", "default").await.unwrap();
    let bundle = world.bundle().await;
    let nothing = QUEUE.replace("queue", "nothing");
    let (spoofed, honest) = (true, false);
    for (what, certificate, headers, token, path, wanted) in [
        ("nothing", None, honest, "", QUEUE, 403),
        ("nothing, a probe", None, honest, "", "/healthz", 200),
        ("nothing, a probe", None, honest, "", "/readyz", 200),
        ("nothing, a probe", None, honest, "", "/livez", 200),
        ("nothing, discovery", None, honest, "", API, 403),
        ("spoofed headers", None, spoofed, "", QUEUE, 403),
        ("spoofed headers, a client without rights", Some("bob"), spoofed, "", QUEUE, 403),
        ("spoofed headers, a client with rights", Some("alice"), spoofed, "", QUEUE, 200),
        ("spoofed headers, a client with rights to something else", Some("alice"), spoofed, "", "/openapi/v2", 404),
        ("spoofed headers, a proxy that is not allowed", Some("intruder"), spoofed, "", QUEUE, 401),
        ("spoofed headers, an unknown CA", Some("stranger"), spoofed, "", QUEUE, 401),
        ("the proxy", Some("front-proxy-client"), spoofed, "", QUEUE, 200),
        ("the proxy, without a user", Some("front-proxy-client"), honest, "", QUEUE, 401),
        ("garbage token", None, honest, "garbage", QUEUE, 401),
        ("garbage token and spoofed headers", None, spoofed, "garbage", QUEUE, 401),
        ("token without rights", None, honest, default.as_str(), QUEUE, 403),
        ("token without rights and spoofed headers", None, spoofed, default.as_str(), QUEUE, 403),
        ("token with rights", None, honest, reader.as_str(), QUEUE, 200),
        ("token with rights, nothing there", None, honest, reader.as_str(), nothing.as_str(), 404),
        ("token with rights and an unknown certificate", Some("stranger"), honest, reader.as_str(), QUEUE, 200),
    ] {
        let client = world.direct(world.service(), &bundle, certificate);
        let mut request = client.get(world.url(path));
        if headers == spoofed {
            request = request.header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters");
        }
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.text().await.unwrap();
        assert_eq!(status, wanted, "{what}: {body}");
        if what.starts_with("spoofed headers, a client without") {
            assert!(body.contains(r#"User \"bob\""#), "{body}");
        }
        assert!(status != 403 || !body.contains(r#"User \"admin\""#), "{what}: {body}");
    }
}

/// Another proxy is let in, and another CA of proxies, without a restart.
async fn changed_proxies(world: &World) {
    let cluster = &world.cluster;
    let bundle = world.bundle().await;
    let ask = async |certificate: &str| {
        let client = world.direct(world.service(), &bundle, Some(certificate));
        let request = client.get(world.url(QUEUE)).header("X-Remote-User", "alice");
        request.send().await.unwrap().status().as_u16()
    };
    let map = ["-n", "kube-system", "configmap", "extension-apiserver-authentication"];
    let patch = async |key: &str, value: &str| {
        let patch = serde_json::json!({"data": {key: value}}).to_string();
        let arguments = ["-n", map[1], "patch", "configmap", map[3], "--type", "merge", "-p", &patch];
        cluster.kubectl(&arguments).await.unwrap();
    };
    assert_eq!(ask("intruder").await, 401);
    patch("requestheader-allowed-names", r#"["front-proxy-client","intruder"]"#).await;
    until("a name that is allowed now", async || (ask("intruder").await == 200).then_some(())).await;
    assert_eq!(ask("stranger").await, 401);
    let pem = |name: &str| std::fs::read_to_string(cluster.pki(name)).unwrap();
    patch("requestheader-client-ca-file", &(pem("front-proxy-ca.crt") + &pem("extension-ca.crt"))).await;
    until("a CA that is trusted now", async || (ask("stranger").await == 200).then_some(())).await;
    assert_eq!(ask("front-proxy-client").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_without_a_failed_request() {
    let world = world().await;
    let flags = [
        ("certificate-secret", SECRET),
        ("certificate-check-interval", "1s"),
        ("ca-propagation", "2s"),
        ("certificate-lifetime", "6s"),
        ("ca-lifetime", "24s"),
    ];
    let flags: Vec<String> = flags.iter().map(|(flag, value)| format!("--external-metrics.{flag}={value}")).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    // Two replicas, started at once, that must agree on the CA; kube-apiserver asks the first.
    let second: SocketAddr = ([127, 0, 0, 1], free_port().unwrap()).into();
    let (first, other) =
        tokio::join!(world.scaler(world.service(), "queue", &flags), world.scaler(second, "queue", &flags));
    world.available().await;
    let token = world.cluster.token("shop", "reader").await.unwrap();
    let through = world.through();
    let through_url = format!("{}{QUEUE}", world.cluster.api());
    let begin = world.bundle().await;
    assert_eq!(begin.matches("BEGIN CERTIFICATE").count(), 1, "both agree on one");
    let (mut requests, mut bundles) = (0, vec![begin.clone()]);
    let deadline = Instant::now() + 2 * WAIT;
    loop {
        for _ in 0..20 {
            let response = through.get(&through_url).send().await.unwrap();
            assert_eq!(
                response.status(),
                200,
                "request {requests} through kube-apiserver: {}",
                response.text().await.unwrap()
            );
            requests += 1;
        }
        // Whoever trusts what the APIService says trusts what each replica serves to a new connection.
        let bundle = world.bundle().await;
        for (to, name) in [(world.service(), HOST), (second, HOST)] {
            let client = world.direct(to, &bundle, None);
            let url = format!("https://{name}:{}{QUEUE}", to.port());
            let response = client.get(url).bearer_auth(&token).send().await.unwrap();
            assert_eq!(response.status(), 200, "{to}");
        }
        if bundles.last() != Some(&bundle) {
            bundles.push(bundle.clone());
        }
        let old_is_gone = !bundle.contains(begin.trim());
        if old_is_gone {
            break;
        }
        assert!(Instant::now() < deadline, "no change of the CA in time: {} bundles", bundles.len());
    }
    let counts: Vec<usize> = bundles.iter().map(|bundle| bundle.matches("BEGIN CERTIFICATE").count()).collect();
    assert_eq!(counts[..3], [1, 2, 1], "old, both, new");
    assert!(requests > 100, "{requests} requests");
    for scaler in [first, other] {
        assert_eq!(scaler.metric("cloudpulse_scaler_external_metrics_certificate_failures_total").await, Some(0.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_servers_api_is_left_alone_and_can_be_asked_for_what_is_not_ours() {
    let world = world().await;
    let cluster = &world.cluster;
    // The API is another's: nothing of it is touched.
    let foreign = serde_json::json!({"spec": {"service": {"namespace": "keda", "name": "keda-operator-metrics-apiserver"}, "caBundle": "eA=="}});
    let patch = async |patch: &Value| {
        let patch = patch.to_string();
        let arguments = ["patch", "apiservice", "v1beta1.external.metrics.k8s.io", "--type", "merge", "-p", &patch];
        cluster.kubectl(&arguments).await.unwrap();
    };
    patch(&serde_json::json!({"spec": {"caBundle": null}})).await;
    let ca = std::fs::read_to_string(cluster.pki("extension-ca.crt")).unwrap();
    let keep = k8s_openapi::ByteString(ca.clone().into_bytes());
    let foreign_with = |bundle: &k8s_openapi::ByteString| {
        let mut foreign = foreign.clone();
        foreign["spec"]["caBundle"] = serde_json::to_value(bundle).unwrap();
        foreign
    };
    patch(&foreign_with(&keep)).await;

    // The server behind us, with a certificate from files, lets our ServiceAccount read.
    cluster.certificate("extension-ca", "behind", "/CN=behind", Some("DNS:localhost")).unwrap();
    let path = |name: &str| cluster.pki(name).display().to_string();
    let behind: SocketAddr = ([127, 0, 0, 1], free_port().unwrap()).into();
    let (certificate, key) = (path("behind.crt"), path("behind.key"));
    let files = ["--external-metrics.tls-cert-file", &certificate, "--external-metrics.tls-private-key-file", &key];
    let theirs = world.scaler(behind, "theirs", &files).await;
    let reader = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: pass-through}, \
                  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cloudpulse-external-metrics-reader}, \
                  subjects: [{kind: ServiceAccount, name: cloudpulse-scaler, namespace: cloudpulse}]}";
    cluster.apply(reader).await.unwrap();
    let token_file = world.folder.path().join("token");
    std::fs::write(&token_file, cluster.token("cloudpulse", "cloudpulse-scaler").await.unwrap()).unwrap();
    let (url, ca_file, token_file) =
        (format!("https://localhost:{}", behind.port()), path("extension-ca.crt"), token_file.display().to_string());
    let flags = [
        "--external-metrics.certificate-secret",
        SECRET,
        "--external-metrics.certificate-check-interval=1s",
        "--external-metrics.delegate",
        &url,
        "--external-metrics.delegate-ca-file",
        &ca_file,
        "--external-metrics.delegate-token-file",
        &token_file,
    ];
    let mut ours = world.scaler(world.service(), "queue", &flags).await;
    assert_eq!(ours.metric("cloudpulse_scaler_api_service_foreign").await, Some(1.0));
    assert!(ours.log().contains("belongs to another server"), "{}", ours.log());
    assert_eq!(theirs.metric("cloudpulse_scaler_api_service_foreign").await, Some(1.0));
    let failures = "cloudpulse_scaler_external_metrics_certificate_failures_total";
    assert_eq!(ours.metric(failures).await, Some(0.0));
    assert_eq!(world.bundle().await, ca);

    // It becomes ours, and is kept.
    patch(&serde_json::json!({"spec": {"service": {"namespace": "cloudpulse", "name": "cloudpulse-scaler"}}})).await;
    until("the API is ours", async || {
        (ours.metric("cloudpulse_scaler_api_service_foreign").await == Some(0.0)).then_some(())
    })
    .await;
    world.available().await;
    assert_ne!(world.bundle().await, ca);

    let raw = async |metric: &str| cluster.kubectl(&["get", "--raw", &QUEUE.replace("queue", metric)]).await;
    assert!(raw("queue").await.unwrap().contains(r#""value":"12500m""#));
    let theirs_through_us: Value = serde_json::from_str(&raw("theirs").await.unwrap()).unwrap();
    assert_eq!(theirs_through_us["items"][0]["value"], "12500m");
    assert!(raw("nobodys").await.unwrap_err().to_string().contains("could not find"));
    drop(theirs);
    let away = raw("theirs").await.unwrap_err().to_string();
    assert!(away.contains("cannot be asked") || away.contains("unable to handle"), "{away}");
    assert!(raw("queue").await.is_ok(), "ours do not need theirs");

    // Nobody's: said, and made where that is asked for and allowed.
    let api = "v1beta1.external.metrics.k8s.io";
    cluster.kubectl(&["delete", "apiservice", api]).await.unwrap();
    until("it is said", async || {
        (ours.metric("cloudpulse_scaler_api_service_absent").await == Some(1.0)).then_some(())
    })
    .await;
    let create = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: creator}, \
                  rules: [{apiGroups: [apiregistration.k8s.io], resources: [apiservices], verbs: [create]}]}";
    cluster.apply(create).await.unwrap();
    let to = "--serviceaccount=cloudpulse:cloudpulse-scaler";
    cluster.kubectl(&["create", "clusterrolebinding", "creator", "--clusterrole=creator", to]).await.unwrap();
    let other: SocketAddr = ([127, 0, 0, 1], free_port().unwrap()).into();
    let flags = ["--external-metrics.certificate-secret", SECRET, "--external-metrics.manage-api-service"];
    let maker = world.scaler(other, "queue", &flags).await;
    let path = "{.spec.service.namespace}/{.spec.service.name}:{.spec.service.port} {.spec.insecureSkipTLSVerify}";
    let made = cluster.kubectl(&["get", "apiservice", api, "-o", &format!("jsonpath={path}")]).await.unwrap();
    assert_eq!(made.trim(), "cloudpulse/cloudpulse-scaler:443");
    assert!(world.bundle().await.contains("BEGIN CERTIFICATE"));
    drop((ours, maker));
    the_configmap_is_needed(&world).await;
}

/// Without the right to read whose certificates to take there is no start, unless that is wanted.
async fn the_configmap_is_needed(world: &World) {
    world
        .cluster
        .kubectl(&["-n", "kube-system", "delete", "rolebinding", "cloudpulse-scaler-auth-reader"])
        .await
        .unwrap();
    let kubeconfig = world.kubeconfig.display().to_string();
    let common = ["serve", "--prometheus", &world.prometheus.url, "--web.listen-address", "127.0.0.1:0"];
    let flags = ["--kubeconfig", &kubeconfig, "--external-metrics.listen-address", "127.0.0.1:0"];
    let secret = ["--external-metrics.certificate-secret", SECRET];
    until("the start is refused", async || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloudpulse-scaler"));
        let log = world.folder.path().join("refused.log");
        let mut process = Process::start("scaler", command.args(common).args(flags).args(secret), &log).unwrap();
        // It runs where kube-apiserver has not yet taken notice.
        let status = process.wait_exit(Duration::from_secs(5)).await.ok()?;
        let said = std::fs::read_to_string(log).unwrap();
        assert!(!status.success() && said.contains("extension-apiserver-authentication-reader"), "{said}");
        Some(())
    })
    .await;
    let listen: SocketAddr = ([127, 0, 0, 1], free_port().unwrap()).into();
    let tolerant = "--external-metrics.tolerate-missing-authentication-config";
    let mut scaler = world.scaler(listen, "queue", &[secret[0], secret[1], tolerant]).await;
    let client = world.direct(listen, &world.bundle().await, Some("front-proxy-client"));
    let url = format!("https://{HOST}:{}{QUEUE}", listen.port());
    let spoofed = client.get(&url).header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters");
    assert_eq!(spoofed.send().await.unwrap().status(), 403, "nobody is known by a certificate");
    let token = world.cluster.token("shop", "reader").await.unwrap();
    assert_eq!(
        client.get(&url).bearer_auth(token).send().await.unwrap().status(),
        200,
        "tokens count: {}",
        scaler.log()
    );
}
