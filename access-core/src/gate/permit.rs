//! A permit: what was asked for and allowed, for as long as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::guard::Guarded;
use super::source::PolicySource;
use crate::identity::VerifiedIdentity;
use crate::policy::{Action, Context, Decision, Grant, Reason, SessionLimits, Target};
use crate::resource::ResourceRef;
use crate::time::{Clock, Timestamp};

/// Proof that the gate allowed one action on one target.
///
/// Only [`Gate::authorize`](super::Gate::authorize) makes one. Clones are the same permit.
///
/// ```compile_fail
/// // Forging one does not compile: there is no constructor and the fields are private.
/// let forged = access_core::Permit { inner: todo!() };
/// ```
#[derive(Clone)]
pub struct Permit {
    inner: Arc<Inner>,
}

struct Inner {
    scope: Arc<Scope>,
    action: Action,
    grant: Grant,
    granted_at: Timestamp,
    /// The policy's tick before the decision.
    tick: u64,
    held_to: HeldTo,
    last_active: AtomicI64,
}

/// The limits of time that a permit is held to at this moment: those of its grant, or what has
/// become stricter since. In milliseconds, so that they can be looked at for everything that passes.
struct HeldTo {
    expires: AtomicI64,
    /// [`HeldTo::NEVER`] for no limit.
    idle: AtomicI64,
}

impl HeldTo {
    const NEVER: i64 = i64::MAX;

    fn new(limits: &SessionLimits) -> Self {
        Self {
            expires: AtomicI64::new(limits.expires.as_millis()),
            idle: AtomicI64::new(Self::idle_of(limits)),
        }
    }

    fn idle_of(limits: &SessionLimits) -> i64 {
        limits
            .idle
            .map_or(Self::NEVER, |idle| i64::try_from(idle.as_millis()).unwrap_or(Self::NEVER))
    }

    fn expires(&self) -> Timestamp {
        Timestamp::from_millis(self.expires.load(Ordering::Relaxed))
    }

    /// How long nothing may pass, if there is a limit.
    fn idle(&self) -> Option<Duration> {
        let idle = self.idle.load(Ordering::Relaxed);
        (idle != Self::NEVER).then(|| Duration::from_millis(idle.unsigned_abs()))
    }
}

/// What the permits of one session have in common: made once, so that a session that asks for
/// every statement copies no certificate and no labels.
pub(super) struct Scope {
    pub(super) who: VerifiedIdentity,
    pub(super) target: Target,
    pub(super) context: Context,
    pub(super) policy: Arc<dyn PolicySource>,
    pub(super) changes: watch::Receiver<u64>,
    pub(super) clock: Arc<dyn Clock>,
    /// Given back when the last permit of the session is dropped.
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) slot: Option<super::authorize::SessionSlot>,
}

impl Scope {
    /// How often the policy has changed until now.
    pub(super) fn tick(&self) -> u64 {
        *self.changes.borrow()
    }
}

/// Why a permit ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The certificate, or the longest session that a role allows, is over.
    #[error("the session's time is over: log in again")]
    Expired,
    /// Nothing passed for as long as a role allows.
    #[error("nothing was sent for too long")]
    Idle,
    /// A lock, a changed role, a removed user; the text is for the user.
    #[error("access was withdrawn: {0}")]
    Withdrawn(String),
    /// The resource was removed, or is not served there any more.
    #[error("{0} is no longer served")]
    Gone(ResourceRef),
}

impl Permit {
    pub(super) fn mint(scope: Arc<Scope>, action: Action, grant: Grant, tick: u64) -> Self {
        let granted_at = scope.clock.now();
        let last_active = AtomicI64::new(granted_at.as_millis());
        let held_to = HeldTo::new(&grant.limits);
        let inner = Inner { scope, action, grant, granted_at, tick, held_to, last_active };
        Self { inner: Arc::new(inner) }
    }

    /// To whom it was granted.
    pub fn who(&self) -> &VerifiedIdentity {
        &self.inner.scope.who
    }

    /// What it allows.
    pub fn action(&self) -> &Action {
        &self.inner.action
    }

    /// On what it allows it.
    pub fn target(&self) -> &Target {
        &self.inner.scope.target
    }

    /// Under which circumstances it was asked for.
    pub fn context(&self) -> &Context {
        &self.inner.scope.context
    }

    /// What came with it: the allowing roles, limits, whether to record. What the policy demands
    /// by now may be stricter: see [`Permit::ended`].
    pub fn grant(&self) -> &Grant {
        &self.inner.grant
    }

    /// When it was granted.
    pub fn granted_at(&self) -> Timestamp {
        self.inner.granted_at
    }

