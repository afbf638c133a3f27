//! Join tokens.

use std::fmt;

use access_core::document::{Document, DocumentSpec};
use access_core::identity::Service;
use access_core::policy::ApiKind;
use access_core::resource::{Labels, ResourceRefError};
use access_core::{ResourceName, ResourceRef};
use serde::{Deserialize, Serialize};

use super::is_default;

/// A join token as stored and printed. Its name is public: what is handed out to be joined with is
/// the name, a dot, and a secret of which only a hash is kept.
pub type TokenDocument = Document<TokenSpec>;

/// What may be done with a join token. When it expires stands in the document's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// What may join with it, all at once if it likes.
    pub types: Vec<Service>,
    /// How often it can still be used; any number of times when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u32>,
    /// Resources that hosts may claim with it; any that nobody owns when empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub names: Vec<NameBinding>,
    /// Labels that the resources of hosts get that joined with it, whatever they say themselves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: Labels,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

impl DocumentSpec for TokenSpec {
    const KIND: ApiKind = ApiKind::Token;
}

impl TokenSpec {
    /// Whether a host that joins with it may claim a resource, as far as the token says.
    pub fn binds(&self, resource: &ResourceRef) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name.covers(resource))
    }
}

/// A resource that a token is bound to: `node/web-1`, or `web-1` of whatever kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NameBinding {
    /// One resource.
    Resource(ResourceRef),
    /// A name among every kind.
    Name(ResourceName),
}

impl NameBinding {
    /// Whether a resource is meant.
    pub fn covers(&self, resource: &ResourceRef) -> bool {
        match self {
            Self::Resource(one) => one == resource,
            Self::Name(name) => *name == resource.name,
        }
    }
}

impl fmt::Display for NameBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(resource) => resource.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl std::str::FromStr for NameBinding {
    type Err = ResourceRefError;

    fn from_str(text: &str) -> Result<Self, ResourceRefError> {
        if text.contains('/') {
            text.parse().map(Self::Resource)
        } else {
            Ok(Self::Name(ResourceName::new(text)?))
        }
    }
}

impl TryFrom<String> for NameBinding {
    type Error = ResourceRefError;

    fn try_from(text: String) -> Result<Self, ResourceRefError> {
        text.parse()
    }
}

impl From<NameBinding> for String {
    fn from(name: NameBinding) -> Self {
        name.to_string()
    }
}
