//! Decisions over resources that come, change and go while somebody uses them.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::source::PolicySource;
use crate::identity::VerifiedIdentity;
use crate::policy::{Action, Context, Decision, Reason, Target};
use crate::resource::Resource;
use crate::time::Timestamp;

/// How a resource is now that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As it was.
    Same,
    /// With other labels, say: decisions are made over this.
    Changed(Resource),
    /// It is served no more.
    Gone,
}

/// Says how a resource is now. Asked for every statement of a session: it must not block.
type Look = dyn Fn(&Resource) -> Standing + Send + Sync;

/// A policy whose decisions are made over resources as they are, and not as they were when a
/// session was opened. What is gone ends the sessions of those who still had a right to it with
/// [`EndReason::Gone`](super::EndReason::Gone); to others it is denied like anything else.
///
/// Whatever `look` looks at must tick [`PolicySource::changes`] of the policy when it changes; see
/// [`RolePolicy::redecide`](super::RolePolicy::redecide).
pub struct ServedPolicy {
    policy: Arc<dyn PolicySource>,
    look: Box<Look>,
}

impl ServedPolicy {
    /// The decisions of a policy, over what `look` says.
    pub fn new(
        policy: Arc<dyn PolicySource>,
        look: impl Fn(&Resource) -> Standing + Send + Sync + 'static,
    ) -> Self {
        Self { policy, look: Box::new(look) }
    }
}

impl PolicySource for ServedPolicy {
    fn decide(
        &self,
        who: &VerifiedIdentity,
        action: &Action,
        target: &Target,
        context: &Context,
        now: Timestamp,
    ) -> Decision {
        let over = |target: &Target| self.policy.decide(who, action, target, context, now);
        let Target::Resource(resource) = target else { return over(target) };
        match (self.look)(resource) {
            Standing::Same => over(target),
            Standing::Changed(current) => over(&Target::Resource(current)),
            Standing::Gone => match over(target) {
                Decision::Allow(_) => Decision::Deny(Reason::Gone(resource.id.clone())),
                denied @ Decision::Deny(_) => denied,
            },
        }
    }

    fn fresh_at(&self) -> Option<Timestamp> {
        self.policy.fresh_at()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.policy.changes()
    }
}

impl fmt::Debug for ServedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedPolicy").finish_non_exhaustive()
    }
}
