//! Events wait here, on this machine's disk, until Auth has them.
//!
//! ```text
//!  accept ──► segment files ──► syncer ──► delivery ──► Auth
//!     │        (in order)     (one fsync    (batches; acks are
//!     │                        for many)     remembered, segments go)
//!     └─ strangers' ──► ring of two files ──┘
//!                       (overwrites itself)  moved over as there is room
//! ```
//!
//! *Accepted* is written: an event is in its file before `accept` returns, and survives the
//! process. It survives the machine once it is synced: before `accept` returns when
//! [`Durability::Synced`](access_core::audit::Durability) was asked for, within 100 ms otherwise.
//! Only what is synced is delivered, so that no number is ever used twice.
//!
//! An event that Auth refuses for good is kept aside in the file `refused`, and counted. When Auth
//! says that the writer is another host's, since this one has joined anew under another id, what
//! waits goes out under a new writer.
//!
//! A line that a crash tore is cut off at the next start. When the disk is full nothing is
//! accepted but the ends of sessions, out of a reserve that is set aside; when syncing fails
//! nothing is accepted any more, because nobody knows what the disk still holds.

mod delivery;
mod denials;
mod frame;
mod journal;
mod open;
mod oracle;
mod refused;
mod ring;
mod segment;
mod sessions;
mod syncer;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use access_core::audit::{AuditError, AuditSink, Durability, Event};
use access_core::time::Clock;
use access_core::{ClusterName, Timestamp, WriterId};
use async_trait::async_trait;
use tokio::sync::watch;

pub use delivery::ClientSource;
use journal::{Entitled, Journal};
pub use oracle::fuzz_oracle;
use syncer::Synced;

/// How much a spool may hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SpoolOptions {
    /// Bytes that events waiting for delivery may take. Default 512 MiB.
    pub max_bytes: u64,
    /// Bytes out of these that are kept for the ends of sessions, and for local administrators;
    /// a file of as many keeps them free on the disk. Default 1 MiB.
    pub reserve_bytes: u64,
    /// Bytes that strangers' failures may take, and what one name is denied beyond 60 times a
    /// minute; later ones overwrite earlier ones. Default 2 MiB.
    pub stranger_bytes: u64,
    /// Bytes after which a new file is begun. Default 8 MiB.
    pub segment_bytes: u64,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            max_bytes: 512 * MIB,
            reserve_bytes: MIB,
            stranger_bytes: 2 * MIB,
            segment_bytes: 8 * MIB,
        }
    }
}

/// What a spool holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolStatus {
    /// Events that Auth does not have yet.
    pub backlog: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Strangers' events that wait for their turn.
    pub strangers: u64,
    /// Strangers' events that were overwritten since the start.
    pub dropped: u64,
    /// Why nothing is accepted any more, if so.
    pub failed: Option<String>,
}

/// A spool of audit events in a folder. Clones share it.
#[derive(Clone)]
pub struct SpoolSink {
    handle: Arc<Handle>,
    entitled: Entitled,
}

/// Ends the syncer with the last clone.
struct Handle {
    shared: Arc<Shared>,
}

/// What the sink, the syncer and the delivery share.
struct Shared {
    dir: PathBuf,
    journal: Mutex<Journal>,
    /// Tells the syncer that there is something to do.
    work: Condvar,
    synced: watch::Sender<Synced>,
    /// The last number that Auth has stored for good.
    acked: watch::Sender<u64>,
    /// Ticks when a stranger's event came.
    strangers: watch::Sender<u64>,
    /// How many states were taken to be saved.
    states: AtomicU64,
    /// Which of them was saved last; locked while one is.
    saved: Mutex<u64>,
}

