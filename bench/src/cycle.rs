//! The predictor's cycle by number of series: the engine alone, and the whole program reading from a PromQL source of
//! generated series.
//!
//! The series are five minutes apart and two weeks long, a function of their number and the time alone, so that the source
//! holds nothing. It runs on the same cores as the predictor: the program's own CPU time is the figure to trust.

mod source;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cloudpulse_common::query::{Sample, Series};
use cloudpulse_forecast::ensemble::{Bounds, Ensemble};
use cloudpulse_lstm::member;
use cloudpulse_predictor::config::{ForecastConfig, built_in};
use cloudpulse_predictor::engine::Engine;
use cloudpulse_predictor::fetch::pieces;
use cloudpulse_predictor::shard::Shard;
use cloudpulse_testkit::binary::{cargo_build, workspace_binary, workspace_root};
use cloudpulse_testkit::net::{free_port, http_client};
use cloudpulse_testkit::process::{Process, run as run_command};

use crate::table;

pub(crate) const STEP: i64 = 300;
const HISTORY: i64 = 14 * 86_400;
const END: i64 = 1_700_000_100 / STEP * STEP;
/// Cycles that are measured in a row.
const CYCLES: i64 = 12;
/// The program's time passes this much quicker, so that a cycle comes every five seconds.
const REPLAY_SPEED: f64 = 60.0;
const PROGRAM_CYCLES: u64 = 6;
/// Bars for 10,000 series on two cores: all refitted and forecast, a usual cycle, memory.
const REFIT_BAR_SECONDS: f64 = 15.0;
const STEADY_BAR_SECONDS: f64 = 3.0;
const MEMORY_BAR_BYTES: f64 = 1.5e9;
const BAR_SERIES: usize = 10_000;

