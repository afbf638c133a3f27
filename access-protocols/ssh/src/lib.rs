//! SSH behind the gate: the server of an agent, and the jump host of a proxy.
//!
//! [`SshServer`] serves one node to stock SSH clients over any stream: authentication by user
//! certificates of the cluster only, a host certificate for clients to verify, shells, commands,
//! SFTP and local forwarding, started through [`Reach`](access_core::reach::Reach) with permits of
//! the [`Gate`](access_core::Gate), audited, and recorded when the user's roles say so.
//!
//! [`JumpHost`] is what `ssh -J` talks to: it leads on to nodes and serves nothing itself; the
//! inner connection runs through it unread.
//!
//! # Who a client is
//!
//! The first certificate of the cluster that a client proves to hold says who it is. If that one is
//! refused, for its login, its address or by the gate, the client is told why and disconnected,
//! because SSH has no other way to say it: further certificates that it has are not tried. Of
//! several certificates for one node, name the one that is meant
//! (`ssh -o IdentitiesOnly=yes -o CertificateFile=…`).
//!
//! A client that showed a TLS certificate before SSH began ([`Incoming::peer`]) must show an SSH
//! certificate of the same subject.
//!
//! # What is recorded
//!
//! | session | `best_effort` | `strict` |
//! | --- | --- | --- |
//! | with a terminal | all output | all output |
//! | shell without a terminal | all input and output | all input and output |
//! | command without a terminal | of input and output a megabyte each, and from then on a megabyte a minute, with notes on what is missing | all input and output |
//! | SFTP | no recording; every operation is an event | the same |
//!
//! [`Incoming::peer`]: access_core::protocol::Incoming::peer
//!
//! ```no_run
//! use std::sync::Arc;
//! use access_core::protocol::{Admission, Incoming, Protocol};
//! use access_ssh::{HostKeys, SshServer};
//! # use access_core::{Clock, Gate, HostId, Resource, TrustStore, ids::TraceId};
//! # use access_core::{audit::AuditSink, reach::Reach};
//! # #[allow(clippy::too_many_arguments)]
//! # async fn example(
//! #     gate: Arc<Gate>, reach: Arc<dyn Reach>, audit: Arc<dyn AuditSink>, clock: Arc<dyn Clock>,
//! #     trust: Arc<TrustStore>, node: Resource, host_keys: HostKeys,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let id = node.id.clone();
//! let server = SshServer::builder()
//!     .gate(gate)
//!     .reach(reach)
//!     .audit(audit)
//!     .clock(clock)
//!     .trust(Arc::new(move || Arc::clone(&trust)))
//!     .host_keys(host_keys)
//!     .node(node)
//!     .build()?;
//! let server = Arc::new(server);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:2222").await?;
//! loop {
//!     let (stream, client) = listener.accept().await?;
//!     stream.set_nodelay(true)?;
//!     let connection = Incoming {
//!         stream: Box::new(stream),
//!         peer: None,
//!         resource: id.clone(),
//!         client_addr: Some(client),
//!         trace_id: TraceId::from_random(rand::random()),
//!         session: None,
//!         admission: Admission::unlimited(),
//!     };
//!     let server = Arc::clone(&server);
//!     tokio::spawn(async move { server.serve(connection).await });
//! }
//! # }
//! ```
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod auth;
mod channel;
mod connection;
mod error;
mod hostkeys;
mod input;
mod jump;
mod options;
#[doc(hidden)]
pub mod oracle;
mod pipe;
mod server;
mod sftp_watch;
mod wire;

pub use auth::TrustSource;
pub use error::SshError;
pub use hostkeys::HostKeys;
pub use jump::{JumpHost, JumpHostBuilder, NodeDirectory};
pub use options::SshOptions;
pub use server::{NodeSource, SshServer, SshServerBuilder};
