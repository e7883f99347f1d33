//! One scrape: every collector writes its families into one page, and what each did is added at its end.

use std::time::Instant;

use cloudpulse_common::exposition::{Format, Kind, Labels, Number, Page};

use crate::collector::{COLLECTORS, CollectError, Collector};
use crate::config::Config;
use crate::host::Host;
use crate::process::Process;

const SUCCESS: &str = "node_scrape_collector_success";
const DURATION: &str = "node_scrape_collector_duration_seconds";

/// The collectors with what they keep from scrape to scrape.
#[derive(Debug)]
pub struct Scraper {
    host: Host,
    collectors: Vec<Running>,
    node_exporter_info: Labels,
    build_info: Labels,
    node_info: Labels,
    /// `None` when nothing is to be said of the exporter itself.
    process: Option<Process>,
    /// Length of the last page: the next one needs about as much room.
    last_length: usize,
}

/// A collector that runs, and how its last scrape went.
#[derive(Debug)]
struct Running {
    name: &'static str,
    collector: Box<dyn Collector>,
    labels: Labels,
    outcome: Outcome,
    wanted: bool,
    seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Fine,
    NoData,
    Failed,
}

impl Scraper {
    /// Makes the chosen collectors. Nothing is read yet.
    pub fn new(config: Config) -> Self {
        let Config {
            node_id,
            collectors: chosen,
            filters,
            roots,
            own_metrics,
            listen: _,
            log: _,
            web_config_file: _,
            health: _,
        } = config;
        let mut host = Host::new(roots);
        let collectors = COLLECTORS.iter().filter(|entry| chosen.contains(&entry.name)).map(|entry| Running {
            name: entry.name,
            collector: (entry.new)(&mut host, &filters),
            labels: Labels::new(&[("collector", entry.name)]),
            outcome: Outcome::Fine,
            wanted: true,
            seconds: 0.0,
        });
        let collectors = collectors.collect();
        let version = env!("CARGO_PKG_VERSION");
        Self {
            host,
            collectors,
            // Its labels are node_exporter's; those that mean nothing here have the word that it uses itself.
            node_exporter_info: Labels::new(&[
                ("branch", "cloudpulse"),
                ("goarch", go_architecture(std::env::consts::ARCH)),
                ("goos", std::env::consts::OS),
                ("goversion", "unknown"),
                ("revision", "unknown"),
                ("tags", "unknown"),
                ("version", version),
            ]),
            build_info: Labels::new(&[("version", version)]),
            node_info: Labels::new(&[("node_id", &node_id)]),
            process: own_metrics.then(Process::new),
            last_length: 0,
        }
    }

    /// Returns the names of the collectors that run.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.collectors.iter().map(|running| running.name)
    }

    /// Runs the collectors that `wants` chooses by name, and returns the page.
    pub fn scrape(&mut self, format: Format, wants: impl Fn(&str) -> bool) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(self.last_length + self.last_length / 8);
        let mut page = Page::new(&mut buffer, format);
        self.host.begin_scrape();
        let mut begin = Instant::now();
        for running in &mut self.collectors {
            running.wanted = wants(running.name);
            if running.wanted {
                running.run(&mut self.host, &mut page);
                // One look at the clock is the end of one and the beginning of the next.
                let end = Instant::now();
                running.seconds = (end - begin).as_secs_f64();
                begin = end;
            }
        }
        self.write_outcomes(&mut page);
        if let Some(process) = &mut self.process {
            process.write(&mut page);
        }
        page.finish();
        self.last_length = buffer.len();
        buffer
    }

    fn write_outcomes(&self, page: &mut Page<'_>) {
        let ran = || self.collectors.iter().filter(|running| running.wanted);
        page.family(DURATION, "Seconds that the collector took.", Kind::Gauge);
        for running in ran() {
            page.labelled(DURATION, &running.labels, Number::Float(running.seconds));
        }
        page.family(SUCCESS, "Whether the collector had something to show.", Kind::Gauge);
        for running in ran() {
            page.labelled(SUCCESS, &running.labels, Number::Integer(u64::from(running.outcome == Outcome::Fine)));
        }
        for (name, help, labels) in [
            (
                "node_exporter_build_info",
                "Always 1; for dashboards that look for node_exporter by this name.",
                &self.node_exporter_info,
            ),
            ("cloudpulse_exporter_build_info", "Always 1; the version is in the labels.", &self.build_info),
            (
                "cloudpulse_exporter_node_info",
                "Always 1; the name given to the node is in the labels.",
                &self.node_info,
            ),
        ] {
            page.family(name, help, Kind::Gauge);
            page.labelled(name, labels, Number::Integer(1));
        }
    }
}

impl Running {
    fn run(&mut self, host: &mut Host, page: &mut Page<'_>) {
        let length = page.length();
        let result = self.collector.collect(host, page);
        if result.is_err() {
            // Half a family would be worse than none.
            page.truncate(length);
        }
        let outcome = match &result {
            Ok(()) => Outcome::Fine,
            Err(CollectError::NoData(_)) => Outcome::NoData,
            Err(CollectError::Read { .. } | CollectError::Content(_)) => Outcome::Failed,
        };
        // Said when it changes and not at every scrape: a metric shows that it lasts.
        if outcome != self.outcome {
            match &result {
                Ok(()) => tracing::info!(collector = self.name, "collector works again"),
                Err(error @ CollectError::NoData(_)) => {
                    tracing::info!(collector = self.name, %error, "collector has no data");
                }
                Err(error) => tracing::warn!(collector = self.name, %error, "collector failed"),
            }
            self.outcome = outcome;
        }
    }
}

/// Returns Go's name of an architecture, which dashboards know.
fn go_architecture(rust: &'static str) -> &'static str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
