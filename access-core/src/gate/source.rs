//! Where decisions come from.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::identity::VerifiedIdentity;
use crate::policy::{Action, Context, Decision, PolicySnapshot, Target, decide};
use crate::time::Timestamp;

/// What the gate asks. Programs with roles take [`RolePolicy`]; others answer for themselves.
///
/// A decision must be a function of the arguments and of what [`PolicySource::changes`] counts:
/// permits that live are decided again when it ticks, and only then.
pub trait PolicySource: Send + Sync + 'static {
    /// Decides. Called on the path of every session: it must not block.
    fn decide(
        &self,
        who: &VerifiedIdentity,
        action: &Action,
        target: &Target,
        context: &Context,
        now: Timestamp,
    ) -> Decision;

    /// The last moment at which the source knew that it was current; `None` when it always is,
    /// because it is the source itself. Past the gate's `max_staleness` nothing new is granted.
    fn fresh_at(&self) -> Option<Timestamp>;

    /// Ticks when decisions may have changed.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Decisions by role documents, over a snapshot that is replaced as a whole.
#[derive(Debug)]
pub struct RolePolicy {
    snapshot: ArcSwap<PolicySnapshot>,
    fresh_at: ArcSwap<Option<Timestamp>>,
    changes: watch::Sender<u64>,
}

impl RolePolicy {
    /// A policy that is always current.
    pub fn new(snapshot: PolicySnapshot) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            fresh_at: ArcSwap::from_pointee(None),
            changes: watch::Sender::new(0),
        }
    }

    /// A policy that was current at `fresh_at` and must be told of every later such moment.
    pub fn cached(snapshot: PolicySnapshot, fresh_at: Timestamp) -> Self {
        let policy = Self::new(snapshot);
        policy.refresh(fresh_at);
        policy
    }

    /// The snapshot that decisions are made over.
    pub fn snapshot(&self) -> Arc<PolicySnapshot> {
        self.snapshot.load_full()
    }

    /// Replaces the snapshot and has every living permit decided again.
    pub fn replace(&self, snapshot: PolicySnapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.redecide();
    }

    /// Has every living permit decided again, because something has changed that decisions look at
    /// besides the snapshot: for sources that ask this one and add to its answers.
    pub fn redecide(&self) {
        self.changes.send_modify(|tick| *tick = tick.wrapping_add(1));
    }

    /// Notes that the snapshot was current at a moment.
    pub fn refresh(&self, fresh_at: Timestamp) {
        self.fresh_at.store(Arc::new(Some(fresh_at)));
    }
}

impl PolicySource for RolePolicy {
    fn decide(
        &self,
        who: &VerifiedIdentity,
        action: &Action,
        target: &Target,
        context: &Context,
        now: Timestamp,
    ) -> Decision {
        decide(&self.snapshot.load(), who, action, target, context, now)
    }

    fn fresh_at(&self) -> Option<Timestamp> {
        **self.fresh_at.load()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
