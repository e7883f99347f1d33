//! `backtest`: rolling origins over the past; every model against the baselines, and an answer in plain words.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use cloudpulse_common::csv::NamedSeries;
use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::names::ENSEMBLE;
use cloudpulse_forecast::ensemble::{Bounds, Ensemble, Request};
use cloudpulse_forecast::evaluation::{Accuracy, Coverage, Score, day_scale, peak, rolling_origins};
use cloudpulse_forecast::model::median::two_hour_quantiles;
use cloudpulse_forecast::peak::{PEAK_QUANTILES, PeakDistribution};
use cloudpulse_forecast::series::steps;
use cloudpulse_forecast::tracker::Tracker;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::command::forecast::{chart, model_index, peak_rows, point_rows};
use crate::command::input::{self, FromPrometheus, Source, Wanted};
use crate::command::report::{HorizonReport, ModelReport, Report, SeriesReport};
use crate::plot;
use crate::rows::{HEADER, Kind, Row, write_csv};

/// Evaluate all models on the past: from each of many origins, forecast with what was known then, and compare.
///
/// Holidays and regressors belong to the configuration of serve; this command knows of none.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    prometheus: FromPrometheus,
    #[command(flatten)]
    wanted: Wanted,
    /// How far ahead, each.
    #[arg(long, value_delimiter = ',', default_value = "5m,10m,15m,1h", value_name = "DURATION,…")]
    horizons: Vec<PromDuration>,
    /// Models in the output beside the ensemble; all where absent.
    #[arg(long, value_delimiter = ',', value_name = "MODEL,…")]
    models: Vec<String>,
    /// History before the first origin; at most half of the series.
    #[arg(long, default_value = "7d", value_name = "DURATION")]
    warmup: PromDuration,
    /// Origins in each series, evenly spread.
    #[arg(long, default_value_t = 200, value_name = "N")]
    origins: usize,
    /// Form of the output on stdout; openmetrics prints the past forecasts so that promtool can back-fill them.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Also write every forecast into this file.
    #[arg(long, value_name = "FILE.csv")]
    forecasts: Option<PathBuf>,
    /// Also draw one picture for each series into this folder: the forecast from its last origin, and what came true.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
    Openmetrics,
}

struct Plan {
    ensemble: Ensemble,
    /// Seconds, ascending.
    horizons: Vec<i64>,
    /// Ascending, the median among them.
    quantiles: Vec<f64>,
    /// Places of the models in the output.
    models: Vec<usize>,
    warmup: i64,
    origins: usize,
    bounds: Bounds,
    rows: bool,
    plot: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When an argument is wrong, a series cannot be read, a file cannot be written, or no origin resolves.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { source, prometheus, wanted, horizons, models, warmup, origins, output, forecasts, plot } = args;
    let (mut quantiles, bounds) = wanted.checked()?;
    if !quantiles.contains(&0.5) {
        quantiles.push(0.5);
        quantiles.sort_by(f64::total_cmp);
    }
    let ensemble = cloudpulse_lstm::member::ensemble()?;
    let mut chosen = Vec::new();
    for model in &models {
        chosen.extend(model_index(&ensemble, model)?);
    }
    if models.is_empty() {
        chosen = (0..ensemble.names().len()).collect();
    }
    let mut horizons: Vec<i64> = horizons.iter().map(|h| h.seconds() as i64).collect();
    horizons.sort_unstable();
    horizons.dedup();
    anyhow::ensure!(horizons.first().is_some_and(|h| *h > 0), "--horizons must be at least 1s");
    if let Some(folder) = &plot {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let plan = Plan {
        ensemble,
        horizons,
        quantiles,
        models: chosen,
        warmup: warmup.seconds() as i64,
        origins,
        bounds,
        rows: forecasts.is_some() || output == Output::Openmetrics,
        plot,
    };
    let all = input::read(&source, &prometheus).await?;
    // Drawn on stderr, and only where that is a terminal.
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} series, {eta} left: {msg}")?;
    let progress = ProgressBar::new(all.len() as u64).with_style(style);
    let results: Vec<(SeriesReport, Vec<Row>)> = all
        .par_iter()
        .filter_map(|series| {
            let result = evaluate(&plan, series);
            progress.set_message(series.name.clone());
            progress.inc(1);
            if progress.is_hidden() {
                tracing::info!(series = %series.name, "{} of {} evaluated", progress.position(), all.len());
            }
            result
        })
        .collect();
    progress.finish_and_clear();
    anyhow::ensure!(!results.is_empty(), "no series is long enough for one origin with a resolved forecast");
    let (reports, rows): (Vec<SeriesReport>, Vec<Vec<Row>>) = results.into_iter().unzip();
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    if let Some(path) = forecasts {
        let file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
        let mut file = BufWriter::new(file);
        writeln!(file, "{HEADER}")?;
        write_csv(&mut file, &rows)?;
        file.flush()?;
    }
    let report = Report { series: reports };
    let mut out = BufWriter::new(std::io::stdout().lock());
    match output {
        Output::Table => write!(out, "{report}")?,
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
        Output::Openmetrics => write_openmetrics(&mut out, &rows)?,
    }
    out.flush()?;
    Ok(())
}