    /// Whether the policy has not changed since the decision.
    pub(super) fn is_of_this_policy(&self) -> bool {
        self.inner.scope.tick() == self.inner.tick
    }

    pub(super) fn scope(&self) -> &Arc<Scope> {
        &self.inner.scope
    }

    /// Notes that something passed, for the idle limit.
    pub fn touch(&self) {
        if self.inner.held_to.idle().is_some() {
            self.inner.active_at(self.inner.scope.clock.now());
        }
    }

    /// Completes when the permit is no longer good, with the reason.
    ///
    /// Each change of the policy is followed: a shorter end and a shorter idle limit hold from then
    /// on, and a session ends that would have to be recorded more strictly than it was begun.
    ///
    /// The future is independent of the permit's lifetime and of its clones; hold one for a
    /// session and select on it.
    pub fn ended(&self) -> impl Future<Output = EndReason> + Send + 'static {
        let inner = Arc::clone(&self.inner);
        // Subscribed here, not at the first poll: no change between minting and polling is lost,
        // because a change since minting is looked for at the first turn of the loop anyway.
        let mut changes = inner.scope.changes.clone();
        async move {
            loop {
                changes.mark_unchanged();
                if let Some(reason) = inner.ended_now() {
                    return reason;
                }
                inner.wait_for_a_cause(&mut changes).await;
            }
        }
    }

    /// Ties something that was reached to this permit.
    ///
    /// Wrapping only restricts, so anybody may; what [`Reach`](crate::reach::Reach) returns is
    /// wrapped by its type.
    pub fn guard<T>(&self, inner: T) -> Guarded<T> {
        Guarded::new(self.clone(), inner)
    }
}

impl Inner {
    fn ended_now(&self) -> Option<EndReason> {
        let now = self.scope.clock.now();
        if let Some(reason) = self.out_of_time(now) {
            return Some(reason);
        }
        let Scope { who, target, context, policy, .. } = &*self.scope;
        match policy.decide(who, &self.action, target, context, now) {
            Decision::Allow(grant) => {
                self.follow(&grant.limits, now);
                self.outgrown(&grant).or_else(|| self.out_of_time(now))
            }
            Decision::Deny(Reason::Gone(resource)) => Some(EndReason::Gone(resource)),
            Decision::Deny(reason) => Some(EndReason::Withdrawn(reason.public())),
        }
    }

    fn out_of_time(&self, now: Timestamp) -> Option<EndReason> {
        if now >= self.held_to.expires() {
            Some(EndReason::Expired)
        } else if self.idle_deadline().is_some_and(|deadline| now >= deadline) {
            Some(EndReason::Idle)
        } else {
            None
        }
    }

    /// Holds to what has become stricter. An idle limit where there was none counts from now on:
    /// until now nobody noted when something passed.
    fn follow(&self, limits: &SessionLimits, now: Timestamp) {
        self.held_to.expires.fetch_min(limits.expires.as_millis(), Ordering::Relaxed);
        if self.held_to.idle().is_none() {
            self.active_at(now);
        }
        self.held_to.idle.fetch_min(HeldTo::idle_of(limits), Ordering::Relaxed);
    }

    fn active_at(&self, now: Timestamp) {
        self.last_active.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Of a session, whether it was begun by less strict roles than these.
    fn outgrown(&self, now: &Grant) -> Option<EndReason> {
        let begun = &self.grant;
        let option = match &self.action {
            action if action.opens_session() && now.limits.record > begun.limits.record => {
                "record_session"
            }
            Action::Database { .. } => begun.database.is_behind(&now.database)?,
            _ => return None,
        };
        Some(EndReason::Withdrawn(format!("your roles have changed ({option}): connect again")))
    }

    fn idle_deadline(&self) -> Option<Timestamp> {
        let idle = self.held_to.idle()?;
        Some(Timestamp::from_millis(self.last_active.load(Ordering::Relaxed)).plus(idle))
    }

    async fn wait_for_a_cause(&self, changes: &mut watch::Receiver<u64>) {
        let expires = self.held_to.expires();
        let deadline = self.idle_deadline().map_or(expires, |idle| idle.min(expires));
        tokio::select! {
            () = self.scope.clock.sleep_until(deadline) => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    // The source is gone and will change no more; time still counts.
                    self.scope.clock.sleep_until(deadline).await;
                }
            }
        }
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit")
            .field("who", &self.who().name())
            .field("action", &self.inner.action)
            .field("target", &format_args!("{}", self.target()))
            .finish_non_exhaustive()
    }
}
