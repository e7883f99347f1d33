//! One exporter under measurement: it is scraped over one connection that stays open, without compression.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::{free_port, http_client};

/// A thousand network devices take node_exporter many seconds while its system calls are counted.
const LONGEST_SCRAPE: Duration = Duration::from_secs(60);

pub(super) const TEXT: &str = "text/plain";
pub(super) const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

/// An exporter, and what its last page had.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) binary_bytes: u64,
    pub(super) samples: usize,
    pub(super) page_bytes: usize,
    url: String,
    program: Program,
    client: reqwest::Client,
}

/// What one round measured.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) cpu_microseconds: f64,
    pub(super) rss_kib: f64,
    pub(super) latencies_microseconds: Vec<f64>,
}

impl Side {
    pub(super) async fn start(name: &'static str, binary: &Path, flags: &[String]) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let url = format!("http://{address}/metrics");
        let listen = format!("--web.listen-address={address}");
        let flags: Vec<&str> = flags.iter().map(String::as_str).chain([listen.as_str()]).collect();
        let program = Program::start(binary, &flags, &[], Some(&url)).await?;
        Ok(Self {
            name,
            binary_bytes: std::fs::metadata(binary)?.len(),
            samples: 0,
            page_bytes: 0,
            url,
            program,
            client: http_client()?,
        })
    }

    pub(super) fn pid(&mut self) -> u32 {
        self.program.process().pid()
    }

    /// Scrapes once and returns how long it took.
    pub(super) async fn scrape(&mut self, accept: &str) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let request = self.client.get(&self.url).header("Accept", accept).timeout(LONGEST_SCRAPE);
        let page = request.send().await?.error_for_status()?.bytes().await?;
        let took = begin.elapsed();
        self.page_bytes = page.len();
        let lines = page.split(|byte| *byte == b'\n');
        self.samples = lines.filter(|line| !line.is_empty() && line[0] != b'#').count();
        Ok(took)
    }

    /// Scrapes so many times, one each `interval` or as fast as it goes.
    pub(super) async fn round(&mut self, scrapes: u32, interval: Duration) -> anyhow::Result<Round> {
        let before = self.cpu()?;
        let mut latencies_microseconds = Vec::new();
        let mut ticks = tokio::time::interval(interval);
        for _ in 0..scrapes {
            ticks.tick().await;
            latencies_microseconds.push(self.scrape(TEXT).await?.as_secs_f64() * 1e6);
        }
        let cpu = self.cpu()? - before;
        Ok(Round {
            cpu_microseconds: cpu.as_secs_f64() * 1e6 / f64::from(scrapes),
            rss_kib: self.status("VmRSS:")?,
            latencies_microseconds,
        })
    }

    /// Returns the CPU time of all threads, as the scheduler accounts for it.
    pub(super) fn cpu(&mut self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += text.split(' ').next().context("empty schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Returns a number of `/proc/PID/status`, such as that of `VmRSS:` in KiB.
    pub(super) fn status(&mut self, key: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Returns how many files it has open.
    pub(super) fn open_files(&mut self) -> anyhow::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }
}

/// Returns the value below which so large a part of the values lies; NaN without any.
pub(super) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&values, 1.0)), (50.0, 99.0, 100.0));
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
