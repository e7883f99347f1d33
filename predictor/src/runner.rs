//! The loop of each forecast: fetch, forecast, publish; and what is said when one of them fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloudpulse_common::query::{Client, Labels, QueryError};
use cloudpulse_common::server::Readiness;
use cloudpulse_forecast::ensemble::Ensemble;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{ForecastConfig, duration_label};
use crate::engine::{Engine, Made};
use crate::fetch;
use crate::metrics::Metrics;
use crate::publish::{Batch, Board};
use crate::regressors::Regressors;
use crate::saver::Saver;
use crate::shard::Shard;
use crate::tuner::Tuner;

/// Before the first success a failed fetch is tried again this soon.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// After the next step of time, when the source has its samples.
const AFTER_STEP: Duration = Duration::from_millis(500);
/// Reading a long history says how far it is this often.
const PROGRESS: Duration = Duration::from_secs(10);
/// At most this many series are named in the log at once.
const MOST_LINES: usize = 10;
/// Histories of series that appeared later are fetched at most this often: a fleet that churns must not fetch all day.
const REFETCH: Duration = Duration::from_secs(600);

/// What all loops share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Where samples come from.
    pub client: Client,
    /// Models and their shared plans.
    pub ensemble: Ensemble,
    /// What time it is.
    pub clock: Clock,
    /// Where forecasts go.
    pub board: Board,
    /// What the loops say of themselves.
    pub metrics: Metrics,
    /// Which series are forecast here.
    pub shard: Shard,
    /// Ready once every forecast was made once.
    pub progress: Arc<Progress>,
}

/// Which forecasts were made at least once, and why the others were not.
#[derive(Debug)]
pub struct Progress {
    waiting: Mutex<BTreeMap<String, String>>,
    readiness: Readiness,
}

impl Progress {
    /// Returns a state in which all of `names` are waited for.
    pub fn new(names: impl IntoIterator<Item = String>, readiness: Readiness) -> Self {
        let waiting = names.into_iter().map(|name| (name, "the first query is under way".to_owned())).collect();
        Self { waiting: Mutex::new(waiting), readiness }
    }

    fn done(&self, name: &str) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(name);
        self.say(&waiting);
    }

    fn failed(&self, name: &str, why: &str) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = waiting.get_mut(name) {
            why.clone_into(reason);
        }
        self.say(&waiting);
    }

    fn say(&self, waiting: &BTreeMap<String, String>) {
        match waiting.iter().next() {
            None => self.readiness.ready(),
            Some((name, why)) => self.readiness.unready(format!("forecast {name}: {why}")),
        }
    }
}

