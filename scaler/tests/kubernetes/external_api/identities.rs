//! Discovery, values, an HPA, and everybody who is not who they say.

use super::*;

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
