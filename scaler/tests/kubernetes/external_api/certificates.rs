//! Certificates that are renewed under load.

use super::*;

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
    // A Secret that loses its CA gets it back: a new one would break the trust in what is served.
    let secret = ["-n", "cloudpulse", "secret", "cloudpulse-scaler-certificates"];
    let empty = ["-n", secret[1], "patch", secret[2], secret[3], "--type", "merge", "-p", r#"{"data": null}"#];
    world.cluster.kubectl(&empty).await.unwrap();
    world.cluster.wait_for(&secret, "{.data.ca\\.key}", WAIT, |key| !key.is_empty()).await.unwrap();
    assert!(world.bundle().await.contains(begin.trim()));
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
