//! Nodes: hosts that are reached by SSH.

use access_core::document::{Document, DocumentError, DocumentSpec, Metadata};
use access_core::policy::ApiKind;
use access_core::{HostId, Resource, ResourceName, ResourceRef};
use serde::{Deserialize, Serialize};

use super::is_default;

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
}

impl DocumentSpec for NodeSpec {
    const KIND: ApiKind = ApiKind::Node;
}

impl NodeSpec {
    /// A node of which nothing is known but its agent.
    pub fn new(host: HostId) -> Self {
        Self { host, hostname: String::new(), version: String::new(), openssh: false }
    }

    /// What decisions over the node look at.
    ///
    /// # Errors
    /// [`DocumentError::Field`] when the document's name is none.
    pub fn resource(&self, metadata: &Metadata) -> Result<Resource, DocumentError> {
        let name = ResourceName::new(&metadata.name)
            .map_err(|err| DocumentError::Field(format!("metadata.name: {err}")))?;
        Ok(Resource {
            id: ResourceRef::node(name),
            labels: metadata.labels.clone(),
            host: self.host.clone(),
        })
    }
}
