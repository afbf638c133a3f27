//! The documents of the API: one serde type a kind, in core's [`Document`] envelope.
//!
//! Roles and locks are core's own ([`RoleSpec`], [`Lock`]); the others are here. None of them
//! holds a secret: password hashes, hashes of tokens and sealed keys are kept apart, and never
//! leave the Auth Service.
//!
//! ```
//! use access_client::types::{UserDocument, UserSpec};
//! use access_core::RoleName;
//!
//! let user = UserDocument::new("alice", UserSpec::with_roles([RoleName::new("access")?]));
//! let json = user.to_json()?;
//! assert_eq!(UserDocument::from_json(&json)?, user);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authority;
mod cluster;
mod db;
mod db_target;
mod invite;
mod matcher;
mod node;
mod recording;
mod served;
mod server;
mod token;
mod user;

pub use access_core::document::{Document, DocumentError, DocumentSpec, Metadata};
pub use access_core::policy::Lock;
pub use access_core::role::{RoleDocument, RoleSpec};

pub use authority::{AuthorityDocument, AuthoritySpec};
pub use cluster::{ClusterConfigDocument, ClusterConfigSpec};
pub use db::{AdminUser, DbDocument, DbOrigin, DbProtocol, DbServer, DbSpec, Health, HealthStatus};
pub use db_target::{DbTls, TlsMode, TlsNegotiation};
pub use invite::{InviteDocument, InvitePurpose, InviteSpec};
pub use matcher::{ResourceMatcher, ResourceMatchers};
pub use node::{NodeDocument, NodeSpec};
pub use recording::{RecordingDocument, RecordingSpec, RecordingState};
pub use served::{
    AppDocument, AppSpec, DesktopDocument, DesktopSpec, KubeDocument, KubeSpec, Served, read_served,
};
pub use server::{ServerDocument, ServerSpec};
pub use token::{NameBinding, TokenDocument, TokenSpec};
pub use user::{UserDocument, UserSpec};

/// The most resources that one host serves.
pub const MAX_RESOURCES: usize = 200;

/// A lock as it is stored and printed.
pub type LockDocument = Document<Lock>;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
