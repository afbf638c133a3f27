//! The store of [`access_backend`] over PostgreSQL and CockroachDB, for any number of processes at once.
//!
//! ```no_run
//! use access_backend::{Backend, Key};
//! use access_backend_sql::{Engine, Sql, SqlOptions};
//!
//! # async fn example() -> Result<(), access_backend::Error> {
//! let options = SqlOptions::new(
//!     Engine::Postgres,
//!     "postgres://access@db.example.com/access_backend?sslmode=verify-full\
//!      &sslrootcert=/etc/access/db-ca.crt&sslcert=/etc/access/db.crt&sslkey=/etc/access/db.key",
//! )?;
//! let store = Sql::open(options).await?;
//! assert_eq!(store.get(&Key::parse("/users/danielle")?).await?, None);
//! store.close().await
//! # }
//! ```
//!
//! # What holds
//!
//! * A write is one transaction and, wherever the database allows it, one statement and one round trip. It carries a
//!   revision of 128 random bits.
//! * A transaction that meets others is tried again, with pauses, a bounded number of times: [`Stats::retries`].
//! * A connection that breaks while a write is under way leaves it open whether that was committed. The old session is
//!   ended first. Then the revision is looked up, in PostgreSQL's change log or in CockroachDB's row and feed, and the
//!   write is repeated exactly if it did not happen. On CockroachDB a delete of what is gone afterwards stays open: the
//!   answer is an error that says so, as it is when the feed does not come in time.
//! * On PostgreSQL, operations on one store are linearizable over all processes: see `statements/postgres.rs` for how.
//!   On CockroachDB they are serializable, and operations on one key are linearizable.
//! * All watches of a process share one feed. PostgreSQL's is the table `kv_log`, read in the order of transactions;
//!   CockroachDB's is a change feed. A position can be taken to another process on the same database.
//!
//! # What has met which database
//!
//! | | PostgreSQL 15 | a stand-in for CockroachDB on the PostgreSQL wire | CockroachDB |
//! | --- | --- | --- | --- |
//! | the conformance suite of rows and watches | in the tests | in the tests | where `ACCESS_TEST_COCKROACHDB_URL` is set |
//! | the suite of events | in the tests | in the tests | where it is set |
//! | linearizability while connections are cut and clients killed | in the tests | in the tests | no |
//! | an end in the middle of a commit, 40001, feeds that stall | in the tests (no feeds there) | in the tests | no |
//! | moving a store in and out | in the tests | no | no |
//! | regions, lists from nearby copies, the TTL of events | not there | in the tests, as far as they are sent | no |
//! | TLS in every `sslmode`, client certificates, their renewal | in the tests | no | no |
//!
//! No release of this crate has met CockroachDB itself in its makers' hands. `tests/golden` has every statement that it
//! would be sent; the stand-in refuses all others.
//!
//! # What it needs
//!
//! PostgreSQL from 14 on, or CockroachDB from 23.1 on with `kv.rangefeed.enabled`; a database of its own, in which its
//! user may create tables. Sessions are told how to behave when they begin, and have prepared statements: a pooler in
//! between has to give each connection a session of its own. The clocks of all machines agree within seconds.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod conn;
mod conn_string;
mod dialect;
mod errors;
mod events;
mod feed;
mod inspect;
mod lost;
mod options;
mod pool;
#[cfg(test)]
mod real_tests;
mod regions;
mod retention;
mod schema;
mod skew;
mod sql;
mod statements;
mod store;
mod tls;
mod types;
mod watch;
mod write;

pub use conn_string::{ConnString, Pooling, SslMode, TlsFiles};
pub use dialect::Engine;
pub use options::SqlOptions;
pub use regions::{Regions, Survive};
pub use retention::Retention;
pub use sql::Sql;
pub use store::Stats;
