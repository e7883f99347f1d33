use cloudpulse_policy::policy::Behavior;
use cloudpulse_policy::policy::Demand;
use cloudpulse_policy::policy::ForecastRule;
use cloudpulse_policy::policy::MissingData;
use cloudpulse_policy::policy::Mode;
use cloudpulse_policy::policy::Pause;
use cloudpulse_policy::policy::RateAmount;
use cloudpulse_policy::policy::SelectPolicy;
use cloudpulse_policy::policy::Side;
use cloudpulse_policy::time::Timestamp;

use super::*;

const HEAD: &str = "apiVersion: cloudpulse.io/v1\nkind: ScalingRule\nmetadata: {name: web, namespace: shop}\nspec:\n";
const METRIC: &str = "  metrics: [{name: requests, query: sum(x), replicaCapacity: 100}]\n";

fn parse(text: &str) -> Result<Vec<Rule>, Vec<String>> {
    let (mut rules, mut findings) = (Vec::new(), Vec::new());
    parse_file("f.yaml", text, &mut rules, &mut findings);
    check_together(&rules, &mut findings);
    if findings.is_empty() {
        Ok(rules.into_iter().map(|(_, rule)| rule).collect())
    } else {
        Err(findings.iter().map(ToString::to_string).collect())
    }
}

pub(super) fn rule(spec: &str) -> Rule {
    parse(&format!("{HEAD}{spec}")).unwrap().remove(0)
}

fn findings(spec: &str) -> Vec<String> {
    parse(&format!("{HEAD}{spec}")).unwrap_err()
}

#[test]
fn the_smallest_rule_has_the_defaults() {
    let rule = rule(&format!("  target: {{dryRun: {{}}}}\n  maxReplicas: 5\n{METRIC}"));
    assert_eq!((rule.name.as_str(), rule.target), ("shop/web", TargetConfig::DryRun { replicas: 1 }));
    let Policy { mode, min_replicas, max_replicas, metrics, behavior, cooldown, pause, missing_data, .. } = rule.policy;
    assert_eq!((mode, min_replicas, max_replicas), (Mode::Floor, 1, 5));
    assert_eq!((behavior, cooldown), (Behavior::default(), Duration::ZERO));
    assert_eq!((pause, missing_data), (Pause::None, MissingData::Hold));
    let demand =
        Demand::Load { replica_capacity: 100.0, target_utilization: 0.8, activation_threshold: 0.0, forecast: None };
    assert_eq!(metrics[0].demand, demand);
    assert_eq!(rule.queries[0].max_age, Duration::from_secs(120));
}

