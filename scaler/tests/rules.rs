//! The shipped alerts: each says what it is, how bad, and where it is written what to do; each is tested both ways; and each
//! asks for metrics that exist.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use cloudpulse_testkit::binary::workspace_root;
use cloudpulse_testkit::prometheus::promtool;
use regex::Regex;
use serde_json::Value;

/// What a page in docs/runbooks has, in this order.
const SECTIONS: [&str; 3] = ["## What it means", "## What to look at", "## What to do"];

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    files.sort();
    files
}

fn yaml(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rules() -> Vec<Value> {
    let mut rules = Vec::new();
    for path in files(&workspace_root().join("rules/prometheus"), ".rules.yml") {
        for group in yaml(&path)["groups"].as_array().unwrap() {
            rules.extend(group["rules"].as_array().unwrap().iter().cloned());
        }
    }
    rules
}

/// The alerts by name; one that has several severities has several rules.
fn alerts() -> BTreeMap<String, Vec<Value>> {
    let mut alerts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for rule in rules() {
        if let Some(name) = rule["alert"].as_str() {
            alerts.entry(name.to_owned()).or_default().push(rule.clone());
        }
    }
    assert!(!alerts.is_empty());
    alerts
}

#[test]
fn each_alert_says_what_it_is_and_where_the_remedy_is_written() {
    let mut faults = Vec::new();
    for (name, rules) in alerts() {
        for rule in rules {
            let mut need = |what: &str, holds: bool| {
                if !holds {
                    faults.push(format!("{name}: {what}"));
                }
            };
            let severity = rule["labels"]["severity"].as_str();
            need("severity", severity.is_some_and(|severity| ["critical", "warning", "info"].contains(&severity)));
            need("for", rule["for"].as_str().is_some());
            need("name", name.starts_with("CloudPulse"));
            for annotation in ["summary", "description"] {
                let text = rule["annotations"][annotation].as_str().unwrap_or_default();
                need(annotation, text.len() > 20 && text.ends_with('.'));
            }
            let page = format!("docs/runbooks/{name}.md");
            need("runbook_url", rule["annotations"]["runbook_url"].as_str() == Some(&page));
            need("a page of that name", workspace_root().join(&page).is_file());
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn each_runbook_is_of_an_alert_and_says_what_to_do() {
    let (alerts, mut faults) = (alerts(), Vec::new());
    let index = std::fs::read_to_string(workspace_root().join("docs/runbooks/README.md")).unwrap();
    for (name, rules) in &alerts {
        let severities: Vec<&str> = rules.iter().filter_map(|rule| rule["labels"]["severity"].as_str()).collect();
        if !index.contains(&format!("| [{name}]({name}.md) | {} |", severities.join(", "))) {
            faults.push(format!("{name}: the index has it not, or with another severity"));
        }
    }
    for path in files(&workspace_root().join("docs/runbooks"), ".md") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "README" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        if !alerts.contains_key(&name) {
            faults.push(format!("{name}: no alert of that name"));
        }
        if !text.starts_with(&format!("# {name}\n")) {
            faults.push(format!("{name}: the title is another"));
        }
        let places: Vec<Option<usize>> = SECTIONS.iter().map(|section| text.find(&format!("\n{section}\n"))).collect();
        if places.contains(&None) || !places.is_sorted() {
            faults.push(format!("{name}: {SECTIONS:?} are not there in this order"));
        } else if !text[places[1].unwrap()..places[2].unwrap()].contains("```") {
            faults.push(format!("{name}: no command under {:?}", SECTIONS[1]));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn each_alert_is_tested_to_fire_and_not_to() {
    let (mut fires, mut keeps_quiet) = (BTreeSet::new(), BTreeSet::new());
    let name_in_query = Regex::new(r#"ALERTS\{alertname="(\w+)",alertstate="firing""#).unwrap();
    for path in files(&workspace_root().join("rules/prometheus/tests"), ".yml") {
        for test in yaml(&path)["tests"].as_array().unwrap() {
            let mut note = |name: &str, expected: &Value| {
                let into = if expected.as_array().unwrap().is_empty() { &mut keeps_quiet } else { &mut fires };
                into.insert(name.to_owned());
            };
            for case in test["alert_rule_test"].as_array().into_iter().flatten() {
                note(case["alertname"].as_str().unwrap(), &case["exp_alerts"]);
            }
            for case in test["promql_expr_test"].as_array().into_iter().flatten() {
                if let Some(found) = name_in_query.captures(case["expr"].as_str().unwrap()) {
                    note(&found[1], &case["exp_samples"]);
                }
            }
        }
    }
    let names: BTreeSet<String> = alerts().into_keys().collect();
    assert_eq!(names.difference(&fires).collect::<Vec<_>>(), Vec::<&String>::new(), "without a case in which it fires");
    assert_eq!(
        names.difference(&keeps_quiet).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "without a case in which it does not"
    );
    assert_eq!(fires.union(&keeps_quiet).filter(|name| !names.contains(*name)).count(), 0, "a test of no alert");
}

/// What the programs export and the rules record.
struct Known {
    source: String,
    predictor: String,
    recorded: BTreeSet<String>,
}

impl Known {
    fn read() -> Self {
        let root = workspace_root();
        let read =
            |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut source: String = [
            "common/src/names.rs",
            "exporter/src/scrape.rs",
            "exporter/src/collector/container.rs",
            "scaler/src/metrics.rs",
        ]
        .map(read)
        .concat();
        for folder in ["scaler/src/external", "scaler/src/external/store"] {
            for path in files(&root.join(folder), ".rs") {
                source.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
        // The prefix of the predictor's own, and what all programs have.
        let predictor = read("predictor/src/metrics.rs");
        assert!(predictor.contains("\"cloudpulse_predictor\""));
        assert!(read("common/src/telemetry.rs").contains("\"cloudpulse_{program}_build_info\""));
        let recorded = rules().iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect();
        Self { source, predictor, recorded }
    }

    fn has(&self, metric: &str) -> bool {
        let is_ours = |name: &str| {
            let of_predictor = name.strip_prefix("cloudpulse_predictor_");
            self.source.contains(&format!("\"{name}\""))
                || of_predictor.is_some_and(|rest| self.predictor.contains(&format!("\"{rest}\"")))
        };
        let of_histogram = ["_sum", "_count", "_bucket"].iter().find_map(|ending| metric.strip_suffix(ending));
        self.recorded.contains(metric)
            || is_ours(metric)
            || of_histogram.is_some_and(is_ours)
            || ["exporter", "predictor", "scaler"]
                .iter()
                .any(|program| metric == format!("cloudpulse_{program}_build_info"))
    }

    /// The names of ours in a query that nobody exports, and how many there are at all.
    fn missing_of(&self, query: &str) -> (Vec<String>, usize) {
        // A rule's two names in one expression, written out.
        let query = query.replace(
            "{__name__=~\"cloudpulse_scaler_external_metrics_(certificate|ca)_expiry_timestamp_seconds\"}",
            "cloudpulse_scaler_external_metrics_certificate_expiry_timestamp_seconds + \
             cloudpulse_scaler_external_metrics_ca_expiry_timestamp_seconds",
        );
        assert!(!query.contains("__name__"), "{query}");
        let without_values = Regex::new(r#""[^"]*""#).unwrap().replace_all(&query, "").into_owned();
        // With the parts that recorded names have before and after.
        let name = Regex::new(r"(?:[a-z_]+:)?cloudpulse_[a-z_]*[a-z](?::[a-z0-9]+)?").unwrap();
        let all: Vec<String> = name.find_iter(&without_values).map(|found| found.as_str().to_owned()).collect();
        let count = all.len();
        (all.into_iter().filter(|name| !self.has(name)).collect(), count)
    }
}

/// An alert on a metric that nobody exports never fires, and nobody notices.
#[test]
fn each_rule_asks_for_metrics_that_the_programs_have() {
    let known = Known::read();
    let (mut missing, mut count) = (Vec::new(), 0);
    for rule in rules() {
        let (none, all) = known.missing_of(rule["expr"].as_str().unwrap());
        missing.extend(none);
        count += all;
    }
    assert!(count > 40, "{count}");
    assert!(missing.is_empty(), "no program exports {missing:?}");
    for promised in [
        "cloudpulse_cpu_usage_percent",
        "cloudpulse_memory_usage_percent",
        "cloudpulse_network_bytes_total",
        "cloudpulse_forecast_accuracy",
    ] {
        assert!(known.recorded.contains(promised), "{promised} is promised and not recorded");
    }
}

/// Who reads a runbook at night has no time for a query that is none.
#[tokio::test]
async fn each_query_of_a_runbook_can_be_asked() {
    let (known, query) = (Known::read(), Regex::new(r"(?m)^promtool query instant \$PROMETHEUS '(.*)'").unwrap());
    let (mut rules, mut missing) = (Vec::new(), Vec::new());
    for path in files(&workspace_root().join("docs/runbooks"), ".md") {
        let page = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("promtool query instant")).count();
        let before = rules.len();
        for found in query.captures_iter(&text) {
            let number = rules.len();
            rules.push(serde_json::json!({"record": format!("{page}:{number}"), "expr": &found[1]}));
            missing.extend(known.missing_of(&found[1]).0.into_iter().map(|name| format!("{page}: {name}")));
        }
        if page != "README" {
            assert_eq!(rules.len() - before, lines, "{page}: a query that is not read");
        }
    }
    assert!(rules.len() > 40);
    assert!(missing.is_empty(), "no program exports {missing:?}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runbooks.rules.yml");
    let text = serde_json::json!({"groups": [{"name": "runbooks", "rules": rules}]}).to_string();
    std::fs::write(&file, text).unwrap();
    let checked = promtool(&["check", "rules", file.to_str().unwrap()], b"").await.unwrap();
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
}
