//! What was measured in; tables, and the bars that it must meet, out.

use cloudpulse_replay::sweep::{Curve, violation_ratio};
use cloudpulse_replay::timeline::Totals;

use super::measure::{BUDGETS, FIXED, LEVELS, Measured, RIVALS, THROUGH_HPA};
use crate::table;

/// The start delay whose bars are judged, in minutes.
const JUDGED_MINUTES: i64 = 2;

/// Prints all tables of one start delay.
pub(super) fn print(minutes: i64, all: &[Measured<'_>]) {
    let (public, harder): (Vec<&Measured<'_>>, Vec<&Measured<'_>>) = all.iter().partition(|m| m.trace.is_public);
    table::line(&format!("\n  Replicas start in {minutes} min."));
    for (budget, utilization) in BUDGETS.iter().enumerate() {
        table::line(&format!(
            "\n  Violation minutes at the replica-hours of the HPA at {:.0} %; h/d is what it costs, as a multiple of the demand:",
            utilization * 100.0
        ));
        table::print(&by_trace(all, budget));
    }
    table::line(
        "\n  Share of the HPA's violations at equal replica-hours, (v + 1) / (v of the HPA + 1), geometric mean (worst):",
    );
    table::print(&ratios(&public, &harder));
    table::line(&format!(
        "\n  Fixed settings, one violation minute worth 30 minutes of the fleet: violations and replica-hours as a share of the HPA's at {:.0} %:",
        BUDGETS[0] * 100.0
    ));
    table::print(&fixed(&public, &harder));
    if minutes == JUDGED_MINUTES {
        table::line("\n  Bars:");
        table::print(&bars(&public, &harder));
    }
}

/// One row a trace.
fn by_trace(all: &[Measured<'_>], budget: usize) -> Vec<Vec<String>> {
    let mut heading = vec!["trace".to_owned(), "h/d".to_owned(), "rule".to_owned(), "/hpa".to_owned()];
    heading.extend(RIVALS.iter().map(|rival| rival.name().to_owned()));
    heading.push("peak 90/95/99".to_owned());
    let mut rows = vec![heading];
    for measured in all {
        let hpa = &measured.hpa[budget];
        let cost = hpa.replica_hours_per_demand();
        let mut row = vec![
            measured.trace.name.to_owned(),
            format!("{cost:.2}"),
            minutes(measured.rule.violations_at(cost)),
            measured.ratio(&measured.rule, budget).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
        ];
        row.extend(measured.rivals.iter().map(|curve| minutes(curve.violations_at(cost))));
        let levels = measured.coverage.iter().map(|coverage| coverage.ratio());
        row.push(levels.map(|ratio| format!("{:.1}", 100.0 * ratio.unwrap_or(f64::NAN))).collect::<Vec<_>>().join(" "));
        rows.push(row);
    }
    rows
}

impl Measured<'_> {
    /// Violations as a share of the HPA's at its cost; `None` where the policy cannot be so cheap.
    fn ratio(&self, curve: &Curve, budget: usize) -> Option<f64> {
        let hpa = &self.hpa[budget];
        Some(violation_ratio(curve.violations_at(hpa.replica_hours_per_demand())?, hpa.violation_minutes()))
    }
}

/// Geometric mean and largest of some ratios; how many traces have none.
struct Spread {
    mean: f64,
    worst: f64,
    without: usize,
}

fn spread(traces: &[&Measured<'_>], ratio: impl Fn(&Measured<'_>) -> Option<f64>) -> Spread {
    let known: Vec<f64> = traces.iter().filter_map(|measured| ratio(measured)).collect();
    Spread {
        mean: (known.iter().map(|ratio| ratio.ln()).sum::<f64>() / known.len() as f64).exp(),
        worst: known.iter().copied().fold(f64::NAN, f64::max),
        without: traces.len() - known.len(),
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mean, worst, without } = self;
        if !mean.is_finite() {
            return f.write_str("-");
        }
        write!(f, "{mean:.3} ({worst:.2})")?;
        if *without > 0 { write!(f, " -{without}") } else { Ok(()) }
    }
}

