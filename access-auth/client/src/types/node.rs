//! Nodes: hosts that are reached by SSH.

use access_core::document::{Document, DocumentError, DocumentSpec, Metadata};
use access_core::policy::ApiKind;
use access_core::role::ROLE_SCHEMA;
use access_core::{HostId, Resource};
use serde::{Deserialize, Serialize};

use super::{Served, is_default};

/// A node as stored and printed. Its labels are the document's; it expires unless its agent
/// writes it again.
pub type NodeDocument = Document<NodeSpec>;

/// What an agent tells about a node that it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// The agent that serves it.
    pub host: HostId,
    /// What the host calls itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname: String,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub version: String,
    /// Whether the agent passes connections on to the host's own `sshd`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub openssh: bool,
    /// The schema of roles that the agent knows; 0 when it does not say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub role_schema: u32,
}

impl DocumentSpec for NodeSpec {
    const KIND: ApiKind = ApiKind::Node;
}

impl NodeSpec {
    /// A node of which nothing is known but its agent, a program of this version.
    pub fn new(host: HostId) -> Self {
        Self {
            host,
            hostname: String::new(),
            version: String::new(),
            openssh: false,
            role_schema: ROLE_SCHEMA,
        }
    }

    /// What decisions over the node look at.
    ///
    /// # Errors
    /// [`DocumentError::Field`] when the document's name is none.
    pub fn resource(&self, metadata: &Metadata) -> Result<Resource, DocumentError> {
        Served::resource(self, metadata)
    }
}