impl SpoolSink {
    /// Opens the spool in a folder, which is made if it is not there: what was accepted before is
    /// delivered first. One process at a time may have it open.
    ///
    /// # Errors
    /// [`AuditError::Unavailable`] when the folder can't be used, [`AuditError::Full`] when there
    /// is no space for its first files.
    pub fn open(
        dir: impl Into<PathBuf>,
        cluster: ClusterName,
        options: SpoolOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuditError> {
        let dir = dir.into();
        let (journal, acked) = open::open(&dir, cluster, options, clock)?;
        let shared = Arc::new(Shared {
            dir,
            journal: Mutex::new(journal),
            work: Condvar::new(),
            synced: watch::Sender::new(Synced::default()),
            acked: watch::Sender::new(acked),
            strangers: watch::Sender::new(0),
            states: AtomicU64::new(0),
            saved: Mutex::new(0),
        });
        syncer::start(Arc::clone(&shared))?;
        Ok(Self { handle: Arc::new(Handle { shared }), entitled: Entitled::EndsOnly })
    }

    /// The same spool, for what local administrators do: it may use the reserve too.
    pub fn for_local_admins(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), entitled: Entitled::All }
    }

    /// Writes the ends of sessions that were open when the last process ended without saying so;
    /// `last_seen` tells when a session was last alive, if that is known. To be called before
    /// anything is accepted.
    ///
    /// # Errors
    /// [`AuditError`] when they cannot be written; the next start tries again.
    pub fn end_abandoned_sessions(
        &self,
        last_seen: impl Fn(&access_core::SessionId) -> Option<Timestamp>,
    ) -> Result<usize, AuditError> {
        let abandoned = self.lock().open_sessions.ends(last_seen);
        let count = abandoned.len();
        for event in abandoned {
            self.write(vec![event], Durability::Soon)?;
        }
        Ok(count)
    }

    /// Whose numbers its events carry.
    pub fn writer(&self) -> WriterId {
        self.lock().writer().clone()
    }

    /// What it holds.
    pub fn status(&self) -> SpoolStatus {
        self.lock().status(*self.handle.shared.acked.borrow())
    }

    /// Waits until everything that was accepted until now is on the disk.
    ///
    /// # Errors
    /// [`AuditError::Unavailable`] when syncing failed.
    pub async fn sync(&self) -> Result<(), AuditError> {
        let generation = {
            let mut journal = self.lock();
            journal.want_sync();
            journal.generation
        };
        self.shared().work.notify_one();
        self.wait_synced(generation).await
    }

    /// Waits until Auth has everything that was accepted until now. It takes a delivery that
    /// runs, and Auth; bound it by a timeout.
    pub async fn delivered(&self) {
        let last = self.lock().last_seq();
        let mut acked = self.shared().acked.subscribe();
        // The sender lives in what `self` holds.
        drop(acked.wait_for(|acked| *acked >= last).await);
    }

    fn write(&self, events: Vec<Event>, durability: Durability) -> Result<u64, AuditError> {
        let (written, wake, strangers) = {
            let mut journal = self.lock();
            let (watched, ring) = (journal.watched, journal.ring.next());
            let written = self.write_to(&mut journal, events, durability);
            // Waking the syncer for each event would cost more than writing one.
            let wake = durability == Durability::Synced || !watched;
            (written, wake, journal.ring.next() > ring)
        };
        if wake {
            self.shared().work.notify_one();
        }
        if strangers {
            self.shared().strangers.send_modify(|tick| *tick = tick.wrapping_add(1));
        }
        written
    }

    fn write_to(
        &self,
        journal: &mut Journal,
        events: Vec<Event>,
        durability: Durability,
    ) -> Result<u64, AuditError> {
        let mut others = events;
        let strangers: Vec<Event> = others
            .extract_if(.., |event| event.is_by_stranger() || journal.is_denial_too_many(event))
            .collect();
        for event in strangers {
            journal.accept_stranger(event, durability)?;
        }
        if !others.is_empty() {
            journal.accept(&others, durability, self.entitled)?;
        }
        Ok(journal.generation)
    }

    async fn accepted(&self, generation: u64, durability: Durability) -> Result<(), AuditError> {
        match durability {
            Durability::Soon => Ok(()),
            Durability::Synced => self.wait_synced(generation).await,
        }
    }

    async fn wait_synced(&self, generation: u64) -> Result<(), AuditError> {
        let mut synced = self.shared().synced.subscribe();
        let state = synced
            .wait_for(|synced| synced.generation >= generation || synced.failed.is_some())
            .await
            .map_err(|_| AuditError::Closed)?;
        if state.generation >= generation {
            return Ok(());
        }
        match &state.failed {
            Some(why) => Err(AuditError::Unavailable(why.clone())),
            None => Err(AuditError::Closed),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.handle.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
    }
}

#[async_trait]
impl AuditSink for SpoolSink {
    async fn accept(&self, event: Event, durability: Durability) -> Result<(), AuditError> {
        let generation = self.write(vec![event], durability)?;
        self.accepted(generation, durability).await
    }

    async fn accept_all(
        &self,
        events: Vec<Event>,
        durability: Durability,
    ) -> Result<(), AuditError> {
        let generation = self.write(events, durability)?;
        self.accepted(generation, durability).await
    }
}

impl std::fmt::Debug for SpoolSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpoolSink").field("dir", &self.shared().dir).finish_non_exhaustive()
    }
}

/// How long what was written may wait for its sync.
const SYNC_WITHIN: Duration = Duration::from_millis(50);
