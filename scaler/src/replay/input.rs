//! Arguments of `replay` in; a rule and a load that fit each other out, or what is wrong with them.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use cloudpulse_common::csv;
use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::query::Client;
use cloudpulse_common::query::MAX_POINTS;
use cloudpulse_forecast::series::Series;
use cloudpulse_policy::policy::DEFAULT_VIOLATION_COST;
use cloudpulse_policy::policy::Demand;
use cloudpulse_policy::policy::ForecastRule;
use cloudpulse_policy::policy::Pause;
use cloudpulse_policy::policy::Policy;
use cloudpulse_replay::scenario::SYNC_SECONDS;
use cloudpulse_replay::scenario::Scenario;
use cloudpulse_replay::scenario::WARMUP_SECONDS;

use crate::cli::AccessArgs;
use crate::cli::ReplayArgs;
use crate::rule;
use crate::rule::Horizon;
use crate::rule::Rule;

/// Less that counts tells nothing, in seconds.
const LEAST_SCORED_SECONDS: i64 = 3600;

/// A rule and the load to try it on.
pub(super) struct Input {
    /// Name of the rule.
    pub(super) name: String,
    /// Where the load comes from.
    pub(super) origin: String,
    /// The rule, never paused.
    pub(super) policy: Policy,
    /// The load.
    pub(super) series: Series,
    /// Load that one replica serves.
    pub(super) replica_capacity: f64,
    /// Horizon of the forecast peak in steps; `None` for a rule without forecast.
    pub(super) peak_horizon: Option<usize>,
}

impl Input {
    /// Returns what all policies share.
    pub(super) fn scenario(&self, start_delay: PromDuration) -> Scenario<'_> {
        Scenario {
            series: &self.series,
            replica_capacity: self.replica_capacity,
            start_delay: start_delay.seconds().ceil() as i64,
            // A workload that is away serves nothing: what the rule is held against keeps one.
            min_replicas: self.policy.min_replicas.max(1),
            max_replicas: self.policy.max_replicas,
            warmup: WARMUP_SECONDS,
        }
    }

    /// Returns what one violation minute is worth, in minutes of the whole fleet: the rule's, or the default.
    pub(super) fn violation_cost(&self) -> f64 {
        match self.policy.metrics.first().map(|metric| &metric.demand) {
            Some(Demand::Load { forecast: Some(ForecastRule::ViolationCost(cost)), .. }) => *cost,
            _ => DEFAULT_VIOLATION_COST,
        }
    }
}

/// Reads the rule and the load.
///
/// # Errors
/// All findings of the rule file; a rule of several metrics or without a capacity; a load that is not there or shorter than
/// the warm-up.
pub(super) async fn read(args: &ReplayArgs) -> anyhow::Result<Input> {
    let mut rules = rule::load(std::slice::from_ref(&args.rule))?;
    let names = rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>().join(", ");
    let Rule { name, mut policy, mut queries, .. } = rules.pop().context("there is no rule")?;
    let file = args.rule.display();
    anyhow::ensure!(rules.is_empty(), "{file} holds the rules {names}; put the one to replay into a file of its own");
    let (1, Some(metric), Some(query)) = (policy.metrics.len(), policy.metrics.first_mut(), queries.pop()) else {
        anyhow::bail!(
            "rule {name} has {} metrics; a replay knows one load, so try each metric alone",
            policy.metrics.len()
        );
    };
    let replica_capacity = capacity(&mut metric.demand, args.replica_capacity)
        .with_context(|| format!("rule {name}, metric {}", metric.name))?;
    if std::mem::take(&mut policy.pause) != Pause::None {
        tracing::warn!(rule = %name, "the rule is paused; it is replayed as if it were not");
    }
    let (origin, series) = match (&args.csv, args.from) {
        (Some(path), _) => {
            let series = csv::load(std::slice::from_ref(path), &mut Vec::new())?;
            let [one] = <[_; 1]>::try_from(series)
                .map_err(|all| anyhow::anyhow!("{} holds {} series; name one file", path.display(), all.len()))?;
            (one.name, one.series)
        }
        (None, Some(from)) => {
            let url = args.prometheus.clone().context("--from needs --prometheus")?;
            (query.query.clone(), from_prometheus(&args.access, url, &query.query, from, args.step).await?)
        }
        (None, None) => anyhow::bail!("name the load with --csv or --from"),
    };
    let span = series.len() as i64 * series.step();
    anyhow::ensure!(
        span >= WARMUP_SECONDS + LEAST_SCORED_SECONDS,
        "the load spans {:.1} h; a replay needs a day to learn from and at least an hour after it",
        span as f64 / 3600.0
    );
    let peak_horizon = query.forecast.map(|forecast| {
        match forecast.horizon {
            Horizon::Fixed(horizon) => series.steps(horizon.seconds() as i64),
            // What serve would have learned, if it had seen the replicas start; never shorter.
            Horizon::Auto => {
                let seconds = args.start_delay.seconds().ceil() as i64 + SYNC_SECONDS;
                seconds.div_euclid(series.step()) as usize + usize::from(seconds.rem_euclid(series.step()) > 0)
            }
        }
    });
    Ok(Input { name, origin, policy, series, replica_capacity, peak_horizon })
}

