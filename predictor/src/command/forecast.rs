//! `forecast`: one look into the future of each series, as a table, CSV, JSON or a picture; no server needed.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use cloudpulse_common::csv::NamedSeries;
use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::names::ENSEMBLE;
use cloudpulse_forecast::ensemble::{Bounds, Ensemble, Forecast, Request};
use cloudpulse_forecast::peak::{PEAK_QUANTILES, PeakDistribution};
use cloudpulse_forecast::series::{Series, steps};
use cloudpulse_forecast::tracker::Tracker;

use crate::command::input::{self, FromPrometheus, Source, Wanted};
use crate::config::duration_label;
use crate::plot::{self, Band, Chart};
use crate::rows::{HEADER, Kind, Row, write_csv};

/// Forecast series once.
///
/// Each step up to the horizon is forecast, with conformal quantiles from the model's own errors over the last day, and
/// the peak: the highest value until 5m, 10m, 15m, 30m, 1h and the horizon. Holidays and regressors belong to the configuration
/// of serve; this command knows of none.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    prometheus: FromPrometheus,
    #[command(flatten)]
    wanted: Wanted,
    /// How far to look ahead.
    #[arg(long, default_value = "15m", value_name = "DURATION")]
    horizon: PromDuration,
    /// Model: ensemble, or one of its members, such as prophet or persistence.
    #[arg(long, default_value = ENSEMBLE)]
    model: String,
    /// Form of the output on stdout.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Also draw history, median and bands into this file; it ends in .svg or .png. With several series, each gets a file
    /// of its own, numbered.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Form of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    Table,
    Csv,
    Json,
}

/// Horizons at which the peak is said, in seconds.
const PEAK_SECONDS: [i64; 5] = [300, 600, 900, 1800, 3600];
/// Steps that are forecast at most.
const MAX_STEPS: usize = 5760;

/// Runs the command.
///
/// # Errors
/// When an argument is wrong, a series cannot be read, or a file cannot be written.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { source, prometheus, wanted, horizon, model, output, plot } = args;
    let (quantiles, bounds) = wanted.checked()?;
    let ensemble = cloudpulse_lstm::member::ensemble()?;
    let chosen = model_index(&ensemble, &model)?;
    let all = input::read(&source, &prometheus).await?;
    let mut out = std::io::stdout().lock();
    let mut rows = Vec::new();
    for (number, NamedSeries { name, series }) in all.iter().enumerate() {
        let Some(origin) = series.last_known() else { continue };
        let count = steps(horizon.seconds() as i64, series.step());
        anyhow::ensure!(count <= MAX_STEPS, "{horizon} are {count} steps; at most {MAX_STEPS} are forecast");
        let horizons: Vec<usize> = (1..=count).collect();
        let drawn = with_bands(&quantiles);
        let request = Request { horizons: &horizons, quantiles: &drawn, bounds, model: chosen };
        let peaks = if chosen.is_none() { peak_steps(series.step(), count) } else { Vec::new() };
        let mut distributions = Vec::new();
        let show = |_: usize, tracker: &Tracker| distributions = tracker.peaks();
        let forecast = ensemble.replay(series, &[origin], &request, &peaks, show).swap_remove(0);
        let mut found = point_rows(name, series, &forecast, &drawn, &model);
        found.retain(|row| quantiles.contains(&row.quantile));
        for (steps, distribution) in peaks.iter().zip(&distributions) {
            found.extend(peak_rows(name, series, origin, *steps, distribution.as_ref(), bounds));
        }
        if output == Output::Table {
            write_table(&mut out, name, series, origin, &found, &quantiles)?;
        }
        rows.append(&mut found);
        if let Some(path) = &plot {
            let path = if all.len() == 1 { path.clone() } else { numbered(path, number + 1) };
            plot::write(&chart(name, series, &forecast, &drawn, &model), &path)?;
            tracing::info!(file = %path.display(), "drawn");
        }
    }
    match output {
        Output::Table => {}
        Output::Csv => {
            writeln!(out, "{HEADER}")?;
            write_csv(&mut out, &rows)?;
        }
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?,
    }
    Ok(())
}

/// Returns the place of a model, `None` for the combination.
///
/// # Errors
/// When there is no such model; the error lists all.
pub fn model_index(ensemble: &Ensemble, name: &str) -> anyhow::Result<Option<usize>> {
    if name == ENSEMBLE {
        return Ok(None);
    }
    let place = ensemble.names().iter().position(|known| *known == name);
    place.map(Some).ok_or_else(|| {
        anyhow::anyhow!("there is no model {name:?}; there are {ENSEMBLE}, {}", ensemble.names().join(", "))
    })
}

/// Returns the rows of a forecast's points.
pub(crate) fn point_rows(name: &str, series: &Series, forecast: &Forecast, quantiles: &[f64], model: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for entry in &forecast.horizons {
        for (quantile, value) in quantiles.iter().zip(&entry.quantiles) {
            if value.is_finite() {
                rows.push(Row {
                    series: name.to_owned(),
                    kind: Kind::Point,
                    origin: series.time(forecast.origin),
                    horizon_seconds: entry.horizon as i64 * series.step(),
                    model: model.to_owned(),
                    quantile: *quantile,
                    value: *value,
                });
            }
        }
    }
    rows
}

