//! The scaler's own metrics: counters of what happened, and a page written at each scrape from the board.

use std::sync::Arc;
use std::time::Duration;

use cloudpulse_common::exposition::Format;
use cloudpulse_common::exposition::Kind;
use cloudpulse_common::exposition::Page;
use cloudpulse_common::names;
use cloudpulse_common::telemetry::write_build_info;
use prometheus::Histogram;
use prometheus::HistogramOpts;
use prometheus::IntCounterVec;
use prometheus::Opts;
use prometheus::Registry;

use crate::board::Board;
use crate::board::Entry;
use crate::board::Outcome;
use crate::board::RuleState;
use crate::board::ages;

const RECOMMENDED_REPLICAS: &str = "cloudpulse_scaler_recommended_replicas";
const METRIC_AGE: &str = "cloudpulse_scaler_metric_age_seconds";
const LAST_SUCCESS: &str = "cloudpulse_scaler_last_success_timestamp_seconds";

/// What the scaler counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    decisions: IntCounterVec,
    scale_events: IntCounterVec,
    errors: IntCounterVec,
    turn_seconds: Histogram,
}

impl Metrics {
    /// Returns counters at zero.
    ///
    /// # Errors
    /// Never in practice: when two metrics have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), &["rule", label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let decisions = counter("cloudpulse_scaler_decisions_total", "Decisions by their reason.", "reason")?;
        let scale_events = counter(
            "cloudpulse_scaler_scale_events_total",
            "Changes of a target's replicas that were carried out.",
            "direction",
        )?;
        let errors = counter(
            "cloudpulse_scaler_rule_errors_total",
            "Readings that were not fresh and targets that failed, by reason.",
            "reason",
        )?;
        let options = HistogramOpts::new(
            "cloudpulse_scaler_turn_duration_seconds",
            "Time from reading to scaling, per rule and turn.",
        )
        .buckets(vec![0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]);
        let turn_seconds = Histogram::with_opts(options)?;
        registry.register(Box::new(turn_seconds.clone()))?;
        Ok(Self { registry, decisions, scale_events, errors, turn_seconds })
    }

    /// Makes a rule's counters visible before anything happened, so that the first event is an increase.
    pub fn announce(&self, rule: &str) {
        for direction in ["up", "down"] {
            self.scale_events.with_label_values(&[rule, direction]);
        }
    }

    /// Counts one turn.
    pub fn count(&self, entry: &Entry, duration: Duration) {
        let rule = entry.rule.as_str();
        self.decisions.with_label_values(&[rule, entry.decision.reason.name()]).inc();
        for problem in &entry.problems {
            self.errors.with_label_values(&[rule, problem.reason]).inc();
        }
        match &entry.outcome {
            Outcome::Failed { reason, .. } => self.errors.with_label_values(&[rule, *reason]).inc(),
            Outcome::Scaled => {
                let direction = if entry.decision.desired > entry.decision.current { "up" } else { "down" };
                self.scale_events.with_label_values(&[rule, direction]).inc();
            }
            Outcome::Unchanged | Outcome::Observed => {}
        }
        self.turn_seconds.observe(duration.as_secs_f64());
    }

    /// Returns the page in the given format.
    pub fn page(&self, board: &Board, format: Format) -> Vec<u8> {
        let mut buffer = Vec::new();
        let mut page = Page::new(&mut buffer, format);
        write_build_info(&mut page, "scaler", env!("CARGO_PKG_VERSION"));
        let rules = board.rules();
        let newest: Vec<&Arc<Entry>> = rules.values().filter_map(|state| state.entries.front()).collect();
        write_replicas(&mut page, &newest);
        page.family(
            METRIC_AGE,
            "Age of the data behind the last decision; absent where a reading is missing.",
            Kind::Gauge,
        );
        for entry in &newest {
            for (metric, input, age) in ages(entry) {
                page.sample(
                    METRIC_AGE,
                    &[("rule", &entry.rule), ("metric", metric), ("input", input)],
                    age.as_secs_f64(),
                );
            }
        }
        write_last_success(&mut page, rules.iter());
        page.registry(&self.registry);
        page.finish();
        buffer
    }
}

/// Unknown replicas are absent.
fn write_replicas(page: &mut Page<'_>, newest: &[&Arc<Entry>]) {
    for (metric, replicas) in [
        (names::DESIRED_REPLICAS, newest.iter().map(|entry| entry.decision.desired).collect::<Vec<_>>()),
        (names::CURRENT_REPLICAS, newest.iter().map(|entry| entry.decision.current).collect()),
    ] {
        page.family(metric.name, metric.help, Kind::Gauge);
        for (entry, replicas) in newest.iter().zip(replicas) {
            if let Some(replicas) = replicas {
                page.sample(metric.name, &[("rule", &entry.rule), ("target", &entry.target)], replicas.into());
            }
        }
    }
    page.family(
        RECOMMENDED_REPLICAS,
        "Replicas that the load alone (reactive) and the forecast ask for, before all limits.",
        Kind::Gauge,
    );
    for entry in newest {
        let parts = &entry.decision.parts;
        for (source, replicas) in [("reactive", parts.reactive), ("forecast", parts.forecast)] {
            if let Some(replicas) = replicas {
                page.sample(RECOMMENDED_REPLICAS, &[("rule", &entry.rule), ("source", source)], replicas.into());
            }
        }
    }
}

fn write_last_success<'s>(page: &mut Page<'_>, rules: impl Iterator<Item = (&'s String, &'s RuleState)>) {
    page.family(
        LAST_SUCCESS,
        "Unix time of the last turn with all readings fresh and the target as it was told.",
        Kind::Gauge,
    );
    for (rule, state) in rules {
        if let Some(time) = state.last_success {
            page.sample(LAST_SUCCESS, &[("rule", rule)], time.unix_seconds());
        }
    }
}