/// Returns what one replica serves, and puts `given` in the rule where that is what its metric is about.
fn capacity(demand: &mut Demand, given: Option<f64>) -> anyhow::Result<f64> {
    if let Some(given) = given {
        anyhow::ensure!(given > 0.0 && given.is_finite(), "--replica-capacity is {given}; it must be above 0");
    }
    match demand {
        Demand::Value { .. } => {
            anyhow::bail!("is a value that replicas move; the past does not tell what it would have been with others")
        }
        Demand::Threshold { .. } => {
            given.context("goes by a threshold and says nothing of what a replica serves; give --replica-capacity")
        }
        // An averageValue is what each replica should have, not what it can: it stays what it is.
        Demand::Load { replica_capacity, target_utilization, forecast: None, .. } if *target_utilization == 1.0 => {
            Ok(given.unwrap_or(*replica_capacity))
        }
        Demand::Load { replica_capacity, .. } => {
            *replica_capacity = given.unwrap_or(*replica_capacity);
            Ok(*replica_capacity)
        }
    }
}

/// Asks for the past of the rule's query. A sample tells of the step before it, so it is put at that step's beginning.
async fn from_prometheus(
    access: &AccessArgs,
    url: String,
    query: &str,
    from: PromDuration,
    step: PromDuration,
) -> anyhow::Result<Series> {
    let step = step.seconds() as i64;
    anyhow::ensure!(step > 0, "--step must be at least 1s");
    let client = Client::new(&access.clone().client_config(url)?)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let end = i64::try_from(now)?.div_euclid(step) * step;
    let fetched = client
        .range(query, end - from.seconds() as i64, end, step, MAX_POINTS)
        .await
        .context("reading the load from Prometheus")?;
    let [series] = fetched.as_slice() else {
        anyhow::bail!(
            "the rule's query gives {} series over that time; aggregate it to one, as with sum()",
            fetched.len()
        );
    };
    let samples: Vec<(f64, f64)> =
        series.samples.iter().map(|sample| (sample.timestamp - step as f64, sample.value)).collect();
    Ok(Series::from_samples(&samples, step)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_capacity_replaces_the_rule_s_but_not_an_average_value() {
        let load = |target_utilization| Demand::Load {
            replica_capacity: 80.0,
            target_utilization,
            activation_threshold: 0.0,
            forecast: None,
        };
        for (mut demand, given, counted, decided) in [
            (load(0.8), None, 80.0, 80.0),
            (load(0.8), Some(120.0), 120.0, 120.0),
            (load(1.0), Some(120.0), 120.0, 80.0),
        ] {
            assert_eq!(capacity(&mut demand, given).unwrap(), counted);
            let Demand::Load { replica_capacity, .. } = demand else { unreachable!("it was a load") };
            assert_eq!(replica_capacity, decided);
        }
        assert!(capacity(&mut load(0.8), Some(0.0)).is_err());
        assert!(capacity(&mut load(0.8), Some(f64::NAN)).is_err());
    }
}
