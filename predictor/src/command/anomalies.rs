//! `anomalies`: how unusual each row of a series is, as a table of alarms, CSV, JSON or a picture; no server needed.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use cloudpulse_common::csv::NamedRows;
use cloudpulse_forecast::anomaly::{Cause, Detector, Options};
use rayon::prelude::*;
use serde::Serialize;

use crate::command::forecast::{Output, numbered, short};
use crate::command::input::{self, FromPrometheus, Source};
use crate::plot::anomaly::{self as plot, AnomalyChart};

/// Score how unusual each row of a series is, and say where an alarm would have been raised.
///
/// Each row is judged by earlier rows alone: against the usual course of the day and of the week, its smoothed deviation
/// from it, the spread of the last dozen values, and the values just before. The largest of these is the score. An event raises one alarm, then 150 rows are quiet unless
/// the score doubles. The first 40 rows score 0; the usual course of the day is known from the second day on.
///
/// At a threshold of 1, plain noise raises an alarm in some 3000 rows. 0.857 finds more, 1.3 is for waking people up. Alarms
/// are a result: the exit code is 0 with and without them.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    prometheus: FromPrometheus,
    /// Score from which a row raises an alarm.
    #[arg(long, default_value_t = 1.0, value_name = "SCORE")]
    threshold: f64,
    /// Deviations below this score 0, in the unit of the series; those below 1 % of the mean do so anyway.
    #[arg(long, default_value_t = 0.0, value_name = "X")]
    min_deviation: f64,
    /// Form of the output on stdout. table: the alarms. csv: each row of the one series, as
    /// timestamp,value,expected,score,alarm,cause. json: each row of all series.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Also draw value, expectation, score and alarms into this file; it ends in .svg or .png. With several series, each
    /// gets a file of its own, numbered.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// One row, judged: the contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Row {
    /// Unix seconds.
    timestamp: f64,
    /// `None` for a gap.
    value: Option<f64>,
    /// `None` in the first row and in gaps.
    expected: Option<f64>,
    /// `None` in gaps.
    score: Option<f64>,
    alarm: bool,
    #[serde(serialize_with = "word")]
    cause: Cause,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn word<S: serde::Serializer>(cause: &Cause, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cause.as_str())
}

/// One series, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Judged {
    name: String,
    step_seconds: i64,
    /// Rows with a value, as days of this step.
    series_days: f64,
    alarms: usize,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Report {
    threshold: f64,
    min_deviation: f64,
    series_days: f64,
    alarms: usize,
    /// `None` without a row.
    alarms_per_series_day: Option<f64>,
    series: Vec<Judged>,
}

