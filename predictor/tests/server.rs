//! The predictor as its user runs it, beside a real Prometheus.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::any;
use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::{free_port, http_client};
use cloudpulse_testkit::prometheus::{Prometheus, PrometheusOptions, backfill, promtool};
use cloudpulse_testkit::victoriametrics::{self, VictoriaMetrics};

const WAIT: Duration = Duration::from_secs(60);

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Three days of two series on a daily wave, and odd ones, up to now.
fn history(until: i64) -> String {
    let mut text = String::from("# TYPE load gauge\n");
    let line = |text: &mut String, name: &str, value: &dyn Fn(i64) -> f64, from: i64, to: i64| {
        for at in (from..=to).step_by(60) {
            let _ = writeln!(text, "load{{instance=\"{name}\",quantile=\"mine\"}} {} {at}", value(at));
        }
    };
    let start = until - 3 * 86_400;
    let wave = |at: i64| {
        let noise = (at / 60 * 7919 % 101) as f64 / 50.0;
        100.0 + 50.0 * (at as f64 / 86_400.0 * std::f64::consts::TAU).sin() + noise
    };
    line(&mut text, "wave", &wave, start, until);
    line(&mut text, "constant", &|_| 7.0, start, until);
    line(&mut text, "zero", &|_| 0.0, start, until);
    line(&mut text, "gone", &|_| 3.0, start, until - 3600);
    line(&mut text, "nan", &|_| f64::NAN, until - 7200, until);
    line(&mut text, "infinite", &|_| f64::INFINITY, until - 7200, until);
    line(&mut text, "single", &|_| 5.0, until, until);
    text.push_str("# EOF\n");
    text
}

async fn page(url: &str) -> String {
    http_client().unwrap().get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap()
}

/// Value of a sample line that starts with `prefix`.
fn value(page: &str, prefix: &str) -> Option<f64> {
    page.lines().find(|line| line.starts_with(prefix))?.rsplit_once(' ')?.1.parse().ok()
}

