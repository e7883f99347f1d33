//! A real Prometheus, its HTTP API, and promtool.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::net::{free_port, http_client};
use crate::process::{Process, find_program};

/// How long Prometheus may take until it is ready; with a write-ahead log to read it takes some seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// The labels of a series, `__name__` included where the answer has it.
pub type Labels = BTreeMap<String, String>;

/// How a Prometheus is to be started.
#[derive(Debug, Clone, Default)]
pub struct PrometheusOptions {
    /// The text of `prometheus.yml`. Paths in it are relative to [`Prometheus::folder`].
    pub config: String,
    /// Rule files as (file name, text), written beside the configuration. Where the configuration has no `rule_files`,
    /// they are named in it.
    pub rules: Vec<(String, String)>,
    /// Further flags; one that is a default here (such as the retention of 400 days) takes its place.
    pub flags: Vec<String>,
    /// Where the data lies; in a temporary folder when absent. It is kept when Prometheus ends.
    pub data_dir: Option<PathBuf>,
    /// The port to listen on; a free one when absent.
    pub port: Option<u16>,
}

/// A running Prometheus on 127.0.0.1. Dropping it ends it.
#[derive(Debug)]
pub struct Prometheus {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    process: Process,
    client: reqwest::Client,
    folder: TempDir,
}

impl Prometheus {
    /// Starts Prometheus and waits until it is ready.
    ///
    /// # Errors
    /// When it is not installed, refuses its configuration, or does not get ready; with the end of its log.
    pub async fn start(options: PrometheusOptions) -> anyhow::Result<Self> {
        let PrometheusOptions { mut config, rules, flags, data_dir, port } = options;
        let program = find_program(&["prometheus"], "prometheus")?;
        let folder = tempfile::Builder::new().prefix("cloudpulse-prometheus-").tempdir()?;
        for (name, text) in &rules {
            std::fs::write(folder.path().join(name), text).with_context(|| format!("rule file {name}"))?;
        }
        if !rules.is_empty() && !config.contains("rule_files:") {
            let names: Vec<&str> = rules.iter().map(|(name, _)| name.as_str()).collect();
            config.push_str(&format!("\nrule_files: {}\n", serde_json::to_string(&names)?));
        }
        let config_file = folder.path().join("prometheus.yml");
        std::fs::write(&config_file, config)?;
        let data_dir = data_dir.unwrap_or_else(|| folder.path().join("data"));
        let port = port.map_or_else(free_port, Ok)?;

        let defaults = [
            format!("--config.file={}", config_file.display()),
            format!("--storage.tsdb.path={}", data_dir.display()),
            // The default of 15 days would drop back-filled history.
            "--storage.tsdb.retention.time=400d".to_owned(),
            // The default listens on every interface.
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--web.enable-lifecycle".to_owned(),
        ];
        let name_of = |flag: &str| flag.split_once('=').map_or(flag, |(name, _)| name).to_owned();
        let kept = defaults.iter().filter(|default| !flags.iter().any(|flag| name_of(flag) == name_of(default)));
        let mut command = Command::new(program);
        command.args(kept).args(&flags);
        let mut process = Process::start("prometheus", &mut command, &folder.path().join("prometheus.log"))?;
        let url = format!("http://127.0.0.1:{port}");
        process.wait_http_ok(&format!("{url}/-/ready"), START_TIMEOUT).await?;
        Ok(Self { url, process, client: http_client()?, folder })
    }

    /// Returns the folder with the configuration, the rule files and the log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the process, for its log, its id or a signal.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns the samples of an instant query at Unix time `at`, or now. A scalar is one sample without labels.
    ///
    /// # Errors
    /// When the query fails or its result is neither vector nor scalar.
    pub async fn query(&self, expr: &str, at: Option<f64>) -> anyhow::Result<Vec<(Labels, f64)>> {
        let mut parameters = vec![("query", expr.to_owned())];
        if let Some(at) = at {
            parameters.push(("time", at.to_string()));
        }
        let data = self.get("/api/v1/query", &parameters).await.with_context(|| format!("query {expr}"))?;
        match data["resultType"].as_str() {
            Some("vector") => array(&data["result"])?
                .iter()
                .map(|series| Ok((labels(&series["metric"])?, sample(&series["value"])?.1)))
                .collect(),
            Some("scalar") => Ok(vec![(Labels::new(), sample(&data["result"])?.1)]),
            other => bail!("query {expr} gave {other:?}"),
        }
    }

