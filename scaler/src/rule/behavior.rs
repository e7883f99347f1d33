//! `behavior`: the HPA v2's fields, with its defaults and its validation.

use std::time::Duration;

use cloudpulse_policy::policy::Behavior;
use cloudpulse_policy::policy::DEFAULT_TOLERANCE;
use cloudpulse_policy::policy::RateAmount;
use cloudpulse_policy::policy::RatePolicy;
use cloudpulse_policy::policy::ScalingRules;
use cloudpulse_policy::policy::SelectPolicy;

use crate::rule::check::Check;
use crate::rule::check::Range;
use crate::rule::quantity::Quantity;
use crate::rule::shape::BehaviorSpec;
use crate::rule::shape::RateKind;
use crate::rule::shape::RatePolicySpec;
use crate::rule::shape::ScalingRulesSpec;
use crate::rule::shape::SelectPolicySpec;

/// The API server's limit for `stabilizationWindowSeconds`.
const LONGEST_WINDOW_SECONDS: u32 = 3600;
/// The API server's limit for `periodSeconds`.
const LONGEST_PERIOD_SECONDS: u32 = 1800;

/// Returns the checked behavior; a field that is not given has the HPA's default, and one that is given replaces it.
/// `tolerance` is the rule's own, for both directions that have none.
pub(crate) fn check(spec: BehaviorSpec, tolerance: Option<Quantity>, check: &mut Check<'_>) -> Behavior {
    let BehaviorSpec { scale_up, scale_down } = spec;
    let tolerance = tolerance
        .and_then(|tolerance| check.ratio("spec.tolerance", tolerance, Range::FromZero))
        .unwrap_or(DEFAULT_TOLERANCE);
    let mut behavior = Behavior::default();
    for (rules, spec, path) in [
        (&mut behavior.scale_up, scale_up, "spec.behavior.scaleUp"),
        (&mut behavior.scale_down, scale_down, "spec.behavior.scaleDown"),
    ] {
        rules.tolerance = tolerance;
        if let Some(spec) = spec {
            apply(spec, rules, path, check);
        }
    }
    behavior
}

fn apply(spec: ScalingRulesSpec, rules: &mut ScalingRules, path: &str, check: &mut Check<'_>) {
    let ScalingRulesSpec { stabilization_window_seconds, select_policy, policies, tolerance } = spec;
    if let Some(seconds) = stabilization_window_seconds {
        if seconds > LONGEST_WINDOW_SECONDS {
            let field = format!("{path}.stabilizationWindowSeconds");
            check.add(field, format!("is {seconds}; the HPA allows at most {LONGEST_WINDOW_SECONDS}"));
        }
        rules.stabilization_window = Duration::from_secs(seconds.into());
    }
    if let Some(select) = select_policy {
        rules.select_policy = match select {
            SelectPolicySpec::Max => SelectPolicy::Max,
            SelectPolicySpec::Min => SelectPolicy::Min,
            SelectPolicySpec::Disabled => SelectPolicy::Disabled,
        };
    }
    if let Some(policies) = policies {
        if policies.is_empty() {
            check.add(format!("{path}.policies"), "is empty; name at least one policy or leave the field out");
        }
        rules.policies = policies
            .into_iter()
            .enumerate()
            .filter_map(|(at, policy)| rate_policy(policy, &format!("{path}.policies[{at}]"), check))
            .collect();
    }
    if let Some(tolerance) = tolerance
        && let Some(tolerance) = check.ratio(&format!("{path}.tolerance"), tolerance, Range::FromZero)
    {
        rules.tolerance = tolerance;
    }
}

fn rate_policy(spec: RatePolicySpec, path: &str, check: &mut Check<'_>) -> Option<RatePolicy> {
    let RatePolicySpec { kind, value, period_seconds } = spec;
    let kind = check.required(&format!("{path}.type"), kind);
    let value = check.required(&format!("{path}.value"), value);
    let period = check.required(&format!("{path}.periodSeconds"), period_seconds);
    if value == Some(0) {
        check.add(format!("{path}.value"), "is 0; it must be above 0");
    }
    if period.is_some_and(|seconds| seconds == 0 || seconds > LONGEST_PERIOD_SECONDS) {
        check.add(format!("{path}.periodSeconds"), format!("must be from 1 to {LONGEST_PERIOD_SECONDS}"));
    }
    let amount = match kind? {
        RateKind::Pods => RateAmount::Pods(value?),
        RateKind::Percent => RateAmount::Percent(value?),
    };
    Some(RatePolicy { amount, period: Duration::from_secs(period?.into()) })
}
