//! The loop of each forecast: fetch, forecast, publish; and what is said when one of them fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cloudpulse_common::query::{Client, QueryError};
use cloudpulse_common::server::Readiness;
use cloudpulse_forecast::ensemble::Ensemble;
use tokio_util::sync::CancellationToken;

use crate::config::{ForecastConfig, duration_label};
use crate::engine::Engine;
use crate::fetch;
use crate::metrics::Metrics;
use crate::publish::{Batch, Board};

/// Before the first success a failed fetch is tried again this soon.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Histories of series that appeared later are fetched at most this often: a fleet that churns must not fetch all day.
const REFETCH: Duration = Duration::from_secs(600);

/// What all loops share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Where samples come from.
    pub client: Client,
    /// Models and their shared plans.
    pub ensemble: Arc<Ensemble>,
    /// Where forecasts go.
    pub board: Board,
    /// What the loops say of themselves.
    pub metrics: Metrics,
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

/// Returns Unix seconds: the only place where the predictor reads the wall clock.
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Forecasts `config` again and again until `shutdown`.
pub async fn run(config: Arc<ForecastConfig>, shared: Shared, shutdown: CancellationToken) {
    let mut cycle = Cycle {
        engine: Engine::new(Arc::clone(&config), Arc::clone(&shared.ensemble)),
        config,
        shared,
        fetched_to: None,
        refetched: None,
        last_error: None,
        said_dropped: 0,
    };
    loop {
        let now = unix_now();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = cycle.turn(now) => {}
        }
        let interval = cycle.config.interval as f64;
        let pause = match cycle.fetched_to {
            None => FIRST_RETRY.min(Duration::from_secs_f64(interval)),
            // A little after the next multiple, so that its samples are there.
            Some(_) => Duration::from_secs_f64(interval - unix_now().rem_euclid(interval) + 0.5),
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Cycle {
    config: Arc<ForecastConfig>,
    shared: Shared,
    engine: Engine,
    /// End of the last successful fetch.
    fetched_to: Option<i64>,
    /// Time of the last whole fetch that new series asked for.
    refetched: Option<Instant>,
    last_error: Option<String>,
    said_dropped: usize,
}

impl Cycle {
    async fn turn(&mut self, now: f64) {
        let name = self.config.name.clone();
        let metrics = self.shared.metrics.clone();
        let end = fetch::last_step(now, self.config.step);
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
        let Some(issued) = self.forecast(end).await else { return };
        metrics.forecast_seconds.with_label_values(&[&name]).observe(started.elapsed().as_secs_f64());
        metrics.series.with_label_values(&[&name]).set(i64::try_from(issued.len()).unwrap_or(i64::MAX));
        metrics.last_success.with_label_values(&[&name]).set(unix_now());
        tracing::debug!(forecast = %name, series = issued.len(), seconds = started.elapsed().as_secs_f64(), "forecast");
        self.shared.board.put(Batch { config: Arc::clone(&self.config), made_at: end, issued });
        self.shared.progress.done(&name);
    }

    /// Takes in what is new up to `end`; everything at the start, after a long silence, and when series appear.
    async fn fetch(&mut self, end: i64) -> Result<(), QueryError> {
        let gap = self.fetched_to.map(|since| (since, end - since));
        let merged = match gap {
            Some((since, gap)) if !self.engine.is_empty() && gap < self.config.history => {
                let series = fetch::recent(&self.shared.client, &self.config, since, end).await?;
                self.engine.merge(series, end)
            }
            _ => return self.fetch_history(end).await,
        };
        self.say_dropped(merged.dropped);
        if merged.new > 0 && self.refetched.is_none_or(|at| at.elapsed() >= REFETCH) {
            self.refetched = Some(Instant::now());
            return self.fetch_history(end).await;
        }
        Ok(())
    }

    async fn fetch_history(&mut self, end: i64) -> Result<(), QueryError> {
        let engine = &self.engine;
        let range = fetch::history(&self.shared.client, &self.config, end, |labels| engine.keep(labels)).await?;
        if let Some(seconds) = range.shortened_to {
            tracing::warn!(
                forecast = %self.config.name,
                "the query returns so many series that only the last {} of history are read; narrow the query",
                duration_label(seconds)
            );
        }
        // A query without series is asked each cycle: not worth a line each time.
        if !range.series.is_empty() {
            tracing::info!(forecast = %self.config.name, series = range.series.len(), "history read");
        }
        self.engine.merge(range.series, end);
        self.say_dropped(range.dropped);
        Ok(())
    }

    /// The models run on a blocking thread, so that scrapes are answered meanwhile.
    async fn forecast(&mut self, end: i64) -> Option<Vec<crate::engine::Issued>> {
        let fresh = Engine::new(Arc::clone(&self.config), Arc::clone(&self.shared.ensemble));
        let mut engine = std::mem::replace(&mut self.engine, fresh);
        let work = tokio::task::spawn_blocking(move || {
            let issued = engine.forecast(end);
            (engine, issued)
        });
        match work.await {
            Ok((engine, issued)) => {
                self.engine = engine;
                Some(issued)
            }
            Err(error) => {
                // The engine went down with the task: its histories are read again in the next turn.
                tracing::error!(forecast = %self.config.name, %error, "the models failed; this is a defect, please report it");
                self.fetched_to = None;
                None
            }
        }
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
