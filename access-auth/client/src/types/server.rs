//! Proxies and Auth replicas that are up.

use access_core::HostId;
use access_core::document::{Document, DocumentSpec};
use access_core::identity::Service;
use access_core::policy::ApiKind;
use serde::{Deserialize, Serialize};

use super::is_default;

/// A proxy or Auth replica as stored and printed. Its name is its host id; it expires unless the
/// process writes it again.
pub type ServerDocument = Document<ServerSpec>;

/// What a proxy or an Auth replica tells about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSpec {
    /// What it is: `proxy` or `auth`.
    pub service: Service,
    /// Its host id.
    pub host: HostId,
    /// What the host calls itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub version: String,
    /// Where it is reached, `HOST:PORT`: of proxies, the addresses that users and agents dial.
    #[serde(default, skip_serializing_if = "is_default")]
    pub public_addrs: Vec<String>,
    /// Where other proxies reach it, `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_addr: Option<String>,
    /// The schema of roles that it knows (see [`access_core::role::ROLE_SCHEMA`]); 0 when it does
    /// not say, which stands for 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub role_schema: u32,
}

impl DocumentSpec for ServerSpec {
    const KIND: ApiKind = ApiKind::Server;
}
