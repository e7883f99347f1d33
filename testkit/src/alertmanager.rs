//! A real Alertmanager.

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::net::{free_port, http_client};
use crate::process::{Process, find_program};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A configuration that receives alerts and tells nobody.
pub const SILENT_CONFIG: &str = "route: {receiver: none}\nreceivers: [{name: none}]\n";

/// A running Alertmanager on 127.0.0.1. Dropping it ends it.
#[derive(Debug)]
pub struct Alertmanager {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    process: Process,
    client: reqwest::Client,
    _folder: TempDir,
}

impl Alertmanager {
    /// Starts Alertmanager with the text of its configuration (such as [`SILENT_CONFIG`]), on `port` or a free one, and
    /// waits until it is ready.
    ///
    /// # Errors
    /// When it is not installed, refuses its configuration, or does not get ready; with the end of its log.
    pub async fn start(config: &str, port: Option<u16>) -> anyhow::Result<Self> {
        let program = find_program(&["prometheus-alertmanager", "alertmanager"], "prometheus-alertmanager")?;
        let folder = tempfile::Builder::new().prefix("cloudpulse-alertmanager-").tempdir()?;
        let config_file = folder.path().join("alertmanager.yml");
        std::fs::write(&config_file, config)?;
        let port = port.map_or_else(free_port, Ok)?;
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // Empty: no gossip, which would listen on every interface.
            .arg("--cluster.listen-address=");
        let mut process = Process::start("alertmanager", &mut command, &folder.path().join("alertmanager.log"))?;
        let url = format!("http://127.0.0.1:{port}");
        process.wait_http_ok(&format!("{url}/-/ready"), START_TIMEOUT).await?;
        Ok(Self { url, process, client: http_client()?, _folder: folder })
    }

    /// Returns `127.0.0.1:PORT`, as `alerting.alertmanagers.static_configs.targets` of Prometheus wants it.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap_or(&self.url)
    }

    /// Returns the process, for its log, its id or a signal.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns the alerts that Alertmanager has now, as its API v2 gives them.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn alerts(&self) -> anyhow::Result<Vec<Value>> {
        let text =
            self.client.get(format!("{}/api/v2/alerts", self.url)).send().await?.error_for_status()?.text().await?;
        serde_json::from_str(&text).with_context(|| format!("no list of alerts: {text}"))
    }
}
