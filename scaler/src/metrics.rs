//! The scaler's own metrics: counters of what happened, and a page written at each scrape from the board.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use cloudpulse_common::exposition::Described;
use cloudpulse_common::exposition::Format;
use cloudpulse_common::exposition::Kind;
use cloudpulse_common::exposition::Page;
use cloudpulse_common::names;
use cloudpulse_common::telemetry::write_build_info;
use prometheus::Gauge;
use prometheus::Histogram;
use prometheus::HistogramOpts;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::core::Collector;

use crate::board::Board;
use crate::board::Entry;
use crate::board::Outcome;
use crate::board::RuleState;
use crate::board::ages;
use crate::kubernetes::lease::Leadership;
use crate::reconcile::Refused;
use crate::reconcile::ScaledByHand;

const RECOMMENDED_REPLICAS: &str = "cloudpulse_scaler_recommended_replicas";
const READY_REPLICAS: &str = "cloudpulse_scaler_ready_replicas";
const BOUND: &str = "cloudpulse_scaler_bound_replicas";
const HORIZON: &str = "cloudpulse_scaler_horizon_seconds";
const METRIC_AGE: &str = "cloudpulse_scaler_metric_age_seconds";
const LEADER: &str = "cloudpulse_scaler_leader";
const LAST_SUCCESS: &str = "cloudpulse_scaler_last_success_timestamp_seconds";

/// What the scaler counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    parts: Vec<Registry>,
    decisions: IntCounterVec,
    scale_events: IntCounterVec,
    errors: IntCounterVec,
    by_hand: IntCounterVec,
    reload_successful: IntGauge,
    reload_time: Gauge,
    turn_seconds: Histogram,
    leadership: Leadership,
}

impl Metrics {
    /// Returns counters at zero.
    ///
    /// # Errors
    /// Never in practice: when two metrics have one name.
    pub fn new(leadership: Leadership) -> Result<Self, prometheus::Error> {
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
        let by_hand = counter(
            "cloudpulse_scaler_scaled_by_hand_total",
            "Requests to scale by hand, by what became of them.",
            "result",
        )?;
        let reload_successful = IntGauge::new(
            "cloudpulse_scaler_config_last_reload_successful",
            "Whether the rule files were without errors when they were last read.",
        )?;
        registry.register(Box::new(reload_successful.clone()))?;
        let reload_time = Gauge::new(
            "cloudpulse_scaler_config_last_reload_success_timestamp_seconds",
            "Unix time at which the rules in force were read.",
        )?;
        registry.register(Box::new(reload_time.clone()))?;
        let options = HistogramOpts::new(
            "cloudpulse_scaler_turn_duration_seconds",
            "Time from reading to scaling, per rule and turn.",
        )
        .buckets(vec![0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]);
        let turn_seconds = Histogram::with_opts(options)?;
        registry.register(Box::new(turn_seconds.clone()))?;
        Ok(Self {
            registry,
            parts: Vec::new(),
            decisions,
            scale_events,
            errors,
            by_hand,
            reload_successful,
            reload_time,
            turn_seconds,
            leadership,
        })
    }

    /// Returns what it counts, whether or not anything was counted yet.
    pub fn described(&self) -> Vec<Described> {
        let counters = [&self.decisions, &self.scale_events, &self.errors, &self.by_hand];
        Described::of(&counters.map(|counter| Box::new(counter.clone()) as Box<dyn Collector>))
    }

    /// Adds what other parts of the program count to the page.
    #[must_use]
    pub fn with(mut self, parts: Vec<Registry>) -> Self {
        self.parts.extend(parts);
        self
    }

    /// Makes a rule's counters visible before anything happened, so that the first event is an increase.
    pub fn announce(&self, rule: &str) {
        for direction in ["up", "down"] {
            self.scale_events.with_label_values(&[rule, direction]);
        }
    }

