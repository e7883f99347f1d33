//! A scaler that sets replicas itself: ahead of the load by the forecast, down by the load, and not where others do.

use crate::support::Scaler;
use crate::support::Scraped;
use crate::support::World;
use crate::support::cluster;
use crate::support::condition;
use crate::support::deployment;
use crate::support::json;
use crate::support::rule;
use crate::support::wait_in_shop;

const QUIET: World = World { load: 150.0, peak: Some(150.0), forecast_age_seconds: 5.0 };

/// A kind of its own with a `/scale` subresource.
const ROOMS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rooms.example.io}
spec:
  group: example.io
  names: {kind: Room, plural: rooms}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, properties: {seats: {type: integer}}}
            status: {type: object, properties: {seats: {type: integer}}}
      subresources: {status: {}, scale: {specReplicasPath: .spec.seats, statusReplicasPath: .status.seats}}
";

const MAY_SCALE_ROOMS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: scale-rooms, labels: {cloudpulse.io/aggregate-to-scaler: 'true'}}
rules: [{apiGroups: [example.io], resources: [rooms/scale], verbs: [get, update]}]
";

const HPA: &str = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: theirs, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: db}
  maxReplicas: 9
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rises_before_its_load_and_falls_after_it() {
    let cluster = cluster().await;
    let scraped = Scraped::start(QUIET).await;
    cluster.apply(&deployment("web", 2, 3)).await.unwrap();
    cluster.apply(&rule("web", "", 4)).await.unwrap();
    let _scaler = Scaler::start(&cluster, &scraped.prometheus.url, &[]).await;
    let web = ["deployment", "web"];
    let of_rule = ["scalingrule", "web"];
    wait_in_shop(&cluster, &of_rule, &condition("Active", "status"), |status| status == "True").await;

    // The peak is foreseen, the load is as it was.
    scraped.set(|world| world.peak = Some(900.0));
    wait_in_shop(&cluster, &web, "{.spec.replicas}", |replicas| replicas.parse::<u32>().is_ok_and(|it| it >= 9)).await;
    assert_eq!(scraped.world.lock().unwrap().load, QUIET.load);
    wait_in_shop(&cluster, &web, "{.status.readyReplicas}", |ready| ready.parse::<u32>().is_ok_and(|it| it >= 9)).await;
    // They take 3 s by their annotation; the API's times are whole seconds.
    wait_in_shop(&cluster, &of_rule, "{.status.leadTimeSeconds}", |lead| (2..=6).contains(&lead.parse().unwrap_or(0)))
        .await;
    scraped.set(|world| world.load = 900.0);
    let object = json(&cluster, &of_rule).await;
    let status = &object["status"];
    assert_eq!(status["target"], "kubernetes:shop/Deployment/web");
    assert_eq!(status["observedGeneration"], object["metadata"]["generation"]);
    assert!(status["lastScaleTime"].is_string(), "{status:#}");

    // Both are over.
    scraped.set(|world| *world = QUIET);
    wait_in_shop(&cluster, &web, "{.spec.replicas}", |replicas| replicas == "2").await;
    wait_in_shop(&cluster, &of_rule, "{.status.desiredReplicas}", |replicas| replicas == "2").await;
    let events = json(&cluster, &["events.events.k8s.io"]).await;
    let of_scaler: Vec<&str> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["reportingController"] == "cloudpulse.io/scaler")
        .map(|event| event["note"].as_str().unwrap())
        .collect();
    assert!(
        of_scaler.iter().any(|note| note.contains("from 2 to ") && note.contains("the forecast asks for")),
        "{of_scaler:#?}"
    );
    assert!(of_scaler.iter().any(|note| note.contains(" to 2 replicas")), "{of_scaler:#?}");

    // An edit is taken up, and a deletion leaves the replicas.
    let patch = "{\"spec\": {\"minReplicas\": 4, \"pause\": \"None\"}}";
    cluster.kubectl(&["-n", "shop", "patch", "srule", "web", "--type", "merge", "-p", patch]).await.unwrap();
    wait_in_shop(&cluster, &web, "{.spec.replicas}", |replicas| replicas == "4").await;
    cluster
        .kubectl(&["-n", "shop", "patch", "srule", "web", "--type", "merge", "-p", "{\"spec\": {\"pause\": \"All\"}}"])
        .await
        .unwrap();
    wait_in_shop(&cluster, &of_rule, &condition("Paused", "status"), |status| status == "True").await;
    let columns = cluster.kubectl(&["-n", "shop", "get", "scalingrules", "-o", "wide"]).await.unwrap();
    println!("{columns}");
    let (heading, row) = columns.trim().split_once('\n').unwrap();
    let heading: Vec<&str> = heading.split_whitespace().collect();
    assert_eq!(heading[..8], ["NAME", "TARGET", "MODE", "MIN", "MAX", "CURRENT", "DESIRED", "REASON"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..7], ["web", "kubernetes:shop/Deployment/web", "floor", "4", "20", "4", "4"]);
    cluster.kubectl(&["-n", "shop", "delete", "srule", "web"]).await.unwrap();
}

/// KEDA's kind, as far as it matters here, and an object of it.
const SCALED_OBJECTS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: scaledobjects.keda.sh, annotations: {api-approved.kubernetes.io: none}}
spec:
  group: keda.sh
  names: {kind: ScaledObject, plural: scaledobjects}
  scope: Namespaced
  versions:
    - {name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";

const SCALED_OBJECT: &str = "
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: queue, namespace: shop}
spec: {scaleTargetRef: {name: worker}}
";

