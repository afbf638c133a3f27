//! Roles: the documents in which an administrator writes who may do what, and their compiled form.
//!
//! ```
//! use access_core::role::{Role, RoleDocument};
//!
//! let document = RoleDocument::from_json(br#"{
//!     "kind": "role", "version": "v1",
//!     "metadata": { "name": "dev" },
//!     "spec": {
//!         "options": { "max_session_ttl": "12h", "client_idle_timeout": "30m" },
//!         "allow": {
//!             "logins": ["{{internal.logins}}", "ubuntu"],
//!             "node_labels": { "env": ["dev", "staging"], "team": "{{external.team}}" },
//!             "rules": [{ "resources": ["event"], "verbs": ["list", "read"] }]
//!         },
//!         "deny": { "logins": ["root"] }
//!     }
//! }"#)?;
//! let role = Role::compile(&document)?;
//! assert_eq!(role.name().as_str(), "dev");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing is allowed that no role allows, and what one role denies is denied whatever others
//! allow. Denials are greedy: each entry of `deny` denies by itself, so that `deny.logins: [root]`
//! denies `root` everywhere, and they do not tell upper from lower case in account names.
//!
//! A field or value that is not understood makes the whole document unreadable, and a role that
//! cannot be read denies everything to those who hold it.

mod commands;
mod compiled;
mod options;
mod presets;
mod rules;
mod schema;
mod span;
mod template;
mod value;

use serde::{Deserialize, Serialize};

pub use commands::{CommandError, CommandList};
pub use compiled::{AccountKind, Conditions, Role, RoleError};
pub use options::{
    CreateDbUserMode, Forwarding, RecordMode, RecordSession, RoleOptions, SshPortForwarding,
};
pub use presets::{PRESETS, preset, presets};
pub(crate) use rules::KubernetesRequest;
pub use rules::{KubernetesRule, Rule, RuleResource, RuleTable, RuleVerb};
pub use schema::{ROLE_FIELDS, ROLE_SCHEMA, RoleField};
pub use span::{Span, SpanError};
pub use template::{INTERNAL_TRAITS, Template, TraitView};
pub use value::{Match, ValueList, ValuePattern, Values};

use crate::document::{Document, DocumentSpec};
use crate::labels::LabelRules;
use crate::policy::ApiKind;

/// A role as it is stored and printed.
pub type RoleDocument = Document<RoleSpec>;

/// What a role says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    /// Limits and switches of the sessions of those who hold it.
    #[serde(default)]
    pub options: RoleOptions,
    /// What it allows.
    #[serde(default)]
    pub allow: RoleConditions,
    /// What it denies, whatever other roles allow.
    #[serde(default)]
    pub deny: RoleConditions,
}

impl DocumentSpec for RoleSpec {
    const KIND: ApiKind = ApiKind::Role;
}

macro_rules! conditions {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        /// One side of a role: what is allowed, or what is denied.
        ///
        /// Values are patterns (see [`crate::labels`]) or templates over the user's traits.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct RoleConditions {
            $($(#[$doc])* #[serde(default, skip_serializing_if = "is_default")] pub $field: $type,)*
        }
    };
}

conditions! {
    /// Unix accounts on nodes. On the allowing side each is written out or comes from a trait,
    /// because certificates must name them.
    logins: Values,
    /// Which nodes.
    node_labels: LabelRules,
    /// Which databases.
    db_labels: LabelRules,
    /// Database accounts. Patterns never allow `root` or `node`: those must be written out.
    db_users: Values,
    /// Names of databases on the server.
    db_names: Values,
    /// Roles within the database for accounts that are made on the fly.
    db_roles: Values,
    /// Which web apps.
    app_labels: LabelRules,
    /// Which Kubernetes clusters.
    kubernetes_labels: LabelRules,
    /// Kubernetes groups to appear as.
    kubernetes_groups: Values,
    /// Kubernetes users to appear as.
    kubernetes_users: Values,
    /// What may be asked of Kubernetes clusters.
    kubernetes_resources: Vec<KubernetesRule>,
    /// Which Windows desktops.
    windows_desktop_labels: LabelRules,
    /// Windows accounts.
    windows_desktop_logins: Values,
    /// What may be done with the cluster's own documents.
    rules: Vec<Rule>,
    /// Which roles may be asked for.
    request: RequestConditions,
    /// Whose requests may be decided.
    review_requests: ReviewConditions,
}

/// Which roles somebody may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestConditions {
    /// Names or patterns of roles.
    #[serde(default, skip_serializing_if = "is_default")]
    pub roles: Values,
}

/// Which requests somebody may decide: those for these roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewConditions {
    /// Names or patterns of roles.
    #[serde(default, skip_serializing_if = "is_default")]
    pub roles: Values,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
