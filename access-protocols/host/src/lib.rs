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
//! # What the login user is, and what not
//!
//! Shells, commands and the SFTP server run as the login user, in sessions (setsid(2)) of their
//! own. Three things are not bound to that account:
//!
//! - Forwarded connections (`ssh -L`) are dialled by this process itself. Firewall rules that go by
//!   the owner of a socket see the user of this process, not the login user: roles say what may be
//!   dialled.
//! - The end of a permit ends a process with its process group and session. What a process has
//!   moved to a session of its own (setsid(1), a daemon) survives, as it survives a
//!   logout from OpenSSH. Its input and output end with the permit.
//! - SFTP does not pass through the login shell, so that it is refused to accounts whose shell holds
//!   them back: one that is not in shells(5), or is known to restrict, such as `rbash`.
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
mod probe;
mod process;
mod pty;
mod reach;
pub mod sftp;
mod signals;
mod spawn;
mod supervise;
mod sys;

pub use clock::SystemClock;
pub use probe::Probe;
pub use reach::{HostError, HostReach, HostReachBuilder};
