//! A series, what was expected of it, and its anomaly score in; a picture with two panels out.

use std::fmt::Write as _;
use std::path::Path;

use cloudpulse_common::plot::{self, FORECAST, Frame, HISTORY, INK, LEFT, MUTED, RIGHT, WIDTH};

const HEIGHT: f64 = 640.0;
/// Upper and lower edge of the panels.
const VALUES: (f64, f64) = (84.0, 400.0);
const SCORES: (f64, f64) = (444.0, 584.0);
const EXPECTED: &str = "#f0a202";
/// The score panel ends at this many thresholds: one wild row would flatten all others.
const MOST_THRESHOLDS: f64 = 4.0;
/// Room that a cause takes, in pixels; where another one is in the way, it is not written.
const LABEL_WIDTH: f64 = 96.0;

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct AnomalyChart {
    /// Heading.
    pub title: String,
    /// Line below the heading.
    pub subtitle: String,
    /// (Unix seconds, value); NaN breaks the line.
    pub values: Vec<(f64, f64)>,
    /// (Unix seconds, expected value); NaN where it is not known.
    pub expected: Vec<(f64, f64)>,
    /// (Unix seconds, score); NaN where it is not known.
    pub scores: Vec<(f64, f64)>,
    /// Score from which a row raises an alarm.
    pub threshold: f64,
    /// (Unix seconds, value, cause) of the alarms.
    pub alarms: Vec<(f64, f64, &'static str)>,
}

/// Writes the chart; the file's ending, `.svg` or `.png`, decides the form.
///
/// # Errors
/// When the ending is another one, or the file cannot be written.
pub fn write(chart: &AnomalyChart, path: &Path) -> anyhow::Result<()> {
    plot::write_svg(draw(chart), path)
}

/// Returns the chart as SVG.
pub fn draw(chart: &AnomalyChart) -> String {
    let known = || chart.values.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let times = || chart.values.iter().map(|(time, _)| *time);
    let (first, last) = (times().fold(f64::INFINITY, f64::min), times().fold(f64::NEG_INFINITY, f64::max));
    let (first, last) = if last > first { (first, last) } else { (first.min(0.0), first.max(0.0) + 1.0) };
    let ticks = plot::value_ticks(low, high);
    let values = Frame { first, last, low: ticks[0], high: ticks[ticks.len() - 1], top: VALUES.0, bottom: VALUES.1 };
    let most = MOST_THRESHOLDS * chart.threshold;
    let scores = Frame { first, last, low: 0.0, high: most, top: SCORES.0, bottom: SCORES.1 };

    let mut svg = plot::start(HEIGHT);
    plot::titles(&mut svg, &chart.title, &chart.subtitle);
    let entries = [("value", HISTORY), ("expected", EXPECTED), ("alarm", FORECAST)];
    plot::legend(&mut svg, entries.map(|(label, colour)| (label.to_owned(), colour, false)).to_vec());
    plot::value_axis(&mut svg, &values, &ticks);
    plot::value_axis(&mut svg, &scores, &[0.0, chart.threshold, 2.0 * chart.threshold, most]);
    plot::time_axis(&mut svg, &scores);
    caption(&mut svg, &scores, &format!("anomaly score, cut at {most}; alarms from {} on", chart.threshold));

    for (time, ..) in &chart.alarms {
        let x = values.x(*time);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"{FORECAST}\" stroke-opacity=\"0.35\"/>",
            VALUES.0, SCORES.1
        );
    }
    plot::line(&mut svg, &values, &thinned(&chart.values, &values), HISTORY, 1.2, "");
    let expected = cut(&averaged(&chart.expected, &values), values.low, values.high);
    plot::line(&mut svg, &values, &expected, EXPECTED, 1.5, "");
    let cut_scores = cut(&thinned(&chart.scores, &scores), 0.0, most);
    plot::line(&mut svg, &scores, &cut_scores, HISTORY, 1.1, "");
    let y = scores.y(chart.threshold);
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"{FORECAST}\" stroke-dasharray=\"5 4\"/>",
        WIDTH - RIGHT
    );
    let mut free_from = f64::NEG_INFINITY;
    for (time, value, cause) in &chart.alarms {
        let (x, y) = (values.x(*time), values.y(*value));
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{FORECAST}\" stroke=\"#ffffff\" stroke-width=\"1.2\"/>"
        );
        let is_near_edge = x > WIDTH - RIGHT - LABEL_WIDTH;
        let (anchor, at, from) = if is_near_edge { ("end", x - 4.0, x - LABEL_WIDTH) } else { ("start", x + 4.0, x) };
        if from >= free_from {
            let _ = writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" font-size=\"11\" fill=\"{FORECAST}\">{}</text>",
                VALUES.0 - 6.0,
                cause.replace('_', " ")
            );
            free_from = from + LABEL_WIDTH;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn caption(svg: &mut String, frame: &Frame, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" font-size=\"12\" fill=\"{INK}\">{}</text>\n\
         <line x1=\"{LEFT}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{MUTED}\" stroke-opacity=\"0.4\"/>",
        frame.top - 10.0,
        plot::escape(text),
        VALUES.1,
        WIDTH - RIGHT,
        VALUES.1
    );
}

