//! What one replica at a time does now and then: it deletes rows that have expired, trims the log
//! of changes, and deletes events that were kept long enough.
//!
//! ```text
//!  asks now and then ── the lease is free ──► keeps house ── told to stop: gives the lease up
//!         ▲                                        │
//!         └────── the lease was lost ──────────────┘
//! ```
//!
//! Whoever has the lease keeps it, so that a cluster at rest writes a row every ten seconds and no
//! more, however many replicas it has. One that is killed has it until it expires. The lease spares
//! the work of several at once, and nothing depends on it: what is deleted is to be deleted,
//! whoever does so. Between any two steps its revision is renewed, so that a holder who was stopped
//! and goes on ends at its next step.

use std::sync::Arc;
use std::time::Duration;

use access_backend::{Error, Held, Lease, Once};
use access_core::Clock;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::options::{Storage, Upkeep};
use crate::secrets;
use crate::store::{self, StoreClock};

/// How long a replica that was killed still has the lease.
const LEASE: Duration = Duration::from_secs(30);
/// How soon another asks for it again, at most.
const ASK: Duration = Duration::from_secs(10);
/// Rows or events that are deleted in one step.
const STEP: usize = 256;
/// Steps of events that one round takes: what is left goes with the next.
const EVENT_STEPS: usize = 20;

/// Takes its turn until it is told to close.
pub(crate) struct Keeper {
    storage: Storage,
    clock: Arc<dyn Clock>,
    upkeep: Upkeep,
    lease: Lease,
}

impl Keeper {
    /// `holder` names this replica.
    pub(crate) fn new(
        storage: Storage,
        clock: Arc<dyn Clock>,
        upkeep: Upkeep,
        holder: &str,
    ) -> Result<Self> {
        let key = store::key(["leases", "upkeep"])?;
        let judge = Arc::new(StoreClock(Arc::clone(&clock)));
        let lease = Lease::new(Arc::clone(&storage.backend), judge, key, holder, LEASE)?;
        Ok(Self { storage, clock, upkeep, lease })
    }

    pub(crate) async fn run(self, closing: CancellationToken) {
        loop {
            match self.lease.once(closing.cancelled(), |held| self.keep_house(held)).await {
                Ok(Once::Stopped) => return,
                Ok(Once::Elsewhere) => {}
                Ok(Once::Done(()) | Once::Lost) => {
                    tracing::info!("another replica deletes what has expired from now on");
                }
                Err(error) => tracing::debug!(%error, "the lease of the upkeep was not read"),
            }
            tokio::select! {
                () = closing.cancelled() => return,
                // Replicas that were started together do not stay together.
                () = tokio::time::sleep(jittered(ASK)) => {}
            }
        }
    }

    /// Round after round, until the lease is lost.
    async fn keep_house(&self, held: Arc<Held>) {
        loop {
            match self.round(&held).await {
                Ok(()) => {}
                Err(Error::RevisionMismatch { .. } | Error::NotFound { .. } | Error::Closed) => {
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "what has expired stays for now: it was not deleted");
                }
            }
            tokio::time::sleep(jittered(self.upkeep.every)).await;
        }
    }

    async fn round(&self, held: &Held) -> std::result::Result<(), Error> {
        // Whoever slept past the end of the lease asks first whether it is still theirs.
        if store::millis(self.clock.now()) >= held.until().await {
            held.renew().await?;
        }
        while self.storage.backend.sweep(STEP).await? >= STEP {
            held.renew().await?;
        }
        let Some(keep) = self.upkeep.keep_events else { return Ok(()) };
        let before = store::millis(self.clock.now()).minus(keep);
        for _ in 0..EVENT_STEPS {
            if self.storage.events.delete_before(before, STEP).await? < STEP {
                break;
            }
            held.renew().await?;
        }
        Ok(())
    }
}

/// Between a half and the whole of it.
fn jittered(pause: Duration) -> Duration {
    let [byte] = secrets::random::<1>().unwrap_or_default();
    pause.mul_f64(1.0 - f64::from(byte) / 512.0)
}

#[cfg(test)]
mod tests;
