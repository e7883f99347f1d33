//! The Kubernetes external metrics API, `external.metrics.k8s.io/v1beta1`: metrics out of memory to HPAs.
//!
//! What the server knows of metrics is a [`Provider`]; what it cannot say for sure is an error, never zero: an HPA that gets
//! an error keeps its replicas.

pub mod api_service;
pub mod args;
pub mod authentication;
pub mod authority;
pub mod authorization;
pub mod certificates;
pub mod identity;
pub mod kept;
pub mod metrics;
pub mod pass_through;
pub mod protocol;
pub mod review;
pub mod selector;
pub mod server;
pub mod start;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloudpulse_policy::time::Timestamp;
use futures_util::future::BoxFuture;

use crate::external::selector::Selector;

/// Group and version of the API.
pub const GROUP_VERSION: &str = "external.metrics.k8s.io/v1beta1";

/// Returns the name of the metric that gives the replicas that a rule wants.
pub fn rule_metric(rule: &str) -> String {
    format!("{}{}", store::RULE_PREFIX, store::mapped(rule))
}

/// Returns the name of the metric that gives the loads of a rule.
pub fn load_metric(rule: &str) -> String {
    format!("{}{}", store::LOAD_PREFIX, store::mapped(rule))
}

/// One value of a metric. An HPA sums the values of all items that it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Labels, without `__name__`.
    pub labels: BTreeMap<String, String>,
    /// The value; finite.
    pub value: f64,
    /// When it was measured, or made.
    pub at: Timestamp,
    /// The time that it is a mean or a maximum over; `None` for a value of the moment.
    pub window: Option<Duration>,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoValue {
    /// No metric has this name, or none of its series is selected: 404.
    #[error("the server could not find the metric {metric} for {selector}")]
    NotFound {
        /// The name as it was asked for.
        metric: String,
        /// The selector as it was asked for.
        selector: String,
    },
    /// The request cannot be answered as it is, such as a forecast without a horizon: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The metric is known, but its value is old, or its source cannot be reached: 503.
    #[error("{0}")]
    Unavailable(String),
}

/// Where the metrics come from.
pub trait Provider: std::fmt::Debug + Send + Sync {
    /// Returns the values of `metric`, whose name is in lower case, for the HPAs of a namespace: those that `selector` lets
    /// through, at least one.
    fn values<'a>(
        &'a self,
        namespace: &'a str,
        metric: &'a str,
        selector: &'a Selector,
    ) -> BoxFuture<'a, Result<Vec<Arc<Item>>, NoValue>>;
}