#[tokio::test(flavor = "multi_thread")]
async fn what_others_scale_is_left_alone_and_what_is_foreign_needs_a_right() {
    let cluster = cluster().await;
    let scraped = Scraped::start(World { load: 450.0, ..QUIET }).await;
    for manifest in [&deployment("db", 2, 1), HPA, ROOMS] {
        cluster.apply(manifest).await.unwrap();
    }
    cluster.apply(&rule("db", "", 4)).await.unwrap();
    let mut scaler = Scaler::start(&cluster, &scraped.prometheus.url, &[]).await;
    let of_rule = ["scalingrule", "db"];

    // Two would fight: said at once, and as an event; nothing is touched.
    wait_in_shop(&cluster, &of_rule, &condition("Ready", "reason"), |reason| reason == "TargetNotScalable").await;
    let message = wait_in_shop(&cluster, &of_rule, &condition("Ready", "message"), |text| !text.is_empty()).await;
    assert!(message.contains("HorizontalPodAutoscaler theirs scales"), "{message}");
    wait_in_shop(&cluster, &["events.events.k8s.io"], "{.items[*].reason}", |reasons| reasons.contains("FailedScale"))
        .await;
    assert_eq!(json(&cluster, &["deployment", "db"]).await["spec"]["replicas"], 2);
    // It may be tried beside it.
    cluster
        .kubectl(&[
            "-n",
            "shop",
            "patch",
            "srule",
            "db",
            "--type",
            "merge",
            "-p",
            "{\"spec\": {\"mode\": \"observe\"}}",
        ])
        .await
        .unwrap();
    wait_in_shop(&cluster, &of_rule, &condition("Ready", "status"), |status| status == "True").await;
    wait_in_shop(&cluster, &of_rule, "{.status.desiredReplicas}", |desired| desired == "6").await;
    assert_eq!(json(&cluster, &["deployment", "db"]).await["spec"]["replicas"], 2);
    // And once the other is gone, it acts.
    cluster
        .kubectl(&["-n", "shop", "patch", "srule", "db", "--type", "merge", "-p", "{\"spec\": {\"mode\": \"floor\"}}"])
        .await
        .unwrap();
    wait_in_shop(&cluster, &of_rule, &condition("Ready", "reason"), |reason| reason == "TargetNotScalable").await;
    cluster.kubectl(&["-n", "shop", "delete", "hpa", "theirs"]).await.unwrap();
    wait_in_shop(&cluster, &["deployment", "db"], "{.spec.replicas}", |replicas| replicas == "6").await;

    // A second rule for the same workload, and one with an error that the API server cannot see.
    let second = rule("db", "", 4).replace("metadata: {name: db", "metadata: {name: other");
    cluster.apply(&second).await.unwrap();
    let bad = rule("bad", "  schedules: [{name: a, start: '61 8 * * *', end: '0 9 * * *', minReplicas: 3}]\n", 4);
    cluster.apply(&bad).await.unwrap();
    wait_in_shop(&cluster, &["srule", "other"], &condition("Ready", "reason"), |reason| reason == "TargetConflict")
        .await;
    let message =
        wait_in_shop(&cluster, &["srule", "bad"], &condition("Ready", "message"), |text| !text.is_empty()).await;
    assert!(message.contains("spec.schedules[0].start"), "{message}");

    // A workload of another kind: first without the right, then with it.
    cluster.wait_for(&["rooms", "-A"], "{.kind}", crate::support::WAIT, |kind| kind == "List").await.unwrap();
    cluster
        .apply("apiVersion: example.io/v1\nkind: Room\nmetadata: {name: hall, namespace: shop}\nspec: {seats: 2}\n")
        .await
        .unwrap();
    let hall = rule("hall", "", 4).replace("{name: hall}}", "{apiVersion: example.io/v1, kind: Room, name: hall}}");
    cluster.apply(&hall).await.unwrap();
    let message =
        wait_in_shop(&cluster, &["srule", "hall"], &condition("Ready", "message"), |text| text.contains("forbidden"))
            .await;
    assert!(message.contains("rooms") && message.contains("scale"), "{message}");
    cluster.apply(MAY_SCALE_ROOMS).await.unwrap();
    wait_in_shop(&cluster, &["room", "hall"], "{.spec.seats}", |seats| seats == "6").await;
    // KEDA's objects count too.
    for manifest in [&deployment("worker", 2, 1), SCALED_OBJECTS] {
        cluster.apply(manifest).await.unwrap();
    }
    cluster.wait_for(&["scaledobjects", "-A"], "{.kind}", crate::support::WAIT, |kind| kind == "List").await.unwrap();
    cluster.apply(SCALED_OBJECT).await.unwrap();
    cluster.apply(&rule("worker", "", 4)).await.unwrap();
    let of_worker = ["srule", "worker"];
    let message =
        wait_in_shop(&cluster, &of_worker, &condition("Ready", "message"), |text| text.contains("ScaledObject")).await;
    assert!(message.contains("ScaledObject queue scales"), "{message}");
    assert_eq!(json(&cluster, &["deployment", "worker"]).await["spec"]["replicas"], 2);
    // Others go on meanwhile, and what is not there is said.
    cluster.apply(&rule("gone", "", 4)).await.unwrap();
    wait_in_shop(&cluster, &["srule", "gone"], &condition("Ready", "reason"), |reason| reason == "TargetNotFound")
        .await;
    let log = scaler.log();
    assert!(!log.contains("panicked"), "{log}");
}
