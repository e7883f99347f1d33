//! All that a decision may know of a rule. Checked before it comes here: nothing is validated again.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Replicas;
use crate::schedule::Schedule;
use crate::time::Timestamp;

/// How one workload is to be scaled.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What a forecast may do, and whether anything is touched.
    pub mode: Mode,
    /// Fewest replicas; zero lets the workload go away while nothing asks for it.
    pub min_replicas: Replicas,
    /// Most replicas.
    pub max_replicas: Replicas,
    /// Times at which other bounds hold.
    pub schedules: Vec<Schedule>,
    /// What happens where more than the most replicas are asked for.
    pub above_max: AboveMax,
    /// The metrics; the largest demand wins.
    pub metrics: Vec<MetricPolicy>,
    /// How fast and how calmly replicas change, as the HPA's `behavior`.
    pub behavior: Behavior,
    /// Time after a change in which nothing changes again; zero for none.
    pub cooldown: Duration,
    /// What is switched off by hand.
    pub pause: Pause,
    /// What to do where a reading is missing.
    pub missing_data: MissingData,
}

/// The bounds at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest replicas.
    pub min_replicas: Replicas,
    /// Most replicas, before [`AboveMax::Raise`].
    pub max_replicas: Replicas,
    /// Most replicas with it.
    pub raised_max: Replicas,
    /// Names of the schedules that hold.
    pub schedules: Vec<String>,
}

impl Policy {
    /// Returns the bounds at `now`: the rule's own, or those of the schedules that hold then; of several the largest.
    pub fn bounds(&self, now: Timestamp) -> Bounds {
        let active: Vec<&Schedule> = self.schedules.iter().filter(|schedule| schedule.is_active(now)).collect();
        let min = active.iter().filter_map(|schedule| schedule.min_replicas).max().unwrap_or(self.min_replicas);
        let max = active.iter().filter_map(|schedule| schedule.max_replicas).max().unwrap_or(self.max_replicas);
        // Two schedules at once may contradict each other: then enough is better than few.
        let max = max.max(min);
        let raised_max = match self.above_max {
            AboveMax::Alert => max,
            AboveMax::Raise { percent } => {
                let more = (u64::from(max) * u64::from(percent)).div_ceil(100);
                max.saturating_add(Replicas::try_from(more).unwrap_or(Replicas::MAX))
            }
        };
        let schedules = active.into_iter().map(|schedule| schedule.name.clone()).collect();
        Bounds { min_replicas: min, max_replicas: max, raised_max, schedules }
    }

    /// Returns whether there is a time at which the workload may have no replica. Where there is none, no replica means
    /// that somebody switched the workload off, as with the HPA.
    pub fn scales_to_zero(&self) -> bool {
        self.min_replicas == 0 || self.schedules.iter().any(|schedule| schedule.min_replicas == Some(0))
    }
}

/// What happens where more than the most replicas are asked for. Either way it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AboveMax {
    /// The most it is.
    #[default]
    Alert,
    /// The most may be exceeded by so many percent of itself, rounded up.
    Raise {
        /// Percent of the most replicas.
        percent: u32,
    },
}

/// What a forecast may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Decide as in [`Mode::Floor`], publish it, touch nothing.
    Observe,
    /// A forecast may only raise what the load alone asks for.
    Floor,
    /// A forecast replaces what the load alone asks for, and so may also lower it; the safety net stays.
    Full,
}

impl Mode {
    /// Returns the mode's name in a rule.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Floor => "floor",
            Self::Full => "full",
        }
    }
}

/// What is switched off by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub enum Pause {
    /// Nothing.
    #[default]
    None,
    /// Any change.
    All,
    /// Fewer replicas.
    ScaleIn,
    /// More replicas.
    ScaleOut,
}

/// What to do where a reading is missing. A missing load never scales in, whatever is chosen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingData {
    /// Keep at least the current replicas while any reading is missing, of the load or of the forecast.
    #[default]
    Hold,
    /// As [`MissingData::Hold`] for the load; without a forecast go by the load alone, which may scale in.
    Reactive,
    /// As [`MissingData::Hold`], and where nothing at all is known at least so many replicas.
    Replicas(Replicas),
}

/// One metric of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricPolicy {
    /// Name, unique in the rule.
    pub name: String,
    /// How its value becomes replicas.
    pub demand: Demand,
}