/// Baseline for the quantiles: those of the last two hours.
const TWO_HOURS: &str = "quantiles_2h";

/// Sums of one horizon.
struct Sums {
    ensemble: Score,
    two_hours: Score,
    models: Vec<Score>,
    coverage: Vec<Coverage>,
    peak: Vec<Coverage>,
    demoted: usize,
}

/// Intervals whose coverage is measured: level and the two quantiles.
pub(crate) const LEVELS: [(f64, f64, f64); 3] = [(0.8, 0.1, 0.9), (0.9, 0.05, 0.95), (0.95, 0.025, 0.975)];

fn evaluate(plan: &Plan, named: &NamedSeries) -> Option<(SeriesReport, Vec<Row>)> {
    let NamedSeries { name, series } = named;
    // Horizons that are no multiple of the step have no target on the grid.
    let horizons: Vec<usize> = plan
        .horizons
        .iter()
        .filter(|seconds| **seconds % series.step() == 0)
        .map(|seconds| (seconds / series.step()) as usize)
        .collect();
    let longest = *horizons.last()?;
    let warmup = steps(plan.warmup, series.step()).min(series.len() / 2);
    let origins = rolling_origins(series, warmup, longest, plan.origins);
    let scale = day_scale(series, *origins.first()?);
    let quantiles = with_levels(&plan.quantiles);
    let request = Request { horizons: &horizons, quantiles: &quantiles, bounds: plan.bounds, model: None };
    let mut peaks: Vec<Vec<Option<PeakDistribution>>> = Vec::new();
    let show = |_: usize, tracker: &Tracker| peaks.push(tracker.peaks());
    let forecasts = plan.ensemble.replay(series, &origins, &request, &horizons, show);
    let mut sums: Vec<Sums> = horizons
        .iter()
        .map(|_| Sums {
            ensemble: Score::default(),
            two_hours: Score::default(),
            models: vec![Score::default(); plan.ensemble.names().len()],
            coverage: vec![Coverage::default(); LEVELS.len()],
            peak: vec![Coverage::default(); PEAK_QUANTILES.len()],
            demoted: 0,
        })
        .collect();
    let mut rows = Vec::new();
    let place = |wanted: f64| quantiles.iter().position(|q| (*q - wanted).abs() < 1e-12);
    for forecast in &forecasts {
        let recent = two_hour_quantiles(series, forecast.origin, &quantiles);
        for (entry, sums) in forecast.horizons.iter().zip(&mut sums) {
            let Some(actual) = series.get(forecast.origin + entry.horizon) else { continue };
            sums.demoted += usize::from(entry.demoted);
            sums.ensemble.add(actual, entry.point, quantiles.iter().copied().zip(entry.quantiles.iter().copied()));
            if let Some(median) = place(0.5) {
                sums.two_hours.add(actual, recent[median], quantiles.iter().copied().zip(recent.iter().copied()));
            }
            for (score, point) in sums.models.iter_mut().zip(&entry.models) {
                score.add(actual, *point, []);
            }
            for (coverage, (_, lower, upper)) in sums.coverage.iter_mut().zip(LEVELS) {
                if let (Some(lower), Some(upper)) = (place(lower), place(upper)) {
                    coverage.add(actual, entry.quantiles[lower], entry.quantiles[upper]);
                }
            }
        }
        if plan.rows {
            let all = point_rows(name, series, forecast, &quantiles, ENSEMBLE);
            rows.extend(all.into_iter().filter(|row| plan.quantiles.contains(&row.quantile)));
            rows.extend(model_rows(plan, named, forecast));
        }
    }
    for (origin, distributions) in origins.iter().zip(&peaks) {
        for ((steps, sums), distribution) in horizons.iter().zip(&mut sums).zip(distributions) {
            let of_origin = peak_rows(name, series, *origin, *steps, distribution.as_ref(), plan.bounds);
            if let Some(actual) = peak(series, *origin, *steps) {
                for (coverage, row) in sums.peak.iter_mut().zip(&of_origin) {
                    coverage.add(actual, f64::NEG_INFINITY, row.value);
                }
            }
            if plan.rows {
                rows.extend(of_origin);
            }
        }
    }
    if let (Some(folder), Some(last)) = (&plan.plot, forecasts.last()) {
        let file = folder.join(format!("{}.png", name.replace(['/', '{', '}', '"', ',', ' ', '='], "_")));
        let steps: Vec<usize> = (1..=longest.min(720)).collect();
        let request = Request { horizons: &steps, ..request };
        let forecast = plan.ensemble.forecast(series, &[last.origin], &request).swap_remove(0);
        if let Err(error) = plot::write(&chart(name, series, &forecast, &quantiles, ENSEMBLE), &file) {
            tracing::error!("{error:#}");
        }
    }
    let reports = horizons.iter().zip(sums).map(|(steps, sums)| HorizonReport {
        seconds: *steps as i64 * series.step(),
        ensemble: sums.ensemble.accuracy(scale),
        models: plan
            .models
            .iter()
            .map(|model| ModelReport {
                name: plan.ensemble.names()[*model],
                accuracy: sums.models[*model].accuracy(scale),
            })
            .chain([ModelReport { name: TWO_HOURS, accuracy: sums.two_hours.accuracy(scale) }])
            .collect(),
        persistence: accuracy_of(plan, &sums, "persistence", scale),
        seasonal_naive: accuracy_of(plan, &sums, "seasonal_naive_day", scale),
        demoted_ratio: sums.demoted as f64 / sums.ensemble.count().max(1) as f64,
        coverage: LEVELS.iter().zip(&sums.coverage).filter_map(|((level, ..), c)| Some((*level, c.ratio()?))).collect(),
        peak_coverage: PEAK_QUANTILES.iter().zip(&sums.peak).filter_map(|(q, c)| Some((*q, c.ratio()?))).collect(),
    });
    let report = SeriesReport {
        name: name.clone(),
        step_seconds: series.step(),
        origins: origins.len(),
        horizons: reports.collect(),
    };
    Some((report, rows))
}

