//! What a replay found in; whether the rule is worth switching on, in plain words, out.

use cloudpulse_common::duration::PromDuration;
use cloudpulse_replay::timeline::Totals;
use cloudpulse_replay::verdict::NotPredictable;
use cloudpulse_replay::verdict::Verdict;
use cloudpulse_replay::verdict::verdict;

/// What the words are about.
pub(super) struct Facts<'a> {
    pub(super) rule: &'a Totals,
    /// The reactive HPA at 70 %.
    pub(super) hpa: &'a Totals,
    /// All that can be had in place of the rule, the HPA among them.
    pub(super) rivals: Vec<(&'static str, &'a Totals)>,
    pub(super) not_predictable: NotPredictable,
    /// One violation minute in minutes of the whole fleet.
    pub(super) violation_cost: f64,
    /// Until when the rule's forecast looks; `None` without one.
    pub(super) peak_horizon_seconds: Option<i64>,
    /// Start delay and one step.
    pub(super) lead_seconds: i64,
}

/// Returns whether the rule is worth it.
pub(super) fn verdict_of(facts: &Facts<'_>) -> Verdict {
    verdict(facts.rule, facts.hpa, facts.violation_cost)
}

/// Returns one paragraph a line.
pub(super) fn words(facts: &Facts<'_>) -> Vec<String> {
    let verdict = verdict_of(facts);
    let mut all = vec![answer(facts, &verdict), predictable(facts)];
    if let Some(better) = better_rival(facts) {
        all.push(better);
    }
    match facts.peak_horizon_seconds {
        None => all.push("The rule names no forecast: it goes by what the load was.".to_owned()),
        Some(horizon) if horizon < facts.lead_seconds => all.push(format!(
            "The rule's forecast looks {} ahead, but a replica serves {} after the load that asked for it could be seen: \
             give it a longer horizon.",
            length(horizon),
            length(facts.lead_seconds)
        )),
        Some(_) => {}
    }
    all
}

fn answer(facts: &Facts<'_>, verdict: &Verdict) -> String {
    let Verdict { avoided_minutes, extra_replica_hours, worth_replica_hours, is_worth_it } = *verdict;
    let share = 100.0 * extra_replica_hours / facts.hpa.replica_hours();
    let cost = if extra_replica_hours > 0.0 {
        format!("spends {extra_replica_hours:.1} replica-hours more ({share:.1} %)")
    } else if extra_replica_hours < 0.0 {
        format!("saves {:.1} replica-hours ({:.1} %)", -extra_replica_hours, -share)
    } else {
        "costs as much".to_owned()
    };
    let violations = if avoided_minutes >= 0.0 {
        format!("avoids {avoided_minutes:.1} of its {:.1} violation minutes", facts.hpa.violation_minutes())
    } else {
        format!("has {:.1} violation minutes more", -avoided_minutes)
    };
    let worth = if avoided_minutes >= 0.0 {
        format!("what it avoids is worth {worth_replica_hours:.1} replica-hours")
    } else {
        format!("that costs {:.1} replica-hours", -worth_replica_hours)
    };
    format!(
        "{}: beside a reactive HPA at 70 %, the rule {violations} and {cost}; at {} minutes of the whole fleet for one \
         violation minute, {worth}.",
        if is_worth_it { "Worth switching on" } else { "Not worth switching on" },
        facts.violation_cost
    )
}

fn predictable(facts: &Facts<'_>) -> String {
    let all = facts.rule.violation_minutes();
    let NotPredictable { oracle_minutes, jump_minutes } = facts.not_predictable;
    let minutes = facts.not_predictable.minutes();
    if all == 0.0 {
        return "It was never short of replicas.".to_owned();
    }
    if minutes == 0.0 {
        return format!("None of its {all:.1} violation minutes is one that no forecast could have seen.");
    }
    format!(
        "{minutes:.1} of its {all:.1} violation minutes no forecast could have seen: {oracle_minutes:.1} that even knowing the \
         load beforehand does not avoid (the limit of scaling up, maxReplicas), and {jump_minutes:.1} of jumps without a \
         precedent. Against those only standing capacity (minReplicas), a faster start or faster metrics help."
    )
}

/// The rival that is cheapest at the rule's price, where that is not the rule.
fn better_rival(facts: &Facts<'_>) -> Option<String> {
    let gain = |totals: &Totals| {
        let verdict = verdict(totals, facts.hpa, facts.violation_cost);
        verdict.worth_replica_hours - verdict.extra_replica_hours
    };
    let (name, best) = facts.rivals.iter().max_by(|a, b| gain(a.1).total_cmp(&gain(b.1)))?;
    (gain(best) > gain(facts.rule)).then(|| {
        format!(
            "At that price {name} does better here: {:.1} violation minutes for {:.1} replica-hours, the rule {:.1} for {:.1}.",
            best.violation_minutes(),
            best.replica_hours(),
            facts.rule.violation_minutes(),
            facts.rule.replica_hours()
        )
    })
}

fn length(seconds: i64) -> PromDuration {
    PromDuration::from_secs(seconds.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use cloudpulse_replay::timeline::Row;

    use super::*;

    /// An hour of `replicas`, of which `short` minutes are too few.
    fn hour(short: usize, replicas: u32) -> Totals {
        let rows: Vec<Row> = (0..240)
            .map(|sync| Row {
                timestamp: 15 * sync as i64,
                load: Some(1.0),
                demand: Some(if sync < 4 * short { replicas + 1 } else { 1 }),
                ready: replicas,
                allocated: replicas,
                desired: replicas,
            })
            .collect();
        rows.iter().collect()
    }

    fn said(rule: &Totals, hpa: &Totals, tuned: &Totals, not_predictable: NotPredictable) -> String {
        let facts = Facts {
            rule,
            hpa,
            rivals: vec![("reactive_hpa", hpa), ("reactive_hpa_tuned", tuned)],
            not_predictable,
            violation_cost: 30.0,
            peak_horizon_seconds: Some(60),
            lead_seconds: 180,
        };
        words(&facts).join("\n")
    }

    #[test]
    fn it_says_what_to_do_and_why() {
        let (hpa, rule, none) = (hour(10, 10), hour(2, 12), NotPredictable::default());
        let good = said(&rule, &hpa, &hpa, NotPredictable { oracle_minutes: 0.5, jump_minutes: 1.0 });
        for expected in [
            "Worth switching on: beside a reactive HPA at 70 %, the rule avoids 8.0 of its 10.0 violation minutes and spends 2.0 \
             replica-hours more (20.0 %); at 30 minutes of the whole fleet for one violation minute, what it avoids is worth \
             40.0 replica-hours.",
            "1.5 of its 2.0 violation minutes no forecast could have seen: 0.5 that even",
            "looks 1m ahead, but a replica serves 3m after",
        ] {
            assert!(good.contains(expected), "{expected}\n{good}");
        }
        assert!(!good.contains("does better"), "{good}");
        let bad = said(&hour(12, 10), &hpa, &hour(0, 9), none);
        for expected in [
            "Not worth switching on: beside a reactive HPA at 70 %, the rule has 2.0 violation minutes more and costs as much",
            "that costs 10.0 replica-hours",
            "None of its 12.0 violation minutes is one",
            "At that price reactive_hpa_tuned does better here: 0.0 violation minutes for 9.0 replica-hours",
        ] {
            assert!(bad.contains(expected), "{expected}\n{bad}");
        }
        assert!(said(&hour(0, 10), &hpa, &hpa, none).contains("It was never short of replicas."));
    }
}
