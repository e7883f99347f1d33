//! Our exporter beside node_exporter: the same collectors and filters, the same machine, the same minute.
//!
//! Both are scraped in turns over one kept-open connection each. The figures to trust on a busy machine are CPU per
//! scrape (from the scheduler's own account), memory and their ratios; latencies depend on what else runs.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cloudpulse_testkit::binary::{Program, workspace_binary, workspace_root};
use cloudpulse_testkit::net::{free_port, http_client};
use cloudpulse_testkit::process::{find_program, run as run_command};

const COLLECTORS: [&str; 9] =
    ["cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev", "stat", "time", "uname"];
/// The filters of both, because distributions patch node_exporter's defaults.
const FILTERS: [&str; 4] = [
    "--collector.netdev.device-exclude=^lo$",
    "--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$",
    "--collector.filesystem.mount-points-exclude=^/(dev|proc|run|sys|mnt|media|var/lib/docker/.+)($|/)",
    "--collector.filesystem.fs-types-exclude=^(autofs|bpf|cgroup2?|devpts|devtmpfs|nsfs|overlay|proc|squashfs|sysfs)$",
];

const ROUNDS: usize = 5;
const SCRAPES_PER_ROUND: u32 = 50;
const INTERVAL: Duration = Duration::from_millis(100);
const WARM_UP: u32 = 20;

/// What the project promises, as our share of node_exporter's.
const CPU_BAR: f64 = 1.0 / 8.0;
const RSS_BAR: f64 = 1.0 / 5.0;
const BINARY_BAR: f64 = 1.0 / 4.0;

/// One exporter under measurement.
#[derive(Debug)]
struct Side {
    name: &'static str,
    url: String,
    program: Program,
    client: reqwest::Client,
    binary_bytes: u64,
    samples: usize,
    page_bytes: usize,
    rounds: Vec<Round>,
}

/// What one round measured.
#[derive(Debug, Clone, Copy)]
struct Round {
    cpu_microseconds: f64,
    median_microseconds: f64,
    rss_kib: f64,
}

/// Runs the comparison and prints it.
///
/// # Errors
/// When one of the two cannot be built, started or scraped.
pub(crate) async fn run() -> anyhow::Result<()> {
    // By itself, as an image of it is built: together with the other programs it would carry their features of the crates
    // that they share, such as a runtime of many threads.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = ["build", "--quiet", "--release", "-p", "cloudpulse-exporter"];
    run_command(Command::new(cargo).current_dir(workspace_root()).args(build))?;
    let ours = workspace_binary("cloudpulse-exporter", true)?;
    let theirs = find_program(&["prometheus-node-exporter", "node_exporter"], "prometheus-node-exporter")?;
    let mut sides = [
        Side::start("cloudpulse", &ours, &["--web.disable-exporter-metrics"]).await?,
        Side::start("node_exporter", &theirs, &["--web.disable-exporter-metrics"]).await?,
    ];
    for side in &mut sides {
        for _ in 0..WARM_UP {
            side.scrape().await?;
        }
    }
    for _ in 0..ROUNDS {
        for side in &mut sides {
            side.round().await?;
        }
    }
    print(&sides);
    Ok(())
}

impl Side {
    async fn start(name: &'static str, binary: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let url = format!("http://{address}/metrics");
        let mut arguments = vec![format!("--web.listen-address={address}"), "--collector.disable-defaults".to_owned()];
        arguments.extend(COLLECTORS.iter().map(|collector| format!("--collector.{collector}")));
        arguments.extend(FILTERS.iter().chain(flags).map(|flag| (*flag).to_owned()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let program = Program::start(binary, &arguments, &[], Some(&url)).await?;
        Ok(Self {
            name,
            url,
            program,
            client: http_client()?,
            binary_bytes: std::fs::metadata(binary)?.len(),
            samples: 0,
            page_bytes: 0,
            rounds: Vec::new(),
        })
    }

    /// Scrapes once, without compression, and returns how long it took.
    async fn scrape(&mut self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let page = self.client.get(&self.url).send().await?.error_for_status()?.text().await?;
        let took = begin.elapsed();
        self.page_bytes = page.len();
        self.samples = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        Ok(took)
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let before = self.cpu()?;
        let mut latencies = Vec::new();
        let mut ticks = tokio::time::interval(INTERVAL);
        for _ in 0..SCRAPES_PER_ROUND {
            ticks.tick().await;
            latencies.push(self.scrape().await?.as_secs_f64() * 1e6);
        }
        let cpu = self.cpu()? - before;
        let rss_kib = self.rss_kib()?;
        self.rounds.push(Round {
            cpu_microseconds: cpu.as_secs_f64() * 1e6 / f64::from(SCRAPES_PER_ROUND),
            median_microseconds: median(latencies),
            rss_kib,
        });
        Ok(())
    }

    /// Returns the CPU time of all threads, as the scheduler accounts for it.
    fn cpu(&mut self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.program.process().pid()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += text.split(' ').next().context("empty schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn rss_kib(&mut self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.program.process().pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    fn each(&self, figure: fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }
}

#[expect(clippy::print_stdout, reason = "the table is the result")]
fn print(sides: &[Side; 2]) {
    let [ours, theirs] = sides;
    println!(
        "exporter: {ROUNDS} rounds of {SCRAPES_PER_ROUND} scrapes each, {:.0}/s, one connection, no compression",
        1.0 / INTERVAL.as_secs_f64()
    );
    println!(
        "{:<22} {:>24} {:>24}   {:<18} {:<6}",
        "median (min..max)", ours.name, theirs.name, "ratio (min..max)", "bar"
    );
    let mut all_held = true;
    let mut row = |name: &str, a: &[f64], b: &[f64], bar: Option<f64>, digits: usize| {
        let spread = |values: &[f64]| {
            let (low, high) = bounds(values);
            format!("{:.digits$} ({low:.digits$}..{high:.digits$})", median(values.to_vec()))
        };
        // Round by round: both saw about the same machine.
        let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
        let (low, high) = bounds(&ratios);
        let ratio = median(ratios);
        let verdict = bar.map_or(String::new(), |bar| {
            all_held &= ratio <= bar;
            format!("{bar:.3} {}", if ratio <= bar { "held" } else { "MISSED" })
        });
        println!("{name:<22} {:>24} {:>24}   {ratio:.3} ({low:.3}..{high:.3}) {verdict}", spread(a), spread(b));
    };
    let cpu = |round: &Round| round.cpu_microseconds;
    let latency = |round: &Round| round.median_microseconds;
    let rss = |round: &Round| round.rss_kib / 1024.0;
    row("CPU per scrape, us", &ours.each(cpu), &theirs.each(cpu), Some(CPU_BAR), 0);
    row("RSS, MiB", &ours.each(rss), &theirs.each(rss), Some(RSS_BAR), 1);
    let mib = |side: &Side| [side.binary_bytes as f64 / f64::from(1 << 20)];
    row("binary, MiB", &mib(ours), &mib(theirs), Some(BINARY_BAR), 1);
    row("latency p50, us", &ours.each(latency), &theirs.each(latency), None, 0);
    let count = |count: usize| [count as f64];
    row("samples on the page", &count(ours.samples), &count(theirs.samples), None, 0);
    row("bytes of the page", &count(ours.page_bytes), &count(theirs.page_bytes), None, 0);
    println!("{}", if all_held { "every bar is held" } else { "A BAR IS MISSED" });
}

fn bounds(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(bounds(&[2.0, 1.0, 3.0]), (1.0, 3.0));
    }
}
