//! Configured PromQL as external metrics: a namespace and a selector in; what Prometheus says of them out of memory.
//!
//! The first request for a metric, a namespace and a selector asks Prometheus, however many wait for it; from then on the
//! answer is kept fresh for as long as anybody asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cloudpulse_common::query::Client;
use cloudpulse_policy::time::Timestamp;
use futures_util::stream;
use futures_util::stream::StreamExt as _;

use super::answer::Kept;
use super::answer::meaning;
use super::config::QueryMetric;
use super::config::QueryMetrics;
use super::tally::Kind;
use super::tally::Tally;
use super::words;
use crate::external::Item;
use crate::external::NoValue;
use crate::external::selector::Selector;
use crate::reconcile::clock;

/// Queries that are kept at most: each costs Prometheus one evaluation a turn.
const MAX_KEPT: usize = 4096;
/// A query that nobody asked for so long is dropped.
const IDLE: Duration = Duration::from_secs(600);
/// Queries under way at once.
const AT_ONCE: usize = 16;

/// The configured metrics, and the queries that are asked for.
#[derive(Debug)]
pub(super) struct Queries {
    client: Client,
    tally: Tally,
    metrics: RwLock<QueryMetrics>,
    kept: Mutex<HashMap<Key, Arc<Asked>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    metric: String,
    /// Empty where it makes no difference.
    namespace: String,
    selector: Selector,
}

/// A query that is asked for.
#[derive(Debug)]
struct Asked {
    metric: Arc<QueryMetric>,
    selector: Selector,
    query: String,
    /// When it was asked for last.
    unix_milliseconds: AtomicI64,
    kept: Mutex<Kept>,
    /// Held by the one request that asks Prometheus for the first time.
    first: tokio::sync::Mutex<()>,
}

impl Queries {
    /// Returns the metrics of a file, of which nothing is asked yet.
    pub(super) fn new(client: Client, metrics: QueryMetrics, tally: Tally) -> Self {
        Self { client, tally, metrics: RwLock::new(metrics), kept: Mutex::default() }
    }

    /// Puts other metrics in place. Answers of metrics that did not change stay. Returns whether anything did.
    pub(super) fn replace(&self, metrics: QueryMetrics) -> bool {
        let mut current = self.metrics.write().unwrap_or_else(PoisonError::into_inner);
        if *current == metrics {
            return false;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|key, asked| metrics.get(&key.metric) == Some(&asked.metric));
        *current = metrics;
        true
    }

    /// Returns the values of a metric for a namespace.
    pub(super) async fn values(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<Vec<Arc<Item>>, NoValue> {
        let asked = self.asked(namespace, metric, selector)?;
        if asked.is_new() {
            let _first = asked.first.lock().await;
            if asked.is_new() {
                self.ask(&asked).await;
            }
        }
        let kept = asked.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values(metric, selector, clock(), asked.metric.max_age)
    }

    /// Finds the query, or makes it.
    fn asked(&self, namespace: &str, name: &str, selector: &Selector) -> Result<Arc<Asked>, NoValue> {
        let not_found = || NoValue::NotFound { metric: name.to_owned(), selector: selector.to_string() };
        let metric = self.metrics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let metric = metric.ok_or_else(not_found)?;
        if metric.namespaces.as_ref().is_some_and(|namespaces| !namespaces.contains(namespace)) {
            return Err(not_found());
        }
        let narrowed = metric.namespace_label.as_deref().map(|label| (label, namespace));
        let key = Key {
            metric: name.to_owned(),
            namespace: narrowed.map_or_else(String::new, |_| namespace.to_owned()),
            selector: selector.clone(),
        };
        let now = clock().unix_milliseconds();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = kept.get(&key).filter(|asked| asked.metric == metric) {
            asked.unix_milliseconds.store(now, Ordering::Relaxed);
            return Ok(Arc::clone(asked));
        }
        if kept.len() >= MAX_KEPT {
            let message =
                format!("{MAX_KEPT} queries with a selector are kept already; {name} is not asked for another");
            return Err(NoValue::Unavailable(message));
        }
        if !is_namespace(namespace) {
            return Err(not_found());
        }
        let query =
            metric.query.render(selector, narrowed).map_err(|why| NoValue::BadRequest(format!("{name}: {why}")))?;
        let asked = Arc::new(Asked {
            metric,
            selector: selector.clone(),
            query,
            unix_milliseconds: AtomicI64::new(now),
            kept: Mutex::default(),
            first: tokio::sync::Mutex::default(),
        });
        kept.insert(key, Arc::clone(&asked));
        Ok(asked)
    }

    /// Asks Prometheus again for all that is asked for, those first that were answered longest ago, and drops what is not.
    /// What is not done within `limit` has to wait.
    pub(super) async fn refresh(&self, now: Timestamp, limit: Duration) {
        let mut asked: Vec<Arc<Asked>> = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|_, asked| now.since(asked.last()) <= IDLE);
            // What is new is being asked for by the request that made it.
            kept.values().filter(|asked| !asked.is_new()).cloned().collect()
        };
        asked.sort_by_cached_key(|asked| asked.kept.lock().unwrap_or_else(PoisonError::into_inner).answered_at());
        let all = stream::iter(asked).for_each_concurrent(AT_ONCE, async |asked| self.ask(&asked).await);
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(?limit, "not all external metrics could be read in time");
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.tally.series(Kind::Query, kept.len());
    }

    async fn ask(&self, asked: &Asked) {
        let answer = self.client.instant(&asked.query, None).await;
        self.tally.count(Kind::Query, answer.as_ref().map(Vec::len), clock());
        let now = clock();
        let mut kept = asked.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(series) => kept.answered(meaning(&asked.metric, &asked.selector, series), now),
            Err(error) => {
                tracing::debug!(metric = asked.metric.name, query = asked.query, %error, "an external metric failed");
                kept.failed(words(error));
            }
        }
    }
}

impl Asked {
    fn is_new(&self) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).is_new()
    }

    fn last(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(self.unix_milliseconds.load(Ordering::Relaxed))
    }
}

/// Whether Kubernetes can have a namespace of this name: what goes into a query has no other letters.
fn is_namespace(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
}

#[cfg(test)]
mod tests;
