//! Our exporter beside node_exporter on the same machine in the same minute, scraped in turns: a set of nine collectors, to which
//! the bars of the project apply, the default sets, and how both grow with network devices, disks and containers.
//!
//! The figures to trust on a busy machine are CPU per scrape (from the scheduler's own account), memory and their ratios;
//! latencies depend on what else runs.

mod disks;
mod growth;
mod side;
mod soak;
mod syscalls;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use cloudpulse_testkit::binary::{cargo_build, workspace_binary};
use cloudpulse_testkit::process::{find_program, run as run_command};

use self::side::{Round, Side, TEXT, quantile};
use crate::table;

const NAME: &str = "cloudpulse-exporter";
const COLLECTORS: [&str; 9] =
    ["cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev", "stat", "time", "uname"];
/// The filters of both, because distributions patch node_exporter's defaults.
const FILTERS: [&str; 4] = [
    "--collector.netdev.device-exclude=^lo$",
    "--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$",
    "--collector.filesystem.mount-points-exclude=^/(dev|proc|run|sys|mnt|media|var/lib/docker/.+)($|/)",
    "--collector.filesystem.fs-types-exclude=^(autofs|bpf|cgroup2?|devpts|devtmpfs|nsfs|overlay|proc|squashfs|sysfs)$",
];

const INTERVAL: Duration = Duration::from_millis(100);
const WARM_UP: u32 = 20;

/// What the project promises, as our share of node_exporter's.
const CPU_BAR: f64 = 1.0 / 8.0;
const RSS_BAR: f64 = 1.0 / 5.0;
const BINARY_BAR: f64 = 1.0 / 4.0;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Rounds of each setting, each with both exporters in turns.
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: u32,
    /// Scrapes of a round.
    #[arg(long, default_value_t = 50, value_name = "N")]
    scrapes: u32,
    /// Numbers of veth devices, in a network namespace of their own; none to leave this out. Needs root.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000", value_name = "N,…", num_args = 0..)]
    veths: Vec<u32>,
    /// Numbers of disks in memory; none to leave this out. Needs root and the kernel's zram.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100", value_name = "N,…", num_args = 0..)]
    disks: Vec<u32>,
    /// Numbers of containers; none to leave this out. Needs a Docker engine, or root and dockerd.
    #[arg(long, value_delimiter = ',', default_value = "1,20", value_name = "N,…", num_args = 0..)]
    containers: Vec<u32>,
    /// In place of all that: so many scrapes of our default set, such as the 86400 that a day has seconds, and its memory
    /// meanwhile.
    #[arg(long, value_name = "SCRAPES")]
    soak: Option<u32>,
    /// How many of them a second.
    #[arg(long, default_value_t = 150, value_name = "N")]
    soak_rate: u32,
    /// Measure in this namespace, where so many veth devices are.
    #[arg(long, hide = true)]
    inside: Option<u32>,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            rounds: 5,
            scrapes: 50,
            veths: vec![1, 100, 1000],
            disks: vec![1, 10, 100],
            containers: vec![1, 20],
            soak: None,
            soak_rate: 150,
            inside: None,
        }
    }
}

/// The programs of both sides.
#[derive(Debug)]
struct Programs {
    ours: PathBuf,
    theirs: PathBuf,
}

/// Runs what was asked for and prints it.
///
/// # Errors
/// When one of the two cannot be built, started or scraped.
pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let (shipped, dynamic) = (shipped()?, workspace_binary(NAME, true)?);
    if let Some(veths) = args.inside {
        let programs = Programs { ours: shipped, theirs: node_exporter()? };
        return growth::inside(&programs, args, veths).await;
    }
    if let Some(scrapes) = args.soak {
        return soak::run(&shipped, scrapes, args.soak_rate).await;
    }
    let theirs = node_exporter()?;
    let what = "nine collectors, the same of both, ours linked dynamically as theirs is";
    let programs = Programs { ours: dynamic, theirs: theirs.clone() };
    compare(what, &programs, args, &nine_collectors(), &[], Some(&BARS)).await?;
    let programs = Programs { ours: shipped, theirs };
    let what = "nine collectors, the same of both, ours as images and archives have it: static";
    compare(what, &programs, args, &nine_collectors(), &[], Some(&BARS)).await?;
    let default = ["--web.disable-exporter-metrics".to_owned()];
    let like_theirs = ["--no-collector.container".to_owned()];
    let what = "the default sets, ours without the collector of containers";
    compare(what, &programs, args, &default, &like_theirs, None).await?;
    growth::veths(args)?;
    disks::run(&programs, args).await?;
    growth::containers(&programs.ours, args).await
}

/// Returns the program as images and archives have it: linked statically, for a target that is named. Builds both kinds.
///
/// By itself, as an image of it is built: together with the other programs it would carry their features of the crates
/// that they share, such as a runtime of many threads.
fn shipped() -> anyhow::Result<PathBuf> {
    let rustc = run_command(Command::new("rustc").arg("-vV"))?;
    let target = rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let build = ["--release", "-p", NAME];
    table::progress("building the exporter by itself, linked dynamically and statically");
    run_command(cargo_build().args(build))?;
    run_command(
        cargo_build().args(build).args(["--target", target]).env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )?;
    let dynamic = workspace_binary(NAME, true)?;
    let folder = dynamic.ancestors().nth(2).context("the program lies in no target folder")?;
    Ok(folder.join(target).join("release").join(NAME))
}