/// How a metric's value becomes replicas.
#[derive(Debug, Clone, PartialEq)]
pub enum Demand {
    /// The value is a load that the replicas share.
    Load {
        /// Load that one replica serves within its objective; positive.
        replica_capacity: f64,
        /// Share of the capacity at which the reactive part aims, above 0 and at most 1.
        target_utilization: f64,
        /// Load up to which no replica is needed, where the workload may go away; not negative.
        activation_threshold: f64,
        /// How the forecast peak of the same load becomes replicas; `None` for a metric without forecast.
        forecast: Option<ForecastRule>,
    },
    /// The value is one that replicas do not share but move, such as a latency: replicas change by its ratio to the target,
    /// as with the HPA's target type `Value`.
    Value {
        /// What the value is to be, in its unit; positive.
        target: f64,
    },
    /// The value is held against a threshold; beyond it the workload has at least (or at most) so many replicas.
    Threshold {
        /// Which side of the threshold acts.
        side: Side,
        /// The threshold, in the metric's unit.
        threshold: f64,
        /// Replicas to be had beyond the threshold.
        replicas: Replicas,
    },
}

/// Which side of a threshold acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Values above it ask for at least the replicas.
    Above,
    /// Values below it ask for at most the replicas.
    Below,
}

/// How a distribution of the peak becomes replicas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ForecastRule {
    /// The cheapest number where one minute with too few replicas is worth this many minutes of the whole fleet.
    ViolationCost(f64),
    /// Enough for this quantile of the peak, between 0 and 1.
    Quantile(f64),
}

/// The cost of a violation where a rule names none: the best trade-off over public traces.
pub const DEFAULT_VIOLATION_COST: f64 = 30.0;
/// Where the reactive part aims when a rule does not say: with a forecast above it, the best additive setting.
pub const DEFAULT_TARGET_UTILIZATION: f64 = 0.8;
/// The HPA's tolerance (`--horizontal-pod-autoscaler-tolerance`).
pub const DEFAULT_TOLERANCE: f64 = 0.1;

/// Speed and calm in both directions: `behavior` of the HPA v2, with its meaning and its defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Behavior {
    /// For more replicas.
    pub scale_up: ScalingRules,
    /// For fewer replicas.
    pub scale_down: ScalingRules,
}

/// Speed and calm in one direction: `HPAScalingRules` of the HPA v2.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalingRules {
    /// Time over which the most cautious recommendation wins.
    pub stabilization_window: Duration,
    /// Which of the policies counts.
    pub select_policy: SelectPolicy,
    /// How much may change in how much time; empty for no limit.
    pub policies: Vec<RatePolicy>,
    /// Relative distance between load and target that is left alone, as a ratio.
    pub tolerance: f64,
}

/// Which of several rate policies counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The one that allows most.
    Max,
    /// The one that allows least.
    Min,
    /// None: this direction is switched off.
    Disabled,
}

/// How much may change in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatePolicy {
    /// Amount.
    pub amount: RateAmount,
    /// Period over which past changes count.
    pub period: Duration,
}

/// Amount of a rate policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateAmount {
    /// A number of replicas.
    Pods(Replicas),
    /// Percent of the replicas at the start of the period.
    Percent(u32),
}

impl Default for Behavior {
    fn default() -> Self {
        Self { scale_up: ScalingRules::default_up(), scale_down: ScalingRules::default_down() }
    }
}

impl ScalingRules {
    /// Returns the HPA's default for more replicas: no window, the larger of 100 % and 4 replicas in 15 s.
    pub fn default_up() -> Self {
        Self {
            stabilization_window: Duration::ZERO,
            select_policy: SelectPolicy::Max,
            policies: vec![
                RatePolicy { amount: RateAmount::Pods(4), period: Duration::from_secs(15) },
                RatePolicy { amount: RateAmount::Percent(100), period: Duration::from_secs(15) },
            ],
            tolerance: DEFAULT_TOLERANCE,
        }
    }

    /// Returns the HPA's default for fewer replicas: the highest recommendation of 300 s, then 100 % in 15 s.
    pub fn default_down() -> Self {
        Self {
            stabilization_window: Duration::from_secs(300),
            select_policy: SelectPolicy::Max,
            policies: vec![RatePolicy { amount: RateAmount::Percent(100), period: Duration::from_secs(15) }],
            tolerance: DEFAULT_TOLERANCE,
        }
    }

    /// Returns rules that neither wait nor limit.
    pub fn unlimited() -> Self {
        Self {
            stabilization_window: Duration::ZERO,
            select_policy: SelectPolicy::Max,
            policies: Vec::new(),
            tolerance: 0.0,
        }
    }
}
