//! The Auth Service's API: its types, the client, pinning, and the watch-fed cache.
//!
//! Light on purpose: no store, no password hash, no authority. Agents, proxies and tools speak to
//! the Auth Service with [`AuthClient`], over TLS that ends at Auth itself, whether it is reached
//! directly or through a proxy that copies what it cannot read.
//!
//! [`Cache`] follows the cluster's policy, authorities and resources by one watch, and is the
//! [`PolicySource`](access_core::gate::PolicySource) of the gates in agents and proxies.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod address;
mod cache;
mod client;
mod credentials;
mod dial;
mod error;
mod events;
mod identity_file;
mod keys;
mod pem;
mod ping;
mod recorder;
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "generated; documented in the proto file"
)]
pub mod proto {
    //! The messages and services of `proto/access/v1/access.proto`, as generated.
    tonic::include_proto!("access.v1");
}
pub mod types;
mod ways;

pub use address::HostPort;
pub use cache::{Cache, CacheFeed, Directory};
pub use client::{AuthClient, AuthEndpoint, MAX_MESSAGE, with_deadline};
pub use credentials::{Credentials, MAX_CLOCK_SKEW};
pub use dial::{CONNECT_DEADLINE, NOBODY, TlsDialer, auth_name, dial_tcp};
pub use error::ClientError;
pub use keys::{KeySet, TlsKey};
pub use pem::certificate_pem;
pub use ping::{FirstTrust, Ping, PingAuth, ping};
pub use recorder::recorder_trust;
pub use ways::reach_any;
