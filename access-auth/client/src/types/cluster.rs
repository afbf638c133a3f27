//! Settings of the whole cluster.

use access_core::document::{Document, DocumentSpec};
use access_core::policy::{ApiKind, ClusterSettings};
use access_core::{ClusterName, Timestamp};
use serde::{Deserialize, Serialize};

use super::is_default;

/// The cluster's settings as stored and printed. There is one such document, named `cluster`.
pub type ClusterConfigDocument = Document<ClusterConfigSpec>;

/// Settings of the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfigSpec {
    /// The cluster's name. It stands in every certificate, so that it never changes.
    pub cluster_name: ClusterName,
    /// Made once, with the cluster: tells it from another one of the same name.
    pub cluster_id: String,
    /// When the cluster was made.
    pub created_at: Timestamp,
    /// What decisions look at.
    #[serde(default)]
    pub settings: ClusterSettings,
    /// Where users and agents reach the cluster's proxies, `HOST:PORT`, when the proxies do not
    /// tell themselves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxies: Vec<String>,
}

impl DocumentSpec for ClusterConfigSpec {
    const KIND: ApiKind = ApiKind::ClusterConfig;
}

impl ClusterConfigSpec {
    /// The name of the one document.
    pub const NAME: &'static str = "cluster";
}
