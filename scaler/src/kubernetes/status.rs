//! The status of a ScalingRule: what became of its spec, its last turn and its status before in; its status now out. Pure.

use std::time::Duration;

use cloudpulse_policy::decision::Reason;
use cloudpulse_policy::policy::Bounds;
use cloudpulse_policy::policy::Mode;
use cloudpulse_policy::policy::Pause;
use cloudpulse_policy::time::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;

use crate::board::Entry;
use crate::board::Outcome;
use crate::kubernetes::crd::LastDecision;
use crate::kubernetes::crd::ScalingRuleStatus;
use crate::rule::Rule;
use crate::rule::lint::lint;

/// A status that only differs in when the last decision was made is written so often.
const REFRESH: Duration = Duration::from_secs(60);
/// The API's limit for a condition's message.
const LONGEST_MESSAGE: usize = 32_768;

/// What became of an object's spec.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The rule is in force.
    Accepted(Box<Rule>),
    /// The spec has errors, or another rule has the target.
    Refused {
        /// One word.
        reason: &'static str,
        /// All findings.
        message: String,
    },
}

/// A rule's last turn, and what holds of it now.
#[derive(Debug, Clone)]
pub struct Turn<'a> {
    /// The last turn; `None` before the first.
    pub entry: Option<&'a Entry>,
    /// The bounds now.
    pub bounds: Bounds,
    /// What is switched off now.
    pub pause: Pause,
}

/// Returns the status that the object should have.
pub fn status(
    verdict: &Verdict,
    generation: Option<i64>,
    turn: Option<&Turn<'_>>,
    before: Option<&ScalingRuleStatus>,
    now: Timestamp,
) -> ScalingRuleStatus {
    let before = before.cloned().unwrap_or_default();
    let mut conditions = Conditions { before: &before.conditions, generation, now: time(now), list: Vec::new() };
    let (Verdict::Accepted(rule), Some(turn)) = (verdict, turn) else {
        let (reason, message) = match verdict {
            Verdict::Refused { reason, message } => (*reason, message.as_str()),
            Verdict::Accepted(_) => ("Pending", "the rule has not been taken up yet"),
        };
        conditions.set("Ready", false, reason, message);
        conditions.set("Active", false, reason, message);
        let conditions = conditions.list;
        return ScalingRuleStatus { observed_generation: generation, conditions, ..before };
    };
    let decision = turn.entry.map(|entry| &entry.decision);
    ready(&mut conditions, turn);
    active(&mut conditions, rule, turn);
    match turn.pause {
        Pause::None => conditions.set("Paused", false, "NotPaused", "nothing is switched off"),
        Pause::All => conditions.set("Paused", true, "All", "no change is made"),
        Pause::ScaleIn => conditions.set("Paused", true, "ScaleIn", "no replica is taken away"),
        Pause::ScaleOut => conditions.set("Paused", true, "ScaleOut", "no replica is added"),
    }
    match decision.map(|decision| decision.reason) {
        Some(reason) if is_limit(reason) => conditions.set("LimitedBy", true, reason.name(), words(reason)),
        _ => conditions.set("LimitedBy", false, "DesiredWithinRange", "the number is what the metrics ask for"),
    }
    ScalingRuleStatus {
        observed_generation: generation,
        target: Some(rule.target.to_string()),
        min_replicas: Some(turn.bounds.min_replicas),
        max_replicas: Some(turn.bounds.max_replicas),
        current_replicas: decision.and_then(|decision| decision.current),
        desired_replicas: decision.and_then(|decision| decision.desired),
        ready_replicas: turn.entry.and_then(|entry| entry.ready),
        lead_time_seconds: turn.entry.and_then(|entry| entry.lead_time).and_then(|time| time.as_secs().try_into().ok()),
        last_scale_time: turn
            .entry
            .filter(|entry| entry.outcome == Outcome::Scaled)
            .map(|entry| time(entry.time))
            .or(before.last_scale_time),
        last_decision: turn.entry.map(last_decision).or(before.last_decision),
        warnings: lint(rule).into_iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect(),
        conditions: conditions.list,
    }
}

/// Returns whether the status is to be written: something changed, or the decision shown is old.
pub fn is_due(before: Option<&ScalingRuleStatus>, status: &ScalingRuleStatus) -> bool {
    let Some(before) = before else { return true };
    let age = match (&before.last_decision, &status.last_decision) {
        (Some(before), Some(now)) => now.time.0.duration_since(before.time.0),
        _ => jiff::SignedDuration::ZERO,
    };
    if Duration::try_from(age).is_ok_and(|age| age >= REFRESH) {
        return true;
    }
    let mut same_time = status.clone();
    if let (Some(decision), Some(before)) = (&mut same_time.last_decision, &before.last_decision) {
        decision.time = before.time.clone();
    }
    *before != same_time
}

