//! What a rule is held against: an HPA by the load alone, simple forecasts beside it, a fixed number, and a policy that
//! knows the future. In: a scenario. Out: controllers, with a knob each.

use cloudpulse_forecast::peak::SeasonalSmoothing;
use cloudpulse_forecast::series::Series;
use cloudpulse_policy::Replicas;
use cloudpulse_policy::policy::DEFAULT_TOLERANCE;

use crate::hpa::Hpa;
use crate::scenario::SYNC_SECONDS;
use crate::scenario::Scenario;
use crate::scenario::steps_over;
use crate::simulation::Controller;
use crate::simulation::Sync;

const DAY_SECONDS: i64 = 86_400;
const STABILIZATION_SECONDS: i64 = 300;
const TUNED_STABILIZATION_SECONDS: i64 = 900;
/// The utilisation that an HPA is usually given.
const TARGET_UTILIZATION: f64 = 0.7;

/// A policy to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Baseline {
    /// The HPA with its defaults, by the load alone. Knob: target utilisation.
    ReactiveHpa,
    /// The same without tolerance, and with a calm of 15 minutes before it scales in. Knob: target utilisation.
    ReactiveHpaTuned,
    /// The HPA by the larger of the load and its highest value in the ten minutes from this time yesterday on. Knob:
    /// target utilisation.
    SeasonalNaive,
    /// The same with the half hour from this time yesterday on. Knob: target utilisation.
    SeasonalNaiveHalfHour,
    /// The HPA by the larger of the load and the highest value that Holt-Winters smoothing with a daily season expects
    /// over the lead time, as the Predictive HPA does. Knob: target utilisation.
    HoltWinters,
    /// The HPA by the larger of the load and `predict_linear` of its last ten minutes. Knob: target utilisation.
    PredictLinear10m,
    /// The same of its last hour. Knob: target utilisation.
    PredictLinear1h,
    /// A fixed number of replicas. It looks ahead: the number is one for all time. Knob: the replicas.
    Static,
    /// Knows the load of its lead time beforehand. Only the limit of scaling up, the bounds and gaps can fail it. Knob:
    /// target utilisation.
    Oracle,
}

impl Baseline {
    /// Returns the name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReactiveHpa => "reactive_hpa",
            Self::ReactiveHpaTuned => "reactive_hpa_tuned",
            Self::SeasonalNaive => "seasonal_naive",
            Self::SeasonalNaiveHalfHour => "seasonal_naive_30m",
            Self::HoltWinters => "holt_winters",
            Self::PredictLinear10m => "predict_linear_10m",
            Self::PredictLinear1h => "predict_linear_1h",
            Self::Static => "static",
            Self::Oracle => "oracle",
        }
    }

    /// Returns the knob that the policy has by itself: 70 % of the capacity; for the oracle all of it, and for the fixed
    /// number what the largest load that counts needs.
    pub fn default_knob(self, scenario: &Scenario<'_>) -> f64 {
        match self {
            Self::Static => f64::from(largest_demand(scenario)),
            Self::Oracle => 1.0,
            _ => TARGET_UTILIZATION,
        }
    }

    /// Returns the knobs of a sweep, dense enough to interpolate between.
    pub fn knobs(self, scenario: &Scenario<'_>) -> Vec<f64> {
        match self {
            Self::Static => (1..=largest_demand(scenario).min(400)).map(f64::from).collect(),
            _ => (20..=60).map(|step| f64::from(step) * 0.02).collect(),
        }
    }
}

/// A baseline whose forecasts are made, ready to be run with any knob.
#[derive(Debug, Clone)]
pub struct Prepared {
    baseline: Baseline,
    /// By visible grid point: what the forecast says beside the load; NaN where nothing. Empty without a forecast.
    forecast: Vec<f64>,
    /// By sync from the start: the replicas of the oracle at a utilisation of 1, as load.
    future: Vec<f64>,
}

impl Prepared {
    /// Makes the forecasts of a baseline, once for all knobs.
    pub fn new(baseline: Baseline, scenario: &Scenario<'_>) -> Self {
        let series = scenario.series;
        let ahead = scenario.lead_steps();
        let minutes = |minutes: i64| steps_over(minutes * 60, series.step());
        let forecast = match baseline {
            Baseline::SeasonalNaive => yesterday(series, minutes(10).max(ahead)),
            Baseline::SeasonalNaiveHalfHour => yesterday(series, minutes(30).max(ahead)),
            Baseline::HoltWinters => holt_winters(series, ahead),
            Baseline::PredictLinear10m => predict_linear(series, minutes(10).max(2), ahead),
            Baseline::PredictLinear1h => predict_linear(series, minutes(60).max(2), ahead),
            Baseline::ReactiveHpa | Baseline::ReactiveHpaTuned | Baseline::Static | Baseline::Oracle => Vec::new(),
        };
        let future = if baseline == Baseline::Oracle { future_peaks(scenario) } else { Vec::new() };
        Self { baseline, forecast, future }
    }

