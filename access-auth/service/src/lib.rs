//! The Auth Service: the cluster's authorities, users, hosts, roles and audit log, and the API to
//! all of it.
//!
//! [`AuthService::open`] finds the cluster in a store, or makes it; then it is served over TLS, to
//! a local socket, or through a pipe within the process. State is only in the store: any number of
//! replicas over one store are one service.
//!
//! ```
//! use std::sync::Arc;
//! use access_auth::{AuthService, Options};
//! use access_backend::Memory;
//! use access_client::AuthClient;
//! use access_core::{ClusterName, Timestamp, time::ManualClock};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_767_323_045)));
//! let mut options = Options::new(dir.path().join("data"), clock.clone());
//! options.cluster_name = Some(ClusterName::new("example.com")?);
//! let auth = AuthService::open(Arc::new(Memory::default()), options).await?;
//!
//! // The administrator of this host needs no login.
//! let admin = AuthClient::over_stream(auth.local_pipe());
//! let request = access_client::proto::CreateTokenRequest {
//!     types: vec!["node".into()],
//!     ..Default::default()
//! };
//! let token = admin.admin().create_token(request).await?.into_inner();
//! assert_eq!(token.ca_pins, [auth.ca_pins()?[0].to_string()]);
//! auth.close().await;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod admin;
mod admit;
mod api;
mod audit;
mod caller;
mod cluster;
mod databases;
mod error;
mod hosts;
mod issue;
mod limits;
mod live;
mod options;
mod passwords;
mod presence;
mod recordings;
mod resources;
mod seal;
mod secrets;
mod serve;
mod service;
mod store;
mod upkeep;
mod users;
mod visit;

pub use caller::Caller;
pub use error::{Error, Result};
pub use limits::Rate;
pub use options::{Limits, Options, Storage, Upkeep};
pub use recordings::recordings_at;
pub use seal::SEAL_KEY_ENV;
pub use service::AuthService;
pub use store::StoreClock;

/// The version that the API tells.
const VERSION: &str = env!("CARGO_PKG_VERSION");