#[test]
fn every_field_is_read() {
    let rule = rule(
        r#"
  target: {docker: {project: shop, service: web}}
  mode: full
  minReplicas: 2
  maxReplicas: 40
  metrics:
    - name: requests
      query: sum(rate(http_requests_total[1m]))
      maxAge: 1m
      forecast: web-requests
      horizon: 10m
      forecastMaxAge: 2m
      replicaCapacity: "120"
      targetUtilization: "0.7"
      violationCost: 100
    - {name: queue, query: sum(queue_length), averageValue: 500m}
    - {name: cpu, query: sum(cpu), replicaCapacity: 2k, forecast: cpu, quantile: "0.99"}
  behavior:
    scaleUp: {stabilizationWindowSeconds: 30, selectPolicy: Min, policies: [{type: Pods, value: 2, periodSeconds: 60}]}
    scaleDown: {selectPolicy: Disabled, tolerance: "0.3"}
  tolerance: "0.05"
  cooldown: 1m30s
  schedules: []
  pause: ScaleIn
  missingData: {policy: Replicas, replicas: 8}
"#,
    );
    assert_eq!(rule.target.to_string(), "docker:shop/web");
    assert_eq!(rule.policy.mode, Mode::Full);
    assert_eq!((rule.policy.pause, rule.policy.missing_data), (Pause::ScaleIn, MissingData::Replicas(8)));
    assert_eq!(rule.policy.cooldown, Duration::from_secs(90));
    let demands: Vec<&Demand> = rule.policy.metrics.iter().map(|metric| &metric.demand).collect();
    let forecast = Some(ForecastRule::ViolationCost(100.0));
    assert_eq!(
        *demands[0],
        Demand::Load { replica_capacity: 120.0, target_utilization: 0.7, activation_threshold: 0.0, forecast }
    );
    assert_eq!(
        *demands[1],
        Demand::Load { replica_capacity: 0.5, target_utilization: 1.0, activation_threshold: 0.0, forecast: None }
    );
    let forecast = Some(ForecastRule::Quantile(0.99));
    assert_eq!(
        *demands[2],
        Demand::Load { replica_capacity: 2000.0, target_utilization: 0.8, activation_threshold: 0.0, forecast }
    );
    let ForecastQuery { name, horizon, max_age } = rule.queries[0].forecast.clone().unwrap();
    assert_eq!(
        (name.as_str(), horizon, max_age),
        ("web-requests", Horizon::Fixed(PromDuration::from_secs(600)), Duration::from_secs(120))
    );
    assert_eq!(rule.queries[2].forecast.as_ref().unwrap().horizon, Horizon::Fixed(PromDuration::from_secs(300)));
    let Behavior { scale_up, scale_down } = rule.policy.behavior;
    assert_eq!((scale_up.stabilization_window, scale_up.select_policy), (Duration::from_secs(30), SelectPolicy::Min));
    assert_eq!((scale_up.policies[0].amount, scale_up.policies.len()), (RateAmount::Pods(2), 1));
    assert_eq!((scale_up.tolerance, scale_down.tolerance), (0.05, 0.3));
    assert_eq!(
        (scale_down.stabilization_window, scale_down.select_policy),
        (Duration::from_secs(300), SelectPolicy::Disabled)
    );
    assert_eq!(scale_down.policies, Behavior::default().scale_down.policies);
}

#[test]
fn every_fault_is_found_with_its_path() {
    let found = findings(
        r#"
  target: {dokcer: {project: shop}}
  mode: fast
  minReplicas: 9
  maxReplicas: 3
  metrics:
    - {query: " ", replicaCapacity: 0, forecast: f, quantile: 1.5}
    - {name: a, query: q, forecast: f, averageValue: 1, targetUtilization: 0.5}
    - {name: b, query: q, replicaCapacity: 1, averageValue: 1, horizon: 5m}
    - {name: c, query: q, replicaCapacity: many}
    - {name: d, query: q, replicaCapacity: 1, forecast: f, violationCost: 1, quantile: 0.9}
    - {name: e, query: q, replicaCapacity: 1, forecast: f, horizon: 5 minutes}
    - {name: g, query: q}
    - {name: h, query: q, replicaCapacity: 1}
    - {name: h, query: q, replicaCapacity: 1}
  behavior:
    scaleUp: {stabilizationWindowSeconds: 4000, policies: [{type: Pods, value: 0, periodSeconds: 0}, {value: 1}]}
    scaleDown: {policies: []}
  tolerance: 2
  missingData: {policy: Replicas}
"#,
    );
    for expected in [
        "f.yaml: spec.target.dokcer: unknown field \"dokcer\"; did you mean \"docker\"?",
        "f.yaml: spec.mode: unknown variant `fast`",
        "f.yaml: spec.minReplicas: is 9, above maxReplicas, which is 3",
        "f.yaml: spec.metrics[0].name: is missing",
        "f.yaml: spec.metrics[0].query: is empty",
        "f.yaml: spec.metrics[0].replicaCapacity: is 0; it must be above 0",
        "f.yaml: spec.metrics[0].quantile: is 1.5; it must be between 0 and 1",
        "f.yaml: spec.metrics[1].averageValue: tells no capacity, which a forecast needs",
        "f.yaml: spec.metrics[1].targetUtilization: belongs to replicaCapacity",
        "f.yaml: spec.metrics[2].averageValue: excludes replicaCapacity and",
        "f.yaml: spec.metrics[2].horizon: needs forecast",
        "f.yaml: spec.metrics[3].replicaCapacity: invalid value: string \"many\"",
        "f.yaml: spec.metrics[4].quantile: excludes violationCost",
        "f.yaml: spec.metrics[5].horizon: \"5 minutes\" is no duration",
        "f.yaml: spec.metrics[6].replicaCapacity: is missing",
        "f.yaml: spec.metrics[8].name: \"h\" names another metric of this rule",
        "f.yaml: spec.behavior.scaleUp.stabilizationWindowSeconds: is 4000; the HPA allows at most 3600",
        "f.yaml: spec.behavior.scaleUp.policies[0].value: is 0",
        "f.yaml: spec.behavior.scaleUp.policies[0].periodSeconds: must be from 1 to 1800",
        "f.yaml: spec.behavior.scaleUp.policies[1].type: is missing",
        "f.yaml: spec.behavior.scaleUp.policies[1].periodSeconds: is missing",
        "f.yaml: spec.behavior.scaleDown.policies: is empty",
        "f.yaml: spec.tolerance: is 2; it must be at least 0 and below 1",
        "f.yaml: spec.missingData.replicas: is missing",
    ] {
        let times = found.iter().filter(|message| message.starts_with(expected)).count();
        assert_eq!(times, 1, "{expected}\n{found:#?}");
    }
    assert_eq!(found.len(), 25, "{found:#?}"); // and the target that is empty without its misspelt field
}

