//! The cluster's own processes: tokens to join with, names that belong to hosts, certificates
//! that renew themselves.

mod claims;
mod dynamic;
mod join;
mod names;
mod renew;
mod tokens;

pub(crate) use claims::{check_name, check_public_name};
pub(crate) use dynamic::Serves;

use std::collections::BTreeSet;

use access_backend::Key;
use access_ca::SanName;
use access_client::types::{NameBinding, ResourceMatcher};
use access_core::identity::Service;
use access_core::resource::Labels;
use access_core::{HostId, Login, ResourceRef, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::store;

/// What Auth knows of a host that joined. No API carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostRecord {
    /// Its id.
    pub(crate) id: HostId,
    /// What it is there for: what its token allowed and it asked for.
    pub(crate) services: BTreeSet<Service>,
    /// Resources that it may claim, by its token; any that nobody owns when empty.
    #[serde(default)]
    pub(crate) bound: Vec<NameBinding>,
    /// Labels that its resources get, by its token.
    #[serde(default)]
    pub(crate) labels: Labels,
    /// Which databases that administrators registered it may serve: what it said when it joined.
    #[serde(default)]
    pub(crate) databases: Vec<ResourceMatcher>,
    /// How often its certificates were issued.
    pub(crate) generation: u64,
    /// The digest of the keys that were certified last.
    pub(crate) keys: String,
    /// When it joined.
    pub(crate) joined_at: Timestamp,
}

/// Whose a resource's name is, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnerRow {
    /// None for administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<HostId>,
    /// What its host said of it when it registered it first, and cannot take back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<FirstSaid>,
}

/// What counts of a host's first word on a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstSaid {
    /// The account of a database that makes others; its certificate is good on every server that
    /// trusts the cluster, so that an agent which is stolen later must not choose another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin_user: Option<Login>,
}

/// Whose a resource's name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A host's, which serves it alone.
    Host(HostId),
    /// The administrators', who registered it by a document: every host that may serves it.
    Administrators,
}

/// What a host wants its certificates to say, read and found possible.
pub(crate) struct Claims {
    pub(crate) services: BTreeSet<Service>,
    pub(crate) resources: Vec<ResourceRef>,
    pub(crate) databases: Vec<ResourceMatcher>,
    pub(crate) public_names: Vec<SanName>,
}

pub(crate) fn host_key(id: &HostId) -> Result<Key> {
    store::key(["hosts", id.as_str()])
}

pub(crate) fn owner_key(resource: &ResourceRef) -> Result<Key> {
    store::key(["owners", resource.kind.as_str(), resource.name.as_str()])
}
