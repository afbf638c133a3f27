//! `accessctl`, the administrators' tool, as a library, so that one program can carry several.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod cli;
mod cluster;
mod commands;
mod documents;
mod files;
mod kinds;
mod local;
mod place;

use std::ffi::OsString;
use std::process::ExitCode;

use access_daemon::Exit;
use clap::Parser;

/// Runs the tool with its arguments, program name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(err) => return access_daemon::usage(&err),
    };
    access_daemon::init_logging(&access_daemon::config::Log {
        severity: Some(if cli.debug {
            access_daemon::config::Severity::Debug
        } else {
            access_daemon::config::Severity::Error
        }),
        ..Default::default()
    });
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => return Exit::failed(err).report("accessctl"),
    };
    let done = runtime.block_on(commands::run(cli));
    // A read of standard input that nobody waits for must not keep the process.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report("accessctl"),
    }
}
