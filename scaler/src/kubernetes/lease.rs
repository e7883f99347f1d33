//! Which of several scalers acts: a Lease in; whether this one leads now, out.
//!
//! As client-go's leader election: who writes his name into the Lease leads as long as he renews it, and another takes it over
//! when it was not renewed for its whole duration. No clock is compared with another machine's: a scaler counts from the
//! moment at which it saw the Lease change. A leader stops acting when it could not renew for a part of the duration, so that
//! what it has under way ends before another may act.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::Client;
use kube::api::ObjectMeta;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::cluster::call;
use crate::target::TargetError;

/// Of the lease's duration, the part after which a leader that cannot renew stops acting. The rest, 7 s of 15 s, is longer
/// than the two calls (3 s each) of a change that has just begun.
const ACTING_SHARE: f64 = 8.0 / 15.0;
/// Of the lease's duration, the part after which it is renewed, or looked at again.
const RETRY_SHARE: f64 = 2.0 / 15.0;

/// Whether this scaler may act. Clones share one state.
#[derive(Debug, Clone)]
pub struct Leadership(Option<Arc<State>>);

#[derive(Debug)]
struct State {
    until: Mutex<Option<Instant>>,
    holder: Mutex<String>,
    leads: watch::Sender<bool>,
}

impl Leadership {
    /// Returns the lead of a scaler that is alone.
    pub const fn alone() -> Self {
        Self(None)
    }

    /// Returns a scaler that does not lead yet.
    pub fn candidate() -> Self {
        let (leads, _) = watch::channel(false);
        Self(Some(Arc::new(State { until: Mutex::default(), holder: Mutex::default(), leads })))
    }

    /// Returns whether this scaler may act now.
    pub fn leads(&self) -> bool {
        self.0.as_ref().is_none_or(|state| lock(&state.until).is_some_and(|until| Instant::now() < until))
    }

    /// Returns the name of the scaler that leads, as far as is known; empty where it is not, or this one is alone.
    pub fn holder(&self) -> String {
        self.0.as_ref().map(|state| lock(&state.holder).clone()).unwrap_or_default()
    }

    /// Waits until this scaler begins to lead; never returns for one that is alone.
    pub async fn begins(&self) {
        let Some(state) = &self.0 else { return std::future::pending().await };
        let mut leads = state.leads.subscribe();
        leads.mark_unchanged();
        loop {
            // The sender lives as long as the state.
            if leads.changed().await.is_err() {
                return std::future::pending().await;
            }
            if *leads.borrow_and_update() {
                return;
            }
        }
    }

    fn set(&self, until: Option<Instant>, holder: &str) {
        let Some(state) = &self.0 else { return };
        let led = self.leads();
        *lock(&state.until) = until;
        holder.clone_into(&mut lock(&state.holder));
        let leads = self.leads();
        state.leads.send_if_modified(|value| std::mem::replace(value, leads) != leads);
        if led != leads {
            tracing::info!(leads, holder, "the lead changed");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Competes for a Lease.
#[derive(Debug)]
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    duration: Duration,
    /// The lease as it was last seen, and when it was first seen so.
    seen: Option<(Lease, Instant)>,
}

impl Election {
    /// Returns a competitor for the Lease `name`, by `identity`, which no other may have.
    pub fn new(client: Client, namespace: &str, name: String, identity: String, duration: Duration) -> Self {
        Self { api: Api::namespaced(client, namespace), name, identity, duration, seen: None }
    }

    /// Competes until `shutdown` is cancelled, and tells `leadership`.
    pub async fn run(&mut self, leadership: &Leadership, shutdown: &CancellationToken) {
        let mut said = String::new();
        loop {
            let asked_at = Instant::now();
            match self.attempt(asked_at).await {
                Ok(true) => {
                    leadership.set(Some(asked_at + self.duration.mul_f64(ACTING_SHARE)), &self.identity);
                    said.clear();
                }
                Ok(false) => {
                    leadership.set(None, &self.holder());
                    said.clear();
                }
                Err(error) => {
                    // What was won stays won until its time is over.
                    let words = error.to_string();
                    if words != said {
                        tracing::warn!(lease = self.name, error = words, "the lease cannot be renewed or looked at");
                        said = words;
                    }
                    if !leadership.leads() {
                        leadership.set(None, &self.holder());
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.duration.mul_f64(RETRY_SHARE)) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Gives the lead back, so that another need not wait. To be called when nothing acts any more.
    pub async fn release(&mut self, leadership: &Leadership) {
        let led = leadership.leads();
        leadership.set(None, "");
        if !led {
            return;
        }
        if let Some((mut lease, _)) = self.seen.take() {
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            let given = call("give the lease back", self.api.replace(&self.name, &PostParams::default(), &lease)).await;
            if let Err(error) = given {
                tracing::warn!(%error, "the lease was not given back; another scaler waits until it is over");
            }
        }
    }

    /// Takes or renews the lease. Returns whether it is this scaler's.
    async fn attempt(&mut self, now: Instant) -> Result<bool, TargetError> {
        let found = call("read the lease", self.api.get_opt(&self.name)).await?;
        let Some(found) = found else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            return self
                .write("create the lease", now, async |api, _| api.create(&PostParams::default(), &lease).await)
                .await;
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| seen.spec != found.spec) {
            self.seen = Some((found.clone(), now));
        }
        let seen_at = self.seen.as_ref().map_or(now, |(_, at)| *at);
        let spec = found.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        let theirs = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
        let over = now.duration_since(seen_at) >= theirs.map_or(self.duration, Duration::from_secs);
        if holder != self.identity && !holder.is_empty() && !over {
            return Ok(false);
        }
        // With the resource version that was read: of two who try, one is told that he came too late.
        let lease = Lease { metadata: found.metadata.clone(), spec: Some(self.spec(spec)) };
        self.write("renew the lease", now, async |api, name| api.replace(name, &PostParams::default(), &lease).await)
            .await
    }

    async fn write(
        &mut self,
        operation: &str,
        now: Instant,
        write: impl AsyncFnOnce(&Api<Lease>, &str) -> Result<Lease, kube::Error>,
    ) -> Result<bool, TargetError> {
        match call(operation, write(&self.api, &self.name)).await {
            Ok(lease) => {
                self.seen = Some((lease, now));
                Ok(true)
            }
            Err(TargetError::Busy(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mut spec = before.cloned().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.lease_transitions = Some(before.map_or(0, |spec| spec.lease_transitions.unwrap_or_default() + 1));
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.duration.as_secs()).ok();
        spec.renew_time = Some(now);
        spec
    }

    fn holder(&self) -> String {
        let spec = self.seen.as_ref().and_then(|(lease, _)| lease.spec.as_ref());
        spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default()
    }
}

/// Returns a name that no other process has: the pod's, or the machine's, and something random.
pub fn identity() -> String {
    use std::hash::BuildHasher as _;
    let host = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| "scaler".to_owned());
    let random = std::hash::RandomState::new().hash_one(std::process::id());
    format!("{host}_{random:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lead_ends_by_itself_and_its_begin_is_told() {
        assert!(Leadership::alone().leads());
        let leadership = Leadership::candidate();
        assert!(!leadership.leads());
        let other = leadership.clone();
        let begun = tokio::spawn(async move { other.begins().await });
        tokio::task::yield_now().await;
        leadership.set(Some(Instant::now() + Duration::from_secs(60)), "me");
        begun.await.unwrap();
        assert!(leadership.leads());
        assert_eq!(leadership.holder(), "me");
        leadership.set(Some(Instant::now()), "me");
        assert!(!leadership.leads(), "its time is over");
    }
}
