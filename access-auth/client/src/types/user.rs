//! Users.

use access_core::document::{Document, DocumentSpec};
use access_core::identity::Traits;
use access_core::policy::{ApiKind, UserState};
use access_core::{RoleName, Timestamp};
use serde::{Deserialize, Serialize};

use super::is_default;

/// A user as stored and printed. The name is the document's, and so is the account's expiry.
pub type UserDocument = Document<UserSpec>;

/// What the cluster keeps of a user. Their password is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// The roles that they hold.
    #[serde(default)]
    pub roles: Vec<RoleName>,
    /// Traits, on which role templates draw: `logins: [alice]`, `db_users: [...]`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub traits: Traits,
    /// Certificates that were issued before are void. Raised by the Auth Service with each change,
    /// reset and logout; it never goes back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub valid_after: Timestamp,
    /// Whether they may do nothing at present.
    #[serde(default, skip_serializing_if = "is_default")]
    pub locked: bool,
    /// Who made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When they were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
}

impl DocumentSpec for UserSpec {
    const KIND: ApiKind = ApiKind::User;
}

impl UserSpec {
    /// A user who holds these roles, and nothing else.
    pub fn with_roles(roles: impl IntoIterator<Item = RoleName>) -> Self {
        Self { roles: roles.into_iter().collect(), ..Self::default() }
    }

    /// What decisions look at.
    pub fn state(&self) -> UserState {
        UserState {
            valid_after: self.valid_after,
            roles: Some(self.roles.clone()),
            traits: Some(self.traits.clone()),
            locked: self.locked,
            ..UserState::default()
        }
    }
}
