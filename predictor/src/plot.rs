//! A history and its forecast in; a picture out, as SVG or PNG. [`anomaly`] draws a series with its anomaly score.

pub mod anomaly;

use std::fmt::Write as _;
use std::path::Path;

use cloudpulse_common::plot::{
    FORECAST, Frame, HISTORY, MUTED, area, legend, line, start, time_axis, titles, value_axis, value_ticks, write_svg,
};

const HEIGHT: f64 = 520.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 56.0;
/// Bands from the widest to the narrowest.
const BAND_FILLS: [&str; 3] = ["#f9d5d3", "#f3b3af", "#eb8f8a"];

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// Line below the heading.
    pub subtitle: String,
    /// (Unix seconds, value) of the past; NaN breaks the line.
    pub history: Vec<(f64, f64)>,
    /// What came true after the origin, where it is known; drawn thin.
    pub actual: Vec<(f64, f64)>,
    /// (Unix seconds, value) of the median, from the origin on.
    pub median: Vec<(f64, f64)>,
    /// Bands, the widest first.
    pub bands: Vec<Band>,
}

/// An interval over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Nominal level, 0 to 1.
    pub level: f64,
    /// (Unix seconds, lower, upper).
    pub points: Vec<(f64, f64, f64)>,
}

/// Writes the chart; the file's ending, `.svg` or `.png`, decides the form.
///
/// # Errors
/// When the ending is another one, or the file cannot be written.
pub fn write(chart: &Chart, path: &Path) -> anyhow::Result<()> {
    write_svg(draw(chart), path)
}

/// Returns the chart as SVG.
pub fn draw(chart: &Chart) -> String {
    let times = || {
        let lines = [&chart.history, &chart.actual, &chart.median];
        lines.into_iter().flatten().map(|(time, _)| *time)
    };
    let values = || {
        let lines = [&chart.history, &chart.actual, &chart.median];
        let bands = chart.bands.iter().flat_map(|band| &band.points).flat_map(|(_, lower, upper)| [*lower, *upper]);
        lines.into_iter().flatten().map(|(_, value)| *value).chain(bands).filter(|value| value.is_finite())
    };
    let (first, last) = (times().fold(f64::INFINITY, f64::min), times().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let (first, last) = if last > first { (first, last) } else { (0.0, 1.0) };
    let ticks = value_ticks(low, high);
    let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
    let frame = Frame { first, last, low, high, top: TOP, bottom: HEIGHT - BOTTOM };
    let mut svg = start(HEIGHT);
    heading(&mut svg, chart);
    value_axis(&mut svg, &frame, &ticks);
    time_axis(&mut svg, &frame);
    for (band, fill) in chart.bands.iter().zip(fills(chart.bands.len())) {
        area(&mut svg, &frame, &band.points, fill);
    }
    line(&mut svg, &frame, &chart.history, HISTORY, 1.6, "");
    line(&mut svg, &frame, &chart.actual, HISTORY, 1.2, " stroke-opacity=\"0.55\"");
    line(&mut svg, &frame, &chart.median, FORECAST, 2.4, "");
    if let Some((origin, _)) = chart.median.first() {
        let x = frame.x(*origin);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"{MUTED}\" stroke-dasharray=\"4 4\"/>",
            HEIGHT - BOTTOM
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn fills(count: usize) -> impl Iterator<Item = &'static str> {
    BAND_FILLS
        .iter()
        .copied()
        .skip(BAND_FILLS.len().saturating_sub(count.max(2)))
        .chain(std::iter::repeat(BAND_FILLS[2]))
}

fn heading(svg: &mut String, chart: &Chart) {
    titles(svg, &chart.title, &chart.subtitle);
    let mut entries: Vec<(String, &str, bool)> =
        vec![("history".to_owned(), HISTORY, false), ("median".to_owned(), FORECAST, false)];
    let bands = chart.bands.iter().zip(fills(chart.bands.len()));
    entries.extend(bands.map(|(band, fill)| (format!("{:.0} %", band.level * 100.0), fill, true)));
    legend(svg, entries);
}

#[cfg(test)]
mod tests {
    use cloudpulse_common::plot::raster;

    use super::*;

    fn chart() -> Chart {
        Chart {
            title: "a <b>".to_owned(),
            subtitle: "s".to_owned(),
            history: (0..50).map(|i| (f64::from(i) * 60.0, if i == 7 { f64::NAN } else { f64::from(i % 9) })).collect(),
            actual: Vec::new(),
            median: vec![(2940.0, 4.0), (3600.0, 5.0)],
            bands: vec![Band { level: 0.9, points: vec![(2940.0, 3.0, 5.0), (3600.0, 2.0, 8.0)] }],
        }
    }

    #[test]
    fn any_chart_is_valid_svg_and_png() {
        let one_point = Chart { history: vec![(5.0, f64::NAN)], median: Vec::new(), bands: Vec::new(), ..chart() };
        for chart in [chart(), one_point] {
            let png = raster(&draw(&chart)).unwrap();
            assert_eq!(&png[1..4], b"PNG");
        }
        assert!(draw(&chart()).contains("a &lt;b&gt;"));
    }
}
