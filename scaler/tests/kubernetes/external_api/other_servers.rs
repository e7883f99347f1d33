//! The API in the hands of another server, of nobody, and another server behind ours.

use super::*;

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
    let files = [
        "--external-metrics.tls-cert-file",
        &certificate,
        "--external-metrics.tls-private-key-file",
        &key,
        "--external-metrics.certificate-check-interval=1s",
    ];
    let theirs = world.scaler(behind, "theirs", &files).await;
    // Files that are written anew are served: the new certificate is for another name as well.
    cluster.certificate("extension-ca", "renewed", "/CN=renewed", Some("DNS:localhost,DNS:renewed")).unwrap();
    let roots = Certificate::from_pem_bundle(ca.as_bytes()).unwrap();
    let by_name =
        || Client::builder().no_proxy().tls_certs_only(roots.clone()).resolve("renewed", behind).build().unwrap();
    let url = format!("https://renewed:{}/healthz", behind.port());
    assert!(by_name().get(&url).send().await.is_err());
    for suffix in ["crt", "key"] {
        std::fs::copy(cluster.pki(&format!("renewed.{suffix}")), cluster.pki(&format!("behind.{suffix}"))).unwrap();
    }
    until("the renewed certificate", async || by_name().get(&url).send().await.ok().map(drop)).await;
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
