//! The definition of ScalingRules in a real API server: what it takes, what it refuses, what it explains.

use crate::support::WAIT;
use crate::support::cluster;
use crate::support::json;

fn object(spec: &str) -> String {
    format!("apiVersion: cloudpulse.io/v1\nkind: ScalingRule\nmetadata: {{name: web, namespace: shop}}\nspec:\n{spec}")
}

const METRICS: &str = "  metrics: [{name: a, query: sum(x), replicaCapacity: 100}]\n";
const TARGET: &str = "  target: {kubernetes: {name: web}}\n  maxReplicas: 5\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_both_forms_and_refuses_what_cannot_be_meant() {
    let cluster = cluster().await;
    let apply = async |spec: &str| cluster.apply(&object(spec)).await.map_err(|error| error.to_string());

    // The first object may come before the API server knows the schema.
    let full = format!("{TARGET}{METRICS}");
    let deadline = tokio::time::Instant::now() + WAIT;
    while let Err(error) = apply(&full).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
    }
    let spec = json(&cluster, &["scalingrule", "web"]).await["spec"].take();
    assert_eq!((&spec["mode"], &spec["minReplicas"]), (&"floor".into(), &1.into()));
    let target = &spec["target"]["kubernetes"];
    assert_eq!((&target["apiVersion"], &target["kind"]), (&"apps/v1".into(), &"Deployment".into()));
    cluster.kubectl(&["-n", "shop", "delete", "scalingrule", "web"]).await.unwrap();

    let original = "  nodeId: n1\n  metric: cpu\n  threshold: 80\n  action: scale_up\n  replicas: 4\n  cooldown: 300\n";
    apply(original).await.unwrap();
    cluster.kubectl(&["-n", "shop", "delete", "srule", "web"]).await.unwrap();
    // Every example that has a target in a cluster or none there is taken as it is.
    for file in ["full.yaml", "original.yaml", "web.yaml", "dry-run.yaml"] {
        let path = cloudpulse_testkit::binary::workspace_root().join("rules/scaling").join(file).display().to_string();
        cluster.kubectl(&["apply", "--dry-run=server", "-f", &path]).await.unwrap();
    }

    for (spec, expected) in [
        ("  maxReplicas: 5\n".to_owned(), "target, maxReplicas and metrics are needed"),
        (format!("  minReplicas: 6\n{full}"), "minReplicas must not exceed maxReplicas"),
        (
            format!("  target: {{}}\n  maxReplicas: 5\n{METRICS}"),
            "give exactly one of kubernetes, docker, swarm, dryRun",
        ),
        (
            format!("  target: {{swarm: {{service: a}}, dryRun: {{}}}}\n  maxReplicas: 5\n{METRICS}"),
            "give exactly one of kubernetes, docker, swarm, dryRun",
        ),
        (format!("{TARGET}  metrics: []\n"), "should have at least 1 items"),
        (
            format!("{TARGET}  metrics: [{{name: a, query: x}}]\n"),
            "give exactly one of replicaCapacity, averageValue, value",
        ),
        (
            format!("{TARGET}  metrics: [{{name: a, query: x, value: 1}}, {{name: a, query: y, value: 1}}]\n"),
            "Duplicate value",
        ),
        (
            format!("{TARGET}  metrics: [{{name: a, query: x, replicaCapacity: 1, horizon: 5m}}]\n"),
            "horizon, forecastMaxAge, violationCost and quantile need forecast",
        ),
        (
            format!("{TARGET}  metrics: [{{name: a, query: x, averageValue: 1, forecast: f}}]\n"),
            "a forecast needs replicaCapacity",
        ),
        (
            format!(
                "{TARGET}  metrics: [{{name: a, query: x, replicaCapacity: 1, forecast: f, quantile: '0.9', violationCost: 3}}]\n"
            ),
            "give violationCost or quantile, not both",
        ),
        (format!("{full}  mode: automatic\n"), "Unsupported value: \"automatic\""),
        (format!("{full}  cooldwon: 5m\n"), "unknown field \"spec.cooldwon\""),
        (format!("{full}  whenAboveMax: {{policy: Raise}}\n"), "percent belongs to the policy Raise"),
        (format!("{full}  missingData: {{policy: Hold, replicas: 3}}\n"), "replicas belongs to the policy Replicas"),
        (
            format!("{full}  schedules: [{{name: a, start: '0 8 * * *', end: '0 9 * * *'}}]\n"),
            "give minReplicas, maxReplicas or both",
        ),
        ("  nodeId: n1\n  metric: cpu\n".to_owned(), "the original's form needs nodeId, metric, threshold, action"),
        (format!("{original}{METRICS}"), "do not go with nodeId, metric, threshold and action"),
        (original.replace("cpu", "disk"), "Unsupported value: \"disk\""),
    ] {
        let refused = apply(&spec).await.expect_err(&spec);
        assert!(refused.contains(expected), "{expected}\n{spec}\n{refused}");
    }

    let explained = cluster.kubectl(&["explain", "scalingrule.spec"]).await.unwrap();
    for expected in ["maxReplicas", "missingData", "What is scaled: exactly one target", "enum: observe, floor, full"] {
        assert!(explained.contains(expected), "{expected}\n{explained}");
    }
    let explained = cluster.kubectl(&["explain", "scalingrule.spec.metrics.forecast"]).await.unwrap();
    assert!(explained.contains("Name of the predictor's forecast of the same load"), "{explained}");
}
