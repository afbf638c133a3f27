//! A cluster of real processes, for end-to-end tests.
//!
//! The programs are those that `cargo build --workspace --bins` leaves; everything listens on
//! loopback, on ports that the kernel chose, and is ended by its process id.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod authorities;
mod clock;
mod cluster;
mod databases;
mod impostor;
mod memory;
mod postgres;
mod process;
mod replicas;
mod run;
mod volume;

pub use authorities::Authorities;
pub use clock::off_by;
pub use cluster::{Cluster, PASSWORD, Quickstart, daemon_command};
pub use databases::{DbSite, Way};
pub use impostor::{Impostor, ImpostorBuilder, Mask, Spoils};
pub use memory::{Capture, Memory, contains, resident_kib};
pub use postgres::Postgres;
pub use process::Process;
pub use replicas::Replicas;
pub use run::{Done, bin, run, without};
pub use volume::Volume;
