//! The one feed of a process: it learns every change from the database and hands it to the hub.

pub(crate) mod cockroachdb;
pub(crate) mod postgres;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pool::jittered;
use crate::store::Shared;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What the rest of the store says to the feed, and hears from it.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Wakes the feed.
    pub(crate) wake: Arc<Notify>,
    /// This process has written since the feed last told the others.
    dirty: AtomicBool,
    /// No transaction that begins from now on has a lower number.
    low_mark: AtomicI64,
    /// When the database last said that nothing is missing, and of how long before.
    heard: Mutex<(Instant, Duration)>,
    /// What CockroachDB's feed brought; PostgreSQL keeps that itself.
    log: Mutex<cockroachdb::Log>,
}

/// Before a write, as each of the databases counts: nothing that is sent from then on can stand before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// PostgreSQL's number of a transaction.
    pub(crate) xid: i64,
    /// CockroachDB's moment.
    pub(crate) at: cockroachdb::Hlc,
}

impl Feed {
    pub(crate) fn new(history: usize) -> Self {
        Self {
            wake: Arc::default(),
            dirty: AtomicBool::new(false),
            low_mark: AtomicI64::new(0),
            heard: Mutex::new((Instant::now(), Duration::ZERO)),
            log: Mutex::new(cockroachdb::Log::new(history.max(1))),
        }
    }

    /// Says that this process has committed something.
    pub(crate) fn written(&self) {
        self.dirty.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { xid: self.low_mark.load(Ordering::SeqCst), at: self.log().resolved() }
    }

    /// How long ago the database said that nothing is missing.
    pub(crate) fn silence(&self) -> Duration {
        self.heard().0.elapsed()
    }

    /// How long ago that was true.
    pub(crate) fn lag(&self) -> Duration {
        let (heard, before) = *self.heard();
        heard.elapsed() + before
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, cockroachdb::Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Ordering::SeqCst)
    }

    /// Nothing is missing of what is older than that.
    fn hear(&self, before: Duration) {
        *self.heard() = (Instant::now(), before);
    }

    fn heard(&self) -> MutexGuard<'_, (Instant, Duration)> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pauses between attempts to get a broken feed going, and whether to go on at all.
struct Attempts {
    pause: Duration,
}

impl Attempts {
    fn new() -> Self {
        Self { pause: FIRST_PAUSE }
    }

    fn succeeded(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    /// `None` once the store is closed.
    async fn next(&mut self, store: &Weak<Shared>) -> Option<()> {
        tokio::time::sleep(jittered(self.pause)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        open(store).map(drop)
    }
}

/// The store, unless it is closed.
fn open(store: &Weak<Shared>) -> Option<Arc<Shared>> {
    store.upgrade().filter(|shared| !shared.pool.is_closed())
}
