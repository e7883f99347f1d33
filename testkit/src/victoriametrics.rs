//! A real single-node VictoriaMetrics: another source of PromQL than Prometheus.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::net::{free_port, http_client};
use crate::process::{Process, find_program};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the program, where scripts/setup.sh has built it or PATH has it. Debian has no package of it, so that a test
/// may go without it, and then says so.
pub fn program() -> Option<PathBuf> {
    let built = crate::binary::workspace_root().join("target/tools/bin/victoria-metrics");
    if built.exists() {
        Some(built)
    } else {
        find_program(&["victoria-metrics", "victoria-metrics-prod"], "golang").ok()
    }
}

/// A running VictoriaMetrics on 127.0.0.1. Dropping it ends it.
#[derive(Debug)]
pub struct VictoriaMetrics {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    process: Process,
    _folder: TempDir,
}

impl VictoriaMetrics {
    /// Starts VictoriaMetrics and waits until it is ready.
    ///
    /// # Errors
    /// When it is not there or does not get ready; with the end of its log.
    pub async fn start() -> anyhow::Result<Self> {
        let program =
            program().context("victoria-metrics is not there; scripts/setup.sh test builds it where Go is")?;
        let folder = tempfile::Builder::new().prefix("cloudpulse-victoriametrics-").tempdir()?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args([
            format!("-storageDataPath={}", folder.path().join("data").display()),
            format!("-httpListenAddr=127.0.0.1:{port}"),
            // The defaults drop what is older than a month, and hide what is younger than 30 seconds.
            "-retentionPeriod=2y".to_owned(),
            "-search.latencyOffset=0s".to_owned(),
            "-memory.allowedBytes=256MB".to_owned(),
        ]);
        let mut process = Process::start("victoria-metrics", &mut command, &folder.path().join("log"))?;
        let url = format!("http://127.0.0.1:{port}");
        process.wait_http_ok(&format!("{url}/health"), START_TIMEOUT).await?;
        Ok(Self { url, process, _folder: folder })
    }

    /// Takes samples in Prometheus' text format, with their times in milliseconds, and makes them visible to queries.
    ///
    /// # Errors
    /// When it refuses them.
    pub async fn import(&self, text: String) -> anyhow::Result<()> {
        let client = http_client()?;
        let imported = client.post(format!("{}/api/v1/import/prometheus", self.url)).body(text).send().await?;
        let flushed = client.get(format!("{}/internal/force_flush", self.url)).send().await?;
        for response in [imported, flushed] {
            if !response.status().is_success() {
                bail!("{} answered {}", response.url(), response.status());
            }
        }
        Ok(())
    }

    /// Returns the process, for its log, its id or a signal.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
