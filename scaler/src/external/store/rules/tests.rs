use cloudpulse_policy::decision::decide;
use cloudpulse_policy::history::History;
use cloudpulse_policy::observation::MetricObservation;
use cloudpulse_policy::observation::Missing;
use cloudpulse_policy::observation::Observation;
use cloudpulse_policy::observation::Reading;

use super::*;
use crate::source::Input;
use crate::source::Problem;

const RULE: &str = "
apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: web}
spec:
  target: {dryRun: {}}
  minReplicas: 1
  maxReplicas: 50
  metrics:
    - {name: requests, query: a, averageValue: '10'}
    - {name: queue, query: b, averageValue: '10'}
";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_milliseconds(seconds * 1000)
}

/// A turn of the rule at 100 s: what it saw, with the replicas of the target.
fn entry(name: &str, loads: [Option<f64>; 2], current: Option<u32>) -> Entry {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), RULE).unwrap();
    let rule = crate::rule::load(&[file.path().to_owned()]).unwrap().remove(0);
    let observed = ["requests", "queue"].into_iter().zip(loads).map(|(name, load)| MetricObservation {
        name: name.to_owned(),
        load: load
            .map_or(Reading::Missing { why: Missing::Empty }, |value| Reading::Fresh { value, age: Duration::ZERO }),
        sources: None,
        peak: None,
        horizon: None,
        ahead: vec![],
    });
    let observation = Observation { current, metrics: observed.collect() };
    let decision = decide(&rule.policy, &observation, &History::default(), at(100));
    let problem = || Problem {
        metric: "queue".to_owned(),
        what: Input::Load,
        reason: "empty",
        message: "the query gives no series".to_owned(),
    };
    Entry {
        time: at(100),
        rule: name.to_owned(),
        target: "dry-run".to_owned(),
        mode: "floor",
        ready: None,
        lead_time: None,
        decision,
        outcome: Outcome::Unchanged,
        problems: if loads.contains(&None) { vec![problem()] } else { vec![] },
        tolerance: 0.1,
    }
}

fn board(entries: Vec<Entry>) -> Board {
    let board = Board::new(3);
    for entry in entries {
        board.add(&entry.rule);
        board.post(entry);
    }
    board
}

fn ask(board: &Board, namespace: &str, metric: &str, selector: &str, seconds: i64) -> Result<f64, NoValue> {
    let (asked, own) = match metric.strip_prefix(name::RULE_PREFIX) {
        Some(own) => (Asked::Replicas, own),
        None => (Asked::Load, metric.strip_prefix(name::LOAD_PREFIX).unwrap()),
    };
    let selector = Selector::parse(selector).unwrap();
    let max_age = Duration::from_secs(45);
    let items = select(board, asked, (namespace, metric, own), &selector, at(seconds), max_age)?;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].at, at(100));
    Ok(items[0].value)
}

#[test]
fn a_rule_publishes_the_replicas_that_it_wants_and_its_loads() {
    let board = board(vec![entry("shop/web", [Some(80.0), Some(30.0)], Some(4))]);
    assert_eq!(ask(&board, "shop", "cloudpulse-rule-web", "", 101), Ok(8.0));
    assert_eq!(ask(&board, "shop", "cloudpulse-rule-web", "rule=web", 101), Ok(8.0));
    assert_eq!(ask(&board, "shop", "cloudpulse-load-web", "metric=queue", 101), Ok(30.0));
    let several = ask(&board, "shop", "cloudpulse-load-web", "", 101).unwrap_err();
    assert!(
        matches!(&several, NoValue::BadRequest(why) if why.contains("one metric of requests, queue")),
        "{several:?}"
    );
    for (metric, selector) in
        [("cloudpulse-load-web", "metric=x"), ("cloudpulse-rule-web", "rule=x"), ("cloudpulse-rule-x", "")]
    {
        let why = ask(&board, "shop", metric, selector, 101).unwrap_err();
        assert!(matches!(why, NoValue::NotFound { .. }), "{metric} {selector}: {why:?}");
    }
}

#[test]
fn a_small_rise_is_published_beyond_the_tolerance() {
    let mut entry = entry("web", [Some(200.0), Some(1.0)], Some(20));
    // As a forecast has it, which knows no tolerance.
    entry.decision.parts.wanted = Some(21);
    let board = board(vec![entry]);
    let value = ask(&board, "any", "cloudpulse-rule-web", "", 101);
    // 21 on 20 is within a tenth: the HPA would leave it alone.
    assert!(matches!(value, Ok(value) if value > 22.0 && value < 22.01), "{value:?}");
}

#[test]
fn a_rule_with_a_namespace_is_answered_only_there() {
    let board = board(vec![
        entry("shop/web", [Some(80.0), Some(1.0)], Some(4)),
        entry("web", [Some(50.0), Some(1.0)], Some(4)),
        entry("other/API_v1", [Some(20.0), Some(1.0)], Some(2)),
    ]);
    assert_eq!(ask(&board, "shop", "cloudpulse-rule-web", "", 101), Ok(8.0));
    assert_eq!(ask(&board, "else", "cloudpulse-rule-web", "", 101), Ok(5.0));
    assert_eq!(ask(&board, "other", "cloudpulse-rule-api-v1", "", 101), Ok(2.0));
    assert!(matches!(ask(&board, "shop", "cloudpulse-rule-api-v1", "", 101), Err(NoValue::NotFound { .. })));
}

#[test]
fn what_is_missing_or_old_is_no_value_and_says_why() {
    let metric = "cloudpulse-rule-web";
    let says = |board: &Board, metric: &str, selector: &str, seconds, words: &str| {
        let why = ask(board, "shop", metric, selector, seconds).unwrap_err();
        assert!(matches!(&why, NoValue::Unavailable(why) if why.contains(words)), "{why:?}");
    };
    // One load is missing though the other alone would ask for more.
    let partly = board(vec![entry("web", [Some(80.0), None], Some(4))]);
    says(&partly, metric, "", 101, "not all that the rule reads is fresh: queue: the query gives no series");
    says(
        &partly,
        "cloudpulse-load-web",
        "metric=queue",
        101,
        "the load is not fresh: queue: the query gives no series",
    );
    assert_eq!(ask(&partly, "shop", "cloudpulse-load-web", "metric=requests", 101), Ok(80.0));
    let old = board(vec![entry("web", [Some(80.0), Some(1.0)], Some(4))]);
    assert_eq!(ask(&old, "shop", metric, "", 145), Ok(8.0));
    says(&old, metric, "", 146, "the rule's last turn was at 1970-01-01T00:01:40Z, more than 45s ago");
    says(&board(vec![entry("web", [Some(80.0), Some(1.0)], None)]), metric, "", 101, "are not known");
    let none_yet = Board::new(1);
    none_yet.add("web");
    says(&none_yet, metric, "", 101, "has not taken a turn yet");
    let twins = board(vec![entry("a_b", [Some(1.0); 2], Some(1)), entry("a:b", [Some(1.0); 2], Some(1))]);
    says(&twins, "cloudpulse-rule-a-b", "", 101, "several rules have this name: a:b, a_b");
}
