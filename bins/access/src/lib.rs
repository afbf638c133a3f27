//! `access`, the users' tool, as a library, so that one program can carry several.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod cli;
mod commands;
mod context;
mod openssh;
mod profile;

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
        Err(err) => return Exit::failed(err).report("access"),
    };
    let done = runtime.block_on(commands::run(cli));
    // A read of standard input that nobody waits for must not keep the process.
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(exit) => exit.report("access"),
    }
}
