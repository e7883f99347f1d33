//! A history and its forecast in; a picture out, as SVG or PNG. [`anomaly`] draws a series with its anomaly score.

pub mod anomaly;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 56.0;
const INK: &str = "#1f2933";
const MUTED: &str = "#7b8794";
const GRID: &str = "#e4e7eb";
const HISTORY: &str = "#334e68";
const FORECAST: &str = "#d64545";
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

fn write_svg(svg: String, path: &Path) -> anyhow::Result<()> {
    let bytes = match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => svg.into_bytes(),
        Some("png") => raster(&svg)?,
        _ => anyhow::bail!("{} must end in .svg or .png", path.display()),
    };
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

fn raster(svg: &str) -> anyhow::Result<Vec<u8>> {
    const SCALE: f32 = 1.5;
    let mut options = resvg::usvg::Options { font_family: "DejaVu Sans".to_owned(), ..Default::default() };
    let fonts = options.fontdb_mut();
    // The font is inside the program: a container has none.
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let tree = resvg::usvg::Tree::from_str(svg, &options).context("drawing")?;
    let size = tree.size().to_int_size().scale_by(SCALE).context("picture size")?;
    let mut pixels = resvg::tiny_skia::Pixmap::new(size.width(), size.height()).context("picture size")?;
    resvg::render(&tree, resvg::tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().context("encoding the PNG")
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

/// Begins a picture of full width.
fn start(height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"DejaVu Sans, Inter, Helvetica, Arial, sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    )
}

/// Scales of the two axes, and where the panel lies.
struct Frame {
    first: f64,
    last: f64,
    low: f64,
    high: f64,
    /// Upper and lower edge in pixels.
    top: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, time: f64) -> f64 {
        LEFT + (time - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)
    }
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

fn titles(svg: &mut String, title: &str, subtitle: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"30\" font-size=\"18\" font-weight=\"bold\" fill=\"{INK}\">{}</text>\n\
         <text x=\"{LEFT}\" y=\"52\" fill=\"{MUTED}\">{}</text>",
        escape(&shorten(title, 90)),
        escape(subtitle)
    );
}

/// Draws label, colour and whether it stands for an area, from the right.
fn legend(svg: &mut String, entries: Vec<(String, &str, bool)>) {
    let mut x = WIDTH - RIGHT;
    for (label, colour, filled) in entries.into_iter().rev() {
        x -= 8.0 * label.chars().count() as f64;
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"52\" fill=\"{INK}\">{label}</text>");
        x -= 26.0;
        let (y, height) = if filled { (41.0, 13.0) } else { (46.5, 2.5) };
        let _ =
            writeln!(svg, "<rect x=\"{x:.1}\" y=\"{y}\" width=\"20\" height=\"{height}\" rx=\"1\" fill=\"{colour}\"/>");
        x -= 16.0;
    }
}

fn value_axis(svg: &mut String, frame: &Frame, ticks: &[f64]) {
    for tick in ticks {
        let y = frame.y(*tick);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{MUTED}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 10.0,
            y + 4.5,
            number(*tick, ticks[1] - ticks[0])
        );
    }
}

fn time_axis(svg: &mut String, frame: &Frame) {
    let bottom = frame.bottom;
    let step = time_step(frame.last - frame.first);
    let mut at = (frame.first / step).ceil() * step;
    while at <= frame.last {
        let x = frame.x(at);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{bottom:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"{MUTED}\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{MUTED}\">{}</text>",
            bottom + 5.0,
            bottom + 22.0,
            clock(at, step)
        );
        at += step;
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" y1=\"{bottom:.1}\" x2=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"{MUTED}\"/>\n\
         <text x=\"{LEFT}\" y=\"{:.1}\" fill=\"{MUTED}\">{} UTC</text>",
        WIDTH - RIGHT,
        bottom + 44.0,
        date(frame.first)
    );
}

