//! Rate policies: how far replicas may move from where they were at the start of each policy's period.

use crate::Replicas;
use crate::history::History;
use crate::policy::RateAmount;
use crate::policy::RatePolicy;
use crate::policy::ScalingRules;
use crate::policy::SelectPolicy;
use crate::time::Timestamp;

/// Returns the most replicas that `rules` allow now, never fewer than `current`.
///
/// The HPA's `calculateScaleUpLimitWithScalingRules`; percentages round up.
pub fn scale_up_limit(rules: &ScalingRules, history: &History, current: Replicas, now: Timestamp) -> Replicas {
    let proposals = rules.policies.iter().map(|policy| {
        let start = period_start(policy, history, current, now);
        match policy.amount {
            RateAmount::Pods(pods) => start.saturating_add(i64::from(pods)),
            RateAmount::Percent(percent) => percent_of(start, 100 + i64::from(percent), 99),
        }
    });
    let limit = match rules.select_policy {
        SelectPolicy::Disabled => Some(i64::from(current)),
        SelectPolicy::Max => proposals.max(),
        SelectPolicy::Min => proposals.min(),
    };
    limit.map_or(Replicas::MAX, saturate).max(current)
}

/// Returns the fewest replicas that `rules` allow now, never more than `current`.
///
/// The HPA's `calculateScaleDownLimitWithBehaviors`; percentages round the remaining replicas down.
pub fn scale_down_limit(rules: &ScalingRules, history: &History, current: Replicas, now: Timestamp) -> Replicas {
    let proposals = rules.policies.iter().map(|policy| {
        let start = period_start(policy, history, current, now);
        match policy.amount {
            RateAmount::Pods(pods) => start.saturating_sub(i64::from(pods)),
            RateAmount::Percent(percent) => percent_of(start, 100 - i64::from(percent), 0),
        }
    });
    let limit = match rules.select_policy {
        SelectPolicy::Disabled => Some(i64::from(current)),
        SelectPolicy::Max => proposals.min(),
        SelectPolicy::Min => proposals.max(),
    };
    limit.map_or(0, saturate).min(current)
}

/// Replicas before the changes of the policy's period.
fn period_start(policy: &RatePolicy, history: &History, current: Replicas, now: Timestamp) -> i64 {
    let mut start = i64::from(current);
    for change in history.changes_within(policy.period, now) {
        start += i64::from(change.from) - i64::from(change.to);
    }
    start
}

/// `percent` of `replicas` in whole numbers; `round` 0 rounds down and 99 up.
fn percent_of(replicas: i64, percent: i64, round: i64) -> i64 {
    replicas.saturating_mul(percent).saturating_add(round).div_euclid(100)
}

fn saturate(replicas: i64) -> Replicas {
    Replicas::try_from(replicas.max(0)).unwrap_or(Replicas::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_milliseconds(seconds * 1000)
    }

    fn rules(select_policy: SelectPolicy, policies: &[(RateAmount, u64)]) -> ScalingRules {
        ScalingRules {
            select_policy,
            policies: policies
                .iter()
                .map(|(amount, period)| RatePolicy { amount: *amount, period: Duration::from_secs(*period) })
                .collect(),
            ..ScalingRules::unlimited()
        }
    }

    /// The example of the HPA's page, "Scaling policies": at most 4 pods or 10 % of them a minute, from 80 to 10.
    #[test]
    fn scale_down_goes_as_the_hpa_page_says() {
        let down = rules(SelectPolicy::Max, &[(RateAmount::Pods(4), 60), (RateAmount::Percent(10), 60)]);
        let mut history = History::default();
        let mut current = 80;
        let mut steps = Vec::new();
        for minute in 0..7 {
            let now = at(minute * 60);
            let limit = scale_down_limit(&down, &history, current, now);
            steps.push(current - limit);
            history.record_change(current, limit, now);
            current = limit;
            assert_eq!(scale_down_limit(&down, &history, current, now), current, "nothing more in the same minute");
        }
        assert_eq!(steps, [8, 8, 7, 6, 6, 5, 4]); // 80, 72 (7.2 rounds up to 8), 64, 57, 51, 45, 40 -> 36
    }

    #[test]
    fn scale_up_by_default_doubles_or_adds_four_each_15_s() {
        let up = ScalingRules::default_up();
        let mut history = History::default();
        let mut current = 1;
        for (turn, expected) in [5, 10, 20, 40].into_iter().enumerate() {
            let now = at(turn as i64 * 15);
            let limit = scale_up_limit(&up, &history, current, now);
            assert_eq!(limit, expected);
            history.record_change(current, limit, now);
            current = limit;
        }
    }

    #[test]
    fn select_policy_chooses() {
        let two = [(RateAmount::Pods(4), 60), (RateAmount::Percent(10), 60)];
        let history = History::default();
        for (select, up, down) in
            [(SelectPolicy::Max, 110, 90), (SelectPolicy::Min, 104, 96), (SelectPolicy::Disabled, 100, 100)]
        {
            assert_eq!(scale_up_limit(&rules(select, &two), &history, 100, at(0)), up, "{select:?}");
            assert_eq!(scale_down_limit(&rules(select, &two), &history, 100, at(0)), down, "{select:?}");
        }
        assert_eq!(scale_up_limit(&ScalingRules::unlimited(), &history, 3, at(0)), Replicas::MAX);
        assert_eq!(scale_down_limit(&ScalingRules::unlimited(), &history, 3, at(0)), 0);
    }
}
