//! `serve`: rules and flags in; one loop for each rule and an HTTP server until a signal.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cloudpulse_common::exposition::Format;
use cloudpulse_common::query::Client;
use cloudpulse_common::server;
use cloudpulse_common::server::Readiness;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::board::Board;
use crate::cli::ServeArgs;
use crate::metrics::Metrics;
use crate::reconcile;
use crate::reconcile::Reconciler;
use crate::reconcile::Shared;
use crate::rule;
use crate::rule::Form;
use crate::target;
use crate::target::TargetConfig;

/// How long turns and stops that are under way may go on after a signal.
const GRACE: Duration = Duration::from_secs(15);

/// Runs until `shutdown` is cancelled.
///
/// # Errors
/// All findings of the rule files, an unusable client configuration, or an address that cannot be listened on.
pub async fn run(args: ServeArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let ServeArgs { rules, prometheus, access, listen, interval, keep_decisions } = args;
    anyhow::ensure!(
        interval.0 >= Duration::from_millis(100),
        "--interval {interval} is too short; take at least 100ms"
    );
    let rules = rule::load(&rules)?;
    let client = Client::new(&access.client_config(prometheus)?)?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("--listen {listen}"))?;
    let address = listener.local_addr()?;

    let board = Arc::new(Board::new(rules.iter().map(|rule| rule.name.clone()), keep_decisions));
    let metrics = Metrics::new()?;
    let readiness = Readiness::not_yet("prometheus has not been asked yet");
    let background = TaskTracker::new();
    let shared = Shared {
        board: Arc::clone(&board),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        interval: interval.0,
    };
    let mut loops = JoinSet::new();
    for rule in rules {
        if rule.form == Form::Original && matches!(rule.target, TargetConfig::DryRun { .. }) {
            tracing::warn!(rule = rule.name, "the rule runs dry; add spec.target to scale a service");
        }
        let target = target::connect(&rule.target, &background);
        loops.spawn(reconcile::run(Reconciler::new(rule, target, client.clone()), shared.clone(), shutdown.clone()));
    }
    tracing::info!(%address, rules = loops.len(), prometheus = client.url(), "listening");

    let page_board = Arc::clone(&board);
    let page = Arc::new(move |format: Format| metrics.page(&page_board, format));
    let router = server::base_router("scaler", readiness, page).merge(api::router(board));
    let served = server::serve(listener, router, shutdown.clone()).await;

    shutdown.cancel();
    background.close();
    let finish = async {
        while loops.join_next().await.is_some() {}
        background.wait().await;
    };
    if tokio::time::timeout(GRACE, finish).await.is_err() {
        tracing::warn!("ended with containers still being stopped; the engine goes on with them");
    }
    served.context("the HTTP server failed")
}
