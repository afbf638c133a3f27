//! The public front door: one port for everything, routed by first bytes, SNI and ALPN.
//!
//! ```text
//!  client ──► accept ──► limits ──► [PROXY protocol] ──► first bytes
//!      SSH, PostgreSQL, …  a Prelude serves them, or goes on as TLS
//!      TLS                 ClientHello: SNI, ALPN ──► the table in `route`
//!          auth.CLUSTER              bytes copied to Auth, untouched, behind the client's address
//!          NAME.node.CLUSTER, …      bytes copied over the tunnel of its agent, untouched
//!          access-tunnel             an agent's tunnel, mutual TLS
//!          h2, http/1.1, none        web
//!      HTTP                a redirect to HTTPS
//! ```
//!
//! The proxy reads what routes and no more: TLS to Auth and to agents ends there, not here. It
//! imports no store and no authority.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod first;
mod front;
mod hello;
mod limits;
#[doc(hidden)]
pub mod oracle;
mod prelude;
mod proxy_header;
mod reach;
mod relay;
mod route;
mod serve;
mod sessions;
mod tunnels;
mod underway;
mod unserved;
mod upstream;
mod web;

pub use access_core::Prefixed;
pub use front::{Front, FrontError, FrontOptions, FrontParts};
pub use limits::Limits;
pub use prelude::{ClientStream, Outcome, Prelude, Recognised};
pub use reach::TunnelReach;
pub use route::{ROUTES, Route, RouteRule, route};
pub use tunnels::{TunnelInfo, Tunnels};
pub use upstream::AuthUpstream;
pub use web::{PingInfo, WebPages};
