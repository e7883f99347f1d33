//! The full form of a rule: its fields checked and turned into a policy and queries.

use std::collections::HashSet;
use std::time::Duration;

use cloudpulse_common::duration::PromDuration;
use cloudpulse_policy::policy::AboveMax;
use cloudpulse_policy::policy::DEFAULT_TARGET_UTILIZATION;
use cloudpulse_policy::policy::DEFAULT_VIOLATION_COST;
use cloudpulse_policy::policy::Demand;
use cloudpulse_policy::policy::ForecastRule;
use cloudpulse_policy::policy::MetricPolicy;
use cloudpulse_policy::policy::MissingData;
use cloudpulse_policy::policy::Mode;
use cloudpulse_policy::policy::Policy;

use crate::rule::ForecastQuery;
use crate::rule::Horizon;
use crate::rule::MetricQuery;
use crate::rule::Name;
use crate::rule::Rule;
use crate::rule::Sources;
use crate::rule::behavior;
use crate::rule::bounds;
use crate::rule::check::Check;
use crate::rule::check::Range;
use crate::rule::quantity::Quantity;
use crate::rule::shape::FullSpec;
use crate::rule::shape::MetricSpec;
use crate::rule::shape::MissingDataPolicy;
use crate::rule::shape::MissingDataSpec;
use crate::rule::shape::ModeSpec;
use crate::rule::sources;

/// A load older than this is no longer the load now: two scrapes of a minute.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(120);
/// A forecast older than this is not used.
const DEFAULT_FORECAST_MAX_AGE: Duration = Duration::from_secs(300);
const DEFAULT_HORIZON: PromDuration = PromDuration::from_secs(300);

/// Returns the rule; `None` where something that it must have is absent, which is then among the findings.
pub(crate) fn check(Name { namespace, name }: Name, spec: FullSpec, check: &mut Check<'_>) -> Option<Rule> {
    let FullSpec {
        target,
        mode,
        min_replicas,
        max_replicas,
        when_above_max,
        metrics,
        behavior,
        tolerance,
        cooldown,
        schedules,
        pause,
        missing_data,
    } = spec;
    let min_replicas = min_replicas.unwrap_or(1);
    let max_replicas = check
        .required("spec.maxReplicas", max_replicas)
        .and_then(|max_replicas| check.at_least_one("spec.maxReplicas", max_replicas));
    if let Some(max) = max_replicas
        && min_replicas > max
    {
        check.add("spec.minReplicas", format!("is {min_replicas}, above maxReplicas, which is {max}"));
    }
    let schedules = bounds::schedules(schedules.unwrap_or_default(), min_replicas, max_replicas, check);
    let above_max = when_above_max.map_or(Some(AboveMax::default()), |spec| bounds::above_max(spec, check));
    let target = check
        .required("spec.target", target)
        .and_then(|target| target.check(min_replicas, namespace.as_deref(), check));
    let behavior = behavior::check(behavior.unwrap_or_default(), tolerance, check);
    let missing_data = missing_data.map_or(Some(MissingData::default()), |spec| missing(spec, check));
    let metrics = check.required("spec.metrics", metrics);
    if metrics.as_ref().is_some_and(Vec::is_empty) {
        check.add("spec.metrics", "is empty; name at least one metric");
    }
    let may_be_zero = min_replicas == 0 || schedules.iter().any(|schedule| schedule.min_replicas == Some(0));
    let mut names = HashSet::new();
    let mut policies = Vec::new();
    let mut queries = Vec::new();
    for (at, spec) in metrics.into_iter().flatten().enumerate() {
        let path = format!("spec.metrics[{at}]");
        let Some((policy, query)) = metric(spec, &path, may_be_zero, check) else { continue };
        if !names.insert(policy.name.clone()) {
            check.add(format!("{path}.name"), format!("{:?} names another metric of this rule", policy.name));
        }
        policies.push(policy);
        queries.push(query);
    }
    Some(Rule {
        name,
        target: target?,
        policy: Policy {
            mode: match mode {
                Some(ModeSpec::Observe) => Mode::Observe,
                Some(ModeSpec::Floor) | None => Mode::Floor,
                Some(ModeSpec::Full) => Mode::Full,
            },
            min_replicas,
            max_replicas: max_replicas?,
            schedules,
            above_max: above_max?,
            metrics: policies,
            behavior,
            cooldown: cooldown.unwrap_or_default().0,
            pause: pause.unwrap_or_default(),
            missing_data: missing_data?,
        },
        queries,
        form: crate::rule::Form::Full,
    })
}

fn missing(spec: MissingDataSpec, check: &mut Check<'_>) -> Option<MissingData> {
    let MissingDataSpec { policy, replicas } = spec;
    let policy = check.required("spec.missingData.policy", policy)?;
    if policy != MissingDataPolicy::Replicas && replicas.is_some() {
        check.add("spec.missingData.replicas", "belongs to the policy Replicas only");
    }
    match policy {
        MissingDataPolicy::Hold => Some(MissingData::Hold),
        MissingDataPolicy::Reactive => Some(MissingData::Reactive),
        MissingDataPolicy::Replicas => check
            .required("spec.missingData.replicas", replicas)
            .and_then(|replicas| check.at_least_one("spec.missingData.replicas", replicas))
            .map(MissingData::Replicas),
    }
}

/// What a metric is held against.
enum Target {
    /// What one replica serves, and the share of it to aim at.
    Load(f64, f64),
    /// What the value is to be.
    Value(f64),
}