fn node_exporter() -> anyhow::Result<PathBuf> {
    find_program(&["prometheus-node-exporter", "node_exporter"], "prometheus-node-exporter")
}

fn nine_collectors() -> Vec<String> {
    let collectors = COLLECTORS.iter().map(|collector| format!("--collector.{collector}"));
    let others = ["--web.disable-exporter-metrics", "--collector.disable-defaults"].into_iter().chain(FILTERS);
    others.map(str::to_owned).chain(collectors).collect()
}

struct Bars {
    cpu: f64,
    rss: f64,
    binary: f64,
}

const BARS: Bars = Bars { cpu: CPU_BAR, rss: RSS_BAR, binary: BINARY_BAR };

/// Measures both with the same flags, ours with some more, and prints a table.
async fn compare(
    what: &str,
    programs: &Programs,
    args: &Args,
    flags: &[String],
    our_flags: &[String],
    bars: Option<&Bars>,
) -> anyhow::Result<()> {
    let our_flags = [flags, our_flags].concat();
    let mut sides = [
        Side::start("cloudpulse", &programs.ours, &our_flags).await?,
        Side::start("node_exporter", &programs.theirs, flags).await?,
    ];
    let mut rounds: [Vec<Round>; 2] = [Vec::new(), Vec::new()];
    for side in &mut sides {
        for _ in 0..WARM_UP.min(args.scrapes) {
            side.scrape(TEXT).await?;
        }
    }
    for _ in 0..args.rounds {
        for (side, rounds) in sides.iter_mut().zip(&mut rounds) {
            rounds.push(side.round(args.scrapes, INTERVAL).await?);
        }
    }
    let mut calls = [None, None];
    for (side, calls) in sides.iter_mut().zip(&mut calls) {
        *calls = syscalls::per_scrape(side).await?;
    }
    let heading = format!(
        "exporter, {what}: {} rounds of {} scrapes each, {:.0}/s, one connection, no compression",
        args.rounds,
        args.scrapes,
        1.0 / INTERVAL.as_secs_f64()
    );
    print(&heading, &sides, &rounds, calls, bars);
    Ok(())
}

fn print(heading: &str, sides: &[Side; 2], rounds: &[Vec<Round>; 2], calls: [Option<f64>; 2], bars: Option<&Bars>) {
    let [ours, theirs] = sides;
    table::line(heading);
    let mut rows =
        vec![["median (min..max)", ours.name, theirs.name, "ratio (min..max)", "bar"].map(str::to_owned).to_vec()];
    let mut all_held = true;
    let mut row = |name: &str, a: &[f64], b: &[f64], bar: Option<f64>, digits: usize| {
        let shown = |values: &[f64]| {
            let (middle, low, high) = table::spread(values);
            match values.len() {
                1 => format!("{middle:.digits$}"),
                _ => format!("{middle:.digits$} ({low:.digits$}..{high:.digits$})"),
            }
        };
        // Round by round: both saw about the same machine.
        let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
        let (ratio, low, high) = table::spread(&ratios);
        let verdict = bar.map_or(String::new(), |bar| {
            all_held &= ratio <= bar;
            format!("{bar:.3} {}", if ratio <= bar { "held" } else { "MISSED" })
        });
        let ratio = if ratios.len() == 1 { format!("{ratio:.3}") } else { format!("{ratio:.3} ({low:.3}..{high:.3})") };
        rows.push(vec![name.to_owned(), shown(a), shown(b), ratio, verdict]);
    };
    let each =
        |figure: &dyn Fn(&Round) -> f64| rounds.each_ref().map(|rounds| rounds.iter().map(figure).collect::<Vec<_>>());
    let [a, b] = each(&|round| round.cpu_microseconds);
    row("CPU per scrape, us", &a, &b, bars.map(|bars| bars.cpu), 0);
    let [a, b] = each(&|round| round.rss_kib / 1024.0);
    row("RSS, MiB", &a, &b, bars.map(|bars| bars.rss), 2);
    let mib = |side: &Side| [side.binary_bytes as f64 / f64::from(1 << 20)];
    row("binary, MiB", &mib(ours), &mib(theirs), bars.map(|bars| bars.binary), 2);
    let [a, b] = each(&|round| quantile(&round.latencies_microseconds, 0.5));
    row("latency p50, us", &a, &b, None, 0);
    // Of all rounds together: one alone has too few scrapes for it.
    let all = |rounds: &[Round]| -> Vec<f64> {
        rounds.iter().flat_map(|round| round.latencies_microseconds.iter().copied()).collect()
    };
    let [a, b] = rounds.each_ref().map(|rounds| [quantile(&all(rounds), 0.99)]);
    row("latency p99, us", &a, &b, None, 0);
    if let [Some(a), Some(b)] = calls {
        row("system calls per scrape", &[a], &[b], None, 1);
    }
    let count = |count: usize| [count as f64];
    row("samples on the page", &count(ours.samples), &count(theirs.samples), None, 0);
    row("bytes of the page", &count(ours.page_bytes), &count(theirs.page_bytes), None, 0);
    table::print(&rows);
    if bars.is_some() {
        table::line(if all_held { "  every bar is held" } else { "  A BAR IS MISSED" });
    }
}

/// Returns whether this process may make namespaces and devices.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the path of a file as text.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
