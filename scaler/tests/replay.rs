//! `replay` as its users call it: a rule and a load in files or in Prometheus; the contract of its output; what it refuses.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use axum::Router;
use axum::routing::post;
use serde_json::Value;
use serde_json::json;

const BINARY: &str = env!("CARGO_BIN_EXE_cloudpulse-scaler");
const RULE: &str = "apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: web}
spec:
  target: {dryRun: {}}
  minReplicas: 1
  maxReplicas: 50
  missingData: {policy: Reactive}
  metrics:
    - {name: requests, query: 'sum(rate(requests_total[1m]))', forecast: web, horizon: 3m, replicaCapacity: 10}
";
const NAMES: [&str; 7] =
    ["rule", "reactive_hpa", "reactive_hpa_tuned", "seasonal_naive", "holt_winters", "static", "oracle"];

struct Folder(tempfile::TempDir);

impl Folder {
    /// A rule, and two and a half days of minutes that rise at 8 each morning, with a gap and noise.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("rule.yaml", RULE);
        let mut csv = "timestamp,value\n".to_owned();
        for minute in (0..3500).filter(|minute| !(3000..3010).contains(minute)) {
            writeln!(csv, "{},{}", minute * 60, load(minute)).unwrap();
        }
        folder.write("load.csv", &csv);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn replay(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.current_dir(self.0.path()).args(["replay", "--rule", "rule.yaml"]).args(arguments);
        command.env_remove("CLOUDPULSE_SCALER_PROMETHEUS").output().unwrap()
    }
}

fn load(minute: i64) -> f64 {
    let noise = (minute * 7919 % 1009) as f64 / 1009.0;
    if (480..1200).contains(&(minute % 1440)) { 170.0 + 30.0 * noise } else { 30.0 + 10.0 * noise }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn report(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Violation minutes, replica-hours, and these per demand, counted from a timeline by policy.
fn recounted(path: &Path) -> BTreeMap<String, (f64, f64, f64)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("timestamp,policy,load,demand,ready,allocated,desired"));
    let mut all: BTreeMap<String, (f64, f64, f64)> = BTreeMap::new();
    for line in lines {
        let [_, policy, load, demand, ready, allocated, _] = *line.split(',').collect::<Vec<_>>() else {
            panic!("{line}");
        };
        let counts = all.entry(policy.to_owned()).or_default();
        if load.is_empty() {
            assert_eq!(demand, "");
            continue;
        }
        let number = |text: &str| text.parse::<f64>().unwrap();
        assert_eq!(number(demand), (number(load) / 10.0).ceil());
        counts.0 += if number(ready) < number(demand) { 0.25 } else { 0.0 };
        counts.1 += number(allocated) / 240.0;
        counts.2 += number(demand) / 240.0;
    }
    all
}

#[test]
fn the_totals_are_those_of_the_timeline_and_the_forecast_is_worth_it() {
    let folder = Folder::new();
    let arguments = ["--csv", "load.csv", "--output", "json", "--timeline", "rows.csv", "--plot", "replay.png"];
    let report = report(&folder.replay(&arguments));
    let policies = report["policies"].as_array().unwrap();
    assert_eq!(policies.iter().map(|policy| policy["name"].as_str().unwrap()).collect::<Vec<_>>(), NAMES);
    let counted = recounted(&folder.path("rows.csv"));
    assert_eq!(counted.len(), NAMES.len());
    for policy in policies {
        let (minutes, hours, needed) = counted[policy["name"].as_str().unwrap()];
        assert_eq!(policy["violation_minutes"].as_f64(), Some(minutes), "{policy}");
        assert!((policy["replica_hours"].as_f64().unwrap() - hours).abs() < 1e-6, "{policy}");
        assert!((policy["replica_hours_per_demand"].as_f64().unwrap() - hours / needed).abs() < 1e-9, "{policy}");
        assert!(policy["changes_per_hour"].as_f64().is_some(), "{policy}");
        assert_eq!(policy["worst"].is_null(), minutes == 0.0, "{policy}");
    }
    let minutes = |name: &str| counted[name].0;
    assert!(minutes("rule") < minutes("reactive_hpa"), "{counted:?}");
    // On two mornings, from four replicas to twenty at most doubling each sync: two syncs short.
    assert_eq!((minutes("oracle"), minutes("static")), (1.0, 0.0));
    assert!(report["not_predictable"]["oracle_minutes"].as_f64().unwrap() <= 1.0, "{report}");
    assert_eq!(report["worth_it"], true, "{report}");
    assert!(report["words"][0].as_str().unwrap().starts_with("Worth switching on"), "{report}");
    assert_eq!(&std::fs::read(folder.path("replay.png")).unwrap()[1..4], b"PNG");
    assert!(report.get("curve").is_none(), "only with --sweep");
}

