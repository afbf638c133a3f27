//! The side-by-side runner's parts; criterion's benches live in `benches/`.
//!
//! Everything is started here, on loopback, and measured in turns: A B A B, so that whatever else
//! the machine does meets all contenders alike. Only figures of one run compare.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

pub mod bulk;
pub mod cluster;
pub mod contenders;
pub mod criterion;
pub mod machine;
pub mod openssh;
pub mod postgres;
pub mod process;
pub mod quickstart;
pub mod ssh;
pub mod stats;

/// Whatever ends a run early, told to whoever started it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
