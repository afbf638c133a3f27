//! Who may do what: the decision, as a pure function over a snapshot of the policy.

mod action;
mod builtin;
mod decide;
mod listing;
mod snapshot;

pub use action::{Action, ApiKind, Context, Target, Verb};
pub use decide::{Decision, Grant, Reason, RecordMode, SessionLimits, decide};
pub use listing::visible;
pub use snapshot::{Lock, LockTarget, PolicyError, PolicySnapshot, UserState};
