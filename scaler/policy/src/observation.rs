//! What was seen of one workload: readings that are fresh, stale or missing, and why.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::Replicas;
use crate::peak::PeakDistribution;
use crate::time::optional_seconds;
use crate::time::seconds;

/// One value as it was read, or why there is none. A missing value is never a number.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Reading<T> {
    /// A value that may be decided on.
    Fresh {
        /// The value.
        value: T,
        /// How old the value is.
        #[serde(rename = "ageSeconds", serialize_with = "seconds")]
        #[schema(value_type = f64)]
        age: Duration,
    },
    /// There is a value, but it is older than the rule allows.
    Stale {
        /// How old the value is.
        #[serde(rename = "ageSeconds", serialize_with = "seconds")]
        #[schema(value_type = f64)]
        age: Duration,
    },
    /// There is no value.
    Missing {
        /// Why.
        why: Missing,
    },
}

/// Why a value is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Missing {
    /// The query gave no series.
    Empty,
    /// The query gave more series than one.
    SeveralSeries,
    /// The value is NaN or infinite.
    NotANumber,
    /// The forecast exists, but not for the rule's horizon.
    HorizonNotPublished,
    /// The forecast has too few quantiles to tell a distribution.
    TooFewQuantiles,
    /// Prometheus cannot be reached.
    Unreachable,
    /// Prometheus did not answer in time.
    Timeout,
    /// Prometheus refused the query.
    Refused,
    /// What answered is not Prometheus.
    NotPrometheus,
}

impl<T> Reading<T> {
    /// Returns the value where it is fresh.
    pub const fn fresh(&self) -> Option<&T> {
        match self {
            Self::Fresh { value, .. } => Some(value),
            Self::Stale { .. } | Self::Missing { .. } => None,
        }
    }

    /// Returns how old the value is, fresh or stale; `None` where it is missing.
    pub const fn age(&self) -> Option<Duration> {
        match self {
            Self::Fresh { age, .. } | Self::Stale { age } => Some(*age),
            Self::Missing { .. } => None,
        }
    }
}

/// The readings of one metric of the rule.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricObservation {
    /// The metric's name in the rule.
    pub name: String,
    /// Load on the whole workload now, in the unit of the metric's capacity or threshold.
    pub load: Reading<f64>,
    /// Share of the load's sources that could be read, above 0 and at most 1; `None` where the rule asks for none, or all
    /// that can be asked is not known.
    pub sources: Option<Reading<f64>>,
    /// The forecast of the highest load over the lead time; `None` where the rule names no forecast.
    pub peak: Option<Reading<PeakDistribution>>,
    /// The horizon of that peak; `None` without a forecast.
    #[serde(rename = "horizonSeconds", serialize_with = "optional_seconds")]
    #[schema(value_type = Option<f64>)]
    pub horizon: Option<Duration>,
    /// The fresh forecasts of the highest load until each horizon, in ascending order; empty where there is none.
    #[serde(skip)]
    pub ahead: Vec<PeakAhead>,
}

/// The forecast of the highest load until a horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct PeakAhead {
    /// Distance into the future.
    pub horizon: Duration,
    /// The highest load until then.
    pub peak: PeakDistribution,
}

/// All that was seen of one workload at one time.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Replicas that the target has; `None` where the target did not say.
    pub current: Option<Replicas>,
    /// The metrics of the rule, matched by name; one that is not here counts as missing.
    pub metrics: Vec<MetricObservation>,
}
