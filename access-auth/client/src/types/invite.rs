//! Invitations and password resets.

use access_core::UserName;
use access_core::document::{Document, DocumentSpec};
use access_core::policy::ApiKind;
use serde::{Deserialize, Serialize};

/// An invitation as stored and printed. Its name is public: what the user is sent is the name, a
/// dot, and a secret of which only a hash is kept. When it expires stands in its metadata.
pub type InviteDocument = Document<InviteSpec>;

/// Who may set a password with it, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteSpec {
    /// The user.
    pub user: UserName,
    /// Why it was made.
    pub purpose: InvitePurpose,
    /// Whether it was redeemed.
    #[serde(default)]
    pub redeemed: bool,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

impl DocumentSpec for InviteSpec {
    const KIND: ApiKind = ApiKind::Invite;
}

/// Why an invitation was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvitePurpose {
    /// For a new user.
    Invite,
    /// For one whose password was reset.
    Reset,
}