#[test]
fn a_sweep_compares_at_equal_replica_hours() {
    let folder = Folder::new();
    let report = report(&folder.replay(&["--csv", "load.csv", "--output", "json", "--sweep", "--start-delay", "1m"]));
    let curve = report["curve"].as_array().unwrap();
    for name in NAMES {
        assert!(curve.iter().filter(|point| point["policy"] == name).count() >= 15, "{name}");
    }
    for point in curve {
        for field in ["knob", "violation_minutes", "replica_hours_per_demand"] {
            assert!(point[field].is_number(), "{point}");
        }
    }
    let at = report["at_equal_replica_hours"].as_array().unwrap();
    assert_eq!(at.len(), 2 * NAMES.len());
    for hpa in at.iter().filter(|at| at["policy"] == "reactive_hpa") {
        assert!(hpa["budget"].as_f64().unwrap() > 1.0);
        assert!((hpa["violation_ratio"].as_f64().unwrap() - 1.0).abs() < 0.05, "{hpa}");
    }
}

#[test]
fn the_table_ends_with_words() {
    let folder = Folder::new();
    folder.write("short.yaml", &RULE.replace("horizon: 3m", "horizon: 1m"));
    let output = folder.replay(&["--csv", "load.csv", "--rule", "short.yaml"]);
    assert_eq!(output.status.code(), Some(2), "one rule only");
    folder.write("rule.yaml", &RULE.replace("horizon: 3m", "horizon: 1m"));
    let output = folder.replay(&["--csv", "load.csv"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for expected in
        ["web: 1.4 days", "violation min", "\nreactive_hpa_tuned ", "switching on", "give it a longer horizon"]
    {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let folder = Folder::new();
    folder.write("day.csv", "timestamp,value\n0,1\n60,2\n120,3\n");
    let two = RULE.replace("    - {", "    - {name: cpu, query: cpu, replicaCapacity: 2}\n    - {");
    let threshold = "apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: old}
spec: {nodeId: a, metric: cpu, threshold: 80, action: scale_up, replicas: 4, cooldown: 300}
";
    for (rule, arguments, expected) in [
        (RULE, &["--csv", "day.csv"][..], "the load spans 0.1 h; a replay needs a day"),
        (RULE, &["--csv", "nobody.csv"], "nobody.csv cannot be read"),
        (RULE, &["--csv", "load.csv", "--plot", "a.gif"], "a.gif must end in .svg or .png"),
        (RULE, &["--csv", "load.csv", "--replica-capacity", "0"], "--replica-capacity is 0; it must be above 0"),
        (two.as_str(), &["--csv", "load.csv"], "rule web has 2 metrics"),
        (threshold, &["--csv", "load.csv"], "give --replica-capacity"),
        (RULE, &["--from", "2d", "--prometheus", "http://127.0.0.1:1"], "http://127.0.0.1:1 cannot be reached"),
    ] {
        folder.write("rule.yaml", rule);
        let output = folder.replay(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{expected}\n{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
    for arguments in [&[][..], &["--csv", "load.csv", "--from", "2d"], &["--from", "2d"]] {
        assert_eq!(folder.replay(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let help = text(&Command::new(BINARY).args(["replay", "--help"]).output().unwrap().stdout);
    for expected in
        ["violation minute", "seasonal_naive", "--start-delay", "--timeline", "Examples:", "load beforehand"]
    {
        assert!(help.contains(expected), "{expected}\n{help}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_may_come_from_prometheus() {
    let answer = |body: String| async move {
        let field = |name: &str| {
            let value = body.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap().to_owned();
            value.parse::<i64>().unwrap()
        };
        assert!(body.contains("query=sum%28rate%28requests_total%5B1m%5D%29%29"), "{body}");
        let times = (field("start")..=field("end")).step_by(usize::try_from(field("step")).unwrap());
        let values: Vec<Value> = times.map(|time| json!([time, load(time / 60).to_string()])).collect();
        axum::Json(json!({
            "status": "success",
            "data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}
        }))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/api/v1/query_range", post(answer))).await.unwrap();
    });
    let output = tokio::task::spawn_blocking(move || {
        Folder::new().replay(&["--from", "2d", "--prometheus", &url, "--output", "json"])
    });
    let report = report(&output.await.unwrap());
    // From two days ago to now, a day of it to learn from.
    assert_eq!(report["to"].as_i64().unwrap() - report["from"].as_i64().unwrap(), 86_400 + 60);
    assert_eq!(report["policies"].as_array().unwrap().len(), NAMES.len());
    server.abort();
}
