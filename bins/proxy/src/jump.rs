//! The SSH jump host at the front door.

use std::net::SocketAddr;
use std::sync::Arc;

use access_client::Directory;
use access_core::{Resource, ResourceKind};
use access_proxy::{ClientStream, Outcome, Prelude, Recognised};
use access_ssh::{JumpHost, NodeDirectory};
use async_trait::async_trait;

/// Recognises SSH by its first bytes (RFC 4253, section 4.2) and serves it as a jump host.
pub(crate) struct SshPrelude(pub(crate) JumpHost);

#[async_trait]
impl Prelude for SshPrelude {
    fn name(&self) -> &'static str {
        "ssh"
    }

    fn recognise(&self, first: &[u8]) -> Recognised {
        Recognised::by_mark(first, b"SSH-2.0-")
    }

    async fn serve(&self, stream: ClientStream, client: SocketAddr) -> Outcome {
        self.0.serve(Box::new(stream), Some(client)).await;
        Outcome::Done
    }
}

/// The nodes that the cluster knows.
pub(crate) struct Nodes(pub(crate) Arc<Directory>);

impl NodeDirectory for Nodes {
    fn find(&self, name: &str) -> Option<Resource> {
        let by_label = self.0.find(ResourceKind::Node, name);
        let found = by_label.or_else(|| {
            let name = access_core::ResourceName::new(name).ok()?;
            self.0.find(ResourceKind::Node, &access_core::resource::dns_label(&name))
        });
        found.map(|resource| Resource::clone(&resource))
    }
}