#[test]
fn a_workload_of_a_cluster_needs_the_rule_s_namespace() {
    let text = format!(
        "apiVersion: cloudpulse.io/v1\nkind: ScalingRule\nmetadata: {{name: web}}\nspec:\n  target: {{kubernetes: {{name: web}}}}\n  \
         maxReplicas: 3\n{METRIC}"
    );
    let (mut rules, mut found) = (Vec::new(), Vec::new());
    parse_file("f.yaml", &text, &mut rules, &mut found);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].path, "metadata.namespace");
}

#[test]
fn bounds_may_change_with_the_time_and_the_demand() {
    let rule = rule(
        r#"
  target: {dryRun: {}}
  minReplicas: 0
  maxReplicas: 10
  whenAboveMax: {policy: Raise, percent: 25}
  schedules:
    - {name: office, timeZone: Europe/Berlin, start: "0 8 * * MON-FRI", end: "0 19 * * MON-FRI", minReplicas: 6}
    - {name: sale, start: "0 0 27 11 *", end: "0 0 30 11 *", minReplicas: 20, maxReplicas: 40}
  metrics: [{name: a, query: q, replicaCapacity: 1, forecast: f, horizon: auto, activationThreshold: 0.5}]
"#,
    );
    assert_eq!(rule.queries[0].forecast.as_ref().unwrap().horizon, Horizon::Auto);
    let Demand::Load { activation_threshold, .. } = rule.policy.metrics[0].demand else { panic!("no load") };
    assert_eq!(activation_threshold, 0.5);
    let bounds = |moment: i64| {
        let bounds = rule.policy.bounds(Timestamp::from_unix_milliseconds(moment * 1000));
        (bounds.min_replicas, bounds.max_replicas, bounds.raised_max, bounds.schedules.join(" "))
    };
    assert_eq!(bounds(1_767_592_800), (0, 10, 13, String::new())); // Monday 5 January 2026, 6:00 UTC
    assert_eq!(bounds(1_767_596_400), (6, 10, 13, "office".to_owned())); // an hour later it is 8 in Berlin
    assert_eq!(bounds(1_795_780_800), (20, 40, 50, "office sale".to_owned())); // Friday 27 November 2026, 12:00
}