async fn predictor(prometheus: &str, config: &str, folder: &Path, ready: bool) -> (Program, String) {
    let file = folder.join("predictor.yml");
    std::fs::write(&file, config).unwrap();
    let url = format!("http://127.0.0.1:{}", free_port().unwrap());
    let listen = url.trim_start_matches("http://").to_owned();
    let args = ["serve", "--config", file.to_str().unwrap(), "--prometheus", prometheus, "--listen", &listen];
    let probe = format!("{url}/{}", if ready { "readyz" } else { "healthz" });
    let binary = Path::new(env!("CARGO_BIN_EXE_cloudpulse-predictor"));
    (Program::start(binary, &args, &[], Some(&probe)).await.unwrap(), url)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_future_is_promql() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let until = now() as i64 / 60 * 60;
    let file = folder.path().join("history.om");
    std::fs::write(&file, history(until)).unwrap();
    backfill(&file, &data).await.unwrap();
    let port = free_port().unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         scrape_configs:\n- job_name: predictor\n  honor_labels: true\n  static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]\n\
         remote_read:\n- url: http://127.0.0.1:{port}/api/v1/read\n  read_recent: true\n  required_matchers: {{__name__: cloudpulse_forecast_path}}\n"
    );
    let rules = "groups:\n- name: future\n  rules:\n  - record: peak_15m\n    expr: max_over_time(cloudpulse_forecast_path{quantile=\"0.9\",instance=\"wave\"}[15m] offset -15m)\n";
    let options = PrometheusOptions {
        config,
        rules: vec![("future.yml".to_owned(), rules.to_owned())],
        data_dir: Some(data),
        ..PrometheusOptions::default()
    };
    let prometheus = Prometheus::start(options).await.unwrap();
    let file = folder.path().join("predictor.yml");
    let config = "forecasts:\n- {name: load, query: load, step: 1m, interval: 15s, history: 3d, bounds: {lower: 0}, peak_horizons: [5m, 15m], publish_models: true}\n";
    std::fs::write(&file, config).unwrap();
    let listen = format!("127.0.0.1:{port}");
    let args = ["serve", "--config", file.to_str().unwrap(), "--prometheus", &prometheus.url, "--listen", &listen];
    let binary = Path::new(env!("CARGO_BIN_EXE_cloudpulse-predictor"));
    let ready = format!("http://{listen}/readyz");
    let _predictor = Program::start(binary, &args, &[], Some(&ready)).await.unwrap();

    // Gauges by the contract, scraped with the source's labels; a clashing one is renamed.
    let gauges = prometheus
        .wait_for("cloudpulse_forecast{model=\"ensemble\"}", WAIT, |samples| samples.len() >= 4 * 3)
        .await
        .unwrap();
    let mut instances: Vec<&str> = gauges.iter().map(|(labels, _)| labels["instance"].as_str()).collect();
    instances.sort_unstable();
    instances.dedup();
    assert_eq!(instances, ["constant", "single", "wave", "zero"], "vanished, NaN and infinite series have no forecast");
    let first: &BTreeMap<String, String> = &gauges[0].0;
    assert_eq!((first["forecast"].as_str(), first["exported_quantile"].as_str()), ("load", "mine"));
    let of = |instance: &str, quantile: &str, horizon: &str| {
        gauges
            .iter()
            .find(|(l, _)| l["instance"] == instance && l["quantile"] == quantile && l["horizon"] == horizon)
            .map(|(_, value)| *value)
    };
    assert!((of("constant", "0.9", "5m").unwrap() - 7.0).abs() < 1e-6);
    assert_eq!(of("zero", "0.9", "15m"), Some(0.0));
    assert_eq!((of("single", "0.5", "5m"), of("single", "0.9", "5m")), (Some(5.0), None), "no made-up interval");
    let expected = 100.0 + 50.0 * ((now() + 900.0) / 86_400.0 * std::f64::consts::TAU).sin() + 1.0;
    let median = of("wave", "0.5", "15m").unwrap();
    assert!((median - expected).abs() < 4.0, "{median} against {expected}");
    let peaks = prometheus.query("cloudpulse_forecast_peak{instance=\"wave\",horizon=\"15m\"}", None).await.unwrap();
    assert_eq!(peaks.len(), 7);
    assert_eq!(
        prometheus.query("count(cloudpulse_forecast{model=\"prophet\",instance=\"wave\"})", None).await.unwrap()[0].1,
        3.0
    );
    let made =
        prometheus.query("time() - cloudpulse_forecast_timestamp_seconds{instance=\"wave\"}", None).await.unwrap();
    assert!(made[0].1 < 180.0, "{made:?}");

    let page = page(&format!("http://{listen}")).await;
    // The contract's label is "quantile", which the linter would keep for summaries; it finds nothing else.
    let checked = promtool(&["check", "metrics"], page.as_bytes()).await.unwrap();
    let said = format!("{}{}", checked.stdout, checked.stderr);
    let expected = "non-summary metrics should not have \"quantile\" label";
    assert!(said.lines().all(|line| line.starts_with("cloudpulse_forecast") && line.ends_with(expected)), "{said}");

    // The future, over remote read.
    let selector = "cloudpulse_forecast_path{quantile=\"0.9\",instance=\"wave\"}";
    let ends = now() + 900.0;
    let curve = prometheus.query_range(selector, now(), ends, Duration::from_secs(30)).await.unwrap();
    assert_eq!(curve.len(), 1, "{curve:?}");
    assert!(curve[0].1.last().unwrap().0 > ends - 60.0, "the curve reaches 15 minutes past now");
    let peak = prometheus.query(&format!("max_over_time({selector}[15m] offset -15m)"), None).await.unwrap()[0].1;
    let highest = curve[0].1.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    assert!((peak - highest).abs() < 3.0, "{peak} against {highest}");
    let in_ten = prometheus.query(&format!("{selector} offset -10m"), None).await.unwrap()[0].1;
    let gauge = of("wave", "0.9", "10m").unwrap();
    assert!((in_ten - gauge).abs() < 5.0, "the curve {in_ten} and the gauge {gauge} agree");
    assert!(prometheus.query(selector, Some(now() + 86_400.0)).await.unwrap().is_empty(), "nothing past the curve");
    let recorded = prometheus.wait_for_any("peak_15m", WAIT).await.unwrap();
    assert!((recorded[0].1 - peak).abs() < 5.0);
    // Our own page stays what Prometheus reads, and other selectors never reach us.
    assert_eq!(prometheus.query("up{job=\"predictor\"}", None).await.unwrap()[0].1, 1.0);
    assert!(prometheus.query("{__name__=~\"cloudpulse_forecast_pat.\"}", None).await.unwrap().is_empty());
    // Nothing future was stored.
    let stored = prometheus.query("count({job=\"predictor\"} offset -5m)", None).await.unwrap();
    assert!(stored.is_empty(), "{stored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_may_come_later_and_go_again() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let config = "forecasts:\n- {name: up, query: up, step: 1s, interval: 1s, history: 5m, horizons: [5s], peak_horizons: [5s]}\n";
    let (mut program, predictor) = predictor(&url, config, folder.path(), false).await;
    let client = http_client().unwrap();
    let ready = || async {
        let response = client.get(format!("{predictor}/readyz")).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let deadline = now() + 20.0;
    loop {
        let (status, reason) = ready().await;
        assert_eq!(status, 503);
        if reason.contains("cannot be reached") {
            break;
        }
        assert!(now() < deadline, "{reason}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(page(&predictor).await.contains("query_errors_total{forecast=\"up\",reason=\"unreachable\"}"));

    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- {{job_name: self, static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]}}\n"
    );
    let options = PrometheusOptions { config, port: Some(port), ..PrometheusOptions::default() };
    let mut prometheus = Prometheus::start(options).await.unwrap();
    let deadline = now() + 60.0;
    while value(&page(&predictor).await, "cloudpulse_forecast{").is_none() {
        assert!(now() < deadline, "{}", program.process().log_tail());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(ready().await.0, 200);

    prometheus.process().stop().unwrap();
    // max_age of a one-second forecast is 63 s: until then it is shown with its age, then never again.
    let deadline = now() + 90.0;
    loop {
        let page = page(&predictor).await;
        let Some(made) = value(&page, "cloudpulse_forecast_timestamp_seconds{") else { break };
        assert!(now() - made < 66.0, "an old forecast is shown as fresh");
        assert!(now() < deadline);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(value(&page(&predictor).await, "cloudpulse_forecast{").is_none());
    assert!(program.process().log_tail().contains("cannot be reached"));
}

/// A server that is no Prometheus: every request gets the same answer.
async fn foreign(status: StatusCode, content_type: &'static str, body: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move || async move { (status, [(header::CONTENT_TYPE, content_type)], body) };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(answer))).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_answers_are_named_and_survived() {
    let cases = [
        (StatusCode::OK, "text/html", "<html>login</html>", "not_prometheus", "HTTP 200 with an HTML page"),
        (StatusCode::BAD_GATEWAY, "text/html", "<html>502</html>", "not_prometheus", "HTTP 502 with an HTML page"),
        (StatusCode::UNAUTHORIZED, "text/plain", "who are you?", "not_prometheus", "HTTP 401 with \"who are you?\""),
        (
            StatusCode::BAD_REQUEST,
            "application/json",
            "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse error\"}",
            "refused",
            "parse error",
        ),
        (StatusCode::OK, "application/json", "{\"hello\":1}", "not_prometheus", "JSON of another shape"),
        (StatusCode::OK, "application/json", "", "not_prometheus", "an empty body"),
    ];
    for (status, content_type, body, reason, said) in cases {
        let folder = tempfile::tempdir().unwrap();
        let url = foreign(status, content_type, body).await;
        let config = "forecasts: [{name: x, query: up, step: 1s, interval: 1s}]";
        let (mut program, predictor) = predictor(&url, config, folder.path(), false).await;
        let prefix = format!("cloudpulse_predictor_query_errors_total{{forecast=\"x\",reason=\"{reason}\"}}");
        let deadline = now() + 20.0;
        while value(&page(&predictor).await, &prefix).is_none() {
            assert!(now() < deadline, "{body}: {}", program.process().log_tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let response = http_client().unwrap().get(format!("{predictor}/readyz")).send().await.unwrap();
        assert_eq!(response.status(), 503);
        let why = response.text().await.unwrap();
        assert!(why.contains(said), "{why} should say {said}");
        assert!(value(&page(&predictor).await, "cloudpulse_forecast{").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_series_are_capped_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::with_capacity(4 << 20);
    for i in 0..100_000 {
        let _ = writeln!(text, "many{{n=\"{i}\"}} 1");
    }
    let body: &'static str = Box::leak(text.into_boxed_str());
    let target = foreign(StatusCode::OK, "text/plain; version=0.0.4", body).await;
    let target = target.trim_start_matches("http://");
    let config = format!(
        "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\nscrape_configs:\n- {{job_name: many, static_configs: [{{targets: [\"{target}\"]}}]}}\n"
    );
    let prometheus = Prometheus::start(PrometheusOptions { config, ..PrometheusOptions::default() }).await.unwrap();
    prometheus.wait_for("count(many)", WAIT, |samples| samples.iter().any(|(_, n)| *n >= 100_000.0)).await.unwrap();
    let config = "forecasts: [{name: many, query: many, step: 15s, max_series: 50}]";
    let (mut program, predictor) = predictor(&prometheus.url, config, folder.path(), true).await;
    // The first step may lie before the first scrape.
    let deadline = now() + 60.0;
    let page = loop {
        let page = page(&predictor).await;
        if value(&page, "cloudpulse_predictor_series{forecast=\"many\"}") == Some(50.0) {
            break page;
        }
        assert!(now() < deadline, "{}", program.process().log_tail());
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert_eq!(value(&page, "cloudpulse_predictor_series_dropped{forecast=\"many\"}"), Some(99_950.0));
    let log = program.process().log_tail();
    assert!(log.contains("more series than max_series"), "{log}");
}

/// VictoriaMetrics answers range queries on its own grid and by its own rules of staleness.
#[tokio::test(flavor = "multi_thread")]
async fn victoriametrics_is_as_good_a_source() {
    if victoriametrics::program().is_none() {
        // Past the capture of the test harness: nobody is to believe that it was tested.
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED: victoria-metrics is not there; scripts/setup.sh test builds it where Go is"
        );
        return;
    }
    let until = now() as i64 / 60 * 60;
    let text: String = history(until)
        .lines()
        .filter(|line| line.starts_with("load{") && !line.contains(" NaN ") && !line.contains(" inf "))
        .map(|line| format!("{line}000\n"))
        .collect();
    let victoria = VictoriaMetrics::start().await.unwrap();
    victoria.import(text).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = "prometheus: {params: {nocache: '1'}, query_offset: 1m}\nforecasts: [{name: load, query: load, step: 1m, history: 3d, horizons: [15m], bounds: {lower: 0}}]";
    let (mut program, predictor) = predictor(&victoria.url, config, folder.path(), true).await;
    let page = page(&predictor).await;
    let gauge = |instance: &str| {
        let of = |line: &&str| line.contains(&format!("instance=\"{instance}\"")) && line.contains(",quantile=\"0.5\"");
        let line = page.lines().filter(|line| line.starts_with("cloudpulse_forecast{")).find(of)?;
        line.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    let log = program.process().log_tail();
    let expected = 100.0 + 50.0 * ((now() + 900.0) / 86_400.0 * std::f64::consts::TAU).sin() + 1.0;
    assert!(gauge("wave").is_some_and(|median| (median - expected).abs() < 4.0), "{expected}\n{page}\n{log}");
    assert_eq!((gauge("constant"), gauge("zero")), (Some(7.0), Some(0.0)), "{page}\n{log}");
    assert_eq!(gauge("gone"), None);
    let made = value(&page, "cloudpulse_forecast_timestamp_seconds{").unwrap();
    assert!(now() - made >= 60.0, "samples are taken to be a minute late");
    assert!(!page.contains("query_errors_total{"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn anomalies_of_a_query_are_judged_like_those_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let until = now() as i64 / 60 * 60;
    let file = folder.path().join("history.om");
    std::fs::write(&file, history(until)).unwrap();
    backfill(&file, &data).await.unwrap();
    let options = PrometheusOptions { data_dir: Some(data), ..PrometheusOptions::default() };
    let prometheus = Prometheus::start(options).await.unwrap();
    let judge = |source: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloudpulse-predictor"));
        let output = command.arg("anomalies").args(source).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let at = ["--prometheus", &prometheus.url, "--from", "2d", "--step", "1m", "--output"];
    let csv = judge(&[&["--query", "load{instance=\"wave\"}"], &at[..], &["csv"]].concat());
    let rows: Vec<&str> = csv.lines().skip(1).collect();
    assert!(rows.len() > 2800, "{}", rows.len());
    let written = folder.path().join("wave.csv");
    let samples = rows.iter().map(|row| row.splitn(3, ',').take(2).collect::<Vec<_>>().join(","));
    std::fs::write(&written, format!("timestamp,value\n{}\n", samples.collect::<Vec<_>>().join("\n"))).unwrap();
    assert_eq!(csv, judge(&["--csv", written.to_str().unwrap(), "--output", "csv"]));
    let json = judge(&[&["--query", "load"], &at[..], &["json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let series = report["series"].as_array().unwrap();
    let constant = series.iter().find(|series| series["name"].as_str().unwrap().contains("constant")).unwrap();
    assert!(constant["rows"].as_array().unwrap().iter().all(|row| row["score"] == 0.0 && row["value"] == 7.0));
}

#[tokio::test]
async fn health_says_whether_it_answers_and_whether_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let (mut program, url) = predictor("http://127.0.0.1:1", "defaults: true\n", folder.path(), false).await;
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let ask = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloudpulse-predictor"));
        let output = command.arg("health").args(more).env("CLOUDPULSE_PREDICTOR_LISTEN", &address).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(ask(&[]), (Some(0), format!("{url}/healthz: ok\n"), String::new()));
    let (code, _, why) = ask(&["--ready"]);
    assert_eq!((code, why.lines().count()), (Some(1), 1), "{why}");
    assert!(why.contains(&format!("{url}/readyz: 503: not ready: ")), "{why}");
    program.process().stop().unwrap();
    let (code, _, why) = ask(&["--timeout=5s"]);
    assert_eq!(code, Some(1));
    assert!(why.contains("nobody listens there"), "{why}");
}
