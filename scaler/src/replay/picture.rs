//! Timelines in; a picture out: one panel a policy, with the load, the capacity that served, and the violations shaded.

use std::fmt::Write as _;
use std::path::Path;

use cloudpulse_common::plot;
use cloudpulse_common::plot::FORECAST;
use cloudpulse_common::plot::Frame;
use cloudpulse_common::plot::HISTORY;
use cloudpulse_common::plot::INK;
use cloudpulse_common::plot::LEFT;
use cloudpulse_common::plot::RIGHT;
use cloudpulse_common::plot::WIDTH;
use cloudpulse_replay::scenario::SYNC_SECONDS;
use cloudpulse_replay::scenario::Scenario;
use cloudpulse_replay::timeline::Row;

use crate::replay::Replayed;
use crate::replay::input::Input;

const CAPACITY: &str = "#2a9d8f";
const TOP: f64 = 100.0;
const PANEL: f64 = 120.0;
const GAP: f64 = 34.0;
const BOTTOM: f64 = 56.0;
/// The narrowest shade that can be seen, in pixels.
const NARROWEST: f64 = 1.5;

/// Draws and writes the picture; the file's ending decides the form.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(input: &Input, scenario: &Scenario<'_>, all: &[Replayed], path: &Path) -> anyhow::Result<()> {
    let title = format!("{}: replay of {}", input.name, input.origin);
    plot::write_svg(draw(&title, scenario, all), path)
}

fn draw(title: &str, scenario: &Scenario<'_>, all: &[Replayed]) -> String {
    let height = TOP + all.len() as f64 * (PANEL + GAP) - GAP + BOTTOM;
    let mut svg = plot::start(height);
    let subtitle = format!(
        "replicas start in {} s and serve {} each; the load and what could be served",
        scenario.start_delay, scenario.replica_capacity
    );
    plot::titles(&mut svg, title, &subtitle);
    let entries = [("load", HISTORY, false), ("capacity", CAPACITY, false), ("violation", FORECAST, true)];
    plot::legend(&mut svg, entries.map(|(label, colour, filled)| (label.to_owned(), colour, filled)).to_vec());
    let capacity = |row: &Row| f64::from(row.ready) * scenario.replica_capacity;
    let highest = all.iter().flat_map(|one| &one.rows).map(|row| row.load.unwrap_or(0.0).max(capacity(row)));
    let mut ticks = plot::value_ticks(0.0, highest.fold(0.0, f64::max));
    let top = ticks[ticks.len() - 1];
    if ticks.len() > 4 {
        // The panels are low.
        ticks = vec![0.0, top / 2.0, top];
    }
    let mut frame = Frame {
        first: scenario.scored_from() as f64,
        last: scenario.end() as f64,
        low: 0.0,
        high: top,
        top: TOP,
        bottom: TOP + PANEL,
    };
    for (at, Replayed { name, rows, totals }) in all.iter().enumerate() {
        frame.top = TOP + at as f64 * (PANEL + GAP);
        frame.bottom = frame.top + PANEL;
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"{INK}\"><tspan font-weight=\"bold\">{name}</tspan>: {:.1} violation \
             minutes, {:.1} replica-hours, {:.2} times the demand</text>",
            frame.top - 8.0,
            totals.violation_minutes(),
            totals.replica_hours(),
            totals.replica_hours_per_demand()
        );
        plot::value_axis(&mut svg, &frame, &ticks);
        shade(&mut svg, &frame, rows);
        let lines = by_pixel(rows, &frame, capacity);
        let load: Vec<(f64, f64)> = lines.iter().map(|(time, load, _)| (*time, *load)).collect();
        let capacity: Vec<(f64, f64)> = lines.iter().map(|(time, _, capacity)| (*time, *capacity)).collect();
        plot::line(&mut svg, &frame, &load, HISTORY, 1.1, "");
        plot::line(&mut svg, &frame, &capacity, CAPACITY, 1.3, "");
    }
    plot::time_axis(&mut svg, &frame);
    svg.push_str("</svg>\n");
    svg
}

/// One rectangle for each stretch of violations that touch on the picture.
fn shade(svg: &mut String, frame: &Frame, rows: &[Row]) {
    let mut stretches: Vec<(f64, f64)> = Vec::new();
    for row in rows.iter().filter(|row| row.is_violation()) {
        let from = frame.x(row.timestamp as f64);
        let to = frame.x((row.timestamp + SYNC_SECONDS) as f64).max(from + NARROWEST);
        match stretches.last_mut() {
            Some((_, last)) if from <= *last => *last = last.max(to),
            _ => stretches.push((from, to)),
        }
    }
    for (from, to) in stretches {
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{FORECAST}\" fill-opacity=\"0.45\"/>",
            frame.top,
            to - from,
            frame.bottom - frame.top
        );
    }
}

/// Returns time, highest load (NaN for a gap) and lowest capacity for each column of pixels.
fn by_pixel(rows: &[Row], frame: &Frame, capacity: impl Fn(&Row) -> f64) -> Vec<(f64, f64, f64)> {
    let column = |row: &Row| frame.x(row.timestamp as f64).clamp(0.0, WIDTH - RIGHT).floor() as i64;
    rows.chunk_by(|a, b| column(a) == column(b))
        .map(|rows| {
            let load = rows.iter().filter_map(|row| row.load).fold(f64::NAN, f64::max);
            let least = rows.iter().map(&capacity).fold(f64::INFINITY, f64::min);
            (rows[0].timestamp as f64, load, least)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use cloudpulse_forecast::series::Series;

    use super::*;

    #[test]
    fn every_policy_has_a_panel_and_its_violations_are_shaded() {
        let series = Series::new(0, 60, vec![10.0; 60]).unwrap();
        let scenario = Scenario {
            series: &series,
            replica_capacity: 10.0,
            start_delay: 60,
            min_replicas: 1,
            max_replicas: 9,
            warmup: 0,
        };
        let row = |sync: i64| Row {
            timestamp: sync * SYNC_SECONDS,
            load: (sync != 9).then_some(20.0),
            demand: (sync != 9).then_some(2),
            ready: if (100..104).contains(&sync) { 1 } else { 2 },
            allocated: 2,
            desired: 2,
        };
        let rows: Vec<Row> = (0..240).map(row).collect();
        let one = |name| Replayed { name, totals: rows.iter().collect(), rows: rows.clone() };
        let svg = draw("a <rule>", &scenario, &[one("rule"), one("reactive_hpa")]);
        assert_eq!(svg.matches("1.0 violation minutes").count(), 2);
        assert_eq!(svg.matches("fill-opacity=\"0.45\"").count(), 2, "one stretch each");
        assert!(svg.contains("a &lt;rule&gt;") && svg.contains(">reactive_hpa<"));
        assert_eq!(&plot::raster(&svg).unwrap()[1..4], b"PNG");
    }
}