#[test]
fn faults_of_the_bounds_are_found() {
    let found = findings(
        r#"
  target: {dryRun: {}}
  maxReplicas: 5
  whenAboveMax: {policy: Alert, percent: 20}
  schedules:
    - {name: a, start: "0 8 * *", end: "0 9 * * *", minReplicas: 2}
    - {name: b, timeZone: Mars/Olympus, start: "0 8 * * *", end: "0 9 * * *", minReplicas: 2}
    - {name: c, start: "0 8 * * *", end: "0 8 * * *", minReplicas: 2}
    - {name: d, start: "0 8 * * *", end: "0 9 * * *"}
    - {name: d, start: "0 8 * * *", end: "0 9 * * *", minReplicas: 9}
    - {start: "0 8 30 2 *", minReplicas: 2, maxReplicas: 0}
  metrics: [{name: a, query: q, replicaCapacity: 1, activationThreshold: -1}]
"#,
    );
    for expected in [
        "f.yaml: spec.whenAboveMax.percent: belongs to the policy Raise only",
        "f.yaml: spec.schedules[0].start: \"0 8 * *\" has 4 fields",
        "f.yaml: spec.schedules[1].start: \"0 8 * * *\" the time zone \"Mars/Olympus\"",
        "f.yaml: spec.schedules[1].end: ",
        "f.yaml: spec.schedules[2].end: is the start too",
        "f.yaml: spec.schedules[3]: changes nothing",
        "f.yaml: spec.schedules[4].name: \"d\" names another schedule",
        "f.yaml: spec.schedules[4]: holds at least 9 replicas to at most 5",
        "f.yaml: spec.schedules[5].name: is missing",
        "f.yaml: spec.schedules[5].start: \"0 8 30 2 *\" names a time that never comes",
        "f.yaml: spec.schedules[5].end: is missing",
        "f.yaml: spec.schedules[5].maxReplicas: is 0; it must be at least 1",
        "f.yaml: spec.metrics[0].activationThreshold: belongs to minReplicas 0",
        "f.yaml: spec.metrics[0].activationThreshold: is -1; it must be at least 0",
    ] {
        let times = found.iter().filter(|message| message.starts_with(expected)).count();
        assert_eq!(times, 1, "{expected}\n{found:#?}");
    }
    assert_eq!(found.len(), 14, "{found:#?}");
}

#[test]
fn the_envelope_is_checked() {
    assert_eq!(
        parse("apiVersion: v1\nkind: Rule\nmetadata: {}\n").unwrap_err(),
        [
            "f.yaml: apiVersion: is \"v1\"; it must be cloudpulse.io/v1",
            "f.yaml: kind: is \"Rule\"; it must be ScalingRule",
            "f.yaml: metadata.name: is missing",
            "f.yaml: spec: is missing",
        ]
    );
    assert_eq!(parse("a: [").unwrap_err().len(), 1);
}

#[test]
fn a_target_is_exactly_one() {
    for (target, expected) in [
        ("{}", "names no target"),
        ("{dryRun: {}, docker: {project: a, service: b}}", "names several targets"),
        ("{dryRun: {}, swarm: {}}", "names several targets"),
    ] {
        let found = findings(&format!("  target: {target}\n  maxReplicas: 5\n{METRIC}"));
        assert!(found.iter().any(|message| message.contains(expected)), "{target}: {found:?}");
    }
    let found = findings(&format!("  target: {{docker: {{}}}}\n  maxReplicas: 5\n{METRIC}"));
    assert_eq!(
        found,
        ["f.yaml: spec.target.docker.project: is missing", "f.yaml: spec.target.docker.service: is missing"]
    );
}

#[test]
fn the_original_s_form_means_what_it_said() {
    let rule = rule("  {nodeId: node-1, metric: cpu, threshold: 80, action: scale_up, replicas: 5}");
    let demand = Demand::Threshold { side: Side::Above, threshold: 80.0, replicas: 5 };
    assert_eq!(rule.policy.metrics[0].demand, demand);
    assert_eq!(rule.policy.cooldown, Duration::from_secs(300));
    assert!(rule.queries[0].query.starts_with("cloudpulse_cpu_usage_percent{instance=~\"node-1(:[0-9]+)?\"}"));
    assert_eq!((rule.target, rule.form), (TargetConfig::DryRun { replicas: 1 }, Form::Original));
    let rule = self::rule(
        "  {nodeId: n, metric: memory, threshold: 20, action: scale_down, replicas: 1, cooldown: 60, target: {docker: {project: p, service: s}}}",
    );
    let demand = Demand::Threshold { side: Side::Below, threshold: 20.0, replicas: 1 };
    assert_eq!((&rule.policy.metrics[0].demand, rule.policy.cooldown), (&demand, Duration::from_secs(60)));
    assert_eq!(rule.target.to_string(), "docker:p/s");
}

