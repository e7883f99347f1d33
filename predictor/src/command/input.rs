//! Where `forecast`, `backtest` and `anomalies` read series from: files, or a query over Prometheus' past.

use std::path::PathBuf;

use anyhow::Context as _;
use cloudpulse_common::csv::{self, CsvError, NamedRows, NamedSeries};
use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::query::{Client, ClientConfig, Labels, MAX_POINTS, Sample};
use cloudpulse_forecast::ensemble::Bounds;
use cloudpulse_forecast::series::Series;

use crate::clock::unix_now;
use crate::fetch::last_step;

/// Arguments that name the series.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "source", required = true, multiple = false)]
pub struct Source {
    /// Files, or folders of files, with the header `timestamp,value` (Unix seconds); missing samples are absent rows.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub csv: Vec<PathBuf>,
    /// PromQL whose series are read from Prometheus.
    #[arg(long, value_name = "PROMQL")]
    pub query: Option<String>,
}

/// Arguments for reading from Prometheus.
#[derive(Debug, Clone, clap::Args)]
pub struct FromPrometheus {
    /// Base URL of Prometheus.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_PROMETHEUS", default_value = crate::config::DEFAULT_URL, value_name = "URL")]
    pub prometheus: String,
    /// How far back to read with --query.
    #[arg(long = "from", default_value = "14d", value_name = "DURATION")]
    pub history: PromDuration,
    /// Distance of samples with --query.
    #[arg(long, default_value = "1m", value_name = "DURATION")]
    pub step: PromDuration,
}

/// Arguments that say what is wanted of the future.
#[derive(Debug, Clone, clap::Args)]
pub struct Wanted {
    /// Quantiles, between 0 and 1.
    #[arg(long, value_delimiter = ',', default_values_t = QUANTILES, value_name = "Q,…")]
    quantiles: Vec<f64>,
    /// Least value that the series can take.
    #[arg(long, allow_negative_numbers = true)]
    lower: Option<f64>,
    /// Largest value that the series can take.
    #[arg(long, allow_negative_numbers = true)]
    upper: Option<f64>,
}

/// Quantiles of the 80, 90 and 95 % intervals, and the median.
const QUANTILES: [f64; 7] = [0.025, 0.05, 0.1, 0.5, 0.9, 0.95, 0.975];

impl Wanted {
    /// Returns the quantiles, ascending and each once, and the bounds.
    ///
    /// # Errors
    /// When a value is no quantile, or the bounds exclude everything.
    pub fn checked(self) -> anyhow::Result<(Vec<f64>, Bounds)> {
        let Self { mut quantiles, lower, upper } = self;
        for quantile in &quantiles {
            anyhow::ensure!(
                *quantile > 0.0 && *quantile < 1.0,
                "{quantile} is no quantile; it must lie between 0 and 1"
            );
        }
        if let (Some(lower), Some(upper)) = (lower, upper) {
            anyhow::ensure!(lower < upper, "--lower {lower} is not below --upper {upper}");
        }
        quantiles.sort_by(f64::total_cmp);
        quantiles.dedup();
        Ok((quantiles, Bounds { lower, upper }))
    }
}

/// Reads all series. What in a folder is no series is said on stderr and left out.
///
/// # Errors
/// When a file that was named itself is no series, Prometheus does not answer, or there is no series at all.
pub async fn read(source: &Source, prometheus: &FromPrometheus) -> anyhow::Result<Vec<NamedSeries>> {
    let series = match &source.query {
        None => {
            let mut skipped = Vec::new();
            let series = csv::load(&source.csv, &mut skipped)?;
            say(skipped);
            series
        }
        Some(query) => {
            let (step, fetched) = query_samples(query, prometheus).await?;
            let mut all = Vec::new();
            for (name, samples) in fetched {
                match Series::from_samples(&samples, step) {
                    Ok(series) => all.push(NamedSeries { name, series }),
                    Err(error) => tracing::warn!(series = %name, %error, "left out"),
                }
            }
            all
        }
    };
    anyhow::ensure!(!series.is_empty(), "there is no series to forecast");
    Ok(series)
}

/// Reads the rows of all series as they are: those of equal times are kept.
///
/// # Errors
/// As [`read`].
pub async fn read_rows(source: &Source, prometheus: &FromPrometheus) -> anyhow::Result<Vec<NamedRows>> {
    let series = match &source.query {
        None => {
            let mut skipped = Vec::new();
            let series = csv::load_rows(&source.csv, &mut skipped)?;
            say(skipped);
            series
        }
        Some(query) => {
            let (step, fetched) = query_samples(query, prometheus).await?;
            fetched.into_iter().map(|(name, rows)| NamedRows { name, step, rows }).collect()
        }
    };
    anyhow::ensure!(!series.is_empty(), "there is no series");
    Ok(series)
}

fn say(skipped: Vec<CsvError>) {
    for error in skipped {
        tracing::warn!("left out: {:#}", anyhow::Error::from(error));
    }
}

/// (Unix seconds, value) in ascending time.
type Samples = Vec<(f64, f64)>;

/// Returns the step in seconds and the samples of each series by name.
async fn query_samples(query: &str, prometheus: &FromPrometheus) -> anyhow::Result<(i64, Vec<(String, Samples)>)> {
    let config = ClientConfig { url: prometheus.prometheus.clone(), ..ClientConfig::default() };
    let step = prometheus.step.seconds() as i64;
    anyhow::ensure!(step > 0, "--step must be at least 1s");
    let end = last_step(unix_now(), step);
    let start = end - prometheus.history.seconds() as i64;
    let client = Client::new(&config)?;
    let fetched = client.range(query, start, end, step, MAX_POINTS).await.context("reading the history")?;
    let samples = |sample: &Sample| (sample.timestamp, sample.value);
    let named = fetched.iter().map(|series| (name_of(&series.labels), series.samples.iter().map(samples).collect()));
    Ok((step, named.collect()))
}

/// Returns a series' name as PromQL writes it.
fn name_of(labels: &Labels) -> String {
    let inner: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{}{{{}}}", labels.get("__name__").map_or("", String::as_str), inner.join(", "))
}
