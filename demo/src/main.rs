//! `make demo`: the whole way of the data on one machine, from /proc to a changed replica count, with a live table.
//!
//! Starts real programs on free loopback ports, back-fills two weeks of a generated load, goes on generating it, and shows
//! what is forecast and decided. Ends by Ctrl-C or after `--seconds`, then says what each station delivered.

mod config;
mod load;
mod stack;
mod timeline;
mod watch;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use cloudpulse_testkit::binary::workspace_root;

use crate::stack::{Stack, say};
use crate::timeline::Timeline;
use crate::watch::{Forecast, State, Stations, look};

/// Run CloudPulse on this machine on a generated load, and watch it.
#[derive(Debug, Parser)]
#[command(name = "cloudpulse-demo", version)]
struct Args {
    /// End after this many seconds with a summary; 0 runs until Ctrl-C.
    #[arg(long, env = "DEMO_SECONDS", default_value_t = 0)]
    seconds: u64,
    /// Length of the rush that comes five minutes after the start. With 240, and 1200 for --seconds, the way down shows too.
    #[arg(long, env = "DEMO_RUSH_SECONDS", default_value_t = 2400, value_name = "SECONDS")]
    rush_seconds: u64,
    /// Folder for data and logs; emptied at the start.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let run = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(run(args))
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every station delivered.
async fn run(args: Args) -> anyhow::Result<bool> {
    let Args { seconds, rush_seconds, folder } = args;
    let folder = folder.unwrap_or_else(|| workspace_root().join("target/demo"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder)?;
    let end = end_signal()?;
    tokio::pin!(end);
    let stack = tokio::select! {
        stack = Stack::start(&folder, Duration::from_secs(rush_seconds)) => stack?,
        () = &mut end => return Ok(false),
    };
    introduce(&stack)?;
    let started = Instant::now();
    let mut stations = Stations::default();
    let mut screen = Screen::default();
    let mut timeline = Timeline::default();
    loop {
        let state = look(&stack, &mut stations).await;
        screen.show(&state, started.elapsed())?;
        timeline.add(started.elapsed(), &state);
        if seconds > 0 && started.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
        tokio::select! {
            () = &mut end => break,
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
    say("ending; everything that was started is stopped and removed");
    drop(stack);
    timeline.write(&folder.join("timeline.csv"))?;
    summarise(&stations, &timeline, &folder)
}

async fn wait_for_end(mut terminate: tokio::signal::unix::Signal, mut interrupt: tokio::signal::unix::Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn end_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok(wait_for_end(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

fn introduce(stack: &Stack) -> std::io::Result<()> {
    let forecast = config::FORECAST;
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nPrometheus    {}/classic/graph", stack.prometheus.url)?;
    writeln!(out, "Alertmanager  {}", stack.alertmanager.url)?;
    for (name, port) in
        [("exporter", stack.ports.exporter), ("predictor", stack.ports.predictor), ("scaler", stack.ports.scaler)]
    {
        writeln!(out, "{name:<14}http://127.0.0.1:{port}/metrics")?;
    }
    writeln!(out, "decisions     http://127.0.0.1:{}/api/v1/decisions", stack.ports.scaler)?;
    writeln!(out, "\nTry in Prometheus:")?;
    writeln!(out, "  {}", config::LOAD)?;
    writeln!(out, "  cloudpulse_forecast{{forecast=\"{forecast}\",model=\"ensemble\",horizon=\"15m\"}}")?;
    writeln!(
        out,
        "  max_over_time(cloudpulse_forecast_path{{forecast=\"{forecast}\",quantile=\"0.9\"}}[15m] offset -15m)   # the future\n"
    )
}

/// The live table: one line every few seconds, redrawn in a terminal.
#[derive(Debug, Default)]
struct Screen {
    lines: usize,
}

/// Without a terminal every fifth line is printed.
const PLAIN_EVERY: usize = 5;

impl Screen {
    fn show(&mut self, state: &State, elapsed: Duration) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        let terminal = out.is_terminal();
        if self.lines == 0 {
            writeln!(
                out,
                "{:>5}  {:>6}  {:>15}  {:>15}  {:>15}  {:>6}  {:<9} {:<34} alerts",
                "time", "load", "in 5m (90 %)", "in 10m (90 %)", "in 15m (90 %)", "peak", "replicas", "why"
            )?;
        }
        if terminal || self.lines.is_multiple_of(PLAIN_EVERY) {
            let [five, ten, fifteen] = state.forecasts.map(band);
            let why = state.reason.as_deref().map_or_else(
                || "-".to_owned(),
                |reason| {
                    let part = |replicas: Option<u64>| replicas.map_or_else(|| "-".to_owned(), |n| n.to_string());
                    format!("{reason} (now {}, ahead {})", part(state.reactive), part(state.by_forecast))
                },
            );
            let replicas = format!("{} → {}", count(state.current), count(state.desired));
            let alerts = if state.alerts.is_empty() { "-".to_owned() } else { state.alerts.join(", ") };
            let line = format!(
                "{:>4}s  {:>6}  {five:>15}  {ten:>15}  {fifteen:>15}  {:>6}  {replicas:<9} {why:<34} {alerts}",
                elapsed.as_secs(),
                whole(state.load),
                whole(state.peak)
            );
            if terminal {
                write!(out, "\r\x1b[2K{line}")?;
            } else {
                writeln!(out, "{line}")?;
            }
            out.flush()?;
        }
        self.lines += 1;
        Ok(())
    }
}

fn whole(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
}

fn count(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn band(forecast: Option<Forecast>) -> String {
    match forecast {
        None => "-".to_owned(),
        Some(Forecast { median, band: None }) => format!("{median:.0}"),
        Some(Forecast { median, band: Some((lower, upper)) }) => format!("{median:.0} ({lower:.0}…{upper:.0})"),
    }
}

fn summarise(stations: &Stations, timeline: &Timeline, folder: &std::path::Path) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n\nWhat each station delivered:")?;
    let mut complete = true;
    for (name, seen) in stations.list() {
        complete &= seen.is_some();
        let mark = if seen.is_some() { "ok" } else { "MISSING" };
        writeln!(out, "  {mark:<8} {name}: {}", seen.as_deref().unwrap_or("nothing seen"))?;
    }
    for line in timeline.words() {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "Data and logs: {}", folder.display())?;
    Ok(complete)
}
