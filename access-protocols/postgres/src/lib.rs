//! PostgreSQL and CockroachDB behind the gate.
//!
//! [`PostgresServer`] stands between stock clients and databases: who a client is, its certificate
//! says; whether it may use a database, the [`Gate`](access_core::Gate) says before anything is
//! dialled, and again for every statement; the database is shown a certificate for the account that
//! was allowed, minutes long, and nobody holds a password. Every statement leaves its event before
//! its answer passes.
//!
//! [`Door`] is for a gateway that listens itself; behind a proxy, an agent hands on what comes
//! through its tunnels, and the proxy answers a client's first words with [`prelude`].
//!
//! # What passes, and what does not
//!
//! Everything of protocols 3.0 and 3.2 passes, types of messages that are not known here among it,
//! but for:
//!
//! - **Key data.** A client gets a number and a secret of this process, so that nobody but it can
//!   have its queries cancelled.
//! - **What the gate refuses.** The statement is replaced by one that is a syntax error wherever it
//!   stands, and the client is told the reason in place of the database's own error: the
//!   transaction is aborted and the pipeline skipped by the database itself, so that what it says
//!   of its state stays true.
//! - **Client encodings in which a backslash can be part of a character** (SJIS, BIG5, GBK, UHC,
//!   GB18030, JOHAB): statements in them could be read as others than the database runs. A session
//!   that changes to one is ended.
//!
//! A session that may only read is read-only for the database, too (`default_transaction_read_only`);
//! a database that reports otherwise (PostgreSQL 14 and later do) ends it. Before PostgreSQL 16
//! functions on large objects write even so, when they are called by a statement; calls by the fast
//! path are refused.
//!
//! # Accounts that are made
//!
//! Where the grant says so ([`DatabaseGrant::create_user`](access_core::policy::DatabaseGrant)) and
//! the resource has an admin user, the account of a session is made before it: named as its user,
//! without a password, with exactly the roles that are granted. After the last session of that
//! account it is disabled or dropped. What exists and was not made this way is never touched.
//!
//! # What it has met
//!
//! The tests run against PostgreSQL 15, with `psql`, `pg_dump`, `pg_restore` and `tokio-postgres`;
//! through a whole cluster also with `psycopg`, `node-postgres`, JDBC and `sqlx`, and with scripts
//! for `psql`, PostgreSQL's own among them.
//! CockroachDB is in no package registry: what it alone does is played by a script, after its
//! documentation, and has not met the real server.
//!
//! # Bounds
//!
//! Of a statement, 1 MiB is held back to be judged, and 64 KiB are in its event; of all else nothing
//! is held. A session without traffic holds no buffer.
//!
//! ```no_run
//! use std::sync::Arc;
//! use access_postgres::{Databases, PostgresServer};
//! # use access_core::{Clock, Gate, audit::AuditSink, credentials::TargetCredentials, reach::Reach};
//! # fn example(
//! #     gate: Arc<Gate>, reach: Arc<dyn Reach>, audit: Arc<dyn AuditSink>, clock: Arc<dyn Clock>,
//! #     credentials: Arc<dyn TargetCredentials>, databases: Databases,
//! # ) -> Result<(), access_postgres::PostgresError> {
//! let server = PostgresServer::builder()
//!     .gate(gate)
//!     .reach(reach)
//!     .audit(audit)
//!     .clock(clock)
//!     .credentials(credentials)
//!     .databases(databases)
//!     .build()?;
//! # drop(server);
//! # Ok(())
//! # }
//! ```
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod ahead;
mod database;
mod door;
mod error;
mod handler;
mod machine;
mod observer;
mod options;
#[doc(hidden)]
pub mod oracle;
pub mod prelude;
mod probe;
mod roots;
pub mod sql;
mod tls;
mod users;
pub mod wire;

pub use database::{Database, DatabaseProtocol, Databases, PasswordSource, TargetAuth};
pub use door::Door;
pub use error::PostgresError;
pub use handler::{PostgresServer, PostgresServerBuilder};
pub use observer::DatabaseObserver;
pub use options::PostgresOptions;
pub use probe::probe;
pub use tls::{ALPN_POSTGRESQL, TargetTls, TlsMode};
