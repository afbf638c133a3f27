//! The service from outside: over a pipe within the process, and over TLS.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod audit;
mod cluster;
mod databases;
mod documents;
mod dynamic;
mod hosts;
mod lately;
mod recordings;
mod replicas;
mod start;
mod transport;
mod users;
mod views;
mod watch;
