//! The serving certificate: files, or a Secret with the scaler's own CAs, in; what is in force out, and kept good while the
//! program runs.

pub mod files;
pub mod own;
pub mod secret;

use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context as _;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::external::api_service::Registration;
use crate::external::certificates::files::Files;
use crate::external::certificates::secret::Made;
use crate::external::certificates::secret::Own;
use crate::external::metrics::Metrics;
use crate::external::tls::InForce;
use crate::external::tls::Serving;

/// How long a turn may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// Where the serving certificate comes from.
#[derive(Debug)]
pub enum Source {
    /// Files that somebody else keeps.
    Files(Files),
    /// The scaler's own CAs.
    Own(Box<Own>),
}

/// Keeps the serving certificate good.
#[derive(Debug)]
pub struct Keeper {
    source: Source,
    registration: Registration,
    metrics: Metrics,
    in_force: InForce,
}

impl Keeper {
    /// Gets the first certificate.
    ///
    /// # Errors
    /// Where there is none to be had.
    pub async fn open(mut source: Source, mut registration: Registration, metrics: Metrics) -> anyhow::Result<Self> {
        let (serving, authority) =
            in_time(turn(&mut source, &mut registration)).await?.context("there is no serving certificate")?;
        metrics.certificate(serving.not_after(), authority);
        Ok(Self { source, registration, metrics, in_force: InForce::new(&serving) })
    }

    /// Returns the certificate in force, for the server.
    pub fn in_force(&self) -> InForce {
        self.in_force.clone()
    }

    /// Looks each `interval` whether there is, or has to be, another certificate, until `shutdown` is cancelled.
    pub async fn run(mut self, interval: Duration, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = String::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            let turn = tokio::select! {
                turn = in_time(turn(&mut self.source, &mut self.registration)) => turn,
                () = shutdown.cancelled() => return,
            };
            match turn {
                Ok(Some((serving, authority))) => {
                    self.in_force.set(&serving);
                    self.metrics.certificate(serving.not_after(), authority);
                    tracing::info!(
                        not_after = serving.not_after(),
                        "serving the external metrics API with a new certificate"
                    );
                    said.clear();
                }
                Ok(None) => said.clear(),
                Err(error) => {
                    self.metrics.certificate_failed();
                    let words = format!("{error:#}");
                    if words != said {
                        tracing::error!(error = words, "the serving certificate before stays in force");
                    }
                    said = words;
                }
            }
        }
    }
}

/// Returns a certificate where there is a new one, and the end of the CA if that is our own.
async fn turn(source: &mut Source, registration: &mut Registration) -> anyhow::Result<Option<(Serving, Option<i64>)>> {
    match source {
        Source::Files(files) => {
            if let Err(error) = registration.keep(None).await {
                tracing::debug!(%error, "whose the APIService is cannot be found out");
            }
            Ok(files.changed()?.map(|serving| (serving, None)))
        }
        Source::Own(own) => {
            let made = own.turn(registration).await?;
            Ok(made.map(|Made { serving, authority_not_after }| (serving, Some(authority_not_after))))
        }
    }
}

/// Ends a turn that kube-apiserver does not answer; the next one begins anew.
async fn in_time<T>(turn: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(DEADLINE, turn)
        .await
        .unwrap_or_else(|_| anyhow::bail!("kube-apiserver did not answer within {} s", DEADLINE.as_secs()))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
