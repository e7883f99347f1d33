//! Python Prophet in a process of its own, which fits on request.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context as _;
use cloudpulse_testkit::binary::workspace_root;
use serde_json::Value;

use super::PeerFit;

/// A running `bench/prophet_python.py`. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// Starts Python on a series and waits until it is warm; `None` where Prophet is not installed.
    ///
    /// # Errors
    /// When Prophet is installed but does not start, or the series cannot be written to `target/bench`.
    pub(crate) fn start(values: &[f64], step_seconds: i64, horizon: usize) -> anyhow::Result<Option<Self>> {
        let root = workspace_root();
        let python = root.join("target/bench/venv/bin/python");
        if !python.exists() {
            return Ok(None);
        }
        let file = root.join("target/bench/prophet.csv");
        let rows = values
            .iter()
            .enumerate()
            .map(|(i, value)| format!("{},{value}\n", 1_700_000_100 + step_seconds * i as i64));
        std::fs::write(&file, std::iter::once("timestamp,value\n".to_owned()).chain(rows).collect::<String>())?;
        let mut process = Command::new(&python)
            .arg(root.join("bench/prophet_python.py"))
            .arg("--csv")
            .arg(&file)
            .args(["--horizon", &horizon.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = process.stdin.take().context("no way to write to Python")?;
        let answers = BufReader::new(process.stdout.take().context("no way to read from Python")?);
        let mut server = Self { process, requests, answers };
        server.line()?;
        Ok(Some(server))
    }

    /// Fits the first `count` samples.
    ///
    /// # Errors
    /// When Python has ended or its answer is not understood.
    pub(crate) fn fit(&mut self, count: usize, mode: &str) -> anyhow::Result<PeerFit> {
        writeln!(self.requests, "{count} {mode}")?;
        let answer: Value = serde_json::from_str(&self.line()?)?;
        let number = |field: &str| answer[field].as_f64().with_context(|| format!("no {field} in Python's answer"));
        Ok(PeerFit {
            cpu_seconds: number("cpu_seconds")?,
            objective: number("negative_log_posterior")?,
            forecast: answer["yhat"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect(),
        })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.answers.read_line(&mut line)? > 0, "bench/prophet_python.py has ended");
        Ok(line)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
