//! `replay`: a rule and a load of the past in; what the rule and its rivals would have done, and whether it is worth it, out.

mod input;
mod picture;
mod report;
mod words;

use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use cloudpulse_policy::policy::Demand;
use cloudpulse_policy::policy::ForecastRule;
use cloudpulse_policy::policy::Policy;
use cloudpulse_replay::baseline::Baseline;
use cloudpulse_replay::baseline::Prepared;
use cloudpulse_replay::peaks::Peaks;
use cloudpulse_replay::peaks::of_peak_model;
use cloudpulse_replay::rule::RuleController;
use cloudpulse_replay::scenario::Scenario;
use cloudpulse_replay::simulation::simulate;
use cloudpulse_replay::simulation::timeline;
use cloudpulse_replay::sweep::Point;
use cloudpulse_replay::sweep::geometric_grid;
use cloudpulse_replay::timeline::Row;
use cloudpulse_replay::timeline::Totals;
use cloudpulse_replay::verdict::not_predictable;
use rayon::prelude::*;

use crate::cli::OutputForm;
use crate::cli::ReplayArgs;
use crate::replay::input::Input;
use crate::replay::report::PolicyReport;
use crate::replay::report::Report;
use crate::replay::report::SweepReport;
use crate::replay::words::Facts;

/// The name of the rule among the policies.
const RULE: &str = "rule";
/// What the rule is held against, in the order of the output.
const RIVALS: [Baseline; 6] = [
    Baseline::ReactiveHpa,
    Baseline::ReactiveHpaTuned,
    Baseline::SeasonalNaive,
    Baseline::HoltWinters,
    Baseline::Static,
    Baseline::Oracle,
];
/// Settings of the rule in a sweep: least, most, and how many.
const VIOLATION_COSTS: (f64, f64, usize) = (0.3, 10_000.0, 24);
/// The same as the share that a quantile leaves above it.
const BEYOND_QUANTILE: (f64, f64, usize) = (0.5, 1e-4, 24);
/// Target utilisations of an HPA at whose replica-hours policies are compared.
const BUDGETS: [f64; 2] = [0.7, 0.8];

/// What one policy did.
struct Replayed {
    name: &'static str,
    rows: Vec<Row>,
    totals: Totals,
}

