//! Draws 24 series of consecutive seeds as a sheet of small panels, to be looked at:
//! `cargo run --release -p cloudpulse-synthetic --example sheet -- sheet.svg [FIRST_SEED]`.

use std::fmt::Write as _;

use cloudpulse_synthetic::{Synthetic, series};

const COLUMNS: u64 = 4;
const ROWS: u64 = 6;
const PANEL: (f64, f64) = (400.0, 150.0);
const MARGIN: f64 = 14.0;
/// A panel shows the least and the greatest of each of so many pieces.
const PIECES: usize = 380;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("the SVG to write is missing")?;
    let first: u64 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let (width, height) = (PANEL.0 * COLUMNS as f64, PANEL.1 * ROWS as f64);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="DejaVu Sans, sans-serif" font-size="10"><rect width="100%" height="100%" fill="#fff"/>"##
    );
    for panel in 0..COLUMNS * ROWS {
        let corner = ((panel % COLUMNS) as f64 * PANEL.0, (panel / COLUMNS) as f64 * PANEL.1);
        draw(&mut svg, first + panel, corner)?;
    }
    svg.push_str("</svg>\n");
    Ok(std::fs::write(path, svg)?)
}

/// Draws the series of a seed, gaps left open, with its range and a line at each midnight.
fn draw(svg: &mut String, seed: u64, (left, top): (f64, f64)) -> std::fmt::Result {
    let Synthetic { start_seconds, step_seconds, values } = series(seed);
    let known = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let (width, height) = (PANEL.0 - 2.0 * MARGIN, PANEL.1 - 3.0 * MARGIN);
    let (left, top) = (left + MARGIN, top + 2.0 * MARGIN);
    let x = |point: f64| left + width * point / values.len() as f64;
    let y = |value: f64| top + height * (1.0 - (value - low) / (high - low).max(f64::MIN_POSITIVE));
    write!(
        svg,
        r##"<text x="{left:.1}" y="{:.1}" fill="#7b8794">seed {seed}, {step_seconds} s, {low:.4} to {high:.4}</text>"##,
        top - 4.0
    )?;
    let points_a_day = 86_400.0 / step_seconds as f64;
    let first_midnight = -(start_seconds.rem_euclid(86_400) as f64) / step_seconds as f64 + points_a_day;
    for midnight in (0..values.len() / points_a_day as usize).map(|day| x(first_midnight + day as f64 * points_a_day)) {
        write!(svg, r##"<path d="M{midnight:.1} {top:.1}v{height:.1}" stroke="#e4e7eb"/>"##)?;
    }
    svg.push_str(r##"<path fill="none" stroke="#334e68" stroke-width="0.8" d=""##);
    let piece = values.len().div_ceil(PIECES).max(1);
    let mut pen_down = false;
    for (number, values) in values.chunks(piece).enumerate() {
        let known: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let (Some(lowest), Some(highest)) =
            (known.iter().copied().reduce(f64::min), known.iter().copied().reduce(f64::max))
        else {
            pen_down = false;
            continue;
        };
        let command = if pen_down { 'L' } else { 'M' };
        write!(svg, "{command}{:.1} {:.1}V{:.1}", x((number * piece) as f64), y(lowest), y(highest))?;
        pen_down = true;
    }
    svg.push_str(r#""/>"#);
    Ok(())
}