fn line(svg: &mut String, frame: &Frame, points: &[(f64, f64)], colour: &str, width: f64, more: &str) {
    let mut path = String::new();
    let mut pen_down = false;
    for (time, value) in points {
        if value.is_finite() {
            let _ = write!(path, "{}{:.1} {:.1}", if pen_down { "L" } else { "M" }, frame.x(*time), frame.y(*value));
        }
        pen_down = value.is_finite();
    }
    if !path.is_empty() {
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{more}/>"
        );
    }
}

fn area(svg: &mut String, frame: &Frame, points: &[(f64, f64, f64)], fill: &str) {
    let known: Vec<&(f64, f64, f64)> = points.iter().filter(|(_, l, u)| l.is_finite() && u.is_finite()).collect();
    if known.len() < 2 {
        return;
    }
    let upper = known.iter().map(|(time, _, upper)| (*time, *upper));
    let lower = known.iter().rev().map(|(time, lower, _)| (*time, *lower));
    let mut path = String::new();
    for (i, (time, value)) in upper.chain(lower).enumerate() {
        let _ = write!(path, "{}{:.1} {:.1}", if i == 0 { "M" } else { "L" }, frame.x(time), frame.y(value));
    }
    let _ = writeln!(svg, "<path d=\"{path}Z\" fill=\"{fill}\" stroke=\"none\"/>");
}

/// About five round values that enclose the range.
fn value_ticks(low: f64, high: f64) -> Vec<f64> {
    let (low, high) = match (low.is_finite() && high.is_finite(), high > low) {
        (true, true) => (low, high),
        (true, false) => (low - 0.5 * low.abs().max(1.0), low + 0.5 * low.abs().max(1.0)),
        _ => (0.0, 1.0),
    };
    // A range that starts near zero starts at zero.
    let low = if low > 0.0 && low < 0.35 * high { 0.0 } else { low };
    let rough = (high - low) / 5.0;
    let power = 10.0_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough).unwrap_or(rough);
    let first = (low / step).floor();
    let count = ((high / step).ceil() - first).clamp(1.0, 20.0) as usize;
    (0..=count).map(|i| (first + i as f64) * step).collect()
}

fn number(value: f64, step: f64) -> String {
    let (scaled, suffix) = match value.abs().max(step) {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let suffix = if value == 0.0 { "" } else { suffix };
    let rounded = (scaled * 1e6).round() / 1e6;
    format!("{rounded}{suffix}")
}

fn time_step(span: f64) -> f64 {
    const STEPS: [f64; 15] = [
        60.0,
        300.0,
        600.0,
        900.0,
        1800.0,
        3600.0,
        7200.0,
        10_800.0,
        21_600.0,
        43_200.0,
        86_400.0,
        172_800.0,
        604_800.0,
        1_209_600.0,
        2_419_200.0,
    ];
    STEPS.into_iter().find(|step| span / step <= 10.0).unwrap_or(span / 8.0)
}

fn clock(time: f64, step: f64) -> String {
    let format = if step >= 86_400.0 { "%d %b" } else { "%H:%M" };
    utc(time).map_or_else(String::new, |at| at.strftime(format).to_string())
}

fn date(time: f64) -> String {
    utc(time).map_or_else(String::new, |at| at.strftime("%Y-%m-%d").to_string())
}

fn utc(time: f64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_second(time as i64).ok()
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most - 1).collect();
    short.push('…');
    short
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn ticks_enclose_the_range() {
        for (low, high) in [(0.0, 1.0), (3.0, 3.0), (-5.0, 12.0), (900.0, 1000.0), (1e-9, 3e-9), (f64::NAN, 0.0)] {
            let ticks = value_ticks(low, high);
            assert!(ticks.len() >= 2 && ticks.len() <= 21, "{ticks:?}");
            if low.is_finite() {
                assert!(ticks[0] <= low && *ticks.last().unwrap() >= high, "{low} {high} {ticks:?}");
            }
        }
    }
}
