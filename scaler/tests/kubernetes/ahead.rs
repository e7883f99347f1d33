//! The whole line in a cluster: a load that rises each day at the same time, its past in a real Prometheus, the predictor's
//! own forecast, and three workloads that are scaled before today's rise: by a user's HPA on the forecast, by an HPA that a
//! rule keeps, and by the scaler itself.

use std::fmt::Write as _;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use axum::Router;
use axum::routing::get;
use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::binary::workspace_binary;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;
use cloudpulse_testkit::prometheus::backfill;

use crate::support::Scaler;
use crate::support::WAIT;
use crate::support::cluster;
use crate::support::deployment;
use crate::support::external_metrics;
use crate::support::forecast_hpa;
use crate::support::json;
use crate::support::rule;
use crate::support::wait_in_shop;

const DAY: i64 = 86_400;
const STEP: i64 = 15;
/// How long after the start of the test today's rise begins, and how long the load stays high.
const RISE_AFTER: i64 = 170;
const RUSH: i64 = 2400;

/// The load at a Unix time: 150, and 900 in the rush, ± 4 % by chance.
fn load(at: f64, start: i64) -> f64 {
    let of_day = (at - (start + RISE_AFTER) as f64).rem_euclid(DAY as f64);
    let hash = (at as i64 / STEP) as u64;
    let chance = (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1_u64 << 24) as f64;
    let base = if of_day < RUSH as f64 { 900.0 } else { 150.0 };
    base * (1.0 + 0.08 * (chance - 0.5))
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_ways_of_scaling_are_ready_before_the_load_rises() {
    let cluster = cluster().await;
    let flags = external_metrics(&cluster).await;
    let predictor =
        tokio::task::spawn_blocking(|| workspace_binary("cloudpulse-predictor", false)).await.unwrap().unwrap();

    let start = now() as i64 / STEP * STEP;
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("# TYPE web_requests gauge\n");
    for at in (start - 5 * DAY..=start).step_by(STEP as usize) {
        let _ = writeln!(text, "web_requests{{job=\"page\"}} {} {at}", load(at as f64, start));
    }
    text.push_str("# EOF\n");
    let (file, data) = (folder.path().join("history.om"), folder.path().join("data"));
    std::fs::write(&file, text).unwrap();
    backfill(&file, &data).await.unwrap();

    let page = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let page_port = page.local_addr().unwrap().port();
    let router =
        Router::new().route("/metrics", get(move || async move { format!("web_requests {}\n", load(now(), start)) }));
    tokio::spawn(async move { axum::serve(page, router).await });
    let predictor_port = free_port().unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- {{job_name: page, static_configs: [{{targets: ['127.0.0.1:{page_port}'], labels: {{instance: ''}}}}]}}
- {{job_name: predictor, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{predictor_port}']}}]}}
"
    );
    let options = PrometheusOptions { config, data_dir: Some(data), ..PrometheusOptions::default() };
    let prometheus = Prometheus::start(options).await.unwrap();
    let config = folder.path().join("predictor.yml");
    std::fs::write(
        &config,
        "forecasts: [{name: web, query: 'sum(web_requests)', step: 15s, interval: 5s, history: 5d, horizons: [5m], \
         peak_horizons: [5m, 15m], bounds: {lower: 0}}]\n",
    )
    .unwrap();
    let listen = format!("127.0.0.1:{predictor_port}");
    let arguments =
        ["serve", "--config", config.to_str().unwrap(), "--prometheus", &prometheus.url, "--listen", &listen];
    let ready = format!("http://{listen}/readyz");
    let _predictor = Program::start(&predictor, &arguments, &[], Some(&ready)).await.unwrap();

    for name in ["own", "kept", "web"] {
        cluster.apply(&deployment(name, 2, 10)).await.unwrap();
    }
    cluster.apply(&forecast_hpa("own")).await.unwrap();
    cluster.apply(&rule("kept", "", 4).replace("{name: kept}}", "{name: kept, managed: hpa}}")).await.unwrap();
    cluster.apply(&rule("web", "", 4)).await.unwrap();
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["--external-metrics.interval", "1s"]);
    let scaler = Scaler::start(&cluster, &prometheus.url, &flags).await;

    tokio::time::sleep(Duration::from_secs(20)).await;
    let d = cloudpulse_testkit::net::http_client()
        .unwrap()
        .get(format!("{}/api/v1/decisions?rule=shop/web&limit=1", scaler.url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    println!("{d}");
    for name in ["own", "kept", "web"] {
        let ready = |ready: &str| ready.parse::<u32>().is_ok_and(|ready| ready >= 9);
        wait_in_shop(&cluster, &["deployment", name], "{.status.readyReplicas}", ready).await;
        let ahead = (start + RISE_AFTER) as f64 - now();
        println!("{name}: 9 replicas ready {ahead:.0} s before the load rises");
        assert!(ahead > 0.0, "{name}: only {:.0} s after the rise", -ahead);
    }
    println!("{}", cluster.kubectl(&["-n", "shop", "get", "deployments,hpa,srule"]).await.unwrap());

    // The load comes: enough is there, and stays.
    let risen = prometheus.wait_for("web_requests", WAIT + Duration::from_secs(RISE_AFTER as u64), |series| {
        series.iter().any(|(_, value)| *value > 600.0)
    });
    risen.await.unwrap();
    for name in ["own", "kept", "web"] {
        assert!(json(&cluster, &["deployment", name]).await["status"]["readyReplicas"].as_u64() >= Some(9), "{name}");
    }
}
