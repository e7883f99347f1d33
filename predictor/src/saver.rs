//! Saves what an engine has learnt, now and then and at the end, and gives it back at the start; off the async threads,
//! and never while a forecast waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloudpulse_common::query::Labels;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::clock::unix_now;
use crate::config::ForecastConfig;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::state::{Entry, Header, Store, Written, fingerprint, unfit};

/// Series that are taken from the engine at once.
const AT_ONCE: usize = 64;

/// The state of one forecast over restarts.
#[derive(Debug)]
pub struct Saver {
    config: Arc<ForecastConfig>,
    store: Arc<Mutex<Store>>,
    interval: Duration,
    metrics: Metrics,
    /// When a write was last begun, or a state restored.
    begun: Option<Instant>,
    /// Last time that the newest state learnt from: without anything newer it is not written again.
    saved_to: Option<i64>,
    under_way: Option<JoinHandle<Outcome>>,
    last_error: Option<String>,
}

/// What a write did: nothing where there was nothing new.
type Outcome = Option<(i64, std::io::Result<Written>)>;

impl Saver {
    /// Returns a saver that writes to `store` at most once in `interval`, and at the end.
    pub fn new(config: Arc<ForecastConfig>, store: Store, interval: Duration, metrics: Metrics) -> Self {
        let store = Arc::new(Mutex::new(store));
        Self { config, store, interval, metrics, begun: None, saved_to: None, under_way: None, last_error: None }
    }

    /// Gives the newest state that is whole and fits `now` (Unix seconds) to a new engine.
    pub async fn restore(&mut self, engine: &Arc<Mutex<Engine>>, now: f64) {
        let (config, store, engine) = (Arc::clone(&self.config), Arc::clone(&self.store), Arc::clone(engine));
        let read = spawn_blocking(move || {
            let mut found = held(&store).read(|header| unfit(header, &config, now))?;
            let restored = found.loaded.as_mut().map(|loaded| {
                let entries = std::mem::take(&mut loaded.entries);
                (entries.len(), held(&engine).restore(entries))
            });
            std::io::Result::Ok((found, restored))
        });
        let name = &self.config.name;
        let (found, restored) = match read.await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                tracing::warn!(forecast = %name, %error, "the saved states cannot be read; the forecast learns anew");
                return;
            }
            Err(error) => {
                tracing::error!(forecast = %name, %error, "restoring failed; this is a defect, please report it");
                return;
            }
        };
        let damaged = self.metrics.state_damaged.with_label_values(&[name]);
        for (path, fault) in &found.damaged {
            damaged.inc();
            tracing::warn!(forecast = %name, file = %path.display(), "a saved state is damaged and put aside: {fault}");
        }
        for reason in &found.unfit {
            tracing::info!(forecast = %name, "a saved state is not taken: {reason}");
        }
        let (of, restored) = restored.unwrap_or((0, 0));
        self.metrics.state_restored.with_label_values(&[name]).set(i64::try_from(restored).unwrap_or(i64::MAX));
        if let Some(loaded) = found.loaded {
            let (number, ends) = (loaded.number, loaded.header.learned_to);
            tracing::info!(forecast = %name, number, restored, of, seconds_old = now as i64 - ends, "state restored");
            self.begun = Some(Instant::now());
            self.saved_to = Some(ends);
        }
    }

    /// Begins to write what `engine` has learnt, where the interval is over and no write is under way.
    pub async fn save_if_due(&mut self, engine: &Arc<Mutex<Engine>>) {
        if self.under_way.as_ref().is_some_and(|write| !write.is_finished()) {
            return;
        }
        self.settle().await;
        if self.begun.is_none_or(|begun| begun.elapsed() >= self.interval) {
            self.begin(engine);
        }
    }

    /// Writes what is new and returns once it is on the disk.
    pub async fn finish(mut self, engine: &Arc<Mutex<Engine>>) {
        self.settle().await;
        self.begin(engine);
        self.settle().await;
    }

    fn begin(&mut self, engine: &Arc<Mutex<Engine>>) {
        let (config, store, engine) = (Arc::clone(&self.config), Arc::clone(&self.store), Arc::clone(engine));
        let (saved_to, metrics) = (self.saved_to, self.metrics.clone());
        self.begun = Some(Instant::now());
        self.under_way = Some(spawn_blocking(move || {
            // What a panic left half done is not worth keeping; the loop has a new engine by then.
            let learned_to = engine.lock().ok()?.learned_to().filter(|time| Some(*time) > saved_to)?;
            let header = Header { forecast: config.name.clone(), fingerprint: fingerprint(&config), learned_to };
            let written = held(&store).write(&header, entries(&engine));
            match &written {
                Ok(Written { bytes, .. }) => {
                    let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
                    metrics.state_written.with_label_values(&[&config.name]).set(unix_now());
                    metrics.state_bytes.with_label_values(&[&config.name]).set(bytes);
                }
                Err(_) => metrics.state_errors.with_label_values(&[&config.name]).inc(),
            }
            Some((learned_to, written))
        }));
    }

    /// Waits for the write that is under way, if any, and says how it went.
    async fn settle(&mut self) {
        let Some(write) = self.under_way.take() else { return };
        let name = &self.config.name;
        let error = match write.await {
            Ok(None) => return,
            Ok(Some((learned_to, Ok(Written { number, bytes })))) => {
                self.saved_to = Some(learned_to);
                tracing::debug!(forecast = %name, number, bytes, "state saved");
                self.last_error = None;
                return;
            }
            Ok(Some((_, Err(error)))) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // Said once for each new reason, not each time.
        if self.last_error.as_ref() != Some(&error) {
            tracing::warn!(forecast = %name, %error, "the state cannot be saved; it is tried again");
        }
        self.last_error = Some(error);
    }
}

/// The series of the engine, some at a time: it is held for moments only, so that no forecast waits, and memory for few of
/// them is enough. Each series is whole; later ones may know a little more than earlier ones.
fn entries(engine: &Mutex<Engine>) -> impl Iterator<Item = std::io::Result<Entry>> {
    let mut last: Option<Labels> = None;
    let chunks = std::iter::from_fn(move || {
        let Ok(engine) = engine.lock() else { return Some(vec![Err(std::io::Error::other("the models failed"))]) };
        let chunk = engine.save(last.as_ref(), AT_ONCE);
        drop(engine);
        last = Some(chunk.last()?.0.clone());
        Some(chunk.into_iter().map(Ok).collect())
    });
    chunks.flatten()
}

/// A panic while it was held has been said, and leaves a store and a new engine as they were.
fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
