//! `serve`: all forecasts in their loops, the metrics page and remote read on one listener.

use std::sync::Arc;

use anyhow::Context as _;
use cloudpulse_common::exposition::{Format, Page};
use cloudpulse_common::query::Client;
use cloudpulse_common::server::{MetricsPage, Readiness, base_router, serve as serve_http};
use cloudpulse_common::telemetry::write_build_info;
use cloudpulse_forecast::ensemble::Ensemble;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::publish::{self, Board};
use crate::remote_read;
use crate::runner::{self, Progress, Shared};

/// Runs until `shutdown`.
///
/// # Errors
/// When Prometheus' address is unusable or the listener fails. An unreachable Prometheus is no error: it is tried again.
pub async fn run(
    config: Config,
    clock: Clock,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
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
        progress: Arc::new(Progress::new(names, readiness.clone())),
    };
    tracing::info!(
        listen = %listener.local_addr()?,
        prometheus = %config.prometheus.url,
        forecasts = config.forecasts.len(),
        version = env!("CARGO_PKG_VERSION"),
        "predictor starts"
    );
    let loops: Vec<_> = config
        .forecasts
        .into_iter()
        .map(|forecast| tokio::spawn(runner::run(Arc::new(forecast), shared.clone(), shutdown.clone())))
        .collect();
    let router = base_router("predictor", readiness, page(shared.board.clone(), clock, metrics))
        .merge(remote_read::router(shared.board.clone(), clock));
    serve_http(listener, router, shutdown.clone()).await.context("serving HTTP")?;
    shutdown.cancel();
    for task in loops {
        // A loop ends at the token; a panic in it was said where it happened.
        let _ = task.await;
    }
    Ok(())
}

fn page(board: Board, clock: Clock, metrics: Metrics) -> MetricsPage {
    Arc::new(move |format: Format| {
        let mut buffer = Vec::with_capacity(64 << 10);
        let mut page = Page::new(&mut buffer, format);
        write_build_info(&mut page, "predictor", env!("CARGO_PKG_VERSION"));
        let batches = board.fresh(clock.now());
        publish::write(&mut page, &batches);
        publish::write_standing(&mut page, &batches);
        publish::write_anomalies(&mut page, &batches);
        page.registry(&metrics.registry);
        page.finish();
        buffer
    })
}
