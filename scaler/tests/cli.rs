//! The program as its users call it: arguments, exit codes, and what it says.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::time::Duration;

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::net::http_client;
use rustix::process::Signal;

const BINARY: &str = env!("CARGO_BIN_EXE_cloudpulse-scaler");
const BAD: &str = "apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: web}
spec:
  target: {docker: {project: shop}, colour: red}
  minReplicas: 5
  maxReplicas: 3
  metrics: [{name: a, query: q, replicaCapacity: -1}]
";

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn examples() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/scaling").display().to_string()
}

#[test]
fn check_says_what_good_rules_do() {
    let output = run(&["check", &examples()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("shop/web: scales docker:shop/web by requests\n"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn check_reads_external_metrics_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("external.yaml").display().to_string();
    std::fs::write(&file, "metrics: [{name: queue, query: 'sum(q{<<.LabelMatchers>>})'}]\n").unwrap();
    let output = run(&["check", "--external-metrics.config", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "queue: an external metric\n");
    std::fs::write(&file, "metrics: [{name: Queue, query: x, colour: red}]\n").unwrap();
    let output = run(&["check", "--external-metrics.config", &file, &examples()]);
    assert_eq!(output.status.code(), Some(1));
    for expected in ["metrics[0].name", "metrics[0].colour"] {
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn check_reports_all_errors_of_all_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), BAD).unwrap();
    std::fs::write(folder.path().join("b.yml"), "kind: [").unwrap();
    let output = run(&["check", &folder.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    for expected in [
        "5 errors found:",
        "a.yaml: spec.target.colour: unknown field \"colour\"",
        "a.yaml: spec.target.docker.service: is missing",
        "a.yaml: spec.minReplicas: is 5, above maxReplicas, which is 3",
        "a.yaml: spec.metrics[0].replicaCapacity: is -1; it must be above 0",
        "b.yml: ",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert_eq!(
        run(&["serve", "--rules", &folder.path().display().to_string(), "--prometheus", "http://127.0.0.1:1"])
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn wrong_usage_is_2_and_help_teaches() {
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["check"]).status.code(), Some(2));
    assert_eq!(run(&["serve", "--interval", "soon"]).status.code(), Some(2));
    let help = text(&run(&["--help"]).stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("missing data never scales in") && help.contains("Exit codes"), "{help}");
    let help = text(&run(&["serve", "--help"]).stdout);
    for flag in ["--rules", "--prometheus", "--listen", "--interval", "CLOUDPULSE_SCALER_LISTEN", "/api/v1/decisions"] {
        assert!(help.contains(flag), "{flag}\n{help}");
    }
    assert!(text(&run(&["--version"]).stdout).starts_with("cloudpulse-scaler 0."));
}

#[test]
fn check_with_prometheus_says_what_cannot_be_read() {
    let url = format!("http://127.0.0.1:{}", free_port().unwrap());
    let output = run(&["check", &examples(), "--prometheus", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains(&format!("rule shop/web: metric requests, forecast: {url} cannot be reached")),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test]
async fn without_prometheus_it_serves_says_why_it_is_not_ready_and_ends_at_a_signal() {
    let (port, nobody) = (free_port().unwrap(), free_port().unwrap());
    let (listen, prometheus) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{nobody}"));
    let rules = examples() + "/dry-run.yaml";
    let arguments = ["serve", "--rules", &rules, "--interval", "200ms", "--log-format", "json"];
    let env = [("CLOUDPULSE_SCALER_LISTEN", listen.as_str()), ("CLOUDPULSE_SCALER_PROMETHEUS", prometheus.as_str())];
    let url = format!("http://{listen}");
    let mut program =
        Program::start(Path::new(BINARY), &arguments, &env, Some(&format!("{url}/healthz"))).await.unwrap();

    let client = http_client().unwrap();
    let decisions = loop {
        let answer = client.get(format!("{url}/api/v1/decisions?rule=api-dry-run&limit=1")).send().await.unwrap();
        let answer: serde_json::Value = answer.json().await.unwrap();
        if answer["decisions"].as_array().is_some_and(|list| !list.is_empty()) {
            break answer["decisions"].clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(decisions.as_array().unwrap().len(), 1);
    let decision = &decisions[0];
    assert_eq!(
        (&decision["reason"], &decision["current"], &decision["desired"]),
        (&"MissingDataHeld".into(), &3.into(), &3.into())
    );
    assert_eq!(decision["parts"]["metrics"][0]["load"]["why"], "unreachable");
    assert_eq!(decision["outcome"]["result"], "unchanged");

    let ready = client.get(format!("{url}/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let why = ready.text().await.unwrap();
    assert!(why.contains(&format!("prometheus has not answered yet: {prometheus} cannot be reached")), "{why}");

    let page = client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("cloudpulse_scaler_desired_replicas{rule=\"api-dry-run\",target=\"dryRun\"} 3"), "{page}");
    assert!(
        page.contains("cloudpulse_scaler_decisions_total{reason=\"MissingDataHeld\",rule=\"api-dry-run\"}"),
        "{page}"
    );
    assert!(!page.contains("cloudpulse_scaler_metric_age_seconds{"), "{page}");
    let checked = cloudpulse_testkit::prometheus::promtool(&["check", "metrics"], page.as_bytes()).await.unwrap();
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));

    for (path, status) in [("?rule=nobody", 404), ("?colour=red", 400), ("?limit=x", 400)] {
        let answer = client.get(format!("{url}/api/v1/decisions{path}")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }

    let process = program.process();
    let line = std::fs::read_to_string(process.log_path()).unwrap();
    let decision = line.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let decision = decision.into_iter().find(|line| line["message"] == "decision").unwrap();
    assert_eq!((&decision["rule"], &decision["reason"]), (&"api-dry-run".into(), &"MissingDataHeld".into()));
    process.signal(Signal::TERM).unwrap();
    assert!(process.wait_exit(Duration::from_secs(20)).await.unwrap().success());
}

#[test]
fn serve_says_all_that_is_wrong_with_the_flags_of_external_metrics() {
    let output = run(&[
        "serve",
        "--prometheus=http://127.0.0.1:1",
        "--external-metrics.listen-address=127.0.0.1:0",
        "--external-metrics.tls-cert-file=a",
        "--external-metrics.delegate=http://b",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    for expected in ["tls-private-key-file is missing", "delegate must begin with https", "delegate-ca-file is missing"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test]
async fn health_says_whether_it_answers_and_whether_it_is_ready() {
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let rules = examples();
    let serve =
        ["serve", "--prometheus=http://127.0.0.1:1", "--rules", &format!("{rules}/dry-run.yaml"), "--listen", &address];
    let healthz = format!("http://{address}/healthz");
    let mut program = Program::start(Path::new(BINARY), &serve, &[], Some(&healthz)).await.unwrap();
    let ask = |more: &[&str]| {
        let output = run(&[&["health", "--web.listen-address", &address], more].concat());
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(ask(&[]), (Some(0), format!("{healthz}: ok\n"), String::new()));
    let (code, _, why) = ask(&["--ready"]);
    assert_eq!((code, why.lines().count()), (Some(1), 1), "{why}");
    assert!(why.starts_with(&format!("cloudpulse-scaler: http://{address}/readyz: 503: not ready: ")), "{why}");
    program.process().stop().unwrap();
    assert_eq!(ask(&[]), (Some(1), String::new(), format!("cloudpulse-scaler: {healthz}: nobody listens there\n")));
}
