//! External metrics out of memory: forecasts and configured queries from Prometheus, replicas and loads of the rules from
//! the board in; the values that an HPA asks for out.
//!
//! | metric | from |
//! |---|---|
//! | `cloudpulse-forecast-NAME` | `forecasts`: one query each turn for all |
//! | `cloudpulse-rule-NAME`, `cloudpulse-load-NAME` | `rules`: the newest turn of the rule |
//! | any other | `queries`: as the file of `--external-metrics.config` says, kept fresh once it was asked for |
//!
//! What is unknown, stale, empty or no number is an error with its reason, never zero.

mod answer;
mod args;
pub(crate) mod config;
mod forecasts;
mod name;
mod queries;
mod rules;
mod tally;
pub(crate) mod template;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use cloudpulse_common::config::Findings;
use cloudpulse_common::exposition::Described;
use cloudpulse_common::query::Client;
use cloudpulse_common::query::QueryError;
use cloudpulse_policy::time::Timestamp;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::future::join3;
use prometheus::Registry;
use tokio::time::Interval;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use self::args::StoreArgs;
pub use self::name::FORECAST_PREFIX;
pub use self::name::LOAD_PREFIX;
pub use self::name::RULE_PREFIX;
pub use self::name::mapped;

use self::forecasts::Snapshot;
use self::queries::Queries;
use self::rules::Asked;
use self::tally::Kind;
use self::tally::Tally;
use crate::board::Board;
use crate::external::Item;
use crate::external::NoValue;
use crate::external::Provider;
use crate::external::selector::Selector;
use crate::reconcile::clock;

/// All configured queries of a turn together take no longer, or the interval where that is longer.
const SHORTEST_LIMIT: Duration = Duration::from_secs(30);

/// Returns the names of the metrics of a file.
///
/// # Errors
/// All findings of the file.
pub fn check(file: &std::path::Path) -> Result<Vec<String>, Findings> {
    Ok(config::load(file)?.into_keys().collect())
}

/// How a store is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Time from one query to the next.
    pub interval: Duration,
    /// A forecast made longer ago is stale, and so is what was read of it while Prometheus does not answer.
    pub forecast_max_age: Duration,
    /// A rule's turn that was longer ago is stale.
    pub rule_max_age: Duration,
    /// File with metrics that PromQL gives.
    pub config: Option<PathBuf>,
    /// How often that file is read again.
    pub reload_interval: Duration,
}

