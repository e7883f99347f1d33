//! `serve`: all forecasts in their loops, the metrics page and remote read on one listener.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cloudpulse_common::exposition::{Format, Kind, Page};
use cloudpulse_common::query::Client;
use cloudpulse_common::server::{MetricsPage, Readiness, base_router, serve_under};
use cloudpulse_common::telemetry::write_build_info;
use cloudpulse_common::token::TokenFile;
use cloudpulse_common::web_config::WebConfig;
use cloudpulse_forecast::ensemble::Ensemble;
use cloudpulse_lstm::device::{self, Choice, Wanted};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api};
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::publish::{self, Board};
use crate::remote_read;
use crate::runner::{self, Progress, Shared};
use crate::saver::Saver;
use crate::shard::Shard;
use crate::state::StateFolder;
use crate::tuner::{Tuner, Workshop};

/// How this predictor runs, beside what it forecasts.
#[derive(Debug)]
pub struct Settings {
    /// What time it is.
    pub clock: Clock,
    /// Which series are forecast here.
    pub shard: Shard,
    /// Where what was learnt is kept over a restart, and how often it is saved; nowhere where absent.
    pub state: Option<(PathBuf, Duration)>,
    /// Who may write through the API.
    pub tokens: TokenFile,
    /// Threads of fine-tunings.
    pub fine_tuning_threads: usize,
    /// What they are computed on.
    pub device: Wanted,
    /// TLS, users and headers of the HTTP server; plain HTTP for everybody where absent.
    pub web: Option<WebConfig>,
}

/// Runs until `shutdown`.
///
/// # Errors
/// When Prometheus' address or the state folder is unusable or the listener fails. An unreachable Prometheus is no error:
/// it is tried again.
pub async fn run(
    config: Config,
    settings: Settings,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Settings { clock, shard, state, tokens, fine_tuning_threads, device, web } = settings;
    // A GPU compiles its programs for this: seconds, in which nothing else may wait.
    let device = Arc::new(tokio::task::spawn_blocking(move || device::choose(device)).await??);
    if let Some(why) = &device.fallback {
        tracing::warn!("networks are trained on the CPU: {why}");
    }
    let client = Client::new(&config.prometheus)?;
    let metrics = Metrics::new().context("metrics")?;
    metrics.started.set(clock.now());
    let readiness = Readiness::not_yet("starting");
    let names = config.forecasts.iter().map(|forecast| forecast.name.clone());
    let shared = Shared {
        client,
        ensemble: Ensemble::default(),
        clock,
        board: Board::default(),
        metrics: metrics.clone(),
        shard,
        progress: Arc::new(Progress::new(names, readiness.clone())),
    };
    tracing::info!(
        listen = %listener.local_addr()?,
        tls = web.as_ref().is_some_and(WebConfig::is_tls),
        prometheus = %config.prometheus.url,
        forecasts = config.forecasts.len(),
        version = env!("CARGO_PKG_VERSION"),
        "predictor starts"
    );
    // Held until all loops have saved.
    let folder = match &state {
        Some((path, _)) => Some(StateFolder::open(path).with_context(|| format!("state folder {}", path.display()))?),
        None => {
            tracing::info!("no --state-dir: what is learnt is lost with a restart, and learnt again from history");
            None
        }
    };
    let workshop = Workshop::new(fine_tuning_threads, device.engine());
    let mut loops = Vec::with_capacity(config.forecasts.len());
    let mut requests = BTreeMap::new();
    for forecast in config.forecasts {
        let forecast = Arc::new(forecast);
        metrics.forecast_info.with_label_values(&[&forecast.name, &forecast.query]).set(1);
        let saver = match (&folder, &state) {
            (Some(folder), Some((path, interval))) => {
                let store = folder.store(&forecast.name);
                let store = store.with_context(|| format!("state folder {}", path.display()))?;
                Some(Saver::new(Arc::clone(&forecast), store, *interval, metrics.clone()))
            }
            _ => None,
        };
        let mut shared = shared.clone();
        let mut tuner = None;
        if forecast.lstm.enabled {
            let store = folder.as_ref().map(|folder| folder.networks(&forecast.name)).transpose();
            let store = store.with_context(|| format!("networks of {}", forecast.name))?;
            let (config, workshop) = (Arc::clone(&forecast), workshop.clone());
            let new =
                Tuner::new(config, &shared.ensemble, store, workshop, metrics.clone()).context("bundled network")?;
            shared.ensemble = new.ensemble();
            requests.insert(forecast.name.clone(), new.request());
            tuner = Some(new);
        }
        loops.push(tokio::spawn(runner::run(forecast, shared, saver, tuner, shutdown.clone())));
    }
    let router =
        base_router("predictor", readiness, page(shared.board.clone(), clock, shard, Arc::clone(&device), metrics))
            .merge(remote_read::router(shared.board.clone(), clock))
            .merge(api::router(Api { tokens, requests: Arc::new(requests) }));
    serve_under(listener, web, router, shutdown.clone()).await.context("serving HTTP")?;
    shutdown.cancel();
    for task in loops {
        // A loop ends at the token; a panic in it was said where it happened.
        let _ = task.await;
    }
    drop(folder);
    Ok(())
}

fn page(board: Board, clock: Clock, shard: Shard, device: Arc<Choice>, metrics: Metrics) -> MetricsPage {
    Arc::new(move |format: Format| {
        let mut buffer = Vec::with_capacity(64 << 10);
        let mut page = Page::new(&mut buffer, format);
        write_build_info(&mut page, "predictor", env!("CARGO_PKG_VERSION"));
        let name = "cloudpulse_predictor_shard_info";
        page.family(name, "Always 1; which part of the series is forecast here is in the labels.", Kind::Gauge);
        let (index, count) = (shard.index().to_string(), shard.count().to_string());
        page.sample(name, &[("shard", &index), ("shards", &count)], 1.0);
        let name = "cloudpulse_predictor_device_info";
        page.family(name, "Always 1; what networks are trained on is in the labels.", Kind::Gauge);
        let gpu = device.gpu.as_ref();
        let (adapter, backend) = gpu.map_or(("", ""), |gpu| (gpu.adapter.as_str(), gpu.backend.as_str()));
        page.sample(name, &[("device", device.kind()), ("adapter", adapter), ("backend", backend)], 1.0);
        let batches = board.fresh(clock.now());
        publish::write(&mut page, &batches);
        publish::write_standing(&mut page, &batches);
        publish::write_anomalies(&mut page, &batches);
        page.registry(&metrics.registry);
        page.finish();
        buffer
    })
}
