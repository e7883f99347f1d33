//! Many series at once, beside a real Prometheus: replicas that are compared, and predictors that share them.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::{free_port, http_client};
use cloudpulse_testkit::prometheus::{Prometheus, PrometheusOptions, backfill};

/// A Prometheus with three hours of `load` of these replicas of the job `web`, up to now.
async fn prometheus(folder: &Path, replicas: usize, value: impl Fn(usize, i64) -> f64) -> Prometheus {
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 / 60 * 60;
    let mut text = String::from("# TYPE load gauge\n");
    for replica in 0..replicas {
        for at in (until - 3 * 3600..=until).step_by(60) {
            let _ = writeln!(text, "load{{job=\"web\",replica=\"{replica}\"}} {} {at}", value(replica, at));
        }
    }
    text.push_str("# EOF\n");
    let (file, data) = (folder.join("history.om"), folder.join("data"));
    std::fs::write(&file, text).unwrap();
    backfill(&file, &data).await.unwrap();
    Prometheus::start(PrometheusOptions { data_dir: Some(data), ..PrometheusOptions::default() }).await.unwrap()
}

/// The page of a predictor of `load` once all forecasts were made.
async fn page(prometheus: &str, folder: &Path, more: &[&str], env: &[(&str, &str)]) -> String {
    let file = folder.join("predictor.yml");
    let config = "forecasts:\n- {name: load, query: load, step: 1m, interval: 15s, history: 3h, horizons: [5m], outliers: {by: [job]}}\n";
    std::fs::write(&file, config).unwrap();
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let mut args = vec!["serve", "--config", file.to_str().unwrap(), "--prometheus", prometheus, "--listen", &listen];
    args.extend(more);
    let ready = format!("http://{listen}/readyz");
    let binary = Path::new(env!("CARGO_BIN_EXE_cloudpulse-predictor"));
    let _program = Program::start(binary, &args, env, Some(&ready)).await.unwrap();
    let answer = http_client().unwrap().get(format!("http://{listen}/metrics")).send().await.unwrap();
    answer.text().await.unwrap()
}

/// The values of a family by replica.
fn by_replica(page: &str, family: &str) -> BTreeMap<String, f64> {
    let sample = |line: &str| {
        let (labels, value) = line.strip_prefix(family)?.strip_prefix('{')?.rsplit_once(' ')?;
        let replica = labels.split_once("replica=\"")?.1.split_once('"')?.0;
        Some((replica.to_owned(), value.parse().ok()?))
    };
    page.lines().filter_map(sample).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_that_is_unlike_the_others_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let load = |replica: usize, at: i64| {
        let wave =
            100.0 + 20.0 * (at as f64 / 1800.0).sin() + ((at / 60 * 7919 + replica as i64 * 31) % 11) as f64 / 5.0;
        // One replica gets twice as much.
        if replica == 3 { 2.0 * wave } else { wave }
    };
    let prometheus = prometheus(folder.path(), 5, load).await;
    let page = page(&prometheus.url, folder.path(), &[], &[]).await;
    let expected = (0..5).map(|replica| (replica.to_string(), if replica == 3 { 1.0 } else { 0.0 })).collect();
    assert_eq!(by_replica(&page, "cloudpulse_outlier_ratio"), expected, "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn predictors_of_a_stateful_set_share_the_series() {
    let folder = tempfile::tempdir().unwrap();
    let prometheus = prometheus(folder.path(), 16, |replica, _| replica as f64).await;
    let mut owners: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for host in ["predictor-0", "predictor-1"] {
        let shard = ["--shard", "auto", "--shards", "2"];
        let page = page(&prometheus.url, folder.path(), &shard, &[("HOSTNAME", host)]).await;
        let own = by_replica(&page, "cloudpulse_forecast_timestamp_seconds");
        assert!(!own.is_empty() && own.len() < 16, "{host} has a part: {own:?}");
        for replica in own.into_keys() {
            owners.entry(replica).or_default().push(host);
        }
    }
    assert_eq!(owners.len(), 16, "{owners:?}");
    assert!(owners.values().all(|hosts| hosts.len() == 1), "{owners:?}");
}