type Pick = for<'a, 'b> fn(&'a Measured<'b>, usize) -> &'a Curve;

fn ratios(public: &[&Measured<'_>], harder: &[&Measured<'_>]) -> Vec<Vec<String>> {
    let heading = ["policy", "six, 70 %", "six, 80 %", "eighteen, 70 %", "eighteen, 80 %"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let rule: Pick = |measured, _| &measured.rule;
    let rival: Pick = |measured, at| &measured.rivals[at];
    let through: Pick = |measured, at| &measured.through_hpa[at];
    let published = THROUGH_HPA.iter().enumerate().map(|(at, (name, _))| (*name, through, at));
    let named = RIVALS.iter().enumerate().map(|(at, baseline)| (baseline.name(), rival, at));
    for (name, pick, at) in std::iter::once(("rule", rule, 0)).chain(published).chain(named) {
        let mut row = vec![name.to_owned()];
        for traces in [public, harder] {
            for budget in 0..BUDGETS.len() {
                row.push(spread(traces, |measured| measured.ratio(pick(measured, at), budget)).to_string());
            }
        }
        rows.push(row);
    }
    rows
}

fn fixed(public: &[&Measured<'_>], harder: &[&Measured<'_>]) -> Vec<Vec<String>> {
    let heading = ["setting", "six: violations", "replica-hours", "eighteen: violations", "replica-hours", "changes/h"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (at, (name, ..)) in FIXED.iter().enumerate() {
        let mut row = vec![(*name).to_owned()];
        for traces in [public, harder] {
            let violations = |m: &Measured<'_>| {
                Some(violation_ratio(m.defaults[at].violation_minutes(), m.hpa[0].violation_minutes()))
            };
            let hours = |m: &Measured<'_>| Some(m.defaults[at].replica_hours() / m.hpa[0].replica_hours());
            row.push(spread(traces, violations).to_string());
            row.push(spread(traces, hours).to_string());
        }
        row.push(changes(public.iter().chain(harder).map(|m| &m.defaults[at])));
        rows.push(row);
    }
    for (at, (name, _)) in THROUGH_HPA.iter().enumerate() {
        let mut row = vec![(*name).to_owned()];
        for traces in [public, harder] {
            let violations = |m: &Measured<'_>| {
                Some(violation_ratio(m.through_hpa_default[at].violation_minutes(), m.hpa[0].violation_minutes()))
            };
            let hours = |m: &Measured<'_>| Some(m.through_hpa_default[at].replica_hours() / m.hpa[0].replica_hours());
            row.push(spread(traces, violations).to_string());
            row.push(spread(traces, hours).to_string());
        }
        row.push(changes(public.iter().chain(harder).map(|m| &m.through_hpa_default[at])));
        rows.push(row);
    }
    let hpa = changes(public.iter().chain(harder).map(|m| &m.hpa[0]));
    rows.push(["HPA 70 %", "1", "1", "1", "1", &hpa].map(str::to_owned).to_vec());
    rows
}

/// Least and largest changes an hour.
fn changes<'a>(all: impl Iterator<Item = &'a Totals>) -> String {
    let all: Vec<f64> = all.map(Totals::changes_per_hour).collect();
    let (middle, least, most) = table::spread(&all);
    format!("{middle:.1} ({least:.1} to {most:.1})")
}

