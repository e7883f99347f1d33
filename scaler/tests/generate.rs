//! What `generate` writes, held against those who read it: Kubernetes' schemas, promtool, a real Prometheus.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::process::Command;

use cloudpulse_testkit::process::find_program;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;
use cloudpulse_testkit::prometheus::promtool;
use serde_yaml::Value;

/// Names that would end a string, a document, a template or a query.
const HOSTILE: &str = r#"apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: "we\"b: {x}\n- #", namespace: "sh'op"}
spec:
  target: {dryRun: {}}
  maxReplicas: 10
  metrics:
    - {name: "re\"q\nu: e%}sts", query: "sum(x{a=\"b\"}) # }} {% raw %}", replicaCapacity: 0.3, forecast: "we\"b\\", horizon: auto}
"#;

/// Returns exit code, stdout and stderr.
fn generate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_cloudpulse-scaler")).arg("generate").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/scaling").join(name).display().to_string()
}

fn good(arguments: &[&str]) -> String {
    let (code, out, said) = generate(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    out
}

/// Rule files, the last of them hostile.
fn files(folder: &Path) -> Vec<String> {
    let hostile = folder.join("hostile.yaml");
    std::fs::write(&hostile, HOSTILE).unwrap();
    vec![example("web.yaml"), example("full.yaml"), hostile.display().to_string()]
}

#[test]
fn an_hpa_is_one_to_kubernetes() {
    let folder = tempfile::tempdir().unwrap();
    let validate = find_program(&["kubernetes-validate"], "kubernetes-validate of PyPI").unwrap();
    for file in files(folder.path()) {
        let text = good(&["hpa", "--rule", &file, "--workload", "StatefulSet/shop"]);
        let written = folder.path().join("hpa.yaml");
        std::fs::write(&written, &text).unwrap();
        let output =
            Command::new(&validate).args(["--strict", "--kubernetes-version", "1.37"]).arg(&written).output().unwrap();
        assert!(output.status.success(), "{file}: {}\n{text}", String::from_utf8_lossy(&output.stdout));
        let hpa: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(hpa["spec"]["scaleTargetRef"]["kind"], "StatefulSet");
    }
    let hpa: Value = serde_yaml::from_str(&good(&["hpa", "--rule", &example("web.yaml")])).unwrap();
    let metrics = hpa["spec"]["metrics"].as_sequence().unwrap();
    assert_eq!(metrics[0]["external"]["target"]["averageValue"], "96");
    assert_eq!(metrics[1]["external"]["metric"]["name"], "cloudpulse-forecast-web-requests");
    assert_eq!(metrics[1]["external"]["metric"]["selector"]["matchLabels"]["quantile"], "0.99");
    assert_eq!(metrics[1]["external"]["target"]["averageValue"], "120");
    assert_eq!(hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 300);
    let hpa: Value = serde_yaml::from_str(&good(&["hpa", "--rule", &files(folder.path())[2]])).unwrap();
    assert_eq!(hpa["metadata"]["name"], "we\"b: {x}\n- #");
    assert_eq!(hpa["spec"]["metrics"][0]["external"]["target"]["averageValue"], "240m");
}

#[test]
fn keda_gets_each_part_that_it_can_do() {
    let folder = tempfile::tempdir().unwrap();
    for file in files(folder.path()) {
        let text = good(&["keda", "--rule", &file, "--prometheus", "http://prometheus:9090"]);
        let object: Value = serde_yaml::from_str(&text).unwrap();
        for trigger in object["spec"]["triggers"].as_sequence().unwrap() {
            if trigger["type"] == "prometheus" {
                assert_eq!(trigger["metadata"]["ignoreNullValues"], "false", "{text}");
            }
        }
    }
    let text = good(&["keda", "--rule", &example("full.yaml")]);
    let object: Value = serde_yaml::from_str(&text).unwrap();
    let triggers = object["spec"]["triggers"].as_sequence().unwrap();
    let kinds: Vec<&str> = triggers.iter().map(|trigger| trigger["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["prometheus", "prometheus", "prometheus", "prometheus", "cron", "cron"]);
    assert_eq!(triggers[0]["metadata"]["activationThreshold"], "0.5");
    assert_eq!(triggers[4]["metadata"]["timezone"], "Europe/Berlin");
    assert_eq!(
        (&triggers[4]["metadata"]["desiredReplicas"], &object["spec"]["minReplicaCount"]),
        (&"6".into(), &0.into())
    );
    assert!(text.contains("\n# - violationCost: ") && text.contains("\n# - schedules: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboards_are_read_by_prometheus() {
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(PrometheusOptions::default()).await.unwrap();
    for file in files(folder.path()).into_iter().chain([example("original.yaml")]) {
        let name: &[&str] = if file.ends_with("original.yaml") { &["--name", "node-1-idle"] } else { &[] };
        let alerts = good(&[&["alerts", "--rule", &file], name].concat());
        let written = folder.path().join("rules.yml");
        std::fs::write(&written, &alerts).unwrap();
        let checked = promtool(&["check", "rules", &written.display().to_string()], b"").await.unwrap();
        assert_eq!(checked.code, Some(0), "{}\n{alerts}", checked.stderr);

        let dashboard = good(&[&["dashboard", "--rule", &file], name].concat());
        let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
        let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array());
        let mut queries = 0;
        for target in targets.flatten() {
            let query = target["expr"].as_str().unwrap().to_owned();
            prometheus.get("/api/v1/query", &[("query", query)]).await.unwrap();
            queries += 1;
        }
        assert!(queries >= 7, "{dashboard:#}");
    }
}

#[test]
fn a_template_of_one_s_own_is_used_and_its_faults_are_placed() {
    let folder = tempfile::tempdir().unwrap();
    let templates = folder.path().display().to_string();
    let (web, own) = (example("web.yaml"), folder.path().join("hpa.yaml.j2"));
    let built_in = good(&["hpa", "--print-template"]);
    assert!(built_in.contains("{{ name|text }}"));
    let arguments = ["hpa", "--rule", &web, "--templates", &templates];
    assert_eq!(good(&arguments), good(&arguments[..3]), "what is not there is built in");
    std::fs::write(&own, "kind: Mine\nname: {{ name|text }}\n").unwrap();
    assert_eq!(good(&arguments), "kind: Mine\nname: \"web\"\n");
    std::fs::write(&own, "kind: Mine\n\nname: {{ nothing }}\n").unwrap();
    let (code, _, said) = generate(&arguments);
    assert!(code == Some(1) && said.contains("hpa.yaml.j2, line 3"), "{said}");
}

#[test]
fn what_cannot_be_said_is_refused() {
    let original = example("original.yaml");
    let (code, _, said) = generate(&["hpa", "--rule", &original]);
    assert!(code == Some(1) && said.contains("node-1-busy, node-1-idle; name one of them with --name"), "{said}");
    for kind in ["hpa", "keda"] {
        let (code, _, said) = generate(&[kind, "--rule", &original, "--name", "node-1-busy"]);
        assert!(code == Some(1) && said.contains("is a threshold"), "{said}");
    }
    assert_eq!(generate(&["hpa"]).0, Some(2));
}
