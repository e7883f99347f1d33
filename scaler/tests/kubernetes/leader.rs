//! Several scalers: one acts, another takes over, and an API server that is away costs no rule.

use std::collections::BTreeSet;

use cloudpulse_testkit::kubernetes::ControlPlane;
use cloudpulse_testkit::net::http_client;
use rustix::process::Signal;

use crate::support::Scaler;
use crate::support::Scraped;
use crate::support::WAIT;
use crate::support::World;
use crate::support::cluster;
use crate::support::deployment;
use crate::support::json;
use crate::support::rule;
use crate::support::wait_in_shop;

const LEASE: [&str; 4] = ["-n", "cloudpulse", "lease", "cloudpulse-scaler"];

async fn holder(cluster: &ControlPlane, other_than: &str) -> String {
    cluster
        .wait_for(&LEASE, "{.spec.holderIdentity}", WAIT, |holder| !holder.is_empty() && holder != other_than)
        .await
        .unwrap()
}

async fn leads(scaler: &Scaler) -> bool {
    let page =
        http_client().unwrap().get(format!("{}/metrics", scaler.url)).send().await.unwrap().text().await.unwrap();
    page.lines().any(|line| line == "cloudpulse_scaler_leader 1")
}

/// Who wrote events of scaling until now.
async fn actors(cluster: &ControlPlane) -> BTreeSet<String> {
    let events = json(cluster, &["events.events.k8s.io"]).await;
    let events = events["items"].as_array().unwrap().iter();
    events
        .filter(|event| event["reportingController"] == "cloudpulse.io/scaler")
        .map(|event| event["reportingInstance"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_acts_another_takes_over_and_nothing_is_lost_while_the_api_is_away() {
    let cluster = cluster().await;
    let scraped = Scraped::start(World { load: 250.0, peak: Some(250.0), forecast_age_seconds: 5.0 }).await;
    cluster.apply(&deployment("web", 2, 1)).await.unwrap();
    cluster.apply(&rule("web", "", 4)).await.unwrap();
    let web = ["deployment", "web"];
    let flags = ["--kubernetes.lease-duration", "6s"];
    let mut first = Scaler::start(&cluster, &scraped.prometheus.url, &flags).await;
    let first_name = holder(&cluster, "").await;
    let second = Scaler::start(&cluster, &scraped.prometheus.url, &flags).await;
    wait_in_shop(&cluster, &web, "{.spec.replicas}", |replicas| replicas == "4").await;
    assert!(leads(&first).await && !leads(&second).await);
    let instances = "{.items[*].reportingInstance}";
    wait_in_shop(&cluster, &["events.events.k8s.io"], instances, |names| names.contains(&first_name)).await;
    assert_eq!(actors(&cluster).await, BTreeSet::from([first_name.clone()]));

    // The one that stands by decides all the same, and refuses to scale by hand.
    let answer = http_client().unwrap().get(format!("{}/api/v1/decisions?limit=1", second.url)).send().await.unwrap();
    let decision = answer.json::<serde_json::Value>().await.unwrap()["decisions"][0].take();
    assert_eq!((&decision["desired"], &decision["outcome"]["result"]), (&4.into(), &"standby".into()));

    // The leader is killed: the other goes on.
    first.program.process().signal(Signal::KILL).unwrap();
    first.program.process().wait_exit(WAIT).await.unwrap();
    scraped.set(|world| (world.load, world.peak) = (630.0, Some(630.0)));
    let second_name = holder(&cluster, &first_name).await;
    wait_in_shop(&cluster, &web, "{.spec.replicas}", |replicas| replicas == "8").await;
    assert!(leads(&second).await);

    // A third stands by; the API server is killed and comes back: the same one leads, or the other, never none.
    let third = Scaler::start(&cluster, &scraped.prometheus.url, &flags).await;
    assert!(!leads(&third).await);
    cluster.kill("kube-apiserver").unwrap();
    scraped.set(|world| (world.load, world.peak) = (450.0, Some(450.0)));
    let deadline = tokio::time::Instant::now() + WAIT;
    while leads(&second).await {
        assert!(tokio::time::Instant::now() < deadline, "it still leads although it cannot renew its lease");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(!leads(&third).await);
    cluster.resume("kube-apiserver").unwrap();
    wait_in_shop(&cluster, &web, "{.spec.replicas}", |replicas| replicas == "6").await;
    assert_eq!(json(&cluster, &["scalingrules"]).await["items"].as_array().unwrap().len(), 1);

    // The leader and the API server at once.
    let leader = holder(&cluster, "").await;
    let (mut leading, standing_by) = if leader == second_name { (second, third) } else { (third, second) };
    cluster.kill("kube-apiserver").unwrap();
    leading.program.process().signal(Signal::KILL).unwrap();
    leading.program.process().wait_exit(WAIT).await.unwrap();
    scraped.set(|world| (world.load, world.peak) = (750.0, Some(750.0)));
    cluster.resume("kube-apiserver").unwrap();
    wait_in_shop(&cluster, &web, "{.spec.replicas}", |replicas| replicas == "10").await;
    assert!(leads(&standing_by).await);

    // A scaler that ends in peace gives the lead back: the next one need not wait.
    let mut last = standing_by;
    last.program.process().signal(Signal::TERM).unwrap();
    last.program.process().wait_exit(WAIT).await.unwrap();
    let given = cluster
        .wait_for(&LEASE, "{.spec.holderIdentity}/{.spec.leaseDurationSeconds}", WAIT, |text| text == "/1")
        .await;
    given.unwrap();
    second_started_later(&cluster, &scraped).await;
}

/// A scaler that starts anew finds the rule and the replicas, and changes nothing.
async fn second_started_later(cluster: &ControlPlane, scraped: &Scraped) {
    let started = Scaler::start(cluster, &scraped.prometheus.url, &[]).await;
    holder(cluster, "").await;
    let client = http_client().unwrap();
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let answer = client.get(format!("{}/api/v1/decisions?limit=9", started.url)).send().await.unwrap();
        let decisions = answer.json::<serde_json::Value>().await.unwrap()["decisions"].take();
        let unchanged = |one: &serde_json::Value| one["outcome"]["result"] == "unchanged" && one["desired"] == 10;
        if decisions.as_array().unwrap().iter().filter(|one| unchanged(one)).count() >= 3 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{decisions:#}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(json(cluster, &["deployment", "web"]).await["spec"]["replicas"], 10);
}