fn metric(
    spec: MetricSpec,
    path: &str,
    may_be_zero: bool,
    check: &mut Check<'_>,
) -> Option<(MetricPolicy, MetricQuery)> {
    let MetricSpec {
        name,
        query,
        max_age,
        sources,
        replica_capacity,
        average_value,
        value,
        target_utilization,
        activation_threshold,
        forecast,
        horizon,
        forecast_max_age,
        violation_cost,
        quantile,
    } = spec;
    let at = |field: &str| format!("{path}.{field}");
    let name = check.required_text(&at("name"), name);
    let query = check.required_text(&at("query"), query);
    let forecast = forecast.and_then(|forecast| check.required_text(&at("forecast"), Some(forecast)));
    let has_forecast = forecast.is_some();
    let target = match (replica_capacity, average_value, value) {
        (Some(capacity), None, None) => {
            let utilization = target_utilization.unwrap_or(Quantity(DEFAULT_TARGET_UTILIZATION));
            let utilization = check.ratio(&at("targetUtilization"), utilization, Range::UpToOne);
            check.positive(&at("replicaCapacity"), capacity).zip(utilization).map(|(a, b)| Target::Load(a, b))
        }
        (None, average, value) if average.is_some() != value.is_some() => {
            let field = if average.is_some() { "averageValue" } else { "value" };
            if target_utilization.is_some() {
                check.add(at("targetUtilization"), format!("belongs to replicaCapacity; {field} is the target itself"));
            }
            if has_forecast {
                check.add(at(field), "tells no capacity, which a forecast needs; use replicaCapacity");
            }
            let average = average.map(|average| check.positive(&at(field), average).map(|it| Target::Load(it, 1.0)));
            let value = value.map(|value| check.positive(&at(field), value).map(Target::Value));
            average.or(value).flatten()
        }
        (None, None, _) => {
            check.required(&at("replicaCapacity"), None::<()>);
            None
        }
        (_, average, _) => {
            let field = if average.is_some() { "averageValue" } else { "value" };
            check.add(at(field), "excludes replicaCapacity and each other target; give one of them");
            None
        }
    };
    let rule = forecast_rule(violation_cost, quantile, path, check);
    let horizon = horizon.map(|text| parse_horizon(&text, &at("horizon"), check));
    for (field, given) in [
        ("horizon", horizon.is_some()),
        ("forecastMaxAge", forecast_max_age.is_some()),
        ("violationCost", violation_cost.is_some()),
        ("quantile", quantile.is_some()),
    ] {
        if given && forecast.is_none() {
            check.add(at(field), "needs forecast, the name of the predictor's forecast of the same load");
        }
    }
    let activation_threshold = activation_threshold.map_or(Some(0.0), |threshold| {
        if !may_be_zero {
            check.add(at("activationThreshold"), "belongs to minReplicas 0, of the rule or of a schedule");
        }
        check.not_negative(&at("activationThreshold"), threshold)
    });
    let target = target?;
    let horizon = horizon.unwrap_or(Some(Horizon::Fixed(DEFAULT_HORIZON)));
    let forecast_query = match forecast {
        None => None,
        Some(forecast) => Some(ForecastQuery {
            name: forecast,
            horizon: horizon?,
            max_age: forecast_max_age.map_or(DEFAULT_FORECAST_MAX_AGE, |age| age.0),
        }),
    };
    let forecast = if forecast_query.is_some() { Some(rule?) } else { None };
    let (name, query) = (name?, query?);
    let sources = match sources.map(|sources| sources.trim().to_owned()) {
        None => sources::of(&query),
        Some(none) if none == "none" => Sources::Unknown,
        Some(named) if named.is_empty() => {
            check.add(at("sources"), "is empty; write none to ask for no sources");
            Sources::Unknown
        }
        Some(named) => Sources::Named(named),
    };
    Some((
        MetricPolicy {
            name: name.clone(),
            demand: match target {
                Target::Value(target) => Demand::Value { target },
                Target::Load(replica_capacity, target_utilization) => Demand::Load {
                    replica_capacity,
                    target_utilization,
                    activation_threshold: activation_threshold?,
                    forecast,
                },
            },
        },
        MetricQuery {
            name,
            query,
            max_age: max_age.map_or(DEFAULT_MAX_AGE, |age| age.0),
            sources,
            forecast: forecast_query,
        },
    ))
}

fn forecast_rule(
    violation_cost: Option<Quantity>,
    quantile: Option<Quantity>,
    path: &str,
    check: &mut Check<'_>,
) -> Option<ForecastRule> {
    match (violation_cost, quantile) {
        (Some(_), Some(_)) => {
            check.add(format!("{path}.quantile"), "excludes violationCost; give one of them");
            None
        }
        (None, Some(level)) => check.ratio(&format!("{path}.quantile"), level, Range::Open).map(ForecastRule::Quantile),
        (cost, None) => {
            let cost = cost.unwrap_or(Quantity(DEFAULT_VIOLATION_COST));
            check.positive(&format!("{path}.violationCost"), cost).map(ForecastRule::ViolationCost)
        }
    }
}

fn parse_horizon(text: &str, path: &str, check: &mut Check<'_>) -> Option<Horizon> {
    if text == "auto" {
        return Some(Horizon::Auto);
    }
    match text.parse::<PromDuration>() {
        Ok(horizon) if horizon > PromDuration::default() => Some(Horizon::Fixed(horizon)),
        Ok(_) => {
            check.add(path, "is 0; it must be above 0, or auto");
            None
        }
        Err(error) => {
            check.add(path, error.to_string());
            None
        }
    }
}
