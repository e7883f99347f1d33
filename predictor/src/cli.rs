//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use cloudpulse_common::telemetry::{self, LogArgs};
use cloudpulse_common::{config::Findings, shutdown};
use tokio::net::TcpListener;

use crate::command::{anomalies, backtest, forecast, serve};
use crate::config::{Config, duration_label};

/// Forecasts Prometheus series and gives the future back to Prometheus: as metrics, and as a curve over remote read.
///
/// Try it without any server: cloudpulse-predictor forecast --csv FILE --plot forecast.png
#[derive(Debug, Parser)]
#[command(name = "cloudpulse-predictor", version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forecast again and again; serve /metrics and remote read.
    Serve(ServeArgs),
    /// Check a configuration and say what it makes; all errors at once.
    Check(CheckArgs),
    /// Forecast series once, from Prometheus or from files.
    Forecast(forecast::Args),
    /// Evaluate all models on the past.
    Backtest(backtest::Args),
    // Described by its arguments, at length.
    Anomalies(anomalies::Args),
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    /// Configuration; without one, node CPU, memory, network, load and disk are forecast.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Base URL of Prometheus; wins over the configuration.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_PROMETHEUS", value_name = "URL")]
    prometheus: Option<String>,
    /// Address to listen on.
    #[arg(
        long = "web.listen-address",
        visible_alias = "listen",
        env = "CLOUDPULSE_PREDICTOR_LISTEN",
        default_value = "127.0.0.1:9101",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Threads that run the models; all cores where absent.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_THREADS", value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Configuration.
    #[arg(value_name = "FILE")]
    config: PathBuf,
}

/// Runs the program and returns its exit code: 0 done, 1 findings or failed, 2 wrong usage.
pub fn main() -> ExitCode {
    let Cli { command, log } = Cli::parse();
    let done = telemetry::init(&log).and_then(|()| run(command));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<Findings>() {
                Some(findings) => tracing::error!("{findings}"),
                None => tracing::error!("{error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    if let Command::Check(args) = &command {
        return check(&args.config);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve(args) => serve(args).await,
            Command::Forecast(args) => forecast::run(args).await,
            Command::Backtest(args) => backtest::run(args).await,
            Command::Anomalies(args) => anomalies::run(args).await,
            Command::Check(args) => check(&args.config),
        }
    })
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let ServeArgs { config, prometheus, listen, threads } = args;
    let mut config = match config {
        Some(path) => Config::load(&path)?,
        None => Config::without_file(),
    };
    if let Some(url) = prometheus {
        config.prometheus.url = url;
    }
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    let shutdown = shutdown::on_signal()?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    serve::run(config, listener, shutdown).await
}

#[allow(clippy::print_stdout, reason = "the result of the command")]
fn check(path: &std::path::Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    println!("{}: {} forecasts", path.display(), config.forecasts.len());
    for forecast in &config.forecasts {
        println!(
            "  {}: each source series makes {} published series (at most {} source series)",
            forecast.name,
            forecast.series_per_source(),
            forecast.max_series
        );
        let labels = |seconds: &[i64]| seconds.iter().copied().map(duration_label).collect::<Vec<_>>().join(", ");
        println!(
            "    horizons {}; peaks until {}; step {}; history {}; every {}",
            labels(&forecast.horizons),
            labels(&forecast.peak_horizons),
            duration_label(forecast.step),
            duration_label(forecast.history),
            duration_label(forecast.interval)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
