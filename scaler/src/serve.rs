//! `serve`: rules and flags in; one loop for each rule and an HTTP server until a signal.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context as _;
use cloudpulse_common::exposition::Format;
use cloudpulse_common::original;
use cloudpulse_common::query::Client;
use cloudpulse_common::server;
use cloudpulse_common::server::Readiness;
use cloudpulse_common::token::TokenFile;
use cloudpulse_common::web_config::WebConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::api::Api;
use crate::board::Board;
use crate::cli::ListenArgs;
use crate::cli::ServeArgs;
use crate::control::Controls;
use crate::external;
use crate::kubernetes;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::lease::Leadership;
use crate::kubernetes::run::InCluster;
use crate::kubernetes::run::Parts;
use crate::metrics::Metrics;
use crate::reconcile::Shared;
use crate::reload;
use crate::roster::Roster;
use crate::rule;
use crate::supervisor::Supervisor;
use crate::target::Engines;
use crate::target::TargetConfig;

/// How long turns and stops that are under way may go on after a signal.
const GRACE: Duration = Duration::from_secs(15);

/// Runs until `shutdown` is cancelled.
///
/// # Errors
/// All findings of the rule files, an unusable client configuration, or an address that cannot be listened on.
pub async fn run(args: ServeArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let ServeArgs {
        rules: paths,
        prometheus,
        access,
        kubernetes,
        address: ListenArgs { listen },
        web_config_file,
        interval,
        keep_decisions,
        reload_interval,
        api_token_file,
        pause_file,
        external,
        store,
    } = args;
    original::warn(&original::SCALER);
    anyhow::ensure!(
        interval.0 >= Duration::from_millis(100),
        "--interval {interval} is too short; take at least 100ms"
    );
    anyhow::ensure!(
        reload_interval.0 >= Duration::from_secs(1),
        "--reload-interval {reload_interval} is too short; take at least 1s"
    );
    external.check()?;
    let web = WebConfig::load_optional(web_config_file.as_deref())?;
    let rules = rule::load(&paths)?;
    let lease = kubernetes.lease()?;
    let needs_cluster =
        kubernetes.kubernetes || rules.iter().any(|rule| matches!(rule.target, TargetConfig::Kubernetes { .. }));
    let cluster = match needs_cluster || external.is_on() || kubernetes.client.kubeconfig.is_some() {
        true => Some(Cluster::new(kubernetes::client::connect(&kubernetes.client).await?)),
        false => None,
    };
    let leadership = match (&cluster, &lease) {
        (Some(_), Some(_)) if kubernetes.kubernetes => Leadership::candidate(),
        _ => Leadership::alone(),
    };
    let controls = Arc::new(Controls::open(pause_file)?);
    let client = Client::new(&access.client_config(prometheus)?)?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("--listen {listen}"))?;
    let address = listener.local_addr()?;

    let board = Arc::new(Board::new(keep_decisions));
    let metrics = Metrics::new(leadership.clone())?;
    let readiness = Readiness::not_yet("prometheus has not been asked yet");
    let background = TaskTracker::new();
    let parts = external::start::Parts {
        cluster: cluster.as_ref(),
        store: store.options(interval.0, reload_interval.0),
        prometheus: client.clone(),
        board: Arc::clone(&board),
        tasks: &background,
        shutdown: &shutdown,
    };
    let metrics = metrics.with(external::start::start(&external, parts).await?);
    let shared = Shared {
        board: Arc::clone(&board),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        interval: interval.0,
        leadership: leadership.clone(),
    };
    let supervisor = Arc::new(Supervisor::new(
        client.clone(),
        shared,
        Arc::clone(&controls),
        Engines { background: background.clone(), cluster: cluster.clone() },
        shutdown.child_token(),
    ));
    let roster = Arc::new(Roster::new(Arc::clone(&supervisor)));
    let applied = roster.set_files(rules).await;
    metrics.reloaded(SystemTime::now());
    let reloads = tokio::spawn(reload::watch(
        Arc::clone(&roster),
        paths,
        reload_interval.0,
        metrics.clone(),
        shutdown.child_token(),
    ));
    let tls = web.as_ref().is_some_and(WebConfig::is_tls);
    tracing::info!(%address, tls, rules = applied.added, prometheus = client.url(), "listening");

    let in_cluster = cluster.filter(|_| kubernetes.kubernetes).map(|cluster| {
        let parts = Parts {
            cluster,
            roster: Arc::clone(&roster),
            board: Arc::clone(&board),
            controls: Arc::clone(&controls),
            readiness: readiness.clone(),
        };
        InCluster::start(parts, &kubernetes, lease, leadership, shutdown.child_token())
    });

    let page_board = Arc::clone(&board);
    let page = Arc::new(move |format: Format| metrics.page(&page_board, format));
    let tokens = TokenFile::new(api_token_file);
    let api = Api { board, supervisor: Arc::clone(&supervisor), roster, controls, tokens };
    let router = server::base_router("scaler", readiness, page).merge(api::router(api));
    let served = server::serve_under(listener, web, router, shutdown.clone()).await;

    shutdown.cancel();
    background.close();
    let finish = async {
        supervisor.join().await;
        background.wait().await;
    };
    if tokio::time::timeout(GRACE, finish).await.is_err() {
        tracing::warn!("ended with containers still being stopped; the engine goes on with them");
    }
    if let Some(in_cluster) = in_cluster {
        in_cluster.end().await;
    }
    reloads.await.context("the loop that reads the rule files failed")?.context("SIGHUP cannot be listened for")?;
    served.context("the HTTP server failed")
}