fn accuracy_of(plan: &Plan, sums: &Sums, name: &str, scale: Option<f64>) -> Accuracy {
    let place = plan.ensemble.names().iter().position(|known| *known == name);
    place.map_or_else(Accuracy::default, |place| sums.models[place].accuracy(scale))
}

fn with_levels(quantiles: &[f64]) -> Vec<f64> {
    let mut all = quantiles.to_vec();
    all.extend(LEVELS.iter().flat_map(|(_, lower, upper)| [*lower, *upper]));
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// The single models' points.
fn model_rows(plan: &Plan, named: &NamedSeries, forecast: &cloudpulse_forecast::ensemble::Forecast) -> Vec<Row> {
    let mut rows = Vec::new();
    for entry in &forecast.horizons {
        for model in plan.models.iter().filter(|model| entry.models[**model].is_finite()) {
            rows.push(Row {
                series: named.name.clone(),
                kind: Kind::Point,
                origin: named.series.time(forecast.origin),
                horizon_seconds: entry.horizon as i64 * named.series.step(),
                model: plan.ensemble.names()[*model].to_owned(),
                quantile: 0.5,
                value: entry.models[*model],
            });
        }
    }
    rows
}

/// Past forecasts with their origin as timestamp, for `promtool tsdb create-blocks-from openmetrics`.
fn write_openmetrics(out: &mut impl Write, rows: &[Row]) -> std::io::Result<()> {
    use cloudpulse_common::names::{FORECAST, FORECAST_PEAK};
    for (metric, kind) in [(FORECAST, Kind::Point), (FORECAST_PEAK, Kind::Peak)] {
        writeln!(out, "# TYPE {} gauge\n# HELP {} {}", metric.name, metric.name, metric.help)?;
        let mut of_kind: Vec<&Row> = rows.iter().filter(|row| row.kind == kind).collect();
        of_kind.sort_by(|a, b| {
            let key = |row: &Row| (row.series.clone(), row.horizon_seconds, row.model.clone());
            key(a).cmp(&key(b)).then(a.quantile.total_cmp(&b.quantile)).then(a.origin.cmp(&b.origin))
        });
        for row in of_kind {
            let series = row.series.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            writeln!(
                out,
                "{}{{series=\"{series}\",horizon=\"{}\",model=\"{}\",quantile=\"{}\"}} {} {}",
                metric.name,
                crate::config::duration_label(row.horizon_seconds),
                row.model,
                row.quantile,
                row.value,
                row.origin
            )?;
        }
    }
    writeln!(out, "# EOF")
}
