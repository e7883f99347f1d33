//! `make bench`: CloudPulse beside its peers, in one run, as ratios.
//!
//! Everything here can be run by anyone; what a machine lacks is skipped and said. Times depend on the machine, ratios
//! much less.

mod accuracy;
mod anomaly;
mod bursty;
mod cycle;
mod exporter;
mod external_metrics;
mod lstm;
mod network;
mod peers;
mod policy;
mod speed;
mod table;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use cloudpulse_replay::peaks::of_peak_model;

use crate::network::Network;

/// Measure CloudPulse beside its peers.
#[derive(Debug, Parser)]
#[command(name = "cloudpulse-bench", version)]
struct Args {
    #[command(subcommand)]
    which: Option<Which>,
    /// Folder of `<set>/<series>.csv` files for the benchmarks of accuracy and anomalies.
    #[arg(long, env = "CLOUDPULSE_TRACES", default_value = "../shared/traces", global = true, value_name = "DIR")]
    traces: PathBuf,
    /// Origins in each series of the accuracy benchmark.
    #[arg(long, default_value_t = 120, global = true, value_name = "N")]
    origins: usize,
    /// Network that mixes the models in the accuracy benchmark: none, bundled, or a file of weights.
    #[arg(long, default_value = "bundled", global = true, value_name = "WHICH")]
    network: Network,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// The exporter beside node_exporter: CPU per scrape, memory, latency, system calls, size, and how they grow with network
    /// devices, disks and containers; or a day of scrapes in minutes.
    Exporter(exporter::Args),
    /// The Prophet fit beside Python Prophet and Stan in WebAssembly: time, posterior, forecast.
    Speed,
    /// The network that mixes forecasts beside PyTorch: training step, forecasts. Only when named.
    Lstm,
    /// What the network brings on traces: with it, without it, alone, fine-tuned. Only when named.
    Mixing {
        /// Further networks to compare, as `cloudpulse-predictor pretrain` writes them.
        #[arg(value_name = "FILE")]
        networks: Vec<PathBuf>,
    },
    /// Forecasts from little history, with and without the network, on traces. Only when named.
    Cold,
    /// The predictor's cycle for 100, 1,000 and 10,000 series: time, CPU, memory.
    Cycle {
        /// Numbers of series.
        #[arg(long, value_delimiter = ',', default_value = "100,1000,10000", value_name = "N,…")]
        series: Vec<usize>,
        /// The whole program alone, without the engine by itself.
        #[arg(long)]
        program_only: bool,
    },
    /// The forecast beside persistence, seasonal naive and the last two hours' quantiles, on traces.
    Accuracy {
        /// Also beside Prophet, statsforecast's models and Fracast-0, each fitted anew at six origins of every series: most of an hour
        /// of CPU time, once.
        #[arg(long)]
        peers: bool,
    },
    /// The scaling policy beside a reactive HPA, seasonal naive, predict_linear and Holt-Winters, on traces: violation
    /// minutes at equal replica-hours. Only when named.
    Policy(policy::Args),
    /// External metrics for HPAs beside prometheus-adapter, in a real Kubernetes control plane: requests, latency, CPU, memory.
    /// Only when named.
    ExternalMetrics(external_metrics::Args),
    /// The anomaly score on the Numenta benchmark, and beside z-score and Windowed Gaussian on other labelled sets.
    Anomaly(anomaly::Args),
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let Args { which, traces, origins, network } = Args::parse();
    match &which {
        None => exporter::run(&exporter::Args::default()).await?,
        Some(Which::Exporter(args)) => exporter::run(args).await?,
        Some(_) => {}
    }
    if matches!(which, None | Some(Which::Speed)) {
        speed::run()?;
    }
    if matches!(which, Some(Which::Lstm)) {
        lstm::run()?;
    }
    if let Some(Which::Mixing { networks }) = &which {
        accuracy::mixing::run(&traces, origins, networks)?;
    }
    if matches!(which, Some(Which::Cold)) {
        accuracy::cold::run(&traces, &network)?;
    }
    match &which {
        None => cycle::run(&[100, 1000, 10_000], false).await?,
        Some(Which::Cycle { series, program_only }) => cycle::run(series, *program_only).await?,
        Some(_) => {}
    }
    match &which {
        None => accuracy::run(&traces, origins, &network, false)?,
        Some(Which::Accuracy { peers }) => accuracy::run(&traces, origins, &network, *peers)?,
        Some(_) => {}
    }
    if let Some(Which::Policy(args)) = &which {
        policy::run(&traces, args, &of_peak_model)?;
    }
    if let Some(Which::ExternalMetrics(args)) = &which {
        external_metrics::run(args).await?;
    }
    match which {
        None => anomaly::run(&traces, &anomaly::Args::default())?,
        Some(Which::Anomaly(args)) => anomaly::run(&traces, &args)?,
        Some(_) => {}
    }
    Ok(())
}