/// Replays and prints.
///
/// # Errors
/// When the rule or the load cannot be read or do not fit each other, or a file cannot be written.
pub async fn run(args: ReplayArgs) -> anyhow::Result<()> {
    if let Some(path) = &args.plot {
        let ending = path.extension().and_then(|ending| ending.to_str());
        anyhow::ensure!(matches!(ending, Some("svg" | "png")), "{} must end in .svg or .png", path.display());
    }
    let input = input::read(&args).await?;
    let scenario = input.scenario(args.start_delay);
    let lead = scenario.start_delay + input.series.step();
    let peaks = input.peak_horizon.map(|horizon| of_peak_model(&input.series, horizon));
    let rivals: Vec<Prepared> = RIVALS.into_par_iter().map(|rival| Prepared::new(rival, &scenario)).collect();
    let all = replay_all(&input, &scenario, peaks.as_ref(), &rivals);
    let find = |name: &str| all.iter().find(|one| one.name == name).context("a policy was not replayed");
    let (rule, oracle) = (find(RULE)?, find(Baseline::Oracle.name())?);
    let not_predictable = not_predictable(&scenario, &rule.rows, &oracle.rows);
    let policies: Vec<PolicyReport> = all.iter().map(|one| PolicyReport::new(one.name, &one.totals)).collect();
    let facts = Facts {
        rule: &rule.totals,
        hpa: &find(Baseline::ReactiveHpa.name())?.totals,
        rivals: all
            .iter()
            .filter(|one| ![RULE, "static", "oracle"].contains(&one.name))
            .map(|one| (one.name, &one.totals))
            .collect(),
        not_predictable,
        violation_cost: input.violation_cost(),
        peak_horizon_seconds: input.peak_horizon.map(|horizon| horizon as i64 * input.series.step()),
        lead_seconds: lead,
    };
    let words = words::words(&facts);
    let verdict = words::verdict_of(&facts);
    let sweep = args.sweep.then(|| sweep(&input, &scenario, peaks.as_ref(), &rivals));
    if let Some(path) = &args.timeline {
        write_timeline(path, &all).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.plot {
        picture::write(&input, &scenario, &all, path)?;
    }
    let report = Report {
        rule: input.name.clone(),
        from: scenario.scored_from(),
        to: scenario.end(),
        start_delay_seconds: scenario.start_delay,
        replica_capacity: scenario.replica_capacity,
        policies,
        not_predictable,
        worth_it: verdict.is_worth_it,
        words,
        sweep,
    };
    let mut out = std::io::stdout().lock();
    match args.output {
        OutputForm::Table => write!(out, "{report}")?,
        OutputForm::Json => {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Replays the rule and its rivals, each as it is.
fn replay_all(input: &Input, scenario: &Scenario<'_>, peaks: Option<&Peaks>, rivals: &[Prepared]) -> Vec<Replayed> {
    let done = |name, rows: Vec<Row>| Replayed { name, totals: rows.iter().collect(), rows };
    let mut all = vec![done(RULE, timeline(scenario, &mut RuleController::new(&input.policy, &input.series, peaks)))];
    all.par_extend(rivals.par_iter().map(|rival| {
        let knob = rival.baseline().default_knob(scenario);
        done(rival.baseline().name(), timeline(scenario, rival.controller(scenario, knob).as_mut()))
    }));
    all
}

/// Replays all at other settings too, and compares them at the cost of HPAs.
fn sweep(input: &Input, scenario: &Scenario<'_>, peaks: Option<&Peaks>, rivals: &[Prepared]) -> SweepReport {
    tracing::info!("trying other settings of each policy");
    let rival = |rival: &Prepared, knob: f64| simulate(scenario, rival.controller(scenario, knob).as_mut(), |_| ());
    let rule_points: Vec<Point> = settings(&input.policy)
        .par_iter()
        .map(|(knob, policy)| {
            let mut controller = RuleController::new(policy, &input.series, peaks);
            Point::new(*knob, &simulate(scenario, &mut controller, |_| ()))
        })
        .collect();
    let mut curves = vec![(RULE, rule_points)];
    curves.par_extend(rivals.par_iter().map(|prepared| {
        let knobs = prepared.baseline().knobs(scenario);
        let points = knobs.into_par_iter().map(|knob| Point::new(knob, &rival(prepared, knob))).collect();
        (prepared.baseline().name(), points)
    }));
    let hpa = Prepared::new(Baseline::ReactiveHpa, scenario);
    let budgets = BUDGETS.map(|utilization| rival(&hpa, utilization));
    SweepReport::new(&curves, &budgets)
}

/// Returns the rule with other knobs: the price of a violation, or the quantile where it names one; the target utilisation
/// where it has no forecast; itself alone where it goes by a threshold.
fn settings(policy: &Policy) -> Vec<(f64, Policy)> {
    let knobs = match policy.metrics.first().map(|metric| &metric.demand) {
        Some(Demand::Load { forecast: Some(ForecastRule::ViolationCost(_)), .. }) => {
            let (least, most, count) = VIOLATION_COSTS;
            geometric_grid(least, most, count)
        }
        Some(Demand::Load { forecast: Some(ForecastRule::Quantile(_)), .. }) => {
            let (least, most, count) = BEYOND_QUANTILE;
            geometric_grid(least, most, count).into_iter().map(|beyond| 1.0 - beyond).collect()
        }
        Some(Demand::Load { forecast: None, .. }) => (20..=50).map(|percent| f64::from(percent) * 0.02).collect(),
        Some(Demand::Threshold { threshold, .. }) => vec![*threshold],
        Some(Demand::Value { target }) => vec![*target],
        None => Vec::new(),
    };
    let with = |knob: f64| {
        let mut policy = policy.clone();
        if let Some(metric) = policy.metrics.first_mut()
            && let Demand::Load { target_utilization, forecast, .. } = &mut metric.demand
        {
            match forecast {
                Some(ForecastRule::ViolationCost(cost)) => *cost = knob,
                Some(ForecastRule::Quantile(quantile)) => *quantile = knob,
                None => *target_utilization = knob,
            }
        }
        (knob, policy)
    };
    knobs.into_iter().map(with).collect()
}

fn write_timeline(path: &Path, all: &[Replayed]) -> anyhow::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    writeln!(out, "timestamp,policy,load,demand,ready,allocated,desired")?;
    for Replayed { name, rows, .. } in all {
        for Row { timestamp, load, demand, ready, allocated, desired } in rows {
            // What is not known stays empty.
            let load = load.map(|load| load.to_string()).unwrap_or_default();
            let demand = demand.map(|demand| demand.to_string()).unwrap_or_default();
            writeln!(out, "{timestamp},{name},{load},{demand},{ready},{allocated},{desired}")?;
        }
    }
    Ok(out.flush()?)
}