    /// Returns which baseline it is.
    pub const fn baseline(&self) -> Baseline {
        self.baseline
    }

    /// Returns the policy before its first decision.
    pub fn controller<'a>(&'a self, scenario: &'a Scenario<'a>, knob: f64) -> Box<dyn Controller + 'a> {
        let hpa =
            |tolerance, stabilization| Hpa::new(tolerance, stabilization, scenario.min_replicas, scenario.max_replicas);
        let per_replica = scenario.replica_capacity * knob;
        match self.baseline {
            Baseline::Static => Box::new(Fixed(scenario.bounded(knob as Replicas))),
            Baseline::Oracle => {
                Box::new(Oracle { hpa: hpa(0.0, 0), start: scenario.series.start(), future: &self.future, per_replica })
            }
            baseline => {
                let calm = baseline == Baseline::ReactiveHpaTuned;
                Box::new(Reactive {
                    hpa: if calm {
                        hpa(0.0, TUNED_STABILIZATION_SECONDS)
                    } else {
                        hpa(DEFAULT_TOLERANCE, STABILIZATION_SECONDS)
                    },
                    per_replica,
                    series: scenario.series,
                    forecast: &self.forecast,
                })
            }
        }
    }
}

/// An HPA by the load that is visible and, where there is one, its forecast.
#[derive(Debug)]
struct Reactive<'a> {
    hpa: Hpa,
    per_replica: f64,
    series: &'a Series,
    forecast: &'a [f64],
}

impl Controller for Reactive<'_> {
    fn desired(&mut self, Sync { now, visible, current }: Sync) -> Replicas {
        let load = visible.and_then(|index| self.series.get(index));
        let forecast = visible.and_then(|index| self.forecast.get(index)).filter(|value| value.is_finite());
        // A forecast that is not there yet leaves the load alone; a load that is missing holds what there is.
        let loads = std::iter::once(load).chain(forecast.map(|value| Some(*value)));
        self.hpa.desired(now, current, self.per_replica, loads)
    }
}

#[derive(Debug)]
struct Fixed(Replicas);

impl Controller for Fixed {
    fn desired(&mut self, _: Sync) -> Replicas {
        self.0
    }
}

#[derive(Debug)]
struct Oracle<'a> {
    hpa: Hpa,
    start: i64,
    future: &'a [f64],
    per_replica: f64,
}

impl Controller for Oracle<'_> {
    fn desired(&mut self, Sync { now, current, .. }: Sync) -> Replicas {
        let sync = usize::try_from((now - self.start) / SYNC_SECONDS).unwrap_or(usize::MAX);
        let load = self.future.get(sync).copied().filter(|load| load.is_finite());
        self.hpa.desired(now, current, self.per_replica, [load])
    }
}

fn largest_demand(scenario: &Scenario<'_>) -> Replicas {
    let from = scenario.index_at(scenario.scored_from()).min(scenario.series.len());
    let highest = scenario.series.values()[from..].iter().copied().filter(|load| load.is_finite()).fold(0.0, f64::max);
    scenario.bounded(scenario.demand(highest))
}

/// By sync: the highest load from it until the replicas that the next sync asks for serve; NaN where none is known.
fn future_peaks(scenario: &Scenario<'_>) -> Vec<f64> {
    let start = scenario.series.start();
    let count = (scenario.end() - start + SYNC_SECONDS - 1) / SYNC_SECONDS;
    let loads: Vec<f64> = (0..count).map(|i| scenario.load_at(start + i * SYNC_SECONDS).unwrap_or(f64::NAN)).collect();
    let width = steps_over(scenario.start_delay, SYNC_SECONDS) + 1;
    (0..loads.len())
        .map(|at| loads[at..(at + width).min(loads.len())].iter().copied().fold(f64::NAN, f64::max))
        .collect()
}

/// By grid point: the highest known value in the `width` steps that begin a day before the next grid point.
fn yesterday(series: &Series, width: usize) -> Vec<f64> {
    let day = series.steps(DAY_SECONDS);
    let values = series.values();
    let peak = |index: usize| {
        let from = (index + 1).checked_sub(day)?;
        // Never beyond what is visible, where a window is longer than a day.
        let to = (from + width).min(index + 1);
        Some(values[from..to].iter().copied().fold(f64::NAN, f64::max))
    };
    (0..values.len()).map(|index| peak(index).unwrap_or(f64::NAN)).collect()
}

/// By grid point: the highest value of the next `ahead` steps that seasonal smoothing expects; NaN in the first day.
fn holt_winters(series: &Series, ahead: usize) -> Vec<f64> {
    let day = series.steps(DAY_SECONDS);
    let mut smoothing = SeasonalSmoothing::new(day);
    (0..series.len())
        .map(|index| {
            let tick = series.absolute(index);
            match series.get(index) {
                Some(value) => smoothing.add(tick, value),
                None => smoothing.skip(tick),
            }
            smoothing.peak(ahead).filter(|_| index >= day).unwrap_or(f64::NAN)
        })
        .collect()
}

