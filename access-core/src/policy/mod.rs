//! Who may do what: the decision, as a pure function over a snapshot of the policy.
//!
//! ```
//! use access_core::policy::{PolicySnapshot, UserState};
//! use access_core::role;
//! use access_core::{RoleName, UserName};
//!
//! let alice = UserName::new("alice")?;
//! let snapshot = PolicySnapshot::builder()
//!     .role(&role::preset("access").ok_or("no such preset")?)
//!     .user(alice, UserState::with_roles([RoleName::new("access")?]))
//!     .build();
//! assert_eq!(snapshot.unreadable_roles().count(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What counts is always the lesser of what the certificate says and what the snapshot says: a
//! role, a trait or a lent role that was taken away counts no more at once, and one that was given
//! counts from the next certificate on.

mod account;
mod action;
mod builtin;
mod decide;
mod effective;
mod grant;
mod issue;
mod listing;
mod lock;
mod reason;
mod request;
mod snapshot;
mod user;

#[cfg(test)]
mod database;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use account::account_mode;
pub use action::{Action, ApiKind, Context, Target, Verb};
pub use decide::decide;
pub use grant::{DatabaseGrant, Decision, Grant, SessionLimits};
pub use issue::{CertificateLimits, certificate_limits, granted_accounts, logins_for, max_ttl};
pub use issue::{may_request, may_review};
pub use listing::visible;
pub use lock::{Lock, LockTarget};
pub use reason::Reason;
pub use snapshot::{ClusterSettings, PolicyBuilder, PolicyError, PolicySnapshot};
pub use user::{LentRoles, UserState};

pub use crate::role::RecordMode;