    /// Takes away the counters of a rule that is gone.
    pub fn forget(&self, rule: &str) {
        for counter in [&self.decisions, &self.scale_events, &self.errors, &self.by_hand] {
            for family in counter.collect() {
                for metric in family.get_metric() {
                    let value = |name: &str| metric.get_label().iter().find(|label| label.name() == name);
                    let other = metric.get_label().iter().find(|label| label.name() != "rule");
                    if let (Some(own), Some(other)) = (value("rule"), other)
                        && own.value() == rule
                    {
                        // It was there a moment ago; that it is gone is what is wanted.
                        drop(counter.remove(&HashMap::from([("rule", rule), (other.name(), other.value())])));
                    }
                }
            }
        }
    }

    /// Notes that the rules in force were read at `now`.
    pub fn reloaded(&self, now: SystemTime) {
        self.reload_successful.set(1);
        self.reload_time.set(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    }

    /// Notes that the rule files have errors, and the rules from before them stay in force.
    pub fn reload_failed(&self) {
        self.reload_successful.set(0);
    }

    /// Counts a request to scale by hand.
    pub fn count_by_hand(&self, rule: &str, outcome: &Result<ScaledByHand, Refused>) {
        let result = match outcome {
            Ok(_) => "scaled",
            Err(Refused::Target(_) | Refused::NoAnswer) => "failed",
            Err(Refused::OutOfBounds { .. } | Refused::Observes | Refused::Standby { .. }) => "refused",
        };
        self.by_hand.with_label_values(&[rule, result]).inc();
        if let Ok(ScaledByHand { from, to }) = outcome
            && from != to
        {
            self.scale_events.with_label_values(&[rule, if to > from { "up" } else { "down" }]).inc();
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
            Outcome::Unchanged | Outcome::Observed | Outcome::Published | Outcome::Standby => {}
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
        write_time_ahead(&mut page, &newest);
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
        page.family(LEADER, "Whether this scaler acts, or stands by while another does.", Kind::Gauge);
        page.sample(LEADER, &[], if self.leadership.leads() { 1.0 } else { 0.0 });
        for registry in std::iter::once(&self.registry).chain(&self.parts) {
            page.registry(registry);
        }
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
    page.family(READY_REPLICAS, "Replicas that can serve; absent where the target cannot tell.", Kind::Gauge);
    for entry in newest {
        if let Some(ready) = entry.ready {
            page.sample(READY_REPLICAS, &[("rule", &entry.rule), ("target", &entry.target)], ready.into());
        }
    }
    page.family(BOUND, "Fewest (min) and most (max) replicas that the rule allows now.", Kind::Gauge);
    for entry in newest {
        let parts = &entry.decision.parts;
        for (bound, replicas) in [("min", parts.min_replicas), ("max", parts.max_replicas)] {
            page.sample(BOUND, &[("rule", &entry.rule), ("bound", bound)], replicas.into());
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

/// How far ahead is looked, how far it would have to be, and when it will not do any more.
fn write_time_ahead(page: &mut Page<'_>, newest: &[&Arc<Entry>]) {
    for (metric, seconds) in [
        (names::LEAD_TIME, newest.iter().map(|entry| entry.lead_time).collect::<Vec<_>>()),
        (names::CAPACITY_BREACH, newest.iter().map(|entry| entry.decision.parts.breach_in).collect()),
    ] {
        page.family(metric.name, metric.help, Kind::Gauge);
        for (entry, seconds) in newest.iter().zip(seconds) {
            if let Some(seconds) = seconds {
                page.sample(metric.name, &[("rule", &entry.rule), ("target", &entry.target)], seconds.as_secs_f64());
            }
        }
    }
    page.family(HORIZON, "Horizon of the forecast that the rule goes by; absent where there is none.", Kind::Gauge);
    for entry in newest {
        for metric in &entry.decision.parts.metrics {
            if let Some(horizon) = metric.horizon {
                page.sample(HORIZON, &[("rule", &entry.rule), ("metric", &metric.name)], horizon.as_secs_f64());
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