/// External metrics in memory.
#[derive(Debug)]
pub struct Store {
    options: StoreOptions,
    client: Client,
    board: Arc<Board>,
    tally: Tally,
    forecasts: RwLock<Forecasts>,
    queries: Queries,
    /// Metrics of which it was said that several forecasts share them.
    collisions: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Forecasts {
    snapshot: Option<Snapshot>,
    /// Why the last query failed, where it did.
    error: Option<String>,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file with metrics has errors.
    #[error(transparent)]
    Config(#[from] Findings),
    /// Two metrics of its own have one name.
    #[error("the store's own metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// Returns what a store counts of itself, whether or not anything was counted yet.
///
/// # Errors
/// Never in practice: when two metrics have one name.
pub fn described() -> Result<Vec<Described>, prometheus::Error> {
    Ok(Tally::new()?.described())
}

impl Store {
    /// Returns a store in which nothing is yet; [`Self::run`] fills it.
    ///
    /// # Errors
    /// All findings of the file with metrics.
    pub fn open(options: StoreOptions, client: Client, board: Arc<Board>) -> Result<Self, StoreError> {
        let metrics = options.config.as_deref().map_or_else(|| Ok(config::QueryMetrics::new()), config::load)?;
        let tally = Tally::new()?;
        let queries = Queries::new(client.clone(), metrics, tally.clone());
        let (forecasts, collisions) = (RwLock::default(), Mutex::default());
        Ok(Self { options, client, board, tally, forecasts, queries, collisions })
    }

    /// Returns what the store counts of itself, for the metrics page.
    pub fn registry(&self) -> &Registry {
        &self.tally.registry
    }

    /// Asks Prometheus each interval, and reads the file with metrics again, until `shutdown` is cancelled.
    pub async fn run(&self, shutdown: CancellationToken) {
        // Each in a loop of its own: a query that hangs keeps none of the others from its turn.
        let all = join3(self.keep_forecasts(), self.keep_queries(), self.keep_config());
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = all => {}
        }
    }

    async fn keep_forecasts(&self) {
        let mut turns = turns(self.options.interval);
        loop {
            turns.tick().await;
            self.refresh_forecasts().await;
        }
    }

    async fn keep_queries(&self) {
        let mut turns = turns(self.options.interval);
        loop {
            turns.tick().await;
            self.queries.refresh(clock(), self.options.interval.max(SHORTEST_LIMIT)).await;
        }
    }

    async fn keep_config(&self) {
        let mut turns = turns(self.options.reload_interval);
        let mut said = None;
        loop {
            turns.tick().await;
            said = self.reload(said.as_ref());
        }
    }

    /// Reads the file with metrics again. A bad edit changes nothing; `said` are the findings of the last one.
    fn reload(&self, said: Option<&Findings>) -> Option<Findings> {
        match config::load(self.options.config.as_deref()?) {
            Ok(metrics) => {
                let count = metrics.len();
                if self.queries.replace(metrics) || said.is_some() {
                    tracing::info!(metrics = count, "external metrics reloaded");
                }
                None
            }
            Err(findings) => {
                if said != Some(&findings) {
                    tracing::error!(%findings, "the external metrics have errors; those from before stay in force");
                }
                Some(findings)
            }
        }
    }

    async fn refresh_forecasts(&self) {
        let answer = self.client.instant(&forecasts::query(), None).await;
        let now = clock();
        self.tally.count(Kind::Forecasts, answer.as_ref().map(Vec::len), now);
        let series = match answer {
            Ok(series) => series,
            Err(error) => {
                let error = words(error);
                tracing::warn!(error, "the forecasts cannot be read");
                self.forecasts.write().unwrap_or_else(PoisonError::into_inner).error = Some(error);
                return;
            }
        };
        let snapshot = {
            let before = self.forecasts.read().unwrap_or_else(PoisonError::into_inner);
            Snapshot::new(series, before.snapshot.as_ref(), now)
        };
        self.tally.series(Kind::Forecasts, snapshot.series());
        let mut said = self.collisions.lock().unwrap_or_else(PoisonError::into_inner);
        for (metric, forecasts) in snapshot.collisions() {
            if said.insert(metric.to_owned()) {
                tracing::warn!(
                    metric,
                    ?forecasts,
                    "several forecasts share an external metric; select one by its label"
                );
            }
        }
        drop(said);
        let next = Forecasts { snapshot: Some(snapshot), error: None };
        *self.forecasts.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn forecast(&self, metric: &str, selector: &Selector) -> Result<Vec<Arc<Item>>, NoValue> {
        let Forecasts { snapshot, error } = &*self.forecasts.read().unwrap_or_else(PoisonError::into_inner);
        let why = error.as_deref().unwrap_or("prometheus has not been asked yet");
        let Some(snapshot) = snapshot else {
            return Err(NoValue::Unavailable(format!("the forecasts are not known: {why}")));
        };
        let (now, max_age) = (clock(), self.options.forecast_max_age);
        if now.since(snapshot.taken()) > max_age {
            let since = time_text(snapshot.taken());
            return Err(NoValue::Unavailable(format!("the forecasts could not be read since {since}: {why}")));
        }
        snapshot.select(metric, selector, now, max_age)
    }
}

impl Provider for Store {
    fn values<'a>(
        &'a self,
        namespace: &'a str,
        metric: &'a str,
        selector: &'a Selector,
    ) -> BoxFuture<'a, Result<Vec<Arc<Item>>, NoValue>> {
        let of_rule = |asked, own| {
            let what = (namespace, metric, own);
            rules::select(&self.board, asked, what, selector, clock(), self.options.rule_max_age)
        };
        let answer = if metric.starts_with(FORECAST_PREFIX) {
            self.forecast(metric, selector)
        } else if let Some(own) = metric.strip_prefix(RULE_PREFIX) {
            of_rule(Asked::Replicas, own)
        } else if let Some(own) = metric.strip_prefix(LOAD_PREFIX) {
            of_rule(Asked::Load, own)
        } else {
            return self.queries.values(namespace, metric, selector).boxed();
        };
        std::future::ready(answer).boxed()
    }
}

/// One turn at once and then one each `interval`.
fn turns(interval: Duration) -> Interval {
    let mut turns = tokio::time::interval(interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

/// An error with all its causes.
fn words(error: QueryError) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

/// A time of Prometheus.
fn timestamp(unix_seconds: f64) -> Timestamp {
    #[allow(clippy::cast_possible_truncation, reason = "a cast to an integer saturates")]
    Timestamp::from_unix_milliseconds((unix_seconds * 1000.0).round() as i64)
}

/// A time as RFC 3339 has it, in UTC to the second.
fn time_text(time: Timestamp) -> String {
    let seconds = time.unix_milliseconds().div_euclid(1000);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s"), |time| time.to_string())
}
