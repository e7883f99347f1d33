//! What runs beside the rules in a cluster: the election, the watch of ScalingRules, the reports.

use std::sync::Arc;

use cloudpulse_common::server::Readiness;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::control::Controls;
use crate::kubernetes::args::KubernetesArgs;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::lease;
use crate::kubernetes::lease::Election;
use crate::kubernetes::lease::Leadership;
use crate::kubernetes::report::Reporter;
use crate::kubernetes::rules::Watch;
use crate::roster::Roster;

/// What the parts in the cluster work on.
#[derive(Debug)]
pub struct Parts {
    /// The cluster.
    pub cluster: Cluster,
    /// Where the rules of objects go.
    pub roster: Arc<Roster>,
    /// What the rules decided.
    pub board: Arc<Board>,
    /// What was paused by hand.
    pub controls: Arc<Controls>,
    /// Becomes ready when there are no rules, and so nobody asks Prometheus.
    pub readiness: Readiness,
}

/// The parts that run.
#[derive(Debug)]
pub struct InCluster {
    watch: JoinHandle<()>,
    reports: JoinHandle<()>,
    election: Option<(JoinHandle<Election>, CancellationToken, Leadership)>,
}

impl InCluster {
    /// Starts the parts. All but the election end when `shutdown` is cancelled; that one ends with [`Self::end`], because what
    /// is under way needs the lead.
    pub fn start(
        parts: Parts,
        args: &KubernetesArgs,
        lease: Option<(String, String)>,
        leadership: Leadership,
        shutdown: CancellationToken,
    ) -> Self {
        let Parts { cluster, roster, board, controls, readiness } = parts;
        let identity = lease::identity();
        let election = lease.map(|(namespace, name)| {
            let client = cluster.client().clone();
            let mut election = Election::new(client, &namespace, name, identity.clone(), args.lease_duration.0);
            let (ended, told) = (CancellationToken::new(), leadership.clone());
            let token = ended.clone();
            let running = tokio::spawn(async move {
                election.run(&told, &token).await;
                election
            });
            (running, ended, leadership.clone())
        });
        let watch = Watch::new(&cluster, args.namespace.as_deref());
        let objects = watch.objects();
        let (until, board_of_watch) = (shutdown.clone(), Arc::clone(&board));
        let watch = tokio::spawn(async move {
            let synced = || {
                if board_of_watch.rules().is_empty() {
                    readiness.ready();
                }
            };
            watch.run(&roster, synced, until).await;
        });
        let reporter = Reporter { cluster, objects, board, controls, leadership, identity };
        let reports = tokio::spawn(async move { reporter.run(shutdown).await });
        Self { watch, reports, election }
    }

    /// Waits for the parts to end, and gives the lead back. To be called when no rule acts any more.
    pub async fn end(self) {
        let Self { watch, reports, election } = self;
        for (what, ended) in [("watch", watch.await), ("reports", reports.await)] {
            if let Err(error) = ended {
                tracing::error!(what, %error, "a part failed");
            }
        }
        let Some((running, ended, leadership)) = election else { return };
        ended.cancel();
        match running.await {
            Ok(mut election) => election.release(&leadership).await,
            Err(error) => tracing::error!(%error, "the election failed"),
        }
    }
}
