//! `schedules` and `whenAboveMax`: fields in; bounds over time out.

use std::collections::HashSet;

use cloudpulse_policy::Replicas;
use cloudpulse_policy::policy::AboveMax;
use cloudpulse_policy::schedule::Cron;
use cloudpulse_policy::schedule::Schedule;

use crate::rule::check::Check;
use crate::rule::shape::AboveMaxPolicy;
use crate::rule::shape::AboveMaxSpec;
use crate::rule::shape::ScheduleSpec;

/// Returns the usable schedules. `min` and `max` are the rule's own bounds.
pub(crate) fn schedules(
    specs: Vec<ScheduleSpec>,
    min: Replicas,
    max: Option<Replicas>,
    check: &mut Check<'_>,
) -> Vec<Schedule> {
    let mut names = HashSet::new();
    let mut schedules = Vec::new();
    for (at, spec) in specs.into_iter().enumerate() {
        let path = format!("spec.schedules[{at}]");
        let Some(schedule) = schedule(spec, &path, check) else { continue };
        if !names.insert(schedule.name.clone()) {
            check.add(format!("{path}.name"), format!("{:?} names another schedule of this rule", schedule.name));
        }
        let least = schedule.min_replicas.unwrap_or(min);
        if let Some(most) = schedule.max_replicas.or(max)
            && least > most
        {
            let message = format!("holds at least {least} replicas to at most {most}; raise its maxReplicas");
            check.add(&path, message);
        }
        schedules.push(schedule);
    }
    schedules
}

fn schedule(spec: ScheduleSpec, path: &str, check: &mut Check<'_>) -> Option<Schedule> {
    let ScheduleSpec { name, time_zone, start, end, min_replicas, max_replicas } = spec;
    let at = |field: &str| format!("{path}.{field}");
    let name = check.required_text(&at("name"), name);
    let time_zone = time_zone.unwrap_or_else(|| "UTC".to_owned());
    let mut cron = |field: &str, text: Option<String>| {
        let text = check.required_text(&at(field), text)?;
        Cron::new(&text, &time_zone).map_err(|error| check.add(at(field), format!("{text:?} {error}"))).ok()
    };
    let (start, end) = (cron("start", start), cron("end", end));
    if start.is_some() && start == end {
        check.add(at("end"), "is the start too, so that the schedule never holds");
    }
    if min_replicas.is_none() && max_replicas.is_none() {
        check.add(path, "changes nothing; give minReplicas, maxReplicas or both");
    }
    let max_replicas = max_replicas.map(|max| check.at_least_one(&at("maxReplicas"), max));
    Some(Schedule { name: name?, start: start?, end: end?, min_replicas, max_replicas: max_replicas.flatten() })
}

/// Returns what happens above the maximum; `None` where it is unusable, which is then among the findings.
pub(crate) fn above_max(spec: AboveMaxSpec, check: &mut Check<'_>) -> Option<AboveMax> {
    let AboveMaxSpec { policy, percent } = spec;
    match check.required("spec.whenAboveMax.policy", policy)? {
        AboveMaxPolicy::Alert => {
            if percent.is_some() {
                check.add("spec.whenAboveMax.percent", "belongs to the policy Raise only");
            }
            Some(AboveMax::Alert)
        }
        AboveMaxPolicy::Raise => {
            let percent = check.required("spec.whenAboveMax.percent", percent)?;
            if !(1..=1000).contains(&percent) {
                check.add("spec.whenAboveMax.percent", format!("is {percent}; it must be from 1 to 1000"));
                return None;
            }
            Some(AboveMax::Raise { percent })
        }
    }
}