/// Runs the measurements and prints them.
///
/// # Errors
/// When the program cannot be built, started or read.
pub(crate) async fn run(sizes: &[usize], program_only: bool) -> anyhow::Result<()> {
    table::line("\nCycle of the predictor, five-minute series of 14 days, all cores of this machine");
    if !program_only {
        engine_table(sizes, &member::ensemble()?);
    }
    table::progress("building the predictor by itself");
    run_command(cargo_build().args(["--release", "-p", "cloudpulse-predictor"]))?;
    let mut rows = vec![
        [
            "whole program",
            "first cycle: s",
            "its CPU s",
            "cycle: query s",
            "forecast s",
            "CPU s a cycle",
            "RSS MB",
            "at most",
            "kB a series",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for size in sizes {
        rows.push(program(*size).await?);
    }
    table::print(&rows);
    Ok(())
}

fn config(size: usize) -> ForecastConfig {
    let mut config = built_in().swap_remove(0);
    "generated".clone_into(&mut config.name);
    "generated".clone_into(&mut config.query);
    (config.step, config.history, config.interval) = (STEP, HISTORY, STEP);
    config.bounds = Bounds { lower: Some(0.0), upper: None };
    config.max_series = size;
    config
}

/// What one size took, in seconds.
struct Measured {
    learn: f64,
    refit: f64,
    steady: Vec<f64>,
    bytes: usize,
}

fn engine_table(sizes: &[usize], ensemble: &Ensemble) {
    let mut rows = vec![
        ["engine alone", "learn 14 d: s", "all refitted + forecast: s", "usual cycle: s", "ms a series", "kB a series"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut verdict = String::new();
    for size in sizes {
        let Measured { learn, refit, steady, bytes } = engine(*size, ensemble);
        let (middle, least, most) = table::spread(&steady);
        rows.push(vec![
            format!("{size} series"),
            format!("{learn:.2}"),
            format!("{refit:.3}"),
            format!("{middle:.3} ({least:.3}…{most:.3})"),
            format!("{:.3}", 1e3 * middle / *size as f64),
            format!("{:.0}", bytes as f64 / *size as f64 / 1e3),
        ]);
        if *size == BAR_SERIES {
            let met = |met: bool| if met { "met" } else { "MISSED" };
            verdict = format!(
                "  bars for {BAR_SERIES} series: all refitted and forecast in {REFIT_BAR_SECONDS} s: {}; usual cycle in {STEADY_BAR_SECONDS} s: {}; {} GB: {}",
                met(refit <= REFIT_BAR_SECONDS),
                met(most <= STEADY_BAR_SECONDS),
                MEMORY_BAR_BYTES / 1e9,
                met(bytes as f64 <= MEMORY_BAR_BYTES)
            );
        }
    }
    table::print(&rows);
    table::line(&verdict);
}

fn engine(size: usize, ensemble: &Ensemble) -> Measured {
    let config = Arc::new(config(size));
    let mut engine = Engine::new(Arc::clone(&config), ensemble.clone(), Shard::WHOLE);
    let mut learn = 0.0;
    for piece in pieces(&config, END, size, size) {
        let fetched = generated(size, piece.from, piece.to, piece.step);
        let started = Instant::now();
        engine.merge(fetched, END);
        learn += started.elapsed().as_secs_f64();
    }
    engine.cycle(END, |_| true);
    let mut steady = Vec::new();
    for cycle in 1..=CYCLES {
        let end = END + cycle * STEP;
        let fetched = generated(size, end - 3 * STEP, end, STEP);
        let started = Instant::now();
        engine.merge(fetched, end);
        engine.cycle(end, |_| true);
        steady.push(started.elapsed().as_secs_f64());
    }
    engine.make_due();
    let started = Instant::now();
    engine.cycle(END + CYCLES * STEP, |_| true);
    Measured { learn, refit: started.elapsed().as_secs_f64(), steady, bytes: engine.bytes() }
}

fn generated(size: usize, from: i64, to: i64, step: i64) -> Vec<Series> {
    (0..size)
        .map(|number| Series {
            labels: source::labels(number),
            samples: (from..=to)
                .step_by(step as usize)
                .map(|time| Sample { timestamp: time as f64, value: source::value(number, time) })
                .collect(),
        })
        .collect()
}

/// Runs the predictor on `size` series and returns a row of the table.
async fn program(size: usize) -> anyhow::Result<Vec<String>> {
    let (address, server) = source::serve(size).await?;
    let folder = workspace_root().join("target/bench/cycle");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("predictor.yaml");
    std::fs::write(
        &file,
        format!(
            "prometheus: {{url: \"http://{address}\", timeout: 10m}}\nforecasts:\n- name: generated\n  query: generated\n  step: 5m\n  interval: 5m\n  history: 14d\n  max_series: {size}\n"
        ),
    )?;
    let port = free_port()?;
    let mut command = Command::new(workspace_binary("cloudpulse-predictor", true)?);
    command.args(["serve", "--config"]).arg(&file).args([
        &format!("--listen=127.0.0.1:{port}"),
        &format!("--replay-from={END}"),
        &format!("--replay-speed={REPLAY_SPEED}"),
    ]);
    let mut program = Process::start("predictor", &mut command, &folder.join("predictor.log"))?;
    let watch = Watch { client: http_client()?, url: format!("http://127.0.0.1:{port}/metrics"), pid: program.pid() };
    let started = Instant::now();
    let first = watch.until(|page| page.cycles >= 1).await.with_context(|| program.log_tail())?;
    let (first_seconds, first_cpu) = (started.elapsed().as_secs_f64(), cpu_seconds(watch.pid)?);
    let last = watch.until(|page| page.cycles >= first.cycles + PROGRAM_CYCLES).await?;
    let cycles = (last.cycles - first.cycles) as f64;
    let cpu = (cpu_seconds(watch.pid)? - first_cpu) / cycles;
    let (rss, most) = (memory_bytes(watch.pid, "VmRSS:")?, memory_bytes(watch.pid, "VmHWM:")?);
    program.stop()?;
    server.abort();
    Ok(vec![
        format!("{size} series"),
        format!("{first_seconds:.1}"),
        format!("{first_cpu:.1}"),
        format!("{:.3}", (last.query_seconds - first.query_seconds) / cycles),
        format!("{:.3}", (last.forecast_seconds - first.forecast_seconds) / cycles),
        format!("{cpu:.3}"),
        format!("{:.0}", rss / 1e6),
        format!("{:.0}", most / 1e6),
        format!("{:.0}", rss / size as f64 / 1e3),
    ])
}

/// What the predictor says of its cycles.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    cycles: u64,
    query_seconds: f64,
    forecast_seconds: f64,
}

struct Watch {
    client: reqwest::Client,
    url: String,
    pid: u32,
}

impl Watch {
    async fn until(&self, done: impl Fn(&Seen) -> bool) -> anyhow::Result<Seen> {
        const PATIENCE: Duration = Duration::from_secs(1800);
        let started = Instant::now();
        loop {
            anyhow::ensure!(started.elapsed() < PATIENCE, "the predictor made no cycle in {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
            anyhow::ensure!(Path::new(&format!("/proc/{}", self.pid)).exists(), "the predictor ended");
            let Ok(answer) = self.client.get(&self.url).send().await else { continue };
            let page = answer.text().await?;
            let of = |name: &str| {
                let line = page.lines().find(|line| line.starts_with(name) && line.contains("generated"));
                line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).unwrap_or(0.0)
            };
            let seen = Seen {
                cycles: of("cloudpulse_predictor_forecast_duration_seconds_count") as u64,
                query_seconds: of("cloudpulse_predictor_query_duration_seconds_sum"),
                forecast_seconds: of("cloudpulse_predictor_forecast_duration_seconds_sum"),
            };
            if done(&seen) {
                return Ok(seen);
            }
        }
    }
}

/// Linux says process times in this unit on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = text.rsplit_once(") ").context("no process line")?.1;
    let field = |number: usize| after.split(' ').nth(number).and_then(|text| text.parse::<f64>().ok());
    let ticks = field(11).context("utime")? + field(12).context("stime")?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// Resident memory now (`VmRSS:`) or at most so far (`VmHWM:`).
fn memory_bytes(pid: u32, field: &'static str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with(field)).context(field)?;
    let kib: f64 = line.split_whitespace().nth(1).context(field)?.parse()?;
    Ok(kib * 1024.0)
}