/// Returns the rows of the peak after `origin`, none where it is not known.
pub(crate) fn peak_rows(
    name: &str,
    series: &Series,
    origin: usize,
    steps: usize,
    distribution: Option<&PeakDistribution>,
    bounds: Bounds,
) -> Vec<Row> {
    let Some(distribution) = distribution else { return Vec::new() };
    PEAK_QUANTILES
        .iter()
        .map(|quantile| Row {
            series: name.to_owned(),
            kind: Kind::Peak,
            origin: series.time(origin),
            horizon_seconds: steps as i64 * series.step(),
            model: ENSEMBLE.to_owned(),
            quantile: *quantile,
            value: bounds.clip(distribution.quantile(*quantile)),
        })
        .collect()
}

/// Peak horizons in steps, up to and including the longest.
fn peak_steps(step: i64, longest: usize) -> Vec<usize> {
    let mut all: Vec<usize> = PEAK_SECONDS
        .into_iter()
        .filter(|seconds| seconds % step == 0)
        .map(|seconds| (seconds / step) as usize)
        .filter(|steps| *steps < longest)
        .collect();
    all.push(longest);
    all
}

/// The quantiles asked for and those of the drawn bands, ascending.
fn with_bands(quantiles: &[f64]) -> Vec<f64> {
    let mut all = quantiles.to_vec();
    all.extend([0.025, 0.1, 0.5, 0.9, 0.975]);
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// Returns the path with a number before the ending.
pub(crate) fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{number}.{extension}"))
}

/// At most this many rows are shown in a table; the horizons are then thinned evenly.
const TABLE_ROWS: usize = 20;

fn write_table(
    out: &mut impl std::io::Write,
    name: &str,
    series: &Series,
    origin: usize,
    rows: &[Row],
    quantiles: &[f64],
) -> std::io::Result<()> {
    let time = jiff::Timestamp::from_second(series.time(origin)).map(|at| at.to_string()).unwrap_or_default();
    writeln!(out, "{name}: last value {} at {time}", short(series.values()[origin]))?;
    for kind in [Kind::Point, Kind::Peak] {
        let of_kind: Vec<&Row> = rows.iter().filter(|row| row.kind == kind).collect();
        let mut horizons: Vec<i64> = of_kind.iter().map(|row| row.horizon_seconds).collect();
        horizons.dedup();
        if horizons.is_empty() {
            continue;
        }
        let columns = if kind == Kind::Point { quantiles.to_vec() } else { PEAK_QUANTILES.to_vec() };
        write!(out, "  {:<10}", if kind == Kind::Point { "in" } else { "peak until" })?;
        for quantile in &columns {
            write!(out, "{:>11}", format!("q{quantile}"))?;
        }
        writeln!(out)?;
        let every = horizons.len().div_ceil(TABLE_ROWS);
        for (i, horizon) in horizons.iter().enumerate() {
            if (i + 1) % every != 0 && i + 1 != horizons.len() {
                continue;
            }
            write!(out, "  {:<10}", duration_label(*horizon))?;
            for quantile in &columns {
                let value = of_kind.iter().find(|row| row.horizon_seconds == *horizon && row.quantile == *quantile);
                write!(out, "{:>11}", value.map_or_else(|| "-".to_owned(), |row| short(row.value)))?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// A number with about five digits.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    match () {
        () if value.is_nan() => "-".to_owned(),
        () if size >= 1e7 || (size > 0.0 && size < 1e-4) => format!("{value:.4e}"),
        () if size >= 1000.0 => format!("{value:.1}"),
        () if size >= 10.0 => format!("{value:.2}"),
        () => format!("{value:.4}"),
    }
}

/// The part of the history that is drawn, in horizons; and at least an hour and a half.
const DRAWN_HORIZONS: f64 = 3.0;
const DRAWN_SECONDS: f64 = 5400.0;

pub(crate) fn chart(name: &str, series: &Series, forecast: &Forecast, quantiles: &[f64], model: &str) -> Chart {
    let origin = forecast.origin;
    let at = series.time(origin) as f64;
    let longest = forecast.horizons.last().map_or(0, |entry| entry.horizon);
    let reach = (longest as i64 * series.step()) as f64;
    let drawn = (DRAWN_HORIZONS * reach).max(DRAWN_SECONDS);
    let time = |index: usize| series.time(index) as f64;
    let first = (0..=origin).find(|index| at - time(*index) <= drawn).unwrap_or(0);
    let value_now = series.values()[origin];
    let quantile = |entry: &cloudpulse_forecast::ensemble::AtHorizon, wanted: f64| {
        quantiles.iter().position(|q| (*q - wanted).abs() < 1e-9).map_or(f64::NAN, |place| entry.quantiles[place])
    };
    let bands = [(0.95, 0.025, 0.975), (0.8, 0.1, 0.9)].map(|(level, lower, upper)| Band {
        level,
        points: std::iter::once((at, value_now, value_now))
            .chain(
                forecast
                    .horizons
                    .iter()
                    .map(|entry| (time(origin + entry.horizon), quantile(entry, lower), quantile(entry, upper))),
            )
            .collect(),
    });
    Chart {
        title: name.to_owned(),
        subtitle: format!(
            "{model}, {} ahead from {} UTC",
            duration_label(reach as i64),
            jiff::Timestamp::from_second(at as i64)
                .map(|at| at.strftime("%Y-%m-%d %H:%M").to_string())
                .unwrap_or_default()
        ),
        history: (first..=origin).map(|index| (time(index), series.values()[index])).collect(),
        actual: (origin..series.len().min(origin + longest + 1))
            .map(|index| (time(index), series.values()[index]))
            .collect(),
        median: std::iter::once((at, value_now))
            .chain(forecast.horizons.iter().map(|entry| (time(origin + entry.horizon), entry.point)))
            .collect(),
        bands: bands.to_vec(),
    }
}
