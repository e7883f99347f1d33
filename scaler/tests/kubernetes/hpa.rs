//! HPAs that go by the external metrics: a user's own on a forecast, and one that a rule keeps. Where something is unknown
//! they keep their replicas.

use cloudpulse_testkit::kubernetes::ControlPlane;

use crate::support::Scaler;
use crate::support::Scraped;
use crate::support::World;
use crate::support::cluster;
use crate::support::condition;
use crate::support::deployment;
use crate::support::external_metrics;
use crate::support::forecast_hpa;
use crate::support::json;
use crate::support::rule;
use crate::support::wait_in_shop;

const QUIET: World = World { load: 150.0, peak: Some(150.0), forecast_age_seconds: 5.0 };
/// Deployment and HPA of a user's own, and those of the rule.
const OWN: (&str, &str) = ("own", "own");
const MANAGED: (&str, &str) = ("web", "cloudpulse-web");

async fn replicas(cluster: &ControlPlane, deployment: &str, wanted: impl Fn(u32) -> bool) {
    wait_in_shop(cluster, &["deployment", deployment], "{.spec.replicas}", |replicas| {
        wanted(replicas.parse().unwrap())
    })
    .await;
}

/// Waits until an HPA says `reason`, then for three of its periods, and returns its Deployment's replicas.
async fn after_three_periods(cluster: &ControlPlane, (deployment, hpa): (&str, &str), reason: &str) -> u64 {
    wait_in_shop(cluster, &["hpa", hpa], &condition("ScalingActive", "reason"), |found| found == reason).await;
    // Each period writes what was seen; a status that stays the same shows in nothing but time.
    tokio::time::sleep(std::time::Duration::from_secs(9)).await;
    wait_in_shop(cluster, &["hpa", hpa], &condition("ScalingActive", "reason"), |found| found == reason).await;
    json(cluster, &["deployment", deployment]).await["spec"]["replicas"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hpas_rise_before_the_load_fall_after_it_and_hold_while_nothing_is_known() {
    let cluster = cluster().await;
    let mut scraped = Scraped::start(QUIET).await;
    for name in [OWN.0, MANAGED.0] {
        cluster.apply(&deployment(name, 2, 1)).await.unwrap();
    }
    cluster.apply(&forecast_hpa(OWN.0)).await.unwrap();
    let managed = rule(MANAGED.0, "", 4).replace("{name: web}}", "{name: web, managed: hpa}}");
    cluster.apply(&managed).await.unwrap();
    let flags = external_metrics(&cluster).await;
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["--external-metrics.interval", "1s", "--external-metrics.forecast-max-age", "20s"]);
    let scaler = Scaler::start(&cluster, &scraped.prometheus.url, &flags).await;
    for hpa in [OWN.1, MANAGED.1] {
        wait_in_shop(&cluster, &["hpa", hpa], &condition("ScalingActive", "status"), |status| status == "True").await;
    }

    // The HPA of the rule is as the rule says, and belongs to it.
    let hpa = json(&cluster, &["hpa", MANAGED.1]).await;
    assert_eq!(hpa["metadata"]["ownerReferences"][0]["kind"], "ScalingRule");
    assert_eq!((&hpa["spec"]["minReplicas"], &hpa["spec"]["maxReplicas"]), (&2.into(), &20.into()));
    println!("{}", cluster.kubectl(&["-n", "shop", "get", "hpa,srule"]).await.unwrap());
    let raw = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/cloudpulse-rule-{}", MANAGED.0);
    let value: serde_json::Value =
        serde_json::from_str(&cluster.kubectl(&["get", "--raw", &raw]).await.unwrap()).unwrap();
    assert_eq!(value["items"][0]["value"], "2");

    // Up by what is foreseen, while the load is as it was.
    scraped.set(|world| world.peak = Some(900.0));
    replicas(&cluster, OWN.0, |replicas| replicas >= 9).await;
    replicas(&cluster, MANAGED.0, |replicas| replicas >= 9).await;
    assert_eq!(scraped.world.lock().unwrap().load, QUIET.load);
    // A rule's edit reaches its HPA.
    let patch = "{\"spec\": {\"maxReplicas\": 30}}";
    cluster.kubectl(&["-n", "shop", "patch", "srule", MANAGED.0, "--type", "merge", "-p", patch]).await.unwrap();
    wait_in_shop(&cluster, &["hpa", MANAGED.1], "{.spec.maxReplicas}", |max| max == "30").await;

    // Stale, while the load is low: each HPA keeps what it has.
    scraped.set(|world| world.forecast_age_seconds = 600.0);
    assert!(after_three_periods(&cluster, OWN, "FailedGetExternalMetric").await >= 9);
    assert!(
        after_three_periods(&cluster, MANAGED, "FailedGetExternalMetric").await >= 9,
        "the load alone takes nothing away"
    );
    // It does add: the load is a metric of its own.
    scraped.set(|world| world.load = 1200.0);
    replicas(&cluster, MANAGED.0, |replicas| replicas >= 15).await;
    scraped.set(|world| world.load = QUIET.load);
    let refused = cluster.kubectl(&["get", "--raw", &raw]).await.unwrap_err().to_string();
    assert!(refused.contains("503") || refused.contains("unavailable") || refused.contains("fresh"), "{refused}");

    // Fresh again, then the predictor is gone with all its series.
    scraped.set(|world| world.forecast_age_seconds = 5.0);
    wait_in_shop(&cluster, &["hpa", OWN.1], &condition("ScalingActive", "status"), |status| status == "True").await;
    scraped.set(|world| world.peak = None);
    assert!(after_three_periods(&cluster, OWN, "FailedGetExternalMetric").await >= 9);
    assert!(after_three_periods(&cluster, MANAGED, "FailedGetExternalMetric").await >= 9);
    scraped.set(|world| world.peak = Some(900.0));
    wait_in_shop(&cluster, &["hpa", OWN.1], &condition("ScalingActive", "status"), |status| status == "True").await;

    // Prometheus is gone.
    scraped.kill().await;
    assert!(after_three_periods(&cluster, OWN, "FailedGetExternalMetric").await >= 9);
    assert!(after_three_periods(&cluster, MANAGED, "FailedGetExternalMetric").await >= 9);
    scraped.resume().await;
    for hpa in [OWN.1, MANAGED.1] {
        wait_in_shop(&cluster, &["hpa", hpa], &condition("ScalingActive", "status"), |status| status == "True").await;
    }

    // The scaler itself is gone.
    drop(scaler);
    assert!(after_three_periods(&cluster, OWN, "FailedGetExternalMetric").await >= 9);
    assert!(after_three_periods(&cluster, MANAGED, "FailedGetExternalMetric").await >= 9);
    let _scaler = Scaler::start(&cluster, &scraped.prometheus.url, &flags).await;

    // All is over: down again.
    scraped.set(|world| *world = QUIET);
    replicas(&cluster, OWN.0, |replicas| replicas == 2).await;
    replicas(&cluster, MANAGED.0, |replicas| replicas == 2).await;

    // Paused: Kubernetes is told so. Then the rule is deleted, and its HPA goes with it; the replicas stay.
    let pause = "{\"spec\": {\"pause\": \"All\"}}";
    cluster.kubectl(&["-n", "shop", "patch", "srule", MANAGED.0, "--type", "merge", "-p", pause]).await.unwrap();
    wait_in_shop(&cluster, &["hpa", MANAGED.1], "{.spec.behavior.scaleUp.selectPolicy}", |policy| policy == "Disabled")
        .await;
    cluster.kubectl(&["-n", "shop", "delete", "srule", MANAGED.0]).await.unwrap();
    wait_in_shop(&cluster, &["hpa"], "{.items[*].metadata.name}", |names| names == OWN.1).await;
    assert_eq!(json(&cluster, &["deployment", MANAGED.0]).await["spec"]["replicas"], 2);
}
