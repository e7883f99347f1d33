//! All parts of the demonstration, started in the order of the data and ended with the value.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::Router;
use axum::routing::get;
use cloudpulse_common::exposition::{Format, Kind, Page};
use cloudpulse_common::server::{metrics_response, negotiate};
use cloudpulse_testkit::alertmanager::{Alertmanager, SILENT_CONFIG};
use cloudpulse_testkit::binary::{workspace_binary, workspace_root};
use cloudpulse_testkit::docker::Docker;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::process::Process;
use cloudpulse_testkit::prometheus::{Prometheus, PrometheusOptions, backfill};

use crate::config::{self, Ports};
use crate::load::{Load, SLOT_SECONDS};

const HISTORY_DAYS: i64 = 14;
/// The history ends when the first scrape is about to come, so that `rate` sees no gap.
const START_SECONDS: i64 = 4;
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The running demonstration. Dropping it ends every process and container.
#[derive(Debug)]
pub(crate) struct Stack {
    // Ended in this order: what acts, what it acted on, what it asked.
    _programs: Vec<Process>,
    _service: Option<Service>,
    pub(crate) prometheus: Prometheus,
    pub(crate) alertmanager: Alertmanager,
    pub(crate) ports: Ports,
}

/// The Compose service that is scaled.
#[derive(Debug)]
struct Service {
    docker: Docker,
    folder: PathBuf,
}

impl Drop for Service {
    fn drop(&mut self) {
        // Removes the replicas that the scaler made, too: they carry the project's labels.
        if let Err(error) = self.docker.compose(&["down", "--timeout", "2", "--remove-orphans"], &self.folder) {
            say(&format!("the containers of project {} could not be removed: {error:#}", config::PROJECT));
        }
        if let Err(error) = self.docker.cli(&["image", "rm", "--force", config::IMAGE]) {
            say(&format!("the image {} could not be removed: {error:#}", config::IMAGE));
        }
    }
}

impl Stack {
    /// Starts everything; files go to `folder`. A rush of the load lasts `rush`.
    pub(crate) async fn start(folder: &Path, rush: Duration) -> anyhow::Result<Self> {
        let binaries = ["cloudpulse-exporter", "cloudpulse-predictor", "cloudpulse-scaler"]
            .map(|name| workspace_binary(name, true).with_context(|| format!("{name} is not built; run make build")));
        let [exporter, predictor, scaler] = binaries;
        let (exporter, predictor, scaler) = (exporter?, predictor?, scaler?);
        let ports = Ports {
            load: free_port()?,
            exporter: free_port()?,
            predictor: free_port()?,
            scaler: free_port()?,
            alertmanager: free_port()?,
        };
        let data = folder.join("prometheus");
        say(&format!("generating {HISTORY_DAYS} days of web load and back-filling them with promtool"));
        let load = Load::new(unix_now() as i64 + START_SECONDS + SLOT_SECONDS, HISTORY_DAYS, rush.as_secs_f64());
        let file = folder.join("history.om");
        std::fs::write(&file, history(&load, ports.load))?;
        backfill(&file, &data).await?;
        std::fs::remove_file(&file)?;
        serve_load(load, ports.load).await?;

        say("starting Alertmanager, Prometheus, exporter, predictor and scaler on 127.0.0.1");
        let alertmanager = Alertmanager::start(SILENT_CONFIG, Some(ports.alertmanager)).await?;
        let rules = workspace_root().join("rules/prometheus");
        let shipped =
            ["recording", "alerting", "scaling", "programs"].map(|name| rules.join(format!("{name}.rules.yml")));
        let alert = folder.join("demo.rules.yml");
        std::fs::write(&alert, config::alert())?;
        let files: Vec<&Path> = shipped.iter().chain([&alert]).map(PathBuf::as_path).collect();
        let options = PrometheusOptions {
            config: config::prometheus(ports, &files),
            data_dir: Some(data),
            // An alert that fires before Alertmanager is discovered is sent again soon.
            flags: vec!["--rules.alert.resend-delay=5s".to_owned()],
            ..PrometheusOptions::default()
        };
        let prometheus = Prometheus::start(options).await?;
        let mut programs = Vec::new();
        let listen = |port: u16| format!("127.0.0.1:{port}");
        let exporter_args = ["--web.listen-address".to_owned(), listen(ports.exporter)];
        programs.push(start(folder, &exporter, &exporter_args)?);
        let file = folder.join("predictor.yml");
        std::fs::write(&file, config::predictor(&prometheus.url))?;
        let predictor_args = ["serve", "--config", &file.display().to_string(), "--listen", &listen(ports.predictor)];
        programs.push(start(folder, &predictor, &predictor_args.map(str::to_owned))?);
        let service = start_service(folder)?;
        let rule = folder.join("rule.yml");
        std::fs::write(&rule, config::rule(service.is_some()))?;
        let rule = rule.display().to_string();
        let listen = listen(ports.scaler);
        let scaler_args =
            ["serve", "--rules", &rule, "--prometheus", &prometheus.url, "--listen", &listen, "--interval", "5s"];
        let mut command = Command::new(&scaler);
        command.args(scaler_args);
        if let Some(service) = &service {
            command.env("DOCKER_HOST", service.docker.address());
        }
        programs.push(Process::start("cloudpulse-scaler", &mut command, &folder.join("cloudpulse-scaler.log"))?);
        for (process, port) in programs.iter_mut().zip([ports.exporter, ports.predictor, ports.scaler]) {
            process.wait_http_ok(&format!("http://127.0.0.1:{port}/healthz"), START_TIMEOUT).await?;
        }
        Ok(Self { _programs: programs, _service: service, prometheus, alertmanager, ports })
    }
}

