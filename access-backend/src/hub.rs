//! Hands committed changes to the watchers that they concern.
//!
//! Each watcher has a bounded queue. One that is full is cut off rather than waited for, and its reader learns that it
//! has to begin again: no reader can slow a writer down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{self, Stream};
use tokio::sync::mpsc;

use crate::{Error, Item, Key, Position, Prefix, WatchEvent};

/// One committed change of one key.
#[derive(Clone, Debug)]
pub struct Change {
    /// The place in the stream of changes; rises with each change.
    pub position: Position,
    /// The row's name.
    pub key: Key,
    /// The row as written; `None` when it was deleted.
    pub item: Option<Item>,
    /// What else the engine knows of it, for [`Subscription::next_where`]; watchers see nothing of it.
    pub mark: u128,
}

impl Change {
    /// What a watcher sees of it.
    pub fn event(&self) -> WatchEvent {
        let position = self.position;
        match &self.item {
            Some(item) => WatchEvent::Changed { item: item.clone(), position },
            None => WatchEvent::Deleted { key: self.key.clone(), position },
        }
    }
}

/// The position of a store that numbers its changes.
pub(crate) fn position(seq: u64) -> Position {
    Position::from_bits(u128::from(seq))
}

/// Where numbering begins, or goes on after a restart: a random distance away, so that a token from another store,
/// or from writes that a restored backup has lost, matches nothing.
pub(crate) fn random_gap() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Unpredictable to nobody but chance, which is all that is asked of it.
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

/// The watchers of one store in one process.
#[derive(Debug)]
pub struct Hub {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    closed: bool,
    next_id: u64,
    watchers: HashMap<u64, Watcher>,
    by_prefix: HashMap<Prefix, Vec<u64>>,
}

#[derive(Debug)]
struct Watcher {
    queue: mpsc::Sender<Arc<Change>>,
    prefixes: Vec<Prefix>,
}

/// A watcher's end. Dropping it signs off.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    id: u64,
    queue: mpsc::Receiver<Arc<Change>>,
}

impl Hub {
    /// A hub whose watchers may be `capacity` changes behind.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity: capacity.max(1), inner: Mutex::default() })
    }

    /// Everything published from now on below `prefixes`, which are disjoint: see [`Prefix::disjoint`].
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no prefix, [`Error::Closed`] after [`Hub::close`].
    pub fn subscribe(self: &Arc<Self>, prefixes: &[Prefix]) -> Result<Subscription, Error> {
        if prefixes.is_empty() {
            return Err(Error::invalid("watch", "it names no prefix"));
        }
        let mut inner = self.lock();
        if inner.closed {
            return Err(Error::Closed);
        }
        let id = inner.next_id;
        inner.next_id += 1;
        let (sender, queue) = mpsc::channel(self.capacity);
        for prefix in prefixes {
            inner.by_prefix.entry(prefix.clone()).or_default().push(id);
        }
        inner.watchers.insert(id, Watcher { queue: sender, prefixes: prefixes.to_vec() });
        Ok(Subscription { hub: self.clone(), id, queue })
    }

    /// Queues committed changes. The caller publishes in the order of its commits.
    pub fn publish(&self, changes: &[Arc<Change>]) {
        let mut inner = self.lock();
        if inner.watchers.is_empty() {
            return;
        }
        let mut cut = Vec::new();
        for change in changes {
            for prefix in change.key.ancestors() {
                for id in inner.by_prefix.get(prefix).into_iter().flatten() {
                    let Some(watcher) = inner.watchers.get(id) else { continue };
                    if watcher.queue.try_send(change.clone()).is_err() {
                        cut.push(*id);
                    }
                }
            }
            // Before the next change, or a reader that made room in between would get that one and miss this.
            for id in cut.drain(..) {
                inner.remove(id);
            }
        }
    }

    /// Cuts every watcher off, since changes may have been missed; each learns that it has to begin again.
    pub fn reset(&self) {
        let mut inner = self.lock();
        *inner = Inner { closed: inner.closed, next_id: inner.next_id, ..Inner::default() };
    }

    /// Ends every watch, and refuses new ones.
    pub fn close(&self) {
        let mut inner = self.lock();
        *inner = Inner { closed: true, next_id: inner.next_id, ..Inner::default() };
    }

    /// How many watchers there are.
    pub fn watches(&self) -> usize {
        self.lock().watchers.len()
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, id: u64) {
        let Some(watcher) = self.watchers.remove(&id) else { return };
        for prefix in watcher.prefixes {
            if let Some(ids) = self.by_prefix.get_mut(&prefix) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_prefix.remove(&prefix);
                }
            }
        }
    }
}

impl Subscription {
    /// The changes after `after`, as they come.
    pub(crate) fn live(
        self,
        after: Position,
    ) -> impl Stream<Item = Result<WatchEvent, Error>> + Send {
        stream::unfold(self, move |mut subscription| async move {
            let event = subscription.next(after).await;
            Some((event, subscription))
        })
    }

    /// The next event after `after`; [`WatchEvent::Reset`] for ever once something was missed. Safe to drop and call
    /// again.
    ///
    /// # Errors
    /// [`Error::Closed`] after [`Hub::close`].
    pub async fn next(&mut self, after: Position) -> Result<WatchEvent, Error> {
        self.next_where(|change| change.position > after).await
    }

    /// The next event of a change that `wanted` takes; as [`Subscription::next`] otherwise.
    ///
    /// # Errors
    /// [`Error::Closed`] after [`Hub::close`].
    pub async fn next_where(
        &mut self,
        wanted: impl Fn(&Change) -> bool + Send,
    ) -> Result<WatchEvent, Error> {
        loop {
            match self.queue.recv().await {
                Some(change) if !wanted(&change) => {}
                Some(change) => return Ok(change.event()),
                None if self.hub.is_closed() => return Err(Error::Closed),
                None => return Ok(WatchEvent::Reset),
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.lock().remove(self.id);
    }
}
