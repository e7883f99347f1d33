//! Watches the replicas that a target started until they are ready: one task a target, one look a second.
//!
//! In: which containers were started, and the engine. Out: how long they took, and what failed.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::InspectContainerOptions;
use tokio_util::task::TaskTracker;

use crate::target::docker::backoff::Backoff;
use crate::target::docker::backoff::Held;
use crate::target::docker::progress::Look;
use crate::target::docker::progress::News;
use crate::target::docker::progress::Started;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);
/// When a replica is given up that does not get ready.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often the task looks whether the program ends.
const POLL: Duration = Duration::from_millis(100);
/// Start times that are kept for who asks; the oldest go first.
const MAX_KEPT: usize = 1000;

/// The replicas that a target started.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<Started>,
    took: Vec<Duration>,
    backoff: Backoff,
    watching: bool,
}

impl Starts {
    /// Notes a container that was started; see [`Started::new`].
    pub(crate) fn add(&self, id: &str, name: &str, at: Instant, again: Option<Duration>) {
        let mut state = self.lock();
        state.pending.retain(|replica| replica.id != id);
        state.pending.push(Started::new(id.to_owned(), name.to_owned(), at, again));
    }

    /// Notes that a container is being stopped: it does not fail any more.
    pub(crate) fn forget(&self, id: &str) {
        self.lock().pending.retain(|replica| replica.id != id);
    }

    /// Returns how long replicas took, of those that became ready since the last call.
    pub(crate) fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.lock().took)
    }

    /// Returns what keeps a start back now: the last that were started did not get ready.
    pub(crate) fn held(&self) -> Option<Held> {
        self.lock().backoff.held(Instant::now())
    }

    /// Sees to it that a task watches what there is to watch. It ends with the last replica, or when `background` is
    /// closed.
    pub(crate) fn watch(self: &Arc<Self>, client: &Docker, background: &TaskTracker) {
        let mut state = self.lock();
        if state.watching || state.pending.is_empty() || background.is_closed() {
            return;
        }
        state.watching = true;
        drop(state);
        let (this, client, tracker) = (Arc::clone(self), client.clone(), background.clone());
        background.spawn(async move {
            tokio::select! {
                () = this.watch_all(&client) => {}
                () = closed(&tracker) => this.lock().watching = false,
            }
        });
    }

    async fn watch_all(&self, client: &Docker) {
        loop {
            tokio::time::sleep(EVERY).await;
            let ids: Vec<String> = self.lock().pending.iter().map(|replica| replica.id.clone()).collect();
            for id in ids {
                match client.inspect_container(&id, None::<InspectContainerOptions>).await {
                    Ok(container) => self.look(&id, Some(&Look::of(container))),
                    // Whoever removed it knows why.
                    Err(Error::DockerResponseServerError { status_code: 404, .. }) => self.forget(&id),
                    Err(_) => self.look(&id, None),
                }
            }
            let mut state = self.lock();
            if state.pending.is_empty() {
                state.watching = false;
                return;
            }
        }
    }

    fn look(&self, id: &str, look: Option<&Look>) {
        let mut state = self.lock();
        let Some(at) = state.pending.iter().position(|replica| replica.id == id) else { return };
        let now = Instant::now();
        let News { took, proven, failure, over } = state.pending[at].look(look, PATIENCE, now);
        if proven {
            state.backoff.proven();
        }
        if let Some(failure) = &failure {
            state.backoff.failed(failure.clone(), now);
        }
        if over {
            state.pending.swap_remove(at);
        }
        if let Some(took) = took {
            let surplus = (state.took.len() + 1).saturating_sub(MAX_KEPT);
            state.took.drain(..surplus);
            state.took.push(took);
        }
        drop(state);
        if let Some(failure) = failure {
            tracing::warn!(%failure, "a replica that was started does not get ready");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn closed(background: &TaskTracker) {
    while !background.is_closed() {
        tokio::time::sleep(POLL).await;
    }
}