/// Brings values outside a panel to its edge; NaN stays.
fn cut(points: &[(f64, f64)], least: f64, most: f64) -> Vec<(f64, f64)> {
    points.iter().map(|(time, value)| (*time, value.clamp(least, most))).collect()
}

/// Splits points into those of the same pixel.
fn columns<'a>(points: &'a [(f64, f64)], frame: &Frame) -> impl Iterator<Item = &'a [(f64, f64)]> {
    points.chunk_by(|(a, _), (b, _)| frame.x(*a).floor() == frame.x(*b).floor())
}

/// Makes one point of the many of a pixel: a usual course is a line, not a band. Gaps stay gaps.
fn averaged(points: &[(f64, f64)], frame: &Frame) -> Vec<(f64, f64)> {
    let mean = |group: &[(f64, f64)]| {
        let known = group.iter().filter(|(_, value)| value.is_finite());
        (group[0].0, known.clone().map(|(_, value)| value).sum::<f64>() / known.count() as f64)
    };
    let column = |group: &[(f64, f64)]| if group.len() <= 2 { group.to_vec() } else { vec![mean(group)] };
    columns(points, frame).flat_map(column).collect()
}

/// Keeps the first, the least, the largest and the last point of each pixel: the picture stays as it is.
fn thinned(points: &[(f64, f64)], frame: &Frame) -> Vec<(f64, f64)> {
    let mut kept = Vec::new();
    for group in columns(points, frame) {
        if group.len() <= 4 || group.iter().any(|(_, value)| value.is_nan()) {
            kept.extend_from_slice(group);
            continue;
        }
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let mut chosen = vec![group[0], group[group.len() - 1]];
        chosen.extend(group.iter().min_by(by_value));
        chosen.extend(group.iter().max_by(by_value));
        chosen.sort_by(|a, b| a.0.total_cmp(&b.0));
        kept.extend(chosen);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(rows: usize) -> AnomalyChart {
        let at = |row: usize| 60.0 * row as f64;
        AnomalyChart {
            title: "a <b>".to_owned(),
            subtitle: "s".to_owned(),
            values: (0..rows).map(|row| (at(row), if row == 7 { f64::NAN } else { (row % 9) as f64 })).collect(),
            expected: (0..rows).map(|row| (at(row), if row == 0 { f64::NAN } else { 4.0 })).collect(),
            scores: (0..rows).map(|row| (at(row), if row == 20 { 1e9 } else { 0.2 })).collect(),
            threshold: 1.0,
            alarms: if rows > 20 { vec![(at(20), 2.0, "seasonal_day")] } else { Vec::new() },
        }
    }

    #[test]
    fn any_chart_is_valid_svg_and_png() {
        for rows in [0, 1, 50] {
            let svg = draw(&chart(rows));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert_eq!(&plot::raster(&svg).unwrap()[1..4], b"PNG");
        }
        let svg = draw(&chart(50));
        assert!(svg.contains("a &lt;b&gt;") && svg.contains("seasonal day") && svg.matches("<circle").count() == 1);
    }

    #[test]
    fn long_series_make_no_long_pictures_and_keep_their_spikes() {
        let mut chart = chart(200_000);
        chart.values[123_456].1 = 5000.0;
        let svg = draw(&chart);
        assert!(svg.len() < 400_000, "{}", svg.len());
        let frame = Frame { first: 0.0, last: 200_000.0 * 60.0, low: 0.0, high: 5000.0, top: 0.0, bottom: 100.0 };
        assert!(thinned(&chart.values, &frame).contains(&(123_456.0 * 60.0, 5000.0)));
    }
}
