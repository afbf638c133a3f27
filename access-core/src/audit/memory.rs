//! A sink that keeps its events in memory, for tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::MAX_EVENT_BYTES;
use super::envelope::Envelope;
use super::events::Event;
use super::sink::{AuditError, AuditSink, Durability};
use super::stamp::Stamper;
use crate::ids::{ClusterName, WriterId};
use crate::time::{ManualClock, Timestamp};

/// Keeps a bounded number of events in memory. For tests: nothing survives the process.
///
/// Clones share their events.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use access_core::audit::{AuditError, AuditSink, Durability, MemorySink, events::UserLogout};
/// let sink = MemorySink::new(1);
/// let event = UserLogout { user: "alice".into(), addr_remote: None };
/// sink.accept(event.clone().into(), Durability::Synced).await.unwrap();
/// assert_eq!(sink.names(), ["user.logout"]);
/// assert_eq!(sink.accept(event.into(), Durability::Soon).await, Err(AuditError::Full));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct MemorySink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    capacity: usize,
    state: Mutex<State>,
    grown: Notify,
}

#[derive(Debug)]
struct State {
    stamper: Stamper,
    envelopes: Vec<Envelope>,
    synced: usize,
    failure: Option<AuditError>,
}

impl MemorySink {
    /// A sink with room for `capacity` events, in the cluster `test.internal`, at the epoch.
    pub fn new(capacity: usize) -> Self {
        let stamper = match (ClusterName::new("test.internal"), WriterId::new("memory")) {
            (Ok(cluster), Ok(writer)) => {
                Stamper::new(cluster, writer, 1, Arc::new(ManualClock::at(Timestamp::EPOCH)))
            }
            _ => unreachable!("both names are valid"),
        };
        Self::with_stamper(stamper, capacity)
    }

    /// A sink that stamps as it is told.
    pub fn with_stamper(stamper: Stamper, capacity: usize) -> Self {
        let state = State { stamper, envelopes: Vec::new(), synced: 0, failure: None };
        let shared = Shared { capacity, state: Mutex::new(state), grown: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// From now on every event is refused with this error; with `None`, accepted again.
    pub fn fail_with(&self, failure: Option<AuditError>) {
        self.lock().failure = failure;
    }

    /// What was accepted, in order.
    pub fn envelopes(&self) -> Vec<Envelope> {
        self.lock().envelopes.clone()
    }

    /// The events that were accepted, in order.
    pub fn events(&self) -> Vec<Event> {
        self.lock().envelopes.iter().map(|envelope| envelope.event.clone()).collect()
    }

    /// The names of the events that were accepted, in order.
    pub fn names(&self) -> Vec<String> {
        self.lock().envelopes.iter().map(|envelope| envelope.event.name().to_owned()).collect()
    }

    /// How many events a power cut would have left: those before the last one that was accepted
    /// as [`Durability::Synced`], and that one.
    pub fn synced(&self) -> usize {
        self.lock().synced
    }

    /// Waits until an event is there that fits, and returns it. Wrap it into a timeout.
    pub async fn wait_for(&self, mut fits: impl FnMut(&Event) -> bool) -> Envelope {
        let mut seen = 0;
        loop {
            // Registered before looking, so that what comes in between wakes it.
            let grown = self.shared.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            {
                let state = self.lock();
                let fresh = state.envelopes.iter().skip(seen);
                if let Some(envelope) = fresh.into_iter().find(|envelope| fits(&envelope.event)) {
                    return envelope.clone();
                }
                seen = state.envelopes.len();
            }
            grown.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl AuditSink for MemorySink {
    async fn accept(&self, event: Event, durability: Durability) -> Result<(), AuditError> {
        {
            let mut state = self.lock();
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.envelopes.len() >= self.shared.capacity {
                return Err(AuditError::Full);
            }
            let envelope = state.stamper.stamp(event);
            let size = envelope
                .to_json()
                .map_err(|error| AuditError::Unavailable(error.to_string()))?
                .len();
            if size > MAX_EVENT_BYTES {
                let name = envelope.event.name().to_owned();
                return Err(AuditError::TooLarge { name, size, max: MAX_EVENT_BYTES });
            }
            state.stamper.commit(&envelope);
            state.envelopes.push(envelope);
            if durability == Durability::Synced {
                state.synced = state.envelopes.len();
            }
        }
        self.shared.grown.notify_waiters();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Object;
    use crate::audit::events::{Actor, LockCreated};
    use crate::audit::events::{ResourceCreate, UserLogout};

    fn logout(user: &str) -> Event {
        UserLogout { user: user.into(), addr_remote: None }.into()
    }

    #[tokio::test]
    async fn numbers_have_no_holes_after_refusals() {
        let sink = MemorySink::new(10);
        sink.accept(logout("a"), Durability::Synced).await.unwrap();
        sink.fail_with(Some(AuditError::Unavailable("disk on fire".into())));
        assert!(sink.accept(logout("b"), Durability::Soon).await.is_err());
        sink.fail_with(None);
        let mut huge = Object::default();
        huge.0.insert("x".into(), "y".repeat(MAX_EVENT_BYTES).into());
        let huge = LockCreated {
            actor: Actor::local(),
            name: "l".into(),
            target: huge,
            message: None,
            expires: None,
        };
        let refused = sink.accept(huge.into(), Durability::Soon).await;
        assert!(matches!(refused, Err(AuditError::TooLarge { .. })));
        sink.accept(logout("c"), Durability::Soon).await.unwrap();
        let seqs: Vec<_> = sink.envelopes().iter().map(|envelope| envelope.seq).collect();
        assert_eq!(seqs, [1, 2]);
        assert_eq!(sink.synced(), 1);
    }

    #[tokio::test]
    async fn waiting_sees_what_comes_later() {
        let sink = MemorySink::new(10);
        let waiting = tokio::spawn({
            let sink = sink.clone();
            async move { sink.wait_for(|event| matches!(event, Event::ResourceCreate(_))).await }
        });
        sink.accept(logout("a"), Durability::Soon).await.unwrap();
        let create = ResourceCreate {
            actor: Actor::local(),
            kind: "node".into(),
            name: "web-1".into(),
            expires: None,
        };
        sink.accept(create.into(), Durability::Soon).await.unwrap();
        let found = tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await;
        assert_eq!(found.unwrap().unwrap().seq, 2);
    }
}
