//! The proxy as a program: from a configuration to a running front door.

mod daemon;
mod jump;
mod postgres;
mod web_key;

pub use daemon::ProxyDaemon;
