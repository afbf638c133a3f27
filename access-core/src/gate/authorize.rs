//! The gate itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::permit::{Permit, Scope};
use super::source::PolicySource;
use crate::audit::events::{AccessDecision, AccessDecisionCode};
use crate::audit::{AuditError, AuditSink, Durability};
use crate::identity::VerifiedIdentity;
use crate::policy::{Action, Context, Decision, Grant, Reason, Target};
use crate::time::{Clock, Timestamp, ValidityError};

/// How often a source of policy that follows a cluster says that it is alive, at the least often.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// The least [`GateOptions::max_staleness`] for such a source: a sign of life, and time for it to
/// arrive. Below it a gate denies now and then while everything is well.
pub const LEAST_STALENESS: Duration = Duration::from_secs(8);

/// Settings of a gate.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// How old the policy may be: past that, nothing new is granted. Five minutes by default;
    /// [`LEAST_STALENESS`] at the least where the policy follows a cluster.
    pub max_staleness: Duration,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self { max_staleness: Duration::from_secs(300) }
    }
}

/// The only maker of [`Permit`]s.
pub struct Gate {
    policy: Arc<dyn PolicySource>,
    audit: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
    options: GateOptions,
    sessions: Sessions,
}

/// Why the gate granted nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// The certificate does not hold any more, or not yet.
    #[error("the certificate is {0}")]
    Certificate(#[from] ValidityError),
    /// The policy has not been heard of for too long.
    #[error(
        "the policy here is {} s old, more than the {} s that are allowed: \
         the auth service cannot be reached",
        age.as_secs(), max.as_secs()
    )]
    Stale {
        /// Its age.
        age: Duration,
        /// The most that is allowed.
        max: Duration,
    },
    /// The policy says no.
    #[error("{0}")]
    Policy(Reason),
    /// As many connections are open as the roles allow.
    #[error("{open} connections are open, as many as your roles allow")]
    TooManyConnections {
        /// How many.
        open: u32,
    },
    /// The decision could not be written down, so there is none.
    #[error("the decision could not be recorded: {0}")]
    Audit(#[from] AuditError),
}

impl Denied {
    /// What the user may be told. Denied and absent look alike in it.
    pub fn public(&self) -> String {
        match self {
            Self::Certificate(err) => format!("your certificate is {err}: log in again"),
            Self::Policy(reason) => reason.public(),
            Self::Audit(_) => "access cannot be granted: the audit log cannot be written".into(),
            Self::Stale { .. } | Self::TooManyConnections { .. } => self.to_string(),
        }
    }
}

impl Gate {
    /// How long a decision within a session may [stand](Gate::stands): roles and locks can end by
    /// the clock alone, and no later than a living permit learns of it.
    pub const KEPT_FOR: Duration = Duration::from_secs(1);

    /// A gate over a policy, which writes its decisions to `audit`.
    pub fn new(
        policy: Arc<dyn PolicySource>,
        audit: Arc<dyn AuditSink>,
        clock: Arc<dyn Clock>,
        options: GateOptions,
    ) -> Self {
        Self { policy, audit, clock, options, sessions: Sessions::default() }
    }

    /// Decides whether `who` may do `action` to `target`, records the decision, and only then
    /// grants it: a permit for a session is synced to disk before it exists.
    ///
    /// Cancelling the call grants nothing.
    ///
    /// # Errors
    /// [`Denied`]; the denial has been recorded as far as that is possible.
    pub async fn authorize(
        &self,
        who: &VerifiedIdentity,
        action: Action,
        target: Target,
        context: Context,
    ) -> Result<Permit, Denied> {
        let changes = self.policy.changes();
        // Before the decision: what changes while it is made counts as a change after it.
        let tick = *changes.borrow();
        let verdict = match self.judge(who, &action, &target, &context) {
            Ok(grant) => self.slot_for(who, &action, &grant).map(|slot| (grant, slot)),
            Err(denied) => Err(denied),
        };
        self.record(who, &action, &target, &context, verdict.as_ref().err()).await?;
        let (grant, slot) = verdict?;
        let scope = Scope {
            who: who.clone(),
            target,
            context,
            policy: Arc::clone(&self.policy),
            changes,
            clock: Arc::clone(&self.clock),
            slot,
        };
        Ok(Permit::mint(Arc::new(scope), action, grant, tick))
    }

