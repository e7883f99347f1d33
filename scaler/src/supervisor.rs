//! The rules that run: a set of checked rules in; one loop for each, of which those that did not change go on undisturbed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloudpulse_common::query::Client;
use tokio::sync::Mutex;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::control::Controls;
use crate::reconcile;
use crate::reconcile::ByHand;
use crate::reconcile::Command;
use crate::reconcile::Reconciler;
use crate::reconcile::Refused;
use crate::reconcile::ScaledByHand;
use crate::reconcile::Shared;
use crate::rule::Form;
use crate::rule::Rule;
use crate::rule::lint::lint;
use crate::target;
use crate::target::Engines;
use crate::target::TargetConfig;

/// Commands to one rule that may wait.
const QUEUE: usize = 8;
/// How long a command may wait for the turn under way and be carried out.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs rules.
#[derive(Debug)]
pub struct Supervisor {
    client: Client,
    shared: Shared,
    controls: Arc<Controls>,
    engines: Engines,
    shutdown: CancellationToken,
    running: Mutex<BTreeMap<String, Running>>,
}

/// One rule that runs.
#[derive(Debug)]
struct Running {
    rule: Arc<Rule>,
    stop: CancellationToken,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

/// What a new set of rules changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Rules that were not there before.
    pub added: usize,
    /// Rules that read otherwise now.
    pub changed: usize,
    /// Rules that are gone.
    pub removed: usize,
}

impl Supervisor {
    /// Returns a supervisor without rules. `shutdown` ends all loops.
    pub fn new(
        client: Client,
        shared: Shared,
        controls: Arc<Controls>,
        engines: Engines,
        shutdown: CancellationToken,
    ) -> Self {
        Self { client, shared, controls, engines, shutdown, running: Mutex::default() }
    }

    /// Makes `rules` the ones that run. A rule that is gone ends before another may take its target; one whose target
    /// stays keeps its memory.
    pub async fn apply(&self, rules: Vec<Rule>) -> Applied {
        let mut running = self.running.lock().await;
        let mut applied = Applied { added: 0, changed: 0, removed: 0 };
        let stays =
            |name: &str, one: &Running| rules.iter().any(|rule| rule.name == name && rule.target == one.rule.target);
        let leaving: Vec<String> =
            running.iter().filter(|(name, one)| !stays(name, one)).map(|(name, _)| name.clone()).collect();
        let mut moved = Vec::new();
        for name in leaving {
            let Some(one) = running.remove(&name) else { continue };
            one.stop.cancel();
            // A loop ends after its turn; a panic in it has been said by then.
            let ended = one.task.await;
            tracing::info!(rule = name, clean = ended.is_ok(), "the rule ended");
            if rules.iter().any(|rule| rule.name == name) {
                moved.push(name);
            } else {
                applied.removed += 1;
                self.shared.board.remove(&name);
                self.shared.metrics.forget(&name);
            }
        }
        for rule in rules {
            match running.get_mut(&rule.name) {
                Some(one) if *one.rule == rule => {}
                Some(one) => {
                    applied.changed += 1;
                    warn(&rule);
                    let rule = Arc::new(rule);
                    one.rule = Arc::clone(&rule);
                    // The loop is there as long as it is in the map; where it is not, there is nobody to tell.
                    let told = one.commands.send(Command::Replace(rule)).await;
                    tracing::debug!(told = told.is_ok(), "rule replaced");
                }
                None => {
                    if moved.contains(&rule.name) {
                        applied.changed += 1;
                    } else {
                        applied.added += 1;
                    }
                    warn(&rule);
                    let one = self.start(rule);
                    running.insert(one.rule.name.clone(), one);
                }
            }
        }
        applied
    }

    /// Returns the rules that run, in the order of their names.
    pub async fn rules(&self) -> Vec<Arc<Rule>> {
        self.running.lock().await.values().map(|one| Arc::clone(&one.rule)).collect()
    }

    /// Scales a rule's target by hand, between two of its turns. Returns `None` where no rule has this name.
    pub async fn scale(&self, rule: &str, request: ByHand) -> Option<Result<ScaledByHand, Refused>> {
        let commands = self.running.lock().await.get(rule)?.commands.clone();
        let (answer, answered) = oneshot::channel();
        let ask = async {
            commands.send(Command::Scale { request, answer }).await.ok()?;
            answered.await.ok()
        };
        let outcome = tokio::time::timeout(PATIENCE, ask).await.ok().flatten();
        Some(outcome.unwrap_or(Err(Refused::NoAnswer)))
    }

    /// Waits until all loops ended, which they do after `shutdown`.
    pub async fn join(&self) {
        for (name, one) in std::mem::take(&mut *self.running.lock().await) {
            if let Err(error) = one.task.await {
                tracing::error!(rule = name, %error, "the loop of the rule failed");
            }
        }
    }

    fn start(&self, rule: Rule) -> Running {
        let target = target::connect(&rule.target, &self.engines);
        self.shared.board.add(&rule.name);
        let rule = Arc::new(rule);
        let stop = self.shutdown.child_token();
        let (commands, inbox) = mpsc::channel(QUEUE);
        let reconciler = Reconciler::new(
            Arc::clone(&rule),
            target,
            self.client.clone(),
            Arc::clone(&self.controls),
            self.shared.leadership.clone(),
            self.shared.interval,
        );
        let task = tokio::spawn(reconcile::run(reconciler, self.shared.clone(), inbox, stop.clone()));
        Running { rule, stop, commands, task }
    }
}

fn warn(rule: &Rule) {
    if rule.form == Form::Original && matches!(rule.target, TargetConfig::DryRun { .. }) {
        tracing::warn!(rule = rule.name, "the rule runs dry; add spec.target to scale a service");
    }
    for warning in lint(rule) {
        tracing::warn!(rule = rule.name, field = warning.path, "{}", warning.message);
    }
}
