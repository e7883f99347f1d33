//! The real parts start, answer and leave nothing behind.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::time::{Duration, SystemTime};

use cloudpulse_testkit::alertmanager::{Alertmanager, SILENT_CONFIG};
use cloudpulse_testkit::docker::Docker;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::prometheus::{Prometheus, PrometheusOptions, backfill, promtool};
use rustix::process::Signal;

const WAIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn prometheus_scrapes_itself_evaluates_rules_and_alerts() {
    let alertmanager = Alertmanager::start(SILENT_CONFIG, None).await.unwrap();
    let port = free_port().unwrap();
    let config = format!(
        "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\n\
         scrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\n",
        alertmanager.address()
    );
    let rules = "groups: [{name: g, rules: [{record: 'twice:up', expr: 2 * up}, {alert: Up, expr: up == 1}]}]";
    let mut prometheus = Prometheus::start(PrometheusOptions {
        config,
        rules: vec![("rules.yml".to_owned(), rules.to_owned())],
        port: Some(port),
        ..PrometheusOptions::default()
    })
    .await
    .unwrap();

    let twice = prometheus.wait_for("twice:up", WAIT, |samples| samples.iter().any(|(_, v)| *v == 2.0)).await.unwrap();
    assert_eq!(twice[0].0["job"], "self");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let range = prometheus.query_range("up", now - 60.0, now + 5.0, Duration::from_secs(1)).await.unwrap();
    assert!(!range[0].1.is_empty());
    assert_eq!(prometheus.query("1 + 1", None).await.unwrap()[0].1, 2.0);
    assert!(prometheus.query("up{", None).await.unwrap_err().root_cause().to_string().contains("bad_data"));

    let deadline = tokio::time::Instant::now() + WAIT;
    while alertmanager.alerts().await.unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "no alert came; {}", prometheus.process().log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let pid = prometheus.process().pid();
    drop(prometheus);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn backfilled_history_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let start = now - 40 * 86_400;
    let mut text = "# TYPE load gauge\n".to_owned();
    for step in 0..200 {
        text.push_str(&format!("load{{app=\"web\"}} {step} {}\n", start + step * 60));
    }
    text.push_str("# EOF\n");
    let file = folder.path().join("history.om");
    std::fs::write(&file, text).unwrap();
    let data = folder.path().join("data");
    backfill(&file, &data).await.unwrap();
    let options = PrometheusOptions { data_dir: Some(data), ..PrometheusOptions::default() };
    let prometheus = Prometheus::start(options).await.unwrap();
    let samples = prometheus.query("load", Some((start + 100 * 60) as f64)).await.unwrap();
    assert_eq!(samples[0].1, 100.0);
}

#[tokio::test]
async fn what_fails_says_why() {
    let options = PrometheusOptions { config: "no_such_field: 1".to_owned(), ..PrometheusOptions::default() };
    let error = format!("{:#}", Prometheus::start(options).await.unwrap_err());
    assert!(error.contains("no_such_field"), "{error}");

    let lint = promtool(&["check", "metrics"], b"# HELP badName x\n# TYPE badName gauge\nbadName 1\n").await.unwrap();
    assert_eq!(lint.code, Some(3), "{lint:?}");
}

const SERVER: &str = r#"
use std::io::{Read, Write};
fn main() {
    let listener = std::net::TcpListener::bind("0.0.0.0:8080").unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello\n");
    }
}
"#;

#[tokio::test]
async fn a_compose_service_runs_on_the_engine() {
    let docker = Docker::start().await.unwrap().expect(Docker::HOW_TO_GET_ONE);
    let tag = format!("cloudpulse-testkit:{}", std::process::id());
    docker.build_image(&tag, SERVER).unwrap();
    let port = free_port().unwrap();
    let folder = tempfile::Builder::new().prefix("kit").tempdir().unwrap();
    let file = format!(
        "services: {{web: {{image: '{tag}', pull_policy: never, init: true, ports: ['127.0.0.1:{port}:8080']}}}}\n"
    );
    std::fs::write(folder.path().join("compose.yaml"), file).unwrap();
    docker.compose(&["up", "--detach"], folder.path()).unwrap();
    let client = cloudpulse_testkit::net::http_client().unwrap();
    let deadline = tokio::time::Instant::now() + WAIT;
    let body = loop {
        match client.get(format!("http://127.0.0.1:{port}/")).send().await {
            Ok(response) => break response.text().await.unwrap(),
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(body, "hello\n");
    docker.compose(&["down", "--timeout", "1"], folder.path()).unwrap();
    docker.cli(&["image", "rm", &tag]).unwrap();

    assert_leaves_nothing(docker);
}

#[tokio::test]
async fn a_killed_engine_leaves_no_container_and_no_mount() {
    let mut docker = Docker::start().await.unwrap().expect(Docker::HOW_TO_GET_ONE);
    if !docker.is_own() {
        eprintln!("NOT TESTED: the engine at {} was found running and is not ours to kill", docker.address());
        return;
    }
    docker.build_image("sleeper", "fn main() { std::thread::sleep(std::time::Duration::MAX) }").unwrap();
    docker.cli(&["run", "--detach", "--network", "none", "sleeper"]).unwrap();
    docker.process().unwrap().signal(Signal::KILL).unwrap();
    docker.process().unwrap().wait_exit(WAIT).await.unwrap();
    assert_leaves_nothing(docker);
}

fn assert_leaves_nothing(docker: Docker) {
    let (own, socket) = (docker.is_own(), docker.socket().unwrap().to_owned());
    drop(docker);
    if own {
        let folder = socket.parent().unwrap();
        assert!(!folder.exists(), "{} is left", folder.display());
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let folder = folder.to_string_lossy();
        assert!(!mounts.contains(&*folder));
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let command_line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            assert!(
                !String::from_utf8_lossy(&command_line).contains(&*folder),
                "{} still runs",
                entry.path().display()
            );
        }
    }
}
