//! Rule files that change while they are in force: files in; the running rules replaced, or the last good ones kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use cloudpulse_common::config::Findings;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::roster::Roster;
use crate::rule;

/// Reads the files each `interval` and at SIGHUP until `shutdown` is cancelled. Files are read rather than watched: so a
/// ConfigMap, which swaps a link, and a folder on a network are the same as any other. A bad edit changes nothing, is said
/// once with all its findings, and shows in `cloudpulse_scaler_config_last_reload_successful`.
///
/// # Errors
/// Where the signal cannot be listened for.
pub async fn watch(
    roster: Arc<Roster>,
    paths: Vec<PathBuf>,
    interval: Duration,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut said: Option<Findings> = None;
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => false,
            _ = hangup.recv() => true,
            () = shutdown.cancelled() => return Ok(()),
        };
        match rule::load(&paths) {
            Ok(rules) => {
                let before = roster.files().await;
                let same = rules.len() == before.len() && rules.iter().all(|rule| before.contains(rule));
                if !same {
                    let applied = roster.set_files(rules).await;
                    tracing::info!(
                        added = applied.added,
                        changed = applied.changed,
                        removed = applied.removed,
                        "rules reloaded"
                    );
                }
                if !same || asked || said.is_some() {
                    metrics.reloaded(SystemTime::now());
                }
                said = None;
            }
            Err(findings) => {
                metrics.reload_failed();
                if asked || said.as_ref() != Some(&findings) {
                    tracing::error!(%findings, "the rule files have errors; the rules from before them stay in force");
                }
                said = Some(findings);
            }
        }
    }
}
