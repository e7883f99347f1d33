//! A target that remembers what it was told and touches nothing.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use cloudpulse_policy::Replicas;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::target::ScaleTarget;
use crate::target::TargetError;

/// Pretends to have the replicas that it was last set to.
#[derive(Debug)]
pub struct DryRunTarget {
    replicas: AtomicU32,
}

impl DryRunTarget {
    /// Returns a target that pretends to have `replicas`.
    pub const fn new(replicas: Replicas) -> Self {
        Self { replicas: AtomicU32::new(replicas) }
    }
}

impl ScaleTarget for DryRunTarget {
    fn replicas(&self) -> BoxFuture<'_, Result<Replicas, TargetError>> {
        std::future::ready(Ok(self.replicas.load(Ordering::Relaxed))).boxed()
    }

    fn scale_to(&self, desired: Replicas) -> BoxFuture<'_, Result<(), TargetError>> {
        let from = self.replicas.swap(desired, Ordering::Relaxed);
        tracing::info!(from, to = desired, "dry run: would scale");
        std::future::ready(Ok(())).boxed()
    }
}
