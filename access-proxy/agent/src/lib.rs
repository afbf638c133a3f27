//! The agent's runtime: join, renew, hold tunnels, dispatch to protocols, spool.
//!
//! ```text
//!  Membership   joins with a token and a pin; new keys and certificates in time, for ever
//!     └─ Host   + cache of policy and authorities, audit spool, recordings, heart-beats
//!         └─ Agent   + a tunnel to each proxy, and dispatch to the registered protocols
//! ```
//!
//! A proxy takes a [`Host`] (with a token of its own type); an agent takes all. Nothing here knows
//! a protocol of users: a program registers what it speaks by the kind of resource it serves.
//!
//! An agent in thirty lines, which serves a node by a protocol of one's own:
//!
//! ```no_run
//! use std::{collections::BTreeSet, sync::Arc};
//! use access_agent::*;
//! use access_client::types::{NodeDocument, NodeSpec};
//! use access_core::protocol::{Incoming, Protocol};
//! use access_core::{Clock, ResourceKind, identity::Service};
//! use tokio_util::sync::CancellationToken;
//!
//! struct Echo;
//!
//! #[async_trait::async_trait]
//! impl Protocol for Echo {
//!     fn kind(&self) -> ResourceKind {
//!         ResourceKind::Node
//!     }
//!     async fn serve(&self, connection: Incoming) {
//!         let (mut from, mut to) = tokio::io::split(connection.stream);
//!         let _ = tokio::io::copy(&mut from, &mut to).await;
//!     }
//! }
//!
//! async fn serve(clock: Arc<dyn Clock>) -> Result<(), Box<dyn std::error::Error>> {
//!     let route = AuthRoute::Proxies(vec!["example.com:443".parse()?]);
//!     let mut options = HostOptions::new("/var/lib/access", route, "web-1");
//!     options.services = BTreeSet::from([Service::Node]);
//!     options.resources = vec!["node/web-1".parse()?];
//!     options.token = Some(JoinToken::new(std::fs::read_to_string("/etc/access/token")?));
//!     options.pins = vec![std::fs::read_to_string("/etc/access/ca-pin")?.trim().parse()?];
//!
//!     let host = Host::open(options, clock).await?;
//!     let node = NodeSpec::new(host.membership().host_id().clone());
//!     let agent = Agent::builder(host)
//!         .protocol(Arc::new(Echo))
//!         .resource(NodeDocument::new("web-1", node))
//!         .build()?;
//!     let stop = CancellationToken::new();
//!     agent.run(stop).await?;
//!     Ok(())
//! }
//! ```
//!
//! A protocol that decides, records and audits is built between `open` and `build`, from what the
//! host has: [`Host::policy`] for its gate, [`Host::audit`], [`Host::recorder`],
//! [`Host::database_credentials`], [`Membership::trust`], and [`Membership::credentials`] for keys
//! that follow renewals.
//!
//! # In the data directory
//!
//! Everything is in `DATA_DIR/host`, for its owner alone; one process at a time may use it.
//!
//! | path | holds |
//! | --- | --- |
//! | `identity`, `claims`, `pending`, `lock` | keys and certificates; what they were asked to say; keys that are on their way |
//! | `spool/` | audit events that Auth does not have yet |
//! | `recordings/` | recordings that Auth does not have yet, `SESSION.rec` |
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![forbid(unsafe_code)]

mod agent;
mod credentials;
mod error;
mod files;
mod follow;
mod heartbeat;
mod host;
mod membership;
mod pause;
mod recordings;
mod spool;
mod tunnels;

pub use agent::{Agent, AgentBuilder, AgentStatus};
pub use credentials::DatabaseCredentials;
pub use error::AgentError;
pub use follow::DynamicDatabases;
pub use host::{Host, HostStatus};
pub use membership::{AuthRoute, HostOptions, JoinToken, Membership};
pub use recordings::{RecordingOptions, SignerSource, SpoolRecorder};
#[doc(hidden)]
pub use spool::fuzz_oracle as spool_fuzz_oracle;
pub use spool::{ClientSource, SpoolOptions, SpoolSink, SpoolStatus};
pub use tunnels::{Strangers, StrangersPlace};
