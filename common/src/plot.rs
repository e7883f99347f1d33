//! Pictures of values over time: frames, axes, lines and areas as SVG, written as SVG or PNG. What a picture shows is said
//! by the program that draws it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

/// Width of a picture in pixels.
pub const WIDTH: f64 = 1200.0;
/// Room at the left edge, for the values' axis.
pub const LEFT: f64 = 78.0;
/// Room at the right edge.
pub const RIGHT: f64 = 26.0;
/// Colour of text.
pub const INK: &str = "#1f2933";
/// Colour of axes and lesser text.
pub const MUTED: &str = "#7b8794";
/// Colour of grid lines.
pub const GRID: &str = "#e4e7eb";
/// Colour of what was measured.
pub const HISTORY: &str = "#334e68";
/// Colour of what was forecast, and of alarms.
pub const FORECAST: &str = "#d64545";

/// Writes a picture; the file's ending, `.svg` or `.png`, decides the form.
///
/// # Errors
/// When the ending is another one, or the file cannot be written.
pub fn write_svg(svg: String, path: &Path) -> anyhow::Result<()> {
    let bytes = match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => svg.into_bytes(),
        Some("png") => raster(&svg)?,
        _ => anyhow::bail!("{} must end in .svg or .png", path.display()),
    };
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// Returns a picture as PNG.
///
/// # Errors
/// When it is no SVG.
pub fn raster(svg: &str) -> anyhow::Result<Vec<u8>> {
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

/// Begins a picture of full width.
pub fn start(height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"DejaVu Sans, Inter, Helvetica, Arial, sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    )
}

/// Scales of the two axes, and where the panel lies.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// First time, Unix seconds.
    pub first: f64,
    /// Last time, after the first.
    pub last: f64,
    /// Lowest value.
    pub low: f64,
    /// Highest value, above the lowest.
    pub high: f64,
    /// Upper edge in pixels.
    pub top: f64,
    /// Lower edge in pixels.
    pub bottom: f64,
}

impl Frame {
    /// Returns the pixel of a time from the left.
    pub fn x(&self, time: f64) -> f64 {
        LEFT + (time - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)
    }

    /// Returns the pixel of a value from the top.
    pub fn y(&self, value: f64) -> f64 {
        self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)
    }
}

/// Draws the heading and the line below it.
pub fn titles(svg: &mut String, title: &str, subtitle: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"30\" font-size=\"18\" font-weight=\"bold\" fill=\"{INK}\">{}</text>\n\
         <text x=\"{LEFT}\" y=\"52\" fill=\"{MUTED}\">{}</text>",
        escape(&shorten(title, 90)),
        escape(subtitle)
    );
}

/// Draws label, colour and whether it stands for an area, from the right.
pub fn legend(svg: &mut String, entries: Vec<(String, &str, bool)>) {
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

/// Draws grid lines at the values of `ticks`, at least two, and writes the values beside them.
pub fn value_axis(svg: &mut String, frame: &Frame, ticks: &[f64]) {
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

/// Draws the axis of time below the frame.
pub fn time_axis(svg: &mut String, frame: &Frame) {
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

/// Draws a line through (time, value); a value that is not finite breaks it. `more` goes into the SVG element.
pub fn line(svg: &mut String, frame: &Frame, points: &[(f64, f64)], colour: &str, width: f64, more: &str) {
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

/// Fills the area between (time, lower, upper); points that are not finite are left out.
pub fn area(svg: &mut String, frame: &Frame, points: &[(f64, f64, f64)], fill: &str) {
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
pub fn value_ticks(low: f64, high: f64) -> Vec<f64> {
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

/// Returns the text as it may stand in an SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

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