fn start(folder: &Path, binary: &Path, arguments: &[String]) -> anyhow::Result<Process> {
    let name = binary.file_name().context("a program without a name")?.to_string_lossy().into_owned();
    let mut command = Command::new(binary);
    command.args(arguments);
    Process::start(&name, &mut command, &folder.join(format!("{name}.log")))
}

/// Brings the Compose service up; `None`, said, where no engine answers.
fn start_service(folder: &Path) -> anyhow::Result<Option<Service>> {
    let Some(docker) = Docker::find()? else {
        say("no Docker engine answers: the rule runs dry, replicas are only counted");
        return Ok(None);
    };
    let project = folder.join("compose");
    std::fs::create_dir_all(&project)?;
    std::fs::write(project.join("compose.yaml"), config::compose())?;
    let source = include_str!("../service.rs");
    let up = docker
        .build_image(config::IMAGE, source)
        .and_then(|()| docker.compose(&["up", "--detach", "--scale", "web=2"], &project).map(|_| ()));
    let service = Service { docker, folder: project };
    match up {
        Ok(()) => {
            say(&format!("scaling a real Compose service: project {}, service web", config::PROJECT));
            Ok(Some(service))
        }
        Err(error) => {
            say(&format!("an engine answers, but the service cannot be started, so the rule runs dry: {error:#}"));
            Ok(None)
        }
    }
}

fn history(load: &Load, port: u16) -> String {
    let mut text = String::from("# HELP http_requests Requests served.\n# TYPE http_requests counter\n");
    for (time, total) in load.history() {
        text.push_str(&format!(
            "http_requests_total{{app=\"shop\",instance=\"127.0.0.1:{port}\",job=\"shop\"}} {total} {time}\n"
        ));
    }
    text.push_str("# EOF\n");
    text
}

/// Goes on generating the load, as a page that Prometheus scrapes.
async fn serve_load(load: Load, port: u16) -> anyhow::Result<()> {
    let load = Arc::new(Mutex::new(load));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let page = move |headers: axum::http::HeaderMap| {
        let total = load.lock().unwrap_or_else(PoisonError::into_inner).total(unix_now());
        let format: Format = negotiate(&headers);
        let mut body = Vec::new();
        let mut page = Page::new(&mut body, format);
        page.family("http_requests_total", "Requests served.", Kind::Counter);
        page.sample("http_requests_total", &[("app", "shop")], total);
        page.finish();
        std::future::ready(metrics_response(format, body))
    };
    let router = Router::new().route("/metrics", get(page));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

/// Unix seconds.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Progress goes to stderr, the table to stdout.
#[allow(clippy::print_stderr, reason = "the demonstration speaks to a person")]
pub(crate) fn say(text: &str) {
    eprintln!("demo: {text}");
}
