//! The cluster's policy, authorities and resources, followed by one watch.
//!
//! ```text
//!  Auth ──watch──► CacheFeed ──► RolePolicy   (gates decide over it)
//!                           ├──► SharedTrust  (handshakes are judged by it)
//!                           └──► Directory    (names lead to resources)
//! ```
//!
//! The cache is fed by nothing else, and every sign of life on the watch moves its `fresh_at`:
//! when Auth is away for longer than a gate's `max_staleness`, the gate grants nothing new.

mod apply;
mod directory;
mod feed;

use std::sync::Arc;

use access_core::gate::RolePolicy;
use access_core::identity::SharedTrust;
use access_core::policy::{ApiKind, PolicySnapshot};
use access_core::time::Timestamp;

pub use directory::Directory;
pub use feed::CacheFeed;

/// What a process knows of its cluster. Clones share it.
#[derive(Clone, Debug)]
pub struct Cache {
    policy: Arc<RolePolicy>,
    trust: Arc<SharedTrust>,
    directory: Arc<Directory>,
}

impl Cache {
    /// What agents follow: policy and authorities.
    pub const AGENT_KINDS: &'static [ApiKind] =
        &[ApiKind::ClusterConfig, ApiKind::Role, ApiKind::User, ApiKind::Lock, ApiKind::Authority];

    /// What proxies follow: the same, and what can be reached.
    pub const PROXY_KINDS: &'static [ApiKind] = &[
        ApiKind::ClusterConfig,
        ApiKind::Role,
        ApiKind::User,
        ApiKind::Lock,
        ApiKind::Authority,
        ApiKind::Node,
        ApiKind::Db,
        ApiKind::App,
        ApiKind::Kube,
        ApiKind::Desktop,
    ];

    /// A cache that knows nothing yet but what is trusted; gates over it grant nothing until the
    /// first snapshot is complete.
    pub fn new(trust: Arc<SharedTrust>) -> Self {
        let empty = PolicySnapshot::builder().build();
        Self {
            policy: Arc::new(RolePolicy::cached(empty, Timestamp::EPOCH)),
            trust,
            directory: Arc::new(Directory::default()),
        }
    }

    /// The policy, for gates.
    pub fn policy(&self) -> Arc<RolePolicy> {
        Arc::clone(&self.policy)
    }

    /// What is trusted, for handshakes.
    pub fn trust(&self) -> Arc<SharedTrust> {
        Arc::clone(&self.trust)
    }

    /// What can be reached, by name.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }
}
