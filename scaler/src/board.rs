//! What the rules decided last, for the API and the metrics page to read.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use cloudpulse_policy::Replicas;
use cloudpulse_policy::decision::Decision;
use cloudpulse_policy::observation::Reading;
use cloudpulse_policy::time::Timestamp;
use cloudpulse_policy::time::optional_seconds;
use serde::Serialize;
use utoipa::ToSchema;

use crate::source::Problem;

/// One turn of a rule: what it saw, decided and did.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Unix time in seconds.
    #[schema(value_type = f64)]
    pub time: Timestamp,
    /// The rule's name.
    pub rule: String,
    /// The target's short name.
    pub target: String,
    /// The rule's mode: `observe`, `floor` or `full`.
    pub mode: &'static str,
    /// Replicas that can serve; absent where the target cannot tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Replicas>,
    /// Time in which 95 % of the replicas could serve; absent until a start was seen.
    #[serde(rename = "leadTimeSeconds", serialize_with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub lead_time: Option<Duration>,
    /// The decision with its inputs, parts, limits and reason.
    #[serde(flatten)]
    pub decision: Decision,
    /// What became of it.
    pub outcome: Outcome,
    /// What is wrong with the readings.
    pub problems: Vec<Problem>,
    /// Relative distance from its target at which a load scales nothing out, as a ratio.
    #[serde(skip)]
    pub tolerance: f64,
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum Outcome {
    /// Nothing was to be done.
    Unchanged,
    /// The rule only observes; something would have been done.
    Observed,
    /// The target was set.
    Scaled,
    /// Another sets the replicas, by what the rule publishes: a HorizontalPodAutoscaler that the rule keeps.
    Published,
    /// Another scaler leads and acts; this one stands by.
    Standby,
    /// The target could not be read or set.
    Failed {
        /// Why.
        error: String,
        /// A word for a metric label.
        #[serde(skip)]
        reason: &'static str,
    },
}

/// The state of one rule.
#[derive(Debug, Clone, Default)]
pub struct RuleState {
    /// The last turns, newest first.
    pub entries: VecDeque<Arc<Entry>>,
    /// When all readings were fresh and the target did as it was told, for the last time.
    pub last_success: Option<Timestamp>,
}

/// The state of all rules.
#[derive(Debug)]
pub struct Board {
    keep: usize,
    rules: Mutex<BTreeMap<String, RuleState>>,
}

impl Board {
    /// Returns an empty board that keeps so many turns of each rule.
    pub fn new(keep: usize) -> Self {
        Self { keep: keep.max(1), rules: Mutex::default() }
    }

    /// Adds a rule that has not taken a turn yet.
    pub fn add(&self, rule: &str) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).insert(rule.to_owned(), RuleState::default());
    }

    /// Takes a rule away with all its turns.
    pub fn remove(&self, rule: &str) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).remove(rule);
    }

    /// Notes a turn of a rule that was added.
    pub fn post(&self, entry: Entry) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = rules.get_mut(&entry.rule) else { return };
        let failed = matches!(entry.outcome, Outcome::Failed { .. });
        if !failed && entry.problems.is_empty() {
            state.last_success = Some(entry.time);
        }
        state.entries.truncate(self.keep - 1);
        state.entries.push_front(Arc::new(entry));
    }

    /// Returns the newest turn of a rule, `None` in it where there was none yet; `None` where there is no such rule.
    pub fn newest(&self, rule: &str) -> Option<Option<Arc<Entry>>> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.get(rule).map(|state| state.entries.front().cloned())
    }

    /// Returns the names of the rules for which `wanted` holds.
    pub fn names(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.keys().filter(|name| wanted(name)).cloned().collect()
    }

    /// Returns the state of all rules.
    pub fn rules(&self) -> BTreeMap<String, RuleState> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the state of one rule; `None` where there is none of this name.
    pub fn rule(&self, name: &str) -> Option<RuleState> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// How old the data behind an entry's readings was.
pub(crate) fn ages(entry: &Entry) -> impl Iterator<Item = (&str, &'static str, Duration)> {
    entry.decision.parts.metrics.iter().flat_map(|metric| {
        let load = metric.load.age().map(|age| (metric.name.as_str(), "load", age));
        let forecast = metric.peak.as_ref().and_then(Reading::age).map(|age| (metric.name.as_str(), "forecast", age));
        load.into_iter().chain(forecast)
    })
}