#[test]
fn faults_of_the_original_s_form_are_found() {
    assert_eq!(
        findings("  {nodeId: '', metric: disk, threshold: 800, action: explode, replicas: 0, colour: red}"),
        [
            "f.yaml: spec.colour: unknown field \"colour\"; known are nodeId, metric, threshold, action, replicas, cooldown, target",
            "f.yaml: spec.nodeId: is empty",
            "f.yaml: spec.metric: is \"disk\"; known are cpu and memory (percent of the node)",
            "f.yaml: spec.threshold: is 800; it is a percentage, from 0 to 100",
            "f.yaml: spec.action: is \"explode\"; known are scale_up and scale_down",
            "f.yaml: spec.replicas: is 0; it must be at least 1",
        ]
    );
}

#[test]
fn documents_of_one_file_are_told_apart() {
    let good = format!("{HEAD}  target: {{dryRun: {{}}}}\n  maxReplicas: 5\n{METRIC}");
    let other = good.replace("name: web", "name: other");
    assert_eq!(parse(&format!("---\n{good}---\n{other}---\n")).unwrap().len(), 2);
    let found = parse(&format!("{good}---\n{good}")).unwrap_err();
    assert_eq!(found, ["f.yaml (document 2): metadata.name: \"shop/web\" names a rule in f.yaml (document 1) too"]);
    let bad = other.replace("maxReplicas: 5", "maxReplicas: -5");
    let found = parse(&format!("{good}---\n{bad}")).unwrap_err();
    assert_eq!(found, ["f.yaml (document 2): spec.maxReplicas: invalid value: integer `-5`, expected u32"]);
}

#[test]
fn one_workload_has_one_rule_except_in_the_original_s_form() {
    let docker = "target: {docker: {project: p, service: s}}";
    let full = format!("{HEAD}  {docker}\n  maxReplicas: 5\n{METRIC}");
    let found = parse(&format!("{full}---\n{}", full.replace("name: web", "name: b"))).unwrap_err();
    assert_eq!(found, ["f.yaml (document 2): spec.target: docker:p/s is scaled by rule \"shop/web\" too"]);
    let original = |name: &str, action: &str| {
        format!("{HEAD}  nodeId: n\n  metric: cpu\n  threshold: 50\n  action: {action}\n  replicas: 2\n  {docker}\n")
            .replace("name: web", name)
    };
    assert_eq!(
        parse(&format!("{}---\n{}", original("name: a", "scale_up"), original("name: b", "scale_down"))).unwrap().len(),
        2
    );
}

#[test]
fn the_example_rules_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/scaling");
    let rules = load(&[folder]).unwrap();
    let names: Vec<(&str, String, Form)> =
        rules.iter().map(|rule| (rule.name.as_str(), rule.target.to_string(), rule.form)).collect();
    assert_eq!(
        names,
        [
            ("api-dry-run", "dryRun".to_owned(), Form::Full),
            ("shop/full", "dryRun".to_owned(), Form::Full),
            ("shop/checkout", "kubernetes:shop/Deployment/checkout".to_owned(), Form::Full),
            ("shop/orders", "kubernetes:shop/StatefulSet/orders".to_owned(), Form::Full),
            ("node-1-busy", "docker:legacy/worker".to_owned(), Form::Original),
            ("node-1-idle", "docker:legacy/worker".to_owned(), Form::Original),
            ("shop/web", "docker:shop/web".to_owned(), Form::Full),
        ]
    );
}

#[test]
fn missing_files_and_empty_folders_are_findings() {
    let folder = tempfile::tempdir().unwrap();
    let error = load(&[folder.path().to_owned()]).unwrap_err().to_string();
    assert!(error.contains("no scaling rule is in there"), "{error}");
    let error = load(&[folder.path().join("no.yaml"), folder.path().join("neither.yaml")]).unwrap_err();
    assert_eq!(error.0.len(), 2);
}