/// What is asked, what was measured, and whether it is met.
fn bars(public: &[&Measured<'_>], harder: &[&Measured<'_>]) -> Vec<Vec<String>> {
    let mut rows = vec![["bar", "asked", "measured", ""].map(str::to_owned).to_vec()];
    let mut bar = |name: &str, asked: String, measured: String, met: bool| {
        let verdict = if met { "met" } else { "MISSED" };
        rows.push(vec![name.to_owned(), asked, measured, verdict.to_owned()]);
    };
    let rule = |traces: &[&Measured<'_>], budget: usize| spread(traces, |m| m.ratio(&m.rule, budget));
    for (traces, name, most) in [(public, "public six", 0.15), (harder, "eighteen harder", 0.5)] {
        if traces.is_empty() {
            continue;
        }
        for (budget, utilization) in BUDGETS.iter().enumerate() {
            let Spread { mean, without, .. } = rule(traces, budget);
            // A trace on which the rule cannot be so cheap has no ratio, and misses.
            let found = match without {
                0 => format!("{mean:.3}"),
                _ => format!("{mean:.3}, but cannot be so cheap on {without}"),
            };
            let met = without == 0 && mean <= most;
            bar(&format!("{name}, HPA {:.0} %", utilization * 100.0), format!("≤ {most}"), found, met);
        }
        let saved = spread(traces, |m| {
            Some(m.rule.cost_at(m.hpa[0].violation_minutes())? / m.hpa[0].replica_hours_per_demand())
        });
        let name = format!("{name}, replica-hours at the violations of the HPA 70 %");
        bar(&name, "≤ 0.9".to_owned(), format!("{:.3}", saved.mean), saved.mean <= 0.9);
    }
    let worst = rule(public, 0).worst;
    bar("public six, worst trace, HPA 70 %", "≤ 1/3".to_owned(), format!("{worst:.3}"), worst <= 1.0 / 3.0);
    let around = THROUGH_HPA.len() - 1;
    let through = spread(public, |m| m.ratio(&m.through_hpa[around], 0));
    bar(
        "public six, through an HPA, HPA 70 %",
        "≤ 0.25".to_owned(),
        through.to_string(),
        through.mean <= 0.25 && through.without == 0,
    );
    let hourly: Vec<f64> = public.iter().map(|m| m.through_hpa_default[around].changes_per_hour()).collect();
    let (middle, _, most) = table::spread(&hourly);
    bar(
        "public six, through an HPA, changes an hour",
        "≤ 5".to_owned(),
        format!("{middle:.1}, most {most:.1}"),
        most <= 5.0,
    );
    if !harder.is_empty() {
        let worst = rule(harder, 0).worst.max(rule(harder, 1).worst);
        let name = "eighteen harder, worst trace, HPA 70 and 80 %";
        bar(name, "≤ 1.05".to_owned(), format!("{worst:.3}"), worst <= 1.05);
    }
    let all: Vec<&Measured<'_>> = public.iter().chain(harder).copied().collect();
    for (at, baseline) in RIVALS.iter().enumerate().filter(|(_, rival)| rival.name().starts_with("seasonal_naive")) {
        for (traces, name) in [(public, "public six"), (harder, "eighteen harder")] {
            let lost = |m: &&&Measured<'_>| {
                (0..BUDGETS.len()).any(|budget| {
                    let (rule, naive) = (m.ratio(&m.rule, budget), m.ratio(&m.rivals[at], budget));
                    naive.is_some_and(|naive| rule.is_none_or(|rule| rule > naive))
                })
            };
            let lost: Vec<_> = traces.iter().filter(lost).collect();
            let found = if lost.is_empty() { "on all".to_owned() } else { format!("above it on {}", lost.len()) };
            if !traces.is_empty() {
                bar(&format!("{name}, not above {}", baseline.name()), "on all".to_owned(), found, lost.is_empty());
            }
        }
    }
    for (at, level) in LEVELS.iter().enumerate() {
        let errors: Vec<f64> =
            all.iter().filter_map(|m| m.coverage[at].ratio()).map(|ratio| (ratio - level).abs() * 100.0).collect();
        let (middle, _, most) = table::spread(&errors);
        bar(
            &format!("coverage of the peak at {level}, points"),
            "median ≤ 1, worst ≤ 2".to_owned(),
            format!("{middle:.2}, {most:.2}"),
            middle <= 1.0 && most <= 2.0,
        );
    }
    rows
}

fn minutes(violations: Option<f64>) -> String {
    violations.map_or_else(|| "-".to_owned(), |minutes| format!("{minutes:.1}"))
}
