//! The agent's runtime: join, renew, hold tunnels, dispatch to protocols, spool.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![forbid(unsafe_code)]

mod agent;
mod error;
mod files;
mod heartbeat;
mod host;
mod membership;
mod pause;
mod recordings;
mod spool;
mod tunnels;

pub use agent::{Agent, AgentBuilder, AgentStatus};
pub use error::AgentError;
pub use host::{Host, HostStatus};
pub use membership::{AuthRoute, HostOptions, JoinToken, Membership};
pub use recordings::{RecordingOptions, SignerSource, SpoolRecorder};
pub use spool::{ClientSource, SpoolOptions, SpoolSink, SpoolStatus};