/// Runs the command.
///
/// # Errors
/// When an argument is wrong, a series cannot be read, CSV is asked of several series, or a file cannot be written.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { source, prometheus, threshold, min_deviation, output, plot } = args;
    anyhow::ensure!(threshold.is_finite() && threshold > 0.0, "--threshold {threshold} is not above 0");
    anyhow::ensure!(min_deviation.is_finite() && min_deviation >= 0.0, "--min-deviation {min_deviation} is below 0");
    let options = Options { threshold, min_deviation };
    let all = input::read_rows(&source, &prometheus).await?;
    anyhow::ensure!(
        output != Output::Csv || all.len() == 1,
        "--output csv is for one series and there are {}; name one file, narrow the query, or use --output json",
        all.len()
    );
    let series: Vec<Judged> = all.par_iter().map(|rows| judge(rows, options)).collect();
    if let Some(path) = &plot {
        for (number, judged) in (1..).zip(&series) {
            let path = if series.len() == 1 { path.clone() } else { numbered(path, number) };
            plot::write(&chart(judged, threshold), &path)?;
            tracing::info!(file = %path.display(), "drawn");
        }
    }
    let series_days: f64 = series.iter().map(|judged| judged.series_days).sum();
    let alarms: usize = series.iter().map(|judged| judged.alarms).sum();
    let alarms_per_series_day = (series_days > 0.0).then(|| alarms as f64 / series_days);
    let report = Report { threshold, min_deviation, series_days, alarms, alarms_per_series_day, series };
    let mut out = BufWriter::new(std::io::stdout().lock());
    match output {
        Output::Table => write_table(&mut out, &report)?,
        Output::Csv => write_csv(&mut out, &report.series[0].rows)?,
        Output::Json => {
            serde_json::to_writer(&mut out, &report).context("writing the report")?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn judge(series: &NamedRows, options: Options) -> Judged {
    let mut detector = Detector::new(series.step, options);
    let row = |(time, value): &(f64, f64)| match detector.push(time.floor() as i64, *value) {
        None => Row { timestamp: *time, value: None, expected: None, score: None, alarm: false, cause: Cause::None },
        Some(verdict) => Row {
            timestamp: *time,
            value: Some(*value),
            expected: verdict.expected,
            score: Some(verdict.score),
            alarm: verdict.alarm,
            cause: verdict.cause,
        },
    };
    let rows: Vec<Row> = series.rows.iter().map(row).collect();
    let known = rows.iter().filter(|row| row.value.is_some()).count();
    Judged {
        name: series.name.clone(),
        step_seconds: series.step,
        series_days: known as f64 * series.step as f64 / 86_400.0,
        alarms: rows.iter().filter(|row| row.alarm).count(),
        rows,
    }
}

/// Header of the CSV form.
const HEADER: &str = "timestamp,value,expected,score,alarm,cause";

/// What is not known is an empty cell; `alarm` is 1 or 0.
fn write_csv(out: &mut impl Write, rows: &[Row]) -> std::io::Result<()> {
    let cell = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
    writeln!(out, "{HEADER}")?;
    for Row { timestamp, value, expected, score, alarm, cause } in rows {
        let (value, expected, score) = (cell(*value), cell(*expected), cell(*score));
        writeln!(out, "{timestamp},{value},{expected},{score},{},{}", u8::from(*alarm), cause.as_str())?;
    }
    Ok(())
}

fn write_table(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    let with_alarms = report.series.iter().filter(|judged| judged.alarms > 0);
    for Judged { name, alarms, series_days, rows, .. } in with_alarms {
        writeln!(out, "{name}: {} in {series_days:.1} days", counted(*alarms, "alarm"))?;
        writeln!(out, "  {:<21}{:>12}{:>12}{:>9}  cause", "time", "value", "expected", "score")?;
        for row in rows.iter().filter(|row| row.alarm) {
            let number = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), short);
            let (value, expected) = (number(row.value), number(row.expected));
            let score = row.score.unwrap_or(f64::NAN);
            let cause = row.cause.as_str();
            writeln!(out, "  {:<21}{value:>12}{expected:>12}{score:>9.2}  {cause}", utc(row.timestamp))?;
        }
    }
    let rate = report.alarms_per_series_day.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2}"));
    writeln!(
        out,
        "{} in {} over {:.1} series-days: {rate} per series-day, at a score of {} or more",
        counted(report.alarms, "alarm"),
        counted(report.series.len(), "series"),
        report.series_days,
        report.threshold
    )
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 || what == "series" { format!("{count} {what}") } else { format!("{count} {what}s") }
}

fn utc(time: f64) -> String {
    jiff::Timestamp::from_second(time.floor() as i64).map(|at| at.to_string()).unwrap_or_default()
}

fn chart(judged: &Judged, threshold: f64) -> AnomalyChart {
    let line = |figure: fn(&Row) -> Option<f64>| {
        judged.rows.iter().map(|row| (row.timestamp, figure(row).unwrap_or(f64::NAN))).collect()
    };
    let alarms = judged.rows.iter().filter(|row| row.alarm);
    AnomalyChart {
        title: judged.name.clone(),
        subtitle: format!("{} in {:.1} days", counted(judged.alarms, "alarm"), judged.series_days),
        values: line(|row| row.value),
        expected: line(|row| row.expected),
        scores: line(|row| row.score),
        threshold,
        alarms: alarms.map(|row| (row.timestamp, row.value.unwrap_or(f64::NAN), row.cause.as_str())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_as_scripts_read_them() {
        let rows = vec![(0.0, 1.5), (60.0, f64::NAN), (60.0, 1.5)];
        let judged = judge(&NamedRows { name: String::new(), step: 60, rows }, Options::default());
        let mut out = Vec::new();
        write_csv(&mut out, &judged.rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, format!("{HEADER}\n0,1.5,,0,0,none\n60,,,,0,none\n60,1.5,1.5,0,0,none\n"));
        assert_eq!(judged.series_days, 2.0 / 1440.0);
    }
}
