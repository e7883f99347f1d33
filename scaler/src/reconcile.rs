//! One rule, turn by turn: read → decide → scale → remember; and what people ask for by hand in between. What fails is said and tried again at the next turn; what is
//! known of the target is read from the target each time, so that a restart loses nothing.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use cloudpulse_common::query::Client;
use cloudpulse_common::server::Readiness;
use cloudpulse_policy::Replicas;
use cloudpulse_policy::decision::Decision;
use cloudpulse_policy::decision::decide;
use cloudpulse_policy::history::History;
use cloudpulse_policy::lead_time::LeadTime;
use cloudpulse_policy::observation::Observation;
use cloudpulse_policy::policy::Mode;
use cloudpulse_policy::policy::Policy;
use cloudpulse_policy::time::Timestamp;
use futures_util::future::join;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::board::Entry;
use crate::board::Outcome;
use crate::control::Controls;
use crate::kubernetes::lease::Leadership;
use crate::metrics::Metrics;
use crate::rule::Rule;
use crate::source;
use crate::source::Problem;
use crate::target::Plan;
use crate::target::ScaleTarget;
use crate::target::TargetError;

/// Drives one rule.
#[derive(Debug)]
pub struct Reconciler {
    rule: Arc<Rule>,
    target: Arc<dyn ScaleTarget>,
    client: Client,
    controls: Arc<Controls>,
    leadership: Leadership,
    /// Time from one turn to the next: how much later than needed a start may be asked for.
    interval: Duration,
    history: History,
    lead_time: LeadTime,
    /// What the target had when another was to change it.
    left_with: Option<Replicas>,
    /// Whether Prometheus was asked what the rule wanted before the start.
    recalled: bool,
}

impl Reconciler {
    /// Returns a reconciler without memory.
    pub fn new(
        rule: Arc<Rule>,
        target: Arc<dyn ScaleTarget>,
        client: Client,
        controls: Arc<Controls>,
        leadership: Leadership,
        interval: Duration,
    ) -> Self {
        let (history, lead_time) = (History::default(), LeadTime::default());
        Self {
            rule,
            target,
            client,
            controls,
            leadership,
            interval,
            history,
            lead_time,
            left_with: None,
            recalled: false,
        }
    }

    /// Takes one turn at `now`. Returns what happened, and whether Prometheus answered.
    pub async fn turn(&mut self, now: Timestamp) -> (Entry, bool) {
        let reach = self.lead_time.p95().map(|lead_time| lead_time + self.interval);
        let (readings, current) =
            join(source::read(&self.client, &self.rule.queries, reach), self.target.replicas()).await;
        if readings.answered && !self.recalled {
            self.recall().await;
        }
        for start in self.target.take_starts() {
            self.lead_time.record(start);
        }
        self.history.prune(now);
        if let (Some(before), Ok(current)) = (self.left_with.take(), &current)
            && before != *current
        {
            // The rate policies and the cooldown count the changes of whoever acts.
            self.history.record_change(before, *current, now);
        }
        let observation = Observation { current: current.as_ref().ok().copied(), metrics: readings.metrics };
        let pause = self.controls.pause(&self.rule.name, self.rule.policy.pause, now);
        let policy = Policy { pause, ..self.rule.policy.clone() };
        let decision = decide(&policy, &observation, &self.history, now);
        self.history.record(&decision, now);
        let outcome = match current {
            Err(error) => failed(&error),
            Ok(_) => self.act(&policy, &decision, now).await,
        };
        if matches!(outcome, Outcome::Standby | Outcome::Published) {
            self.left_with = decision.current;
        }
        let entry = Entry {
            time: now,
            rule: self.rule.name.clone(),
            target: self.rule.target.to_string(),
            mode: self.rule.policy.mode.name(),
            ready: if decision.current.is_some() { self.target.ready() } else { None },
            lead_time: self.lead_time.p95(),
            decision,
            outcome,
            problems: readings.problems,
            tolerance: self.rule.policy.behavior.scale_up.tolerance,
        };
        (entry, readings.answered)
    }

    /// Puts another form of the same rule in force, for the same target. What is remembered stays.
    pub fn replace(&mut self, rule: Arc<Rule>) {
        self.rule = rule;
    }

    /// Scales by hand at `now`, and keeps the rule still for as long as the request says.
    ///
    /// # Errors
    /// [`Refused`]; then nothing was started, except where the target failed on the way.
    pub async fn scale_by_hand(&mut self, request: ByHand, now: Timestamp) -> Result<ScaledByHand, Refused> {
        let ByHand { replicas, force, hold } = request;
        let bounds = self.rule.policy.bounds(now);
        if !self.leadership.leads() {
            return Err(Refused::Standby { leader: self.leadership.holder() });
        }
        if !force {
            if self.rule.policy.mode == Mode::Observe {
                return Err(Refused::Observes);
            }
            if !(bounds.min_replicas..=bounds.raised_max).contains(&replicas) {
                return Err(Refused::OutOfBounds { min: bounds.min_replicas, max: bounds.raised_max });
            }
        }
        let from = self.target.replicas().await.map_err(|error| Refused::Target(words(&error)))?;
        if !hold.is_zero() {
            // Before the target changes, so that no turn takes it back.
            let until_seconds = now.unix_seconds() + hold.as_secs_f64();
            self.controls
                .hold(&self.rule.name, until_seconds, now)
                .map_err(|error| Refused::Target(format!("{error:#}")))?;
        }
        if from != replicas {
            self.target.scale_to(replicas).await.map_err(|error| Refused::Target(words(&error)))?;
            self.history.record_change(from, replicas, now);
        }
        tracing::info!(rule = self.rule.name, from, to = replicas, force, hold = ?hold, "scaled by hand");
        Ok(ScaledByHand { from, to: replicas })
    }