/// By grid point: the line of least squares through the known ones of the last `width` values, `ahead` steps on, as
/// PromQL's `predict_linear`; NaN for fewer than two.
fn predict_linear(series: &Series, width: usize, ahead: usize) -> Vec<f64> {
    let values = series.values();
    (0..values.len())
        .map(|index| {
            let from = (index + 1).saturating_sub(width);
            let (mut n, mut sx, mut sy, mut sxx, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for (at, y) in (from..=index).zip(&values[from..=index]).filter(|(_, y)| y.is_finite()) {
                let x = at as f64 - index as f64;
                (n, sx, sy, sxx, sxy) = (n + 1.0, sx + x, sy + y, sxx + x * x, sxy + x * y);
            }
            let slope = (n * sxy - sx * sy) / (n * sxx - sx * sx);
            if n < 2.0 { f64::NAN } else { (sy - slope * sx) / n + slope * ahead as f64 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::scenario;
    use crate::simulation::timeline;
    use crate::timeline::Totals;

    #[test]
    fn yesterday_is_a_day_before_what_comes_next() {
        let mut values = vec![1.0; 1450];
        values[7] = 50.0;
        let forecast = yesterday(&Series::new(0, 60, values).unwrap(), 3);
        assert!(forecast[1438].is_nan());
        // Minute 1445 sees 1444, and the three minutes from minute 5 of the day before.
        assert_eq!(forecast[1442..1448], [1.0, 1.0, 50.0, 50.0, 50.0, 1.0]);
    }

    #[test]
    fn a_line_goes_on() {
        let values = (0..20).map(|i| if i == 17 { f64::NAN } else { 5.0 + 2.0 * f64::from(i) }).collect();
        let forecast = predict_linear(&Series::new(0, 60, values).unwrap(), 10, 3);
        assert!((forecast[19] - (5.0 + 2.0 * 22.0)).abs() < 1e-9, "{}", forecast[19]);
        assert!(forecast[0].is_nan());
    }

    #[test]
    fn the_oracle_is_ready_when_the_load_comes_and_pays_for_the_start_alone() {
        let values = (0..30).map(|minute| if (12..15).contains(&minute) { 50.0 } else { 10.0 }).collect();
        let series = Series::new(0, 60, values).unwrap();
        let scenario = scenario(&series);
        let oracle = Prepared::new(Baseline::Oracle, &scenario);
        let rows = timeline(&scenario, oracle.controller(&scenario, 1.0).as_mut());
        let totals: Totals = rows.iter().collect();
        assert_eq!(totals.violation_minutes(), 0.0);
        // Five from two minutes and one sync before, until the end of the burst; else one.
        let five = rows.iter().filter(|row| row.allocated == 5).count();
        assert_eq!((five, rows.iter().filter(|row| row.allocated == 1).count()), (3 * 4 + 8, 120 - 20));
    }

    #[test]
    fn a_jump_beyond_the_limit_of_scaling_up_fails_the_oracle_too() {
        let mut values = vec![10.0; 10];
        values.extend([1000.0; 5]);
        let series = Series::new(0, 60, values).unwrap();
        let scenario = Scenario { start_delay: 0, ..scenario(&series) };
        let oracle = Prepared::new(Baseline::Oracle, &scenario);
        let rows = timeline(&scenario, oracle.controller(&scenario, 1.0).as_mut());
        // Asked for at the jump: 5, 10, 20, 40, 80, 100.
        assert_eq!(rows.iter().filter(|row| row.is_violation()).count(), 5);
    }

    #[test]
    fn fixed_replicas_are_those_of_the_largest_load_that_counts() {
        let mut values = vec![10.0; 100];
        (values[5], values[50]) = (900.0, 75.0);
        let series = Series::new(0, 60, values).unwrap();
        let scenario = Scenario { warmup: 600, ..scenario(&series) };
        assert_eq!(Baseline::Static.default_knob(&scenario), 8.0);
        let fixed = Prepared::new(Baseline::Static, &scenario);
        let rows = timeline(&scenario, fixed.controller(&scenario, 8.0).as_mut());
        assert!(rows.iter().all(|row| row.allocated == 8 && !row.is_violation()));
    }

    #[test]
    fn holt_winters_sees_the_daily_jump_coming() {
        let value = |minute: i64| if minute.rem_euclid(1440) / 60 == 9 { 100.0 } else { 10.0 };
        let series = Series::new(0, 60, (0..6 * 1440).map(value).collect()).unwrap();
        let forecast = holt_winters(&series, 15);
        let eight = 5 * 1440 + 8 * 60;
        assert!(forecast[eight] < 30.0 && forecast[eight + 55] > 50.0, "{} {}", forecast[eight], forecast[eight + 55]);
    }
}
