//! One rule, turn by turn: read → decide → scale → remember. What fails is said and tried again at the next turn; what is
//! known of the target is read from the target each time, so that a restart loses nothing.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use cloudpulse_common::query::Client;
use cloudpulse_common::server::Readiness;
use cloudpulse_policy::decision::Decision;
use cloudpulse_policy::decision::decide;
use cloudpulse_policy::history::History;
use cloudpulse_policy::observation::Observation;
use cloudpulse_policy::policy::Mode;
use cloudpulse_policy::time::Timestamp;
use futures_util::future::join;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::board::Entry;
use crate::board::Outcome;
use crate::metrics::Metrics;
use crate::rule::Rule;
use crate::source;
use crate::source::Problem;
use crate::target::ScaleTarget;
use crate::target::TargetError;

/// Drives one rule.
#[derive(Debug)]
pub struct Reconciler {
    rule: Rule,
    target: Arc<dyn ScaleTarget>,
    client: Client,
    history: History,
    /// Whether Prometheus was asked what the rule wanted before the start.
    recalled: bool,
}

impl Reconciler {
    /// Returns a reconciler without memory.
    pub fn new(rule: Rule, target: Arc<dyn ScaleTarget>, client: Client) -> Self {
        Self { rule, target, client, history: History::default(), recalled: false }
    }

    /// Takes one turn at `now`. Returns what happened, and whether Prometheus answered.
    pub async fn turn(&mut self, now: Timestamp) -> (Entry, bool) {
        let (readings, current) =
            join(source::read(&self.client, &self.rule.queries, None), self.target.replicas()).await;
        if readings.answered && !self.recalled {
            self.recall().await;
        }
        self.history.prune(now);
        let observation = Observation { current: current.as_ref().ok().copied(), metrics: readings.metrics };
        let decision = decide(&self.rule.policy, &observation, &self.history, now);
        self.history.record(&decision, now);
        let outcome = match current {
            Err(error) => failed(&error),
            Ok(_) => self.act(&decision, now).await,
        };
        let entry = Entry {
            time: now,
            rule: self.rule.name.clone(),
            target: self.rule.target.to_string(),
            mode: mode_name(self.rule.policy.mode),
            decision,
            outcome,
            problems: readings.problems,
        };
        (entry, readings.answered)
    }

    /// Learns from Prometheus what the rule wanted over the last day; where that fails, the next turn tries again.
    async fn recall(&mut self) {
        match source::mean_desired_of_last_day(&self.client, &self.rule.name).await {
            Ok(mean) => {
                self.recalled = true;
                if let Some(mean) = mean {
                    self.history.recall_mean(mean);
                }
            }
            Err(error) => {
                tracing::warn!(rule = self.rule.name, %error, "the mean replicas of the last day are not known");
            }
        }
    }

    async fn act(&mut self, decision: &Decision, now: Timestamp) -> Outcome {
        let (Some(current), Some(desired)) = (decision.current, decision.desired) else { return Outcome::Unchanged };
        if !decision.act {
            return if current == desired { Outcome::Unchanged } else { Outcome::Observed };
        }
        match self.target.scale_to(desired).await {
            Ok(()) => {
                self.history.record_change(current, desired, now);
                Outcome::Scaled
            }
            Err(error) => {
                // Part of it may be done, which the rate policies and the cooldown have to know.
                if let Ok(reached) = self.target.replicas().await
                    && reached != current
                {
                    self.history.record_change(current, reached, now);
                }
                failed(&error)
            }
        }
    }
}

/// What all rules of the program share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Where the turns are posted.
    pub board: Arc<Board>,
    /// What is counted.
    pub metrics: Metrics,
    /// Becomes ready when Prometheus first answers.
    pub readiness: Readiness,
    /// Time from one turn to the next.
    pub interval: Duration,
}

/// Takes turns until `shutdown` is cancelled; a turn that is under way is finished.
pub async fn run(mut reconciler: Reconciler, shared: Shared, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(shared.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    shared.metrics.announce(&reconciler.rule.name);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let started = Instant::now();
        let (entry, answered) = reconciler.turn(clock()).await;
        if answered {
            shared.readiness.ready();
        } else if let (Err(_), Some(problem)) = (shared.readiness.get(), entry.problems.first()) {
            shared.readiness.unready(format!("prometheus has not answered yet: {}", problem.message));
        }
        log(&entry);
        shared.metrics.count(&entry, started.elapsed());
        shared.board.post(entry);
    }
}

/// The one reading of the clock.
fn clock() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_milliseconds(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// One line for each decision, with its numbers as fields; what is wrong is a line of its own.
fn log(entry: &Entry) {
    let Decision { current, desired, reason, parts, .. } = &entry.decision;
    for Problem { metric, what, message, .. } in &entry.problems {
        tracing::warn!(rule = entry.rule, metric, input = ?what, problem = message, "a reading is not fresh");
    }
    if let Outcome::Failed { error, .. } = &entry.outcome {
        tracing::error!(rule = entry.rule, target_name = entry.target, error, "the target could not be read or set");
    }
    tracing::info!(
        rule = entry.rule,
        target_name = entry.target,
        mode = entry.mode,
        current,
        desired,
        reason = reason.name(),
        reactive = parts.reactive,
        forecast = parts.forecast,
        recommended = parts.recommended,
        stabilized = parts.stabilized,
        limited = parts.limited,
        min_replicas = parts.min_replicas,
        max_replicas = parts.max_replicas,
        outcome = outcome_name(&entry.outcome),
        metrics = %serde_json::to_string(&parts.metrics).unwrap_or_default(),
        "decision"
    );
}

fn failed(error: &TargetError) -> Outcome {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    Outcome::Failed { error: text, reason: error.reason() }
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Floor => "floor",
        Mode::Full => "full",
    }
}

const fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Unchanged => "unchanged",
        Outcome::Observed => "observed",
        Outcome::Scaled => "scaled",
        Outcome::Failed { .. } => "failed",
    }
}
