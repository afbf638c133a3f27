//! This host, for those who pass the gate: the system's clock, connections to targets, and
//! processes that run as the login user.
//!
//! - [`SystemClock`] tells the time to everything that is given an [`access_core::Clock`].
//! - [`HostReach`] is the [`Reach`](access_core::reach::Reach) of a program that runs on the host
//!   itself: it dials TCP, and starts shells, commands and the SFTP server with the privileges of
//!   the account that the permit names.
//! - [`sftp`] is that SFTP server. A program that starts it through [`HostReach`] calls
//!   [`sftp::run_if_invoked`] as the first thing in its `main`.
//!
//! ```no_run
//! use access_host::HostReach;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     if access_host::sftp::run_if_invoked() {
//!         return Ok(());
//!     }
//!     let reach = HostReach::builder().build()?;
//!     // … give it to the protocols that are to be served.
//! #   drop(reach);
//!     Ok(())
//! }
//! ```
//!
//! Linux only. `unsafe` stands in one file, `sys.rs`: what runs between `fork` and `exec`, and
//! a few calls that have no safe wrapper in the dependencies.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod account;
mod clock;
mod dial;
mod environment;
mod modes;
mod pipes;
mod process;
mod pty;
mod reach;
pub mod sftp;
mod signals;
mod spawn;
mod supervise;
mod sys;

pub use clock::SystemClock;
pub use reach::{HostError, HostReach, HostReachBuilder};
