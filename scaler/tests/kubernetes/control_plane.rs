//! The control plane itself: what the other tests rely on.

use std::time::Duration;

use cloudpulse_testkit::kubernetes::ControlPlane;
use cloudpulse_testkit::kubernetes::ControlPlaneOptions;

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {cloudpulse.io/ready-after: 1s}}
    spec: {containers: [{name: web, image: none}]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn pods_become_ready_and_the_api_survives_a_kill() {
    let cluster = ControlPlane::start(ControlPlaneOptions::default()).await.unwrap();
    cluster.apply(WEB).await.unwrap();
    let web = ["deployment", "web"];
    let wait = Duration::from_secs(30);
    cluster.wait_for(&web, "{.status.readyReplicas}", wait, |ready| ready == "2").await.unwrap();
    cluster.kill("kube-apiserver").unwrap();
    assert!(cluster.kubectl(&["get", "--raw", "/readyz"]).await.is_err());
    cluster.resume("kube-apiserver").unwrap();
    cluster.wait_for(&web, "{.status.readyReplicas}", wait, |ready| ready == "2").await.unwrap();
    let token = cluster.token("default", "default").await.unwrap();
    assert!(token.starts_with("ey"));
}