    /// Returns the series of a range query as (Unix time, value) points; steps without a sample are absent.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn query_range(
        &self,
        expr: &str,
        start: f64,
        end: f64,
        step: Duration,
    ) -> anyhow::Result<Vec<(Labels, Vec<(f64, f64)>)>> {
        let parameters = [
            ("query", expr.to_owned()),
            ("start", start.to_string()),
            ("end", end.to_string()),
            ("step", step.as_secs_f64().to_string()),
        ];
        let data = self.get("/api/v1/query_range", &parameters).await.with_context(|| format!("range query {expr}"))?;
        array(&data["result"])?
            .iter()
            .map(|series| {
                let points = array(&series["values"])?.iter().map(sample).collect::<anyhow::Result<_>>()?;
                Ok((labels(&series["metric"])?, points))
            })
            .collect()
    }

    /// Repeats an instant query until `enough` holds for its answer, and returns that answer.
    ///
    /// # Errors
    /// When `timeout` passes first; with the last answer, the targets that could not be scraped and the end of the log.
    pub async fn wait_for(
        &self,
        expr: &str,
        timeout: Duration,
        enough: impl Fn(&[(Labels, f64)]) -> bool,
    ) -> anyhow::Result<Vec<(Labels, f64)>> {
        let deadline = Instant::now() + timeout;
        loop {
            let answer = self.query(expr, None).await;
            if let Ok(samples) = &answer
                && enough(samples)
            {
                return answer;
            }
            if Instant::now() >= deadline {
                bail!(
                    "{expr} was not as wanted within {timeout:?}; last answer: {answer:?}; failing targets: {:?}; log:\n{}",
                    self.scrape_errors().await,
                    self.process.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until `expr` has at least one sample, and returns its samples.
    ///
    /// # Errors
    /// As [`Prometheus::wait_for`].
    pub async fn wait_for_any(&self, expr: &str, timeout: Duration) -> anyhow::Result<Vec<(Labels, f64)>> {
        self.wait_for(expr, timeout, |samples| !samples.is_empty()).await
    }

    /// Returns the `data` of a GET on the HTTP API, such as `/api/v1/alerts`.
    ///
    /// # Errors
    /// When the answer is no JSON or says that it failed.
    pub async fn get(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url), parameters)?;
        let response = self.client.get(url).send().await?;
        let status = response.status();
        let body = response.text().await?;
        let mut answer: Value =
            serde_json::from_str(&body).with_context(|| format!("{path} answered {status}: {body}"))?;
        if answer["status"] != "success" {
            bail!("{path} answered {status}: {}: {}", answer["errorType"], answer["error"]);
        }
        Ok(answer["data"].take())
    }

    /// Makes Prometheus read its configuration and rules again.
    ///
    /// # Errors
    /// When it refuses them.
    pub async fn reload(&self) -> anyhow::Result<()> {
        let response = self.client.post(format!("{}/-/reload", self.url)).send().await?;
        if !response.status().is_success() {
            bail!("reload failed: {}", response.text().await?);
        }
        Ok(())
    }

    async fn scrape_errors(&self) -> Vec<String> {
        let Ok(targets) = self.get("/api/v1/targets", &[]).await else { return Vec::new() };
        let active = targets["activeTargets"].as_array().map_or(&[][..], Vec::as_slice);
        active
            .iter()
            .filter(|target| target["health"] != "up")
            .map(|target| format!("{}: {}", target["scrapeUrl"], target["lastError"]))
            .collect()
    }
}

/// Writes the samples of an OpenMetrics file as blocks into `data_dir`, which a Prometheus started later on it serves.
/// The file is grouped by family, has its timestamps in seconds and ends with `# EOF`.
///
/// # Errors
/// When promtool is not installed or refuses the file.
pub async fn backfill(openmetrics_file: &Path, data_dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(data_dir)?;
    let file = openmetrics_file.display().to_string();
    let folder = data_dir.display().to_string();
    // Blocks of two weeks instead of two hours: promtool reads the file once per block. The flag must stand here.
    let arguments = ["tsdb", "create-blocks-from", "--max-block-duration=336h", "openmetrics", "-q", &file, &folder];
    let output = promtool(&arguments, b"").await?;
    if output.code != Some(0) {
        bail!("promtool could not back-fill {file}:\n{}{}", output.stdout, output.stderr);
    }
    Ok(())
}

/// What promtool said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs promtool with `stdin` as its input. Its exit code is part of the answer: findings are no error here.
///
/// # Errors
/// When promtool is not installed or cannot be run.
pub async fn promtool(arguments: &[&str], stdin: &[u8]) -> anyhow::Result<Output> {
    let program = find_program(&["promtool"], "prometheus")?;
    run_with_stdin(Command::new(program).args(arguments), stdin).await
}

/// Runs a command with `stdin` as its input and returns what it said.
///
/// # Errors
/// When it cannot be run.
pub async fn run_with_stdin(command: &mut Command, stdin: &[u8]) -> anyhow::Result<Output> {
    let program = command.get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    let mut input = child.stdin.take().context("no stdin")?;
    let stdin = stdin.to_vec();
    let output = tokio::task::spawn_blocking(move || {
        // In a thread of its own, so that neither side waits for the other with a full pipe. A program that ends before
        // it has read everything says why in its output.
        let writer = std::thread::spawn(move || input.write_all(&stdin));
        let output = child.wait_with_output();
        let _ = writer.join();
        output
    })
    .await??;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn array(value: &Value) -> anyhow::Result<&Vec<Value>> {
    value.as_array().with_context(|| format!("no array: {value}"))
}

fn labels(value: &Value) -> anyhow::Result<Labels> {
    let map = value.as_object().with_context(|| format!("no labels: {value}"))?;
    map.iter()
        .map(|(name, value)| Ok((name.clone(), value.as_str().context("label value is no string")?.to_owned())))
        .collect()
}

/// Reads `[1700000000.123, "0.5"]`.
fn sample(value: &Value) -> anyhow::Result<(f64, f64)> {
    let time = value[0].as_f64().with_context(|| format!("no sample: {value}"))?;
    let text = value[1].as_str().with_context(|| format!("no sample: {value}"))?;
    Ok((time, text.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_every_form_are_read() {
        for (text, value) in [("0.5", 0.5), ("+Inf", f64::INFINITY), ("-Inf", f64::NEG_INFINITY), ("1e+09", 1e9)] {
            assert_eq!(sample(&serde_json::json!([1.5, text])).unwrap(), (1.5, value));
        }
        assert!(sample(&serde_json::json!([1.5, "NaN"])).unwrap().1.is_nan());
        assert!(sample(&serde_json::json!("x")).is_err());
    }
}
