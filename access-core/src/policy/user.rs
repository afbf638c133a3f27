//! What the cluster knows of a user now, beside what a certificate says of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::Traits;
use crate::ids::RoleName;
use crate::time::Timestamp;

/// A user's or bot's present state: what enforcers need to know beyond the certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserState {
    /// Certificates that were issued earlier are void.
    #[serde(default)]
    pub valid_after: Timestamp,
    /// The roles that are held now; `None` trusts the certificate, for users whose roles are kept
    /// elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<RoleName>>,
    /// The traits that are held now; `None` trusts the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traits: Option<Traits>,
    /// Whether they may do nothing at present.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// Whether they were removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// Approved access requests by id, as long as they hold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lent: BTreeMap<String, LentRoles>,
}

impl UserState {
    /// A user who holds these roles now.
    pub fn with_roles(roles: impl IntoIterator<Item = RoleName>) -> Self {
        Self { roles: Some(roles.into_iter().collect()), ..Self::default() }
    }
}

/// What an access request lends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LentRoles {
    /// The roles.
    pub roles: Vec<RoleName>,
    /// Until when.
    pub expires: Timestamp,
}
