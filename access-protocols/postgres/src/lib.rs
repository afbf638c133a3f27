//! PostgreSQL and CockroachDB.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod ahead;
mod database;
mod error;
mod handler;
mod machine;
mod options;
#[doc(hidden)]
pub mod oracle;
pub mod prelude;
pub mod sql;
mod tls;
pub mod wire;

pub use database::{Database, DatabaseProtocol, Databases, PasswordSource, TargetAuth};
pub use error::PostgresError;
pub use handler::{PostgresServer, PostgresServerBuilder};
pub use options::PostgresOptions;
pub use tls::{ALPN_POSTGRESQL, TargetTls, TlsMode};
