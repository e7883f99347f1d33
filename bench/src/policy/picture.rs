//! What was measured of one trace in; its curves of violations over replica-hours as a picture out.

use std::fmt::Write as _;
use std::path::Path;

use cloudpulse_common::plot::{self, FORECAST, Frame, GRID, HISTORY, INK, LEFT, MUTED, RIGHT, WIDTH};
use cloudpulse_replay::sweep::Curve;
use cloudpulse_replay::timeline::Totals;

use super::measure::{BUDGETS, Measured, RIVALS, THROUGH_HPA};

const HEIGHT: f64 = 560.0;
const TOP: f64 = 110.0;
const BOTTOM: f64 = 500.0;
/// The rivals that are drawn, with their colours: all of them would hide each other.
const DRAWN: [(&str, &str); 5] = [
    ("reactive_hpa", HISTORY),
    ("reactive_hpa_tuned", "#829ab1"),
    ("seasonal_naive", "#e9a23b"),
    ("holt_winters", "#8d6cab"),
    ("oracle", "#2a9d8f"),
];
/// What is drawn beyond the dearer budget, as a share of it.
const BEYOND: f64 = 1.3;

/// Draws and writes the picture.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(minutes: i64, measured: &Measured<'_>, path: &Path) -> anyhow::Result<()> {
    let mut curves: Vec<(&str, &str, &Curve)> = vec![("rule", FORECAST, &measured.rule)];
    if let Some(through) = measured.through_hpa.last() {
        let (name, _) = THROUGH_HPA[THROUGH_HPA.len() - 1];
        curves.push((name, "#f0a1a1", through));
    }
    for (name, colour) in DRAWN {
        let at = RIVALS.iter().position(|rival| rival.name() == name);
        curves.extend(at.map(|at| (name, colour, &measured.rivals[at])));
    }
    let budgets = measured.hpa.each_ref().map(Totals::replica_hours_per_demand);
    plot::write_svg(draw(measured.trace.name, minutes, &curves, &budgets), path)
}

/// Violations are drawn as the logarithm of one more, so that none has a place.
fn draw(name: &str, minutes: i64, curves: &[(&str, &str, &Curve)], budgets: &[f64; BUDGETS.len()]) -> String {
    let height = |violations: f64| (violations + 1.0).log10();
    let last = budgets.iter().copied().fold(1.0, f64::max) * BEYOND;
    let within = |curve: &Curve| -> Vec<(f64, f64)> {
        curve.points().iter().copied().filter(|(cost, _)| (1.0..=last).contains(cost)).collect()
    };
    let most = curves.iter().flat_map(|(.., curve)| within(curve)).map(|(_, minutes)| minutes).fold(9.0, f64::max);
    let frame = Frame { first: 1.0, last, low: 0.0, high: height(most), top: TOP, bottom: BOTTOM };
    let mut svg = plot::start(HEIGHT);
    let subtitle = format!("replicas start in {minutes} min; each point is a setting that no cheaper one beats");
    plot::titles(&mut svg, &format!("{name}: violation minutes over replica-hours"), &subtitle);
    for decade in 0..=frame.high.ceil() as i32 {
        let minutes = if decade == 0 { 0.0 } else { 10_f64.powi(decade) };
        let y = frame.y(height(minutes));
        if y < TOP - 1.0 {
            break;
        }
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{MUTED}\">{minutes}</text>",
            WIDTH - RIGHT,
            LEFT - 10.0,
            y + 4.5
        );
    }
    for tick in plot::value_ticks(1.0, last).into_iter().filter(|tick| (1.0..=last).contains(tick)) {
        let (x, y) = (frame.x(tick), BOTTOM + 22.0);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" fill=\"{MUTED}\">{tick:.1}</text>");
    }
    let (x, y) = (LEFT, BOTTOM + 44.0);
    let _ =
        writeln!(svg, "<text x=\"{x}\" y=\"{y}\" fill=\"{MUTED}\">replica-hours, as a multiple of the demand</text>");
    for (budget, utilization) in budgets.iter().zip(BUDGETS) {
        let x = frame.x(*budget);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\" stroke=\"{MUTED}\" stroke-dasharray=\"4 4\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"{MUTED}\">HPA {:.0} %</text>",
            TOP - 8.0,
            utilization * 100.0
        );
    }
    let mut place = LEFT;
    for (name, colour, curve) in curves.iter().rev() {
        let points: Vec<(f64, f64)> =
            within(curve).into_iter().map(|(cost, minutes)| (cost, height(minutes))).collect();
        let width = if *name == "rule" { 2.6 } else { 1.6 };
        plot::line(&mut svg, &frame, &points, colour, width, "");
    }
    for (name, colour, _) in curves {
        let _ = writeln!(
            svg,
            "<rect x=\"{place:.1}\" y=\"70\" width=\"18\" height=\"3\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"76\" fill=\"{INK}\">{name}</text>",
            place + 24.0
        );
        place += 24.0 + 7.6 * name.chars().count() as f64 + 22.0;
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use cloudpulse_replay::sweep::Point;

    use super::*;

    #[test]
    fn a_better_policy_lies_below_and_none_is_the_lowest_line() {
        let curve = |minutes: f64| {
            let point =
                |knob, cost, violation_minutes| Point { knob, violation_minutes, replica_hours_per_demand: cost };
            Curve::new(&[point(0.0, 1.2, minutes), point(1.0, 1.5, 0.0)])
        };
        let svg = draw("a/b", 2, &[("rule", FORECAST, &curve(9.0)), ("oracle", "#2a9d8f", &curve(99.0))], &[1.5, 1.3]);
        let first_y = |colour: &str| -> f64 {
            let path = svg.lines().find(|line| line.starts_with("<path") && line.contains(colour)).unwrap();
            path.split([' ', 'L']).nth(2).unwrap().parse().unwrap()
        };
        assert!(first_y(FORECAST) > first_y("#2a9d8f"), "{svg}");
        assert!(svg.contains(&format!(" {BOTTOM:.1}\" fill=\"none\"")), "both end at no violation");
        assert!(svg.contains(">HPA 70 %<"), "{svg}");
    }
}
