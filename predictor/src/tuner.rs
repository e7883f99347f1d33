//! Fine-tuning of a forecast's network while it serves: its series in; better weights in use and on the disk, or a word why
//! not, out.
//!
//! It runs beside the cycles, on threads of its own with the lowest priority, one forecast at a time, and holds the series
//! only as long as it takes to copy some of them. What it finds is used only where it forecasts the newest span of the
//! series better than what was in use; see [`cloudpulse_lstm::tuning`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cloudpulse_common::query::Labels;
use cloudpulse_forecast::ensemble::Ensemble;
use cloudpulse_lstm::member::{self, Member, MemberError};
use cloudpulse_lstm::tuning::{self, Tuned, TuningError, Verdict};
use cloudpulse_lstm::{Weights, store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::config::ForecastConfig;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::state::{NetworkHeader, Store, Written};

/// A forecast whose series have too short a history tries again after this, in seconds.
const RETRY_SECONDS: f64 = 3600.0;
/// The lowest priority that Linux knows.
const NICE: i32 = 19;

/// Asks for a fine-tuning out of turn; clones ask the same forecast.
#[derive(Debug, Clone, Default)]
pub struct Request(Arc<AtomicBool>);

impl Request {
    /// Asks.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// What fine-tunings of all forecasts share: they wait for each other.
#[derive(Debug, Clone)]
pub struct Workshop {
    slot: Arc<Semaphore>,
    threads: usize,
    engine: cloudpulse_lstm::engine::Engine,
}

impl Workshop {
    /// Returns one that works on `threads` threads, and takes training steps with `engine`.
    pub fn new(threads: usize, engine: cloudpulse_lstm::engine::Engine) -> Self {
        Self { slot: Arc::new(Semaphore::new(1)), threads: threads.max(1), engine }
    }
}

/// The network of one forecast.
#[derive(Debug)]
pub struct Tuner {
    config: Arc<ForecastConfig>,
    /// The models without the network.
    models: Ensemble,
    member: Arc<Member>,
    bundled: Arc<Weights>,
    store: Option<Store<NetworkHeader>>,
    workshop: Workshop,
    metrics: Metrics,
    request: Request,
    /// When the next fine-tuning begins, Unix seconds; never where absent.
    due: Option<f64>,
    under_way: Option<Job>,
}

#[derive(Debug)]
struct Job {
    stop: Arc<AtomicBool>,
    began: Instant,
    /// Series that it learns from, and what it found.
    work: JoinHandle<(usize, Result<Tuned, TuningError>)>,
}

impl Tuner {
    /// Returns the network of `config` as it comes with the program. Fine-tuned ones are kept in `store`, if any.
    ///
    /// # Errors
    /// When the bundled weights do not fit, which a test rules out.
    pub fn new(
        config: Arc<ForecastConfig>,
        models: &Ensemble,
        store: Option<Store<NetworkHeader>>,
        workshop: Workshop,
        metrics: Metrics,
    ) -> Result<Self, MemberError> {
        let member = Member::bundled(models)?;
        Ok(Self {
            bundled: member.weights(),
            member: Arc::new(member),
            due: config.lstm.fine_tune.then_some(f64::NEG_INFINITY),
            config,
            models: models.clone(),
            store,
            workshop,
            metrics,
            request: Request::default(),
            under_way: None,
        })
    }

    /// Returns the models, mixed by this network.
    pub fn ensemble(&self) -> Ensemble {
        self.models.with_network(Arc::clone(&self.member) as Arc<_>)
    }

    /// Returns a way to ask for a fine-tuning out of turn.
    pub fn request(&self) -> Request {
        self.request.clone()
    }

    /// Uses the newest network in the store that is whole and fits these models.
    pub fn restore(&mut self) {
        let name = &self.config.name;
        let Some(store) = &mut self.store else { return };
        let found = match store.read(|_| None) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(forecast = %name, %error, "the saved networks cannot be read; the bundled one is used");
                return;
            }
        };
        for (path, fault) in &found.damaged {
            self.metrics.state_damaged.with_label_values(&[name]).inc();
            tracing::warn!(forecast = %name, file = %path.display(), "a saved network is damaged and put aside: {fault}");
        }
        let Some(loaded) = found.loaded else { return };
        let weights = loaded.entries.first().map_or(&[][..], |(_, bytes)| bytes);
        match Member::load(&self.models, weights) {
            Ok(member) => {
                self.member.replace(member.weights());
                if let Some(due) = &mut self.due {
                    *due = loaded.header.made_at as f64 + self.config.lstm.interval as f64;
                }
                self.metrics.network_made.with_label_values(&[name]).set(loaded.header.made_at as f64);
                tracing::info!(forecast = %name, number = loaded.number, "fine-tuned network restored");
            }
            Err(error) => {
                tracing::warn!(forecast = %name, number = loaded.number, %error, "a saved network is of another program; the bundled one is used");
            }
        }
    }

    /// Takes what a fine-tuning has found, and begins one where it is due at `now` (Unix seconds) and no other forecast is at
    /// it. Returns at once.
    pub async fn turn(&mut self, engine: &Arc<Mutex<Engine>>, now: f64) {
        if let Some(job) = self.under_way.take_if(|job| job.work.is_finished()) {
            self.settle(job, now).await;
        }
        if self.under_way.is_some()
            || !(self.due.is_some_and(|due| now >= due) || self.request.0.load(Ordering::Relaxed))
        {
            return;
        }
        let Ok(permit) = Arc::clone(&self.workshop.slot).try_acquire_owned() else { return };
        self.request.take();
        self.under_way = Some(self.begin(engine, now, permit));
    }

    /// Stops a fine-tuning that is under way, and waits until it has.
    pub async fn finish(self) {
        if let Some(job) = self.under_way {
            job.stop.store(true, Ordering::Relaxed);
            // What it would have found is lost, however it ended.
            let _ = job.work.await;
        }
    }

    fn begin(&self, engine: &Arc<Mutex<Engine>>, now: f64, permit: OwnedSemaphorePermit) -> Job {
        let (series_of, models) = (Arc::clone(engine), self.models.clone());
        let Workshop { threads, engine, .. } = self.workshop.clone();
        let (bundled, current) = (Arc::clone(&self.bundled), self.member.weights());
        let (series, seed) = (self.config.lstm.series, now as u64);
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let work = spawn_blocking(move || {
            // What a panic in a cycle left half done is not learnt from.
            let pasts = series_of.lock().map(|engine| engine.pasts(series, seed)).unwrap_or_default();
            let stop = || told.load(Ordering::Relaxed);
            let count = pasts.len();
            let found =
                quiet_threads(threads, || tuning::tune(&models, &pasts, [&bundled, &current], seed, engine, stop));
            drop(permit);
            (count, found)
        });
        tracing::debug!(forecast = %self.config.name, "fine-tuning begins");
        Job { stop, began: Instant::now(), work }
    }

    async fn settle(&mut self, job: Job, now: f64) {
        let config = Arc::clone(&self.config);
        let name = &config.name;
        let seconds = job.began.elapsed().as_secs_f64();
        let mut next = self.config.lstm.interval as f64;
        let result = match job.work.await {
            Ok((series, Ok(tuned))) => {
                let losses = [&tuned.bundled, &tuned.before, &tuned.after].map(|worth| worth.quantile_loss);
                for (weights, loss) in ["bundled", "before", "tuned"].iter().zip(losses) {
                    self.metrics.network_loss.with_label_values(&[name.as_str(), weights]).set(loss);
                }
                let verdict = tuned.verdict();
                let [bundled, before, after] = losses;
                tracing::info!(
                    forecast = %name, series, windows = ?tuned.windows, seconds, bundled, before, after, ?verdict,
                    "fine-tuned; losses are shares of persistence's error on the newest windows"
                );
                if let Some(why) = &tuned.lost_device {
                    tracing::warn!(forecast = %name, "the GPU failed in fine-tuning, and the CPU went on: {why}");
                }
                match verdict {
                    Verdict::Tuned => {
                        self.keep(tuned, series, now, losses);
                        "kept"
                    }
                    Verdict::Bundled => {
                        self.member.replace(Arc::clone(&self.bundled));
                        self.metrics.network_made.with_label_values(&[name]).set(0.0);
                        "bundled"
                    }
                    Verdict::Before => "not_better",
                }
            }
            Ok((series, Err(error @ TuningError::TooLittle { .. }))) => {
                tracing::info!(forecast = %name, series, %error, "not fine-tuned: too little history yet");
                next = RETRY_SECONDS;
                "too_little"
            }
            Ok((_, Err(TuningError::Stopped))) => "stopped",
            Ok((_, Err(error))) => {
                tracing::error!(forecast = %name, %error, "fine-tuning failed; this is a defect, please report it");
                "failed"
            }
            Err(error) => {
                tracing::error!(forecast = %name, %error, "fine-tuning failed; this is a defect, please report it");
                "failed"
            }
        };
        self.metrics.fine_tunings.with_label_values(&[name.as_str(), result]).inc();
        self.metrics.fine_tuning_seconds.with_label_values(&[name]).observe(seconds);
        self.due = self.due.map(|_| now + next);
    }

    /// Uses the weights from now on, and writes them.
    fn keep(&mut self, tuned: Tuned, series: usize, now: f64, losses: [f64; 3]) {
        let config = Arc::clone(&self.config);
        let name = &config.name;
        let Tuned { weights, windows, steps, .. } = tuned;
        let recurrent = weights.shape().recurrent;
        let header = NetworkHeader { forecast: name.clone(), made_at: now as i64, series, windows, steps, losses };
        self.metrics.network_made.with_label_values(&[name]).set(now);
        if let Some(store) = &mut self.store {
            let written = store::save(&weights, &member::notes(&self.models, recurrent))
                .map_err(std::io::Error::other)
                .and_then(|bytes| store.write(&header, [Ok((Labels::default(), bytes))]));
            match written {
                Ok(Written { number, bytes }) => tracing::debug!(forecast = %name, number, bytes, "network saved"),
                Err(error) => {
                    self.metrics.state_errors.with_label_values(&[name]).inc();
                    tracing::warn!(forecast = %name, %error, "the fine-tuned network cannot be saved; a restart loses it");
                }
            }
        }
        self.member.replace(Arc::new(weights));
    }
}

/// Runs `work` on threads of its own that give way to all others. On the current threads where there can be none.
fn quiet_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let quiet = |_| {
        // On Linux this is the thread's own priority. Where it is not allowed, the work is only less polite.
        let _ = rustix::process::setpriority_process(None, NICE);
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|_| "fine-tuning".to_owned())
        .start_handler(quiet)
        .build();
    match pool {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}