fn ready(conditions: &mut Conditions<'_>, turn: &Turn<'_>) {
    match turn.entry.map(|entry| &entry.outcome) {
        None => conditions.set("Ready", false, "Pending", "the rule has not taken a turn yet"),
        Some(Outcome::Failed { error, reason }) => conditions.set("Ready", false, &pascal(reason), error),
        Some(_) => conditions.set("Ready", true, "InForce", "the target can be read and set"),
    }
}

fn active(conditions: &mut Conditions<'_>, rule: &Rule, turn: &Turn<'_>) {
    let Some(entry) = turn.entry else {
        return conditions.set("Active", false, "Pending", "the rule has not taken a turn yet");
    };
    let missing: Vec<String> =
        entry.problems.iter().map(|problem| format!("{}: {}", problem.metric, problem.message)).collect();
    match entry.decision.reason {
        Reason::FailedGetScale => conditions.set("Active", false, "FailedGetScale", words(Reason::FailedGetScale)),
        Reason::ScalingDisabled => conditions.set("Active", false, "ScalingDisabled", words(Reason::ScalingDisabled)),
        _ if !missing.is_empty() => {
            let message = format!("nothing is taken away meanwhile; {}", missing.join("; "));
            conditions.set("Active", false, "MissingData", &message);
        }
        _ if rule.policy.mode == Mode::Observe => {
            conditions.set("Active", false, "Observing", "the rule only observes and touches nothing");
        }
        _ => conditions.set("Active", true, "ValidMetricsFound", "every metric is known"),
    }
}

fn last_decision(entry: &Entry) -> LastDecision {
    let decision = &entry.decision;
    LastDecision {
        time: time(entry.time),
        reason: decision.reason.name().to_owned(),
        message: words(decision.reason).to_owned(),
        reactive: decision.parts.reactive,
        forecast: decision.parts.forecast,
    }
}

const fn is_limit(reason: Reason) -> bool {
    match reason {
        Reason::ScaleUpStabilized
        | Reason::ScaleDownStabilized
        | Reason::ScaleUpLimit
        | Reason::ScaleDownLimit
        | Reason::TooManyReplicas
        | Reason::TooFewReplicas
        | Reason::MissingDataHeld
        | Reason::Cooldown
        | Reason::Paused => true,
        Reason::DesiredWithinRange
        | Reason::WithinTolerance
        | Reason::MissingDataReplicas
        | Reason::ScalingDisabled
        | Reason::FailedGetScale => false,
    }
}

/// Returns a sentence for people.
pub const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::DesiredWithinRange => "the metrics ask for this number",
        Reason::WithinTolerance => "the load is near its target",
        Reason::ScaleUpStabilized => "fewer were asked for within the scale-up window",
        Reason::ScaleDownStabilized => "more were asked for within the scale-down window",
        Reason::ScaleUpLimit => "the policies allow no more for now",
        Reason::ScaleDownLimit => "the policies allow no fewer for now",
        Reason::TooManyReplicas => "more than maxReplicas are asked for",
        Reason::TooFewReplicas => "fewer than minReplicas are asked for",
        Reason::MissingDataHeld => "a reading is missing, so nothing is taken away",
        Reason::MissingDataReplicas => "no metric is known, and the rule names a number for this",
        Reason::Cooldown => "the last change is too recent",
        Reason::Paused => "the rule is paused",
        Reason::ScalingDisabled => {
            "the workload has no replicas although minReplicas is above 0, which switches scaling off"
        }
        Reason::FailedGetScale => "the target does not say what it has",
    }
}

struct Conditions<'a> {
    before: &'a [Condition],
    generation: Option<i64>,
    now: Time,
    list: Vec<Condition>,
}

impl Conditions<'_> {
    /// Adds a condition; its time stays where its status did.
    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let before = self.before.iter().find(|before| before.type_ == kind && before.status == status);
        let mut message = message.to_owned();
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        self.list.push(Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: self.generation,
            last_transition_time: before.map_or_else(|| self.now.clone(), |before| before.last_transition_time.clone()),
        });
    }
}

/// `target_not_found` as `TargetNotFound`.
fn pascal(word: &str) -> String {
    word.split('_')
        .map(|part| {
            let mut letters = part.chars();
            letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
        })
        .collect()
}

