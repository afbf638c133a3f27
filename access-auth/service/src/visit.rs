//! What one connection may ask for before its caller has proved who they are.
//!
//! Strangers behind one NAT share its address, so that what counts by address cannot tell them
//! apart; their connections do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_core::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::limits::Buckets;
use crate::options::Limits;

/// The limits of one connection, and what of them is used.
pub(crate) struct Visit {
    entry: Buckets<()>,
    places: Arc<Semaphore>,
    most: usize,
    login: Arc<Semaphore>,
    quiet: Duration,
    /// When the last call ended, or the connection began.
    quiet_since: Mutex<Instant>,
}

/// A stranger's call; it is over when this is dropped.
pub(crate) struct Place {
    visit: Arc<Visit>,
    _permit: OwnedSemaphorePermit,
}

impl Visit {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            entry: Buckets::new(limits.entry_per_connection),
            places: Arc::new(Semaphore::new(limits.strangers_per_connection)),
            most: limits.strangers_per_connection,
            login: Arc::new(Semaphore::new(1)),
            quiet: limits.stranger_quiet,
            quiet_since: Mutex::new(Instant::now()),
        }
    }

    /// Counts a call of the entry.
    pub(crate) fn take_entry(&self, now: Timestamp) -> Result<()> {
        self.entry.take(&(), now)
    }

    /// A place for a stranger's call; `None` when as many are open as may be.
    pub(crate) fn place(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { visit: Arc::clone(self), _permit: permit })
    }

    /// Waits until no other login is tried on this connection: whoever tries several at once needs
    /// as many connections.
    pub(crate) async fn login(&self) -> Result<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.login).acquire_owned().await;
        turn.map_err(|_| Error::Internal("the turns of a connection have ended".into()))
    }

    /// When the connection will have been quiet for too long, if no call comes.
    pub(crate) fn ends_at(&self) -> Instant {
        let since = if self.places.available_permits() < self.most {
            Instant::now()
        } else {
            *self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner)
        };
        since + self.quiet
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut since = self.visit.quiet_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = Instant::now();
    }
}
