//! What the programs share: configuration, data directory, logging, signals, diagnostics, exits.
//!
//! Nothing here knows a protocol or a policy; the programs parse, build, run and drain with it.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod config;
mod data_dir;
mod diag;
mod exit;
mod flags;
#[cfg(feature = "host")]
mod host;
mod lifecycle;
mod logging;
#[cfg(feature = "login")]
mod login;
mod output;
mod reload;
mod sanitise;
mod signals;
#[cfg(feature = "host")]
mod ssh_keys;

pub use config::{Config, ConfigError};
pub use data_dir::{DataDirError, prepare_data_dir};
pub use diag::{Diagnostics, Readiness};
pub use exit::{Exit, ExitCode};
pub use flags::DaemonFlags;
#[cfg(feature = "host")]
pub use host::{host_name, host_options};
pub use lifecycle::{DEFAULT_DATA_DIR, Lifecycle, run, run_on};
pub use logging::{LogFormat, change_logging, init_logging};
#[cfg(feature = "login")]
pub use login::{Home, Profile, client_exit, identity_file, parse_proxy, read_optional};
pub use output::{
    OutputFormat, Table, note, print, print_bytes, print_document, print_value, read_new_secret,
    read_secret, usage,
};
pub use reload::{Reload, Source};
pub use sanitise::{Stripper, plain, plain_lines};
pub use signals::{Signals, Wish, notify_ready, notify_stopping, raise_open_files};
#[cfg(feature = "host")]
pub use ssh_keys::ssh_host_keys;