/// Whole seconds, as the API keeps them: else what was written would differ from what is read.
fn time(at: Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(at.unix_seconds() as i64).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use cloudpulse_policy::decision::decide;
    use cloudpulse_policy::history::History;
    use cloudpulse_policy::observation::MetricObservation;
    use cloudpulse_policy::observation::Observation;
    use cloudpulse_policy::observation::Reading;
    use serde_json::json;

    use super::*;
    use crate::rule::from_object;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_milliseconds(seconds * 1000)
    }

    fn rule() -> Rule {
        let spec = json!({
            "target": {"kubernetes": {"name": "web"}}, "maxReplicas": 5,
            "metrics": [{"name": "requests", "query": "sum(x)", "replicaCapacity": 100, "targetUtilization": 1}],
        });
        from_object("shop", "web", &spec).unwrap()
    }

    fn turn_at(now: Timestamp, load: f64, outcome: Outcome) -> Entry {
        let rule = rule();
        let load = Reading::Fresh { value: load, age: Duration::ZERO };
        let metric = MetricObservation {
            name: "requests".to_owned(),
            load,
            sources: None,
            peak: None,
            horizon: None,
            ahead: vec![],
        };
        let observation = Observation { current: Some(2), metrics: vec![metric] };
        Entry {
            time: now,
            rule: rule.name.clone(),
            target: rule.target.to_string(),
            mode: rule.policy.mode.name(),
            ready: Some(2),
            lead_time: None,
            decision: decide(&rule.policy, &observation, &History::default(), now),
            tolerance: rule.policy.behavior.scale_up.tolerance,
            outcome,
            problems: Vec::new(),
        }
    }

    fn status_of(entry: Option<&Entry>, before: Option<&ScalingRuleStatus>, now: Timestamp) -> ScalingRuleStatus {
        let rule = rule();
        let turn = Turn { entry, bounds: rule.policy.bounds(now), pause: Pause::None };
        status(&Verdict::Accepted(Box::new(rule)), Some(3), Some(&turn), before, now)
    }

    fn condition<'s>(status: &'s ScalingRuleStatus, kind: &str) -> &'s Condition {
        status.conditions.iter().find(|condition| condition.type_ == kind).unwrap()
    }

    #[test]
    fn a_turn_shows_and_a_condition_keeps_its_time() {
        let entry = turn_at(at(1000), 900.0, Outcome::Scaled);
        let first = status_of(Some(&entry), None, at(1000));
        assert_eq!((first.current_replicas, first.desired_replicas, first.max_replicas), (Some(2), Some(5), Some(5)));
        assert_eq!(condition(&first, "LimitedBy").reason, "TooManyReplicas");
        assert_eq!((condition(&first, "Ready").status.as_str(), first.observed_generation), ("True", Some(3)));
        assert_eq!(first.last_scale_time, Some(time(at(1000))));
        let failed = Outcome::Failed { error: "no such thing".to_owned(), reason: "target_not_found" };
        let entry = turn_at(at(1020), 900.0, failed);
        let second = status_of(Some(&entry), Some(&first), at(1020));
        let ready = condition(&second, "Ready");
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "TargetNotFound"));
        assert_eq!(ready.last_transition_time, time(at(1020)));
        assert_eq!(condition(&second, "Active").last_transition_time, time(at(1000)));
        assert_eq!(second.last_scale_time, Some(time(at(1000))), "it is not forgotten");
    }

    #[test]
    fn a_status_is_written_when_something_changed_or_once_a_minute() {
        let first = status_of(Some(&turn_at(at(1000), 200.0, Outcome::Unchanged)), None, at(1000));
        assert!(is_due(None, &first));
        let later = |seconds: i64, load| {
            let now = at(1000 + seconds);
            status_of(Some(&turn_at(now, load, Outcome::Unchanged)), Some(&first), now)
        };
        assert!(!is_due(Some(&first), &later(15, 200.0)));
        assert!(is_due(Some(&first), &later(60, 200.0)));
        assert!(is_due(Some(&first), &later(15, 290.0)));
    }

    #[test]
    fn what_is_refused_says_why_and_keeps_what_was_known() {
        let first = status_of(Some(&turn_at(at(1000), 200.0, Outcome::Unchanged)), None, at(1000));
        let refused = Verdict::Refused { reason: "Invalid", message: "spec.maxReplicas: is missing".to_owned() };
        let status = status(&refused, Some(4), None, Some(&first), at(1010));
        assert_eq!(condition(&status, "Ready").reason, "Invalid");
        assert!(condition(&status, "Ready").message.contains("maxReplicas"));
        assert_eq!(status.current_replicas, Some(2));
    }
}
