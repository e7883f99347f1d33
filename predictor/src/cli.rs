//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::health::{self, HealthArgs};
use cloudpulse_common::original;
use cloudpulse_common::telemetry::{self, LogArgs};
use cloudpulse_common::token::TokenFile;
use cloudpulse_common::web_config::WebConfig;
use cloudpulse_common::{config::Findings, shutdown};
use cloudpulse_lstm::device::Wanted;
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::command::{anomalies, backtest, forecast, models, pretrain, serve};
use crate::config::{Config, duration_label};
use crate::shard::Shard;

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
    /// Ask the predictor that listens at the listen address whether it is well: exit code 0, or 1 and why not.
    Health(HealthCommand),
    /// Check a configuration and say what it makes; all errors at once.
    Check(CheckArgs),
    /// Forecast series once, from Prometheus or from files.
    Forecast(forecast::Args),
    /// Evaluate all models on the past.
    Backtest(backtest::Args),
    // Described by its arguments, at length.
    Anomalies(anomalies::Args),
    /// List and show the networks that were fine-tuned, or ask a running predictor for another.
    #[command(subcommand)]
    Models(models::Command),
    /// Make the weights of the bundled LSTM again, from synthetic series alone.
    Pretrain(pretrain::Args),
}

#[derive(Debug, clap::Args)]
struct ListenArgs {
    /// Address to listen on.
    #[arg(
        long = "web.listen-address",
        visible_alias = "listen",
        env = "CLOUDPULSE_PREDICTOR_LISTEN",
        default_value = "127.0.0.1:9101",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
}

#[derive(Debug, clap::Args)]
struct HealthCommand {
    #[command(flatten)]
    address: ListenArgs,
    #[command(flatten)]
    health: HealthArgs,
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    /// Configuration; without one, node CPU, memory, network, load and disk are forecast.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Base URL of Prometheus; wins over the configuration.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_PROMETHEUS", value_name = "URL")]
    prometheus: Option<String>,
    #[command(flatten)]
    address: ListenArgs,
    /// File with TLS, mTLS, users and headers of the HTTP server, in the format of Prometheus' exporters; see
    /// docs/web-config.md. It and its certificates are read again when they change.
    #[arg(long = "web.config.file", env = "CLOUDPULSE_PREDICTOR_WEB_CONFIG_FILE", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
    /// Try a configuration on the past: start at this time (RFC 3339 or Unix seconds), as if it were now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    replay_from: Option<f64>,
    /// How many times as fast as in reality the past goes by.
    #[arg(long, requires = "replay_from", default_value_t = 60.0, value_name = "N")]
    replay_speed: f64,
    /// Threads that run the models; all cores where absent.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_THREADS", value_name = "N")]
    threads: Option<usize>,
    /// Folder in which what was learnt is kept over a restart; one for each predictor.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_STATE_DIR", value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// How often it is saved, besides at the end.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_STATE_INTERVAL", value_name = "DURATION", default_value = "5m")]
    state_interval: PromDuration,
    /// Forecast only a part of the series, such as 0/3 for the first of three predictors; "auto" takes the number from
    /// the end of the host name, as in a StatefulSet.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_SHARD", value_name = "I/N|auto")]
    shard: Option<String>,
    /// File with the token that POST /api/v1/retrain must bring; without it nothing can be written.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_API_TOKEN_FILE", value_name = "FILE")]
    api_token_file: Option<PathBuf>,
    /// Threads that fine-tune networks in the background, at the lowest priority.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_FINE_TUNE_THREADS", value_name = "N", default_value_t = 1)]
    fine_tune_threads: usize,
    /// What they are computed on: cpu, gpu, or auto for a GPU where there is one and the program was built for it.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_DEVICE", value_name = "DEVICE", default_value_t)]
    device: Wanted,
    /// Number of predictors for --shard auto.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_SHARDS", value_name = "N", requires = "shard")]
    shards: Option<u64>,
}

impl ServeArgs {
    fn shard(&self) -> anyhow::Result<Shard> {
        let shard = match (self.shard.as_deref(), self.shards) {
            (None, _) => Ok(Shard::WHOLE),
            (Some("auto"), Some(count)) => Shard::of_host(&std::env::var("HOSTNAME").unwrap_or_default(), count),
            (Some("auto"), None) => Err("auto needs --shards".to_owned()),
            (Some(text), _) => text.parse(),
        };
        shard.map_err(|error| anyhow::anyhow!("--shard: {error}"))
    }
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
    match &command {
        Command::Check(args) => return check(&args.config),
        Command::Health(args) => return health(args),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve(args) => serve(args).await,
            Command::Forecast(args) => forecast::run(args).await,
            Command::Backtest(args) => backtest::run(args).await,
            Command::Anomalies(args) => anomalies::run(args).await,
            Command::Models(command) => models::run(command).await,
            Command::Pretrain(args) => pretrain::run(&args),
            Command::Check(args) => check(&args.config),
            Command::Health(args) => health(&args),
        }
    })
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    original::warn(&original::PREDICTOR);
    let shard = args.shard()?;
    let ServeArgs {
        config,
        prometheus,
        address: ListenArgs { listen },
        web_config_file,
        replay_from,
        replay_speed,
        threads,
        state_dir,
        state_interval,
        api_token_file,
        fine_tune_threads,
        device,
        ..
    } = args;
    anyhow::ensure!(replay_speed >= 1.0, "--replay-speed must be at least 1");
    let clock = replay_from.map_or(Clock::Wall, |from| Clock::replay(from, replay_speed));
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
    let web = WebConfig::load_optional(web_config_file.as_deref())?;
    let shutdown = shutdown::on_signal()?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let settings = serve::Settings {
        clock,
        shard,
        state: state_dir.map(|folder| (folder, state_interval.0)),
        tokens: TokenFile::new(api_token_file),
        fine_tuning_threads: fine_tune_threads,
        device,
        web,
    };
    serve::run(config, settings, listener, shutdown).await
}

fn parse_time(text: &str) -> Result<f64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(|time| time.as_second() as f64).map_err(|error| error.to_string())
}

#[allow(clippy::print_stdout, reason = "the result of the command")]
fn health(args: &HealthCommand) -> anyhow::Result<()> {
    println!("{}", health::ask_also_with_tls(&[args.address.listen], &args.health)?);
    Ok(())
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