    /// Decides over a further action within a session: same identity, target and circumstances.
    /// It counts as no session of its own. A denial is recorded; what is allowed leaves the event
    /// of its own kind.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn authorize_within(
        &self,
        session: &Permit,
        action: Action,
    ) -> Result<Permit, Denied> {
        let (who, target, context) = (session.who(), session.target(), session.context());
        let tick = session.scope().tick();
        match self.judge(who, &action, target, context) {
            Ok(grant) => Ok(Permit::mint(Arc::clone(session.scope()), action, grant, tick)),
            Err(denied) => {
                self.record(who, &action, target, context, Some(&denied)).await?;
                Err(denied)
            }
        }
    }

    /// Whether a permit is what [`Gate::authorize_within`] would grant again for the same action:
    /// it is no older than [`Gate::KEPT_FOR`], the policy is fresh and has not changed since, and
    /// the certificate holds. For a protocol that asks for the same over and over.
    pub fn stands(&self, permit: &Permit) -> bool {
        let now = self.clock.now();
        let granted = permit.granted_at();
        granted <= now
            && now.since(granted) < Self::KEPT_FOR
            && now < permit.grant().limits.expires
            && permit.is_of_this_policy()
            && self.check_standing(permit.who(), now).is_ok()
    }

    /// The decision without its record: everything that can be judged at once.
    fn judge(
        &self,
        who: &VerifiedIdentity,
        action: &Action,
        target: &Target,
        context: &Context,
    ) -> Result<Grant, Denied> {
        let now = self.clock.now();
        self.check_standing(who, now)?;
        self.decide(who, action, target, context, now)
    }

    /// What must hold at every moment, whatever the policy says.
    fn check_standing(&self, who: &VerifiedIdentity, now: Timestamp) -> Result<(), Denied> {
        who.validity().check(now)?;
        self.check_freshness(now)
    }

    fn decide(
        &self,
        who: &VerifiedIdentity,
        action: &Action,
        target: &Target,
        context: &Context,
        now: Timestamp,
    ) -> Result<Grant, Denied> {
        match self.policy.decide(who, action, target, context, now) {
            Decision::Allow(grant) => Ok(grant),
            Decision::Deny(reason) => Err(Denied::Policy(reason)),
        }
    }

    fn check_freshness(&self, now: Timestamp) -> Result<(), Denied> {
        let Some(fresh_at) = self.policy.fresh_at() else { return Ok(()) };
        let (age, max) = (now.since(fresh_at), self.options.max_staleness);
        if age > max { Err(Denied::Stale { age, max }) } else { Ok(()) }
    }

    fn slot_for(
        &self,
        who: &VerifiedIdentity,
        action: &Action,
        grant: &Grant,
    ) -> Result<Option<SessionSlot>, Denied> {
        match (action.opens_session(), grant.limits.max_connections) {
            (true, Some(max)) => self.sessions.take(who.name(), max).map(Some),
            _ => Ok(None),
        }
    }

    async fn record(
        &self,
        who: &VerifiedIdentity,
        action: &Action,
        target: &Target,
        context: &Context,
        denied: Option<&Denied>,
    ) -> Result<(), Denied> {
        if denied.is_none() && !action.opens_session() {
            return Ok(());
        }
        let (target_kind, target) = match target {
            Target::Resource(resource) => {
                (resource.id.kind.as_str(), resource.id.name.as_str().to_owned())
            }
            Target::Api { kind, name, .. } => (kind.as_str(), name.clone().unwrap_or_default()),
        };
        let event = AccessDecision {
            code: match denied {
                None => AccessDecisionCode::Allowed,
                Some(_) => AccessDecisionCode::Denied,
            },
            user: who.name().into(),
            action: action.name().into(),
            target_kind: target_kind.into(),
            target: target.as_str().into(),
            login: action.login().map(|login| login.as_str().into()),
            reason: denied.map_or_else(|| "allowed".into(), |denied| denied.to_string().into()),
            user_roles: who.identity().roles.iter().map(|role| role.as_str()).collect(),
            sid: None,
            addr_remote: context.client_addr.map(|addr| addr.to_string().into()),
            trace_id: context.trace_id.as_ref().map(|id| id.as_str().into()),
        };
        match denied {
            None => self.audit.accept(event.into(), Durability::Synced).await?,
            // A denial that cannot be recorded is still the denial that it is.
            Some(_) => drop(self.audit.accept(event.into(), Durability::Soon).await),
        }
        Ok(())
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("options", &self.options).finish_non_exhaustive()
    }
}

/// How many sessions each user has open here.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, u32>>>);

impl Sessions {
    fn take(&self, user: &str, max: u32) -> Result<SessionSlot, Denied> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(user.to_owned()).or_default();
        if *count >= max {
            return Err(Denied::TooManyConnections { open: *count });
        }
        *count += 1;
        Ok(SessionSlot(Arc::new(Slot { sessions: self.clone(), user: user.to_owned() })))
    }
}

/// One of the sessions that a user may have open; given back when the last permit of the session
/// is dropped.
pub(super) struct SessionSlot(#[expect(dead_code, reason = "held for its drop")] Arc<Slot>);

struct Slot {
    sessions: Sessions,
    user: String,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.user);
            }
        }
    }
}
