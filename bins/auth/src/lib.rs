//! The Auth Service as a program: from a configuration to a running service.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod daemon;
mod storage;

pub use daemon::AuthDaemon;
pub use storage::{DATABASE, SOCKET, StoreAt, open_service, service_options, unopened};