/// Forecasts `config` again and again until `shutdown`, from the state and to the state that `saver` keeps, if any; `tuner`
/// fine-tunes the network that mixes its models, if there is one.
pub async fn run(
    config: Arc<ForecastConfig>,
    shared: Shared,
    mut saver: Option<Saver>,
    mut tuner: Option<Tuner>,
    shutdown: CancellationToken,
) {
    if let Some(tuner) = &mut tuner {
        tuner.restore();
    }
    let engine = Engine::new(Arc::clone(&config), shared.ensemble.clone(), shared.shard);
    let engine = Arc::new(Mutex::new(engine));
    if let Some(saver) = &mut saver {
        saver.restore(&engine, shared.clock.now()).await;
    }
    let mut cycle = Cycle {
        engine,
        regressors: Regressors::new(Arc::clone(&config)),
        config,
        shared,
        fetched_to: None,
        refetched: None,
        last_error: None,
        said_dropped: 0,
        demoted: BTreeSet::new(),
    };
    loop {
        let now = cycle.shared.clock.now();
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = cycle.turn(now) => {}
        }
        if let Some(saver) = &mut saver {
            saver.save_if_due(&cycle.engine).await;
        }
        if let Some(tuner) = tuner.as_mut().filter(|_| cycle.fetched_to.is_some()) {
            tuner.turn(&cycle.engine, cycle.shared.clock.now()).await;
        }
        let interval = cycle.config.interval as f64;
        let clock = cycle.shared.clock;
        let pause = match cycle.fetched_to {
            None => FIRST_RETRY.min(clock.real(interval)),
            // A little after the next multiple, so that its samples are there.
            Some(_) => {
                clock.real(interval - clock.now().rem_euclid(interval)) + AFTER_STEP.min(clock.real(interval / 4.0))
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    if let Some(tuner) = tuner {
        tuner.finish().await;
    }
    if let Some(saver) = saver {
        saver.finish(&cycle.engine).await;
    }
}

struct Cycle {
    config: Arc<ForecastConfig>,
    shared: Shared,
    /// Held by one blocking thread at a time; async code reaches it through [`Cycle::with_engine`].
    engine: Arc<Mutex<Engine>>,
    regressors: Regressors,
    /// End of the last successful fetch.
    fetched_to: Option<i64>,
    /// Time of the last whole fetch that new series asked for.
    refetched: Option<Instant>,
    last_error: Option<String>,
    said_dropped: usize,
    /// Series and horizons for which a baseline stands in.
    demoted: BTreeSet<(Labels, i64)>,
}

impl Cycle {
    async fn turn(&mut self, now: f64) {
        let name = self.config.name.clone();
        let metrics = self.shared.metrics.clone();
        let end = fetch::last_step(now - self.config.query_offset as f64, self.config.step);
        self.fetch_regressors(end).await;
        let started = Instant::now();
        metrics.queries.with_label_values(&[&name]).inc();
        let fetched = self.fetch(end).await;
        metrics.query_seconds.with_label_values(&[&name]).observe(started.elapsed().as_secs_f64());
        if let Err(error) = fetched {
            metrics.query_errors.with_label_values(&[name.as_str(), error.reason()]).inc();
            self.complain(&error);
            return;
        }
        if self.last_error.take().is_some() {
            tracing::info!(forecast = %name, "prometheus answers again");
        }
        self.fetched_to = Some(end);
        let started = Instant::now();
        // Fits that do not fit into the cycle wait for the next one; the forecasts themselves never wait.
        let budget = self.config.refit_budget();
        let Some((made, bytes)) = self
            .with_engine(move |engine| {
                let began = Instant::now();
                let made = engine.cycle(end, |_| began.elapsed() < budget);
                (made, engine.bytes())
            })
            .await
        else {
            return;
        };
        let Made { issued, skipped_fits, demoted, network_weight } = made;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.forecast_seconds.with_label_values(&[&name]).observe(started.elapsed().as_secs_f64());
        metrics.series.with_label_values(&[&name]).set(count(issued.len()));
        metrics.series_bytes.with_label_values(&[&name]).set(count(bytes));
        metrics.skipped_fits.with_label_values(&[&name]).inc_by(skipped_fits as u64);
        if let Some(weight) = network_weight {
            metrics.network_weight.with_label_values(&[&name]).set(weight);
        }
        metrics.last_success.with_label_values(&[&name]).set(self.shared.clock.now());
        tracing::debug!(forecast = %name, series = issued.len(), seconds = started.elapsed().as_secs_f64(), "forecast");
        self.say_demoted(demoted);
        self.shared.board.put(Batch { config: Arc::clone(&self.config), made_at: end, issued });
        self.shared.progress.done(&name);
    }

    /// Asks for the regressors that are due, before the series, which are to learn with them from the start.
    async fn fetch_regressors(&mut self, end: i64) {
        if self.config.regressors.is_empty() {
            return;
        }
        self.regressors.refresh(&self.shared.client, &self.shared.metrics, end).await;
        let known = self.regressors.known();
        let _ = self.with_engine(move |engine| engine.know(&known)).await;
    }

    /// Takes in what is new up to `end`; everything at the start, after a long silence, and when series appear.
    async fn fetch(&mut self, end: i64) -> Result<(), QueryError> {
        let Some(is_empty) = self.with_engine(|engine| engine.is_empty()).await else { return Ok(()) };
        let since = self.fetched_to.filter(|since| !is_empty && end - since < self.config.history);
        let Some(since) = since else { return self.fetch_history(end).await };
        let series = fetch::recent(&self.shared.client, &self.config, since, end).await?;
        let Some(merged) = self.with_engine(move |engine| engine.merge(series, end)).await else { return Ok(()) };
        self.say_dropped(merged.dropped);
        if merged.new > 0 && self.refetched.is_none_or(|at| at.elapsed() >= REFETCH) {
            self.refetched = Some(Instant::now());
            return self.fetch_history(end).await;
        }
        Ok(())
    }

    /// Reads the whole history piece by piece, each taken in before the next is asked for, so that memory stays bounded.
    async fn fetch_history(&mut self, end: i64) -> Result<(), QueryError> {
        let client = self.shared.client.clone();
        let config = Arc::clone(&self.config);
        let returned = client.instant(&config.query, Some(end)).await?;
        let count = returned.len();
        let labels = returned.into_iter().map(|series| series.labels);
        let Some((kept, dropped)) = self.with_engine(|engine| engine.keep(labels)).await else { return Ok(()) };
        self.say_dropped(dropped);
        // A query without series is asked each cycle: not worth a line each time.
        if kept.is_empty() {
            return Ok(());
        }
        let pieces = fetch::pieces(&config, end, count, kept.len());
        if let Some(first) = pieces.first().filter(|first| first.from > end - config.history) {
            tracing::warn!(
                forecast = %config.name,
                "the query returns so many series that only the last {} of history are read; narrow the query",
                duration_label(end - first.from)
            );
        }
        let (started, count) = (Instant::now(), pieces.len());
        let mut said = Instant::now();
        for (number, piece) in pieces.into_iter().enumerate() {
            let series = fetch::piece(&client, &config, piece, &kept).await?;
            if self.with_engine(move |engine| engine.merge(series, end)).await.is_none() {
                return Ok(());
            }
            if said.elapsed() >= PROGRESS {
                said = Instant::now();
                tracing::info!(forecast = %config.name, "history: {} of {count} pieces read", number + 1);
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(forecast = %config.name, series = kept.len(), seconds, "history read");
        Ok(())
    }

    /// Runs `work` on a blocking thread, so that scrapes are answered meanwhile. `None` where it panicked.
    async fn with_engine<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Option<T> {
        let engine = Arc::clone(&self.engine);
        let done = tokio::task::spawn_blocking(move || {
            // Poisoned only by a panic in an earlier task, after which the engine was replaced.
            work(&mut engine.lock().unwrap_or_else(PoisonError::into_inner))
        });
        match done.await {
            Ok(result) => Some(result),
            Err(error) => {
                // What the panic left half done is dropped: the histories are read again in the next turn.
                tracing::error!(forecast = %self.config.name, %error, "the models failed; this is a defect, please report it");
                let fresh = Engine::new(Arc::clone(&self.config), self.shared.ensemble.clone(), self.shared.shard);
                self.engine = Arc::new(Mutex::new(fresh));
                self.fetched_to = None;
                None
            }
        }
    }

    /// Says once which forecasts lost to a baseline, and which are back.
    fn say_demoted(&mut self, demoted: BTreeSet<(Labels, i64)>) {
        let name = &self.config.name;
        for (labels, seconds) in demoted.difference(&self.demoted).take(MOST_LINES) {
            let horizon = duration_label(*seconds);
            tracing::warn!(forecast = %name, series = ?labels, horizon, "lost to a baseline over a day; the baseline stands in");
        }
        for (labels, seconds) in self.demoted.difference(&demoted).take(MOST_LINES) {
            tracing::info!(forecast = %name, series = ?labels, horizon = duration_label(*seconds), "is better than the baselines again");
        }
        self.demoted = demoted;
    }

    fn complain(&mut self, error: &QueryError) {
        let text = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {}", innermost(source)),
            None => error.to_string(),
        };
        self.shared.progress.failed(&self.config.name, &text);
        // Said once for each new reason, not each cycle.
        if self.last_error.as_deref() != Some(&text) {
            tracing::warn!(forecast = %self.config.name, error = %text, "no samples; forecasts age and are then no longer shown");
        }
        self.last_error = Some(text);
    }

    fn say_dropped(&mut self, dropped: usize) {
        let gauge = self.shared.metrics.series_dropped.with_label_values(&[&self.config.name]);
        gauge.set(i64::try_from(dropped).unwrap_or(i64::MAX));
        if dropped > 0 && dropped != self.said_dropped {
            tracing::warn!(
                forecast = %self.config.name,
                dropped,
                max_series = self.config.max_series,
                "the query returns more series than max_series; the rest is not forecast"
            );
        }
        self.said_dropped = dropped;
    }
}

fn innermost(mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