    /// Learns from Prometheus what the rule wanted over the last day and how long replicas took to start; where that fails,
    /// the next turn tries again.
    async fn recall(&mut self) {
        let (client, name) = (&self.client, self.rule.name.as_str());
        let known = join(source::mean_desired_of_last_day(client, name), source::lead_time_before(client, name)).await;
        match known {
            (Ok(mean), Ok(lead_time)) => {
                self.recalled = true;
                if let Some(mean) = mean {
                    self.history.recall_mean(mean);
                }
                if let Some(lead_time) = lead_time {
                    self.lead_time.recall(lead_time);
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(rule = name, %error, "what the rule did before the start is not known");
            }
        }
    }

    async fn act(&mut self, policy: &Policy, decision: &Decision, now: Timestamp) -> Outcome {
        if !self.leadership.leads() {
            return Outcome::Standby;
        }
        let bounds = policy.bounds(now);
        let plan = Plan { rule: &self.rule, bounds: &bounds, pause: policy.pause };
        if let Err(error) = self.target.prepare(plan).await {
            return failed(&error);
        }
        if self.target.is_scaled_by_another() {
            return if policy.mode == Mode::Observe { Outcome::Observed } else { Outcome::Published };
        }
        let (Some(current), Some(desired)) = (decision.current, decision.desired) else { return Outcome::Unchanged };
        if !decision.act {
            return if current == desired { Outcome::Unchanged } else { Outcome::Observed };
        }
        // Looking after the target took time, in which the lead may have gone.
        if !self.leadership.leads() {
            return Outcome::Standby;
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

/// A request to scale by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByHand {
    /// Replicas to be had.
    pub replicas: Replicas,
    /// Whether the rule's bounds and its mode are passed over.
    pub force: bool,
    /// How long the rule keeps still afterwards; zero leaves the next turn free to take it back.
    pub hold: Duration,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ScaledByHand {
    /// Replicas before.
    pub from: Replicas,
    /// Replicas asked for.
    pub to: Replicas,
}

/// Why a request to scale by hand was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The number is outside the rule's bounds.
    #[error("the rule allows {min} to {max} replicas now; force passes over that")]
    OutOfBounds {
        /// Fewest replicas now.
        min: Replicas,
        /// Most replicas now.
        max: Replicas,
    },
    /// The rule touches nothing.
    #[error("the rule only observes; force scales all the same")]
    Observes,
    /// Another scaler acts.
    #[error("this scaler stands by; ask the one that leads{}", if leader.is_empty() { String::new() } else { format!(", {leader}") })]
    Standby {
        /// Its name; empty where it is not known.
        leader: String,
    },
    /// The target could not be read or set, or the hold could not be kept.
    #[error("{0}")]
    Target(String),
    /// The rule's loop did not answer in time; the request may still be carried out.
    #[error("the rule is still busy with its target; see GET /api/v1/decisions")]
    NoAnswer,
}

/// What a rule's loop is told.
#[derive(Debug)]
pub enum Command {
    /// Scale by hand.
    Scale {
        /// How.
        request: ByHand,
        /// Where the outcome goes.
        answer: oneshot::Sender<Result<ScaledByHand, Refused>>,
    },
    /// Go by this rule from now on; name and target are the same.
    Replace(Arc<Rule>),
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
    /// Whether this scaler acts.
    pub leadership: Leadership,
}

/// Takes turns, and commands between them, until `shutdown` is cancelled; what is under way is finished.
pub async fn run(
    mut reconciler: Reconciler,
    shared: Shared,
    mut commands: mpsc::Receiver<Command>,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(shared.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    shared.metrics.announce(&reconciler.rule.name);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
            // What was decided standing by is to be done at once.
            () = shared.leadership.begins() => {}
            Some(command) = commands.recv() => {
                match command {
                    Command::Replace(rule) => reconciler.replace(rule),
                    Command::Scale { request, answer } => {
                        let outcome = reconciler.scale_by_hand(request, clock()).await;
                        shared.metrics.count_by_hand(&reconciler.rule.name, &outcome);
                        // Whoever asked may have gone.
                        drop(answer.send(outcome));
                    }
                }
                // What is shown is to follow at once.
                ticks.reset_immediately();
                continue;
            }
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
pub(crate) fn clock() -> Timestamp {
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
    Outcome::Failed { error: words(error), reason: error.reason() }
}

/// An error with all its causes.
fn words(error: &TargetError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

const fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Unchanged => "unchanged",
        Outcome::Observed => "observed",
        Outcome::Scaled => "scaled",
        Outcome::Published => "published",
        Outcome::Standby => "standby",
        Outcome::Failed { .. } => "failed",
    }
}
