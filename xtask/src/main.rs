//! The one entrance for people and CI: `cargo xtask test` and its parts.
//!
//! ```text
//! cargo xtask test [--without NAME]…     everything that CI runs
//! cargo xtask fmt | lint | docs          one part of it
//! cargo xtask check-deps                 the arrows between the crates
//! cargo xtask bench [peers|NAME]         speed
//! cargo xtask fuzz [--target T] [--seconds N]   hostile input
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to a person")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod bench;
mod check_deps;
mod fuzz;
mod peers;
mod run;
mod stages;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tests, checks and measures the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what the tests need, then run every check and test. What CI runs.
    ///
    /// Example: cargo xtask test --without rsync
    Test(test::TestArgs),
    /// Check the arrows between the crates, and that no forbidden crate is in the graph.
    CheckDeps,
    /// Format the code (with --check: only say what is not formatted).
    Fmt {
        /// Change nothing; fail when something is not formatted.
        #[arg(long)]
        check: bool,
    },
    /// Clippy over every target, warnings as errors.
    Lint,
    /// Build the documentation, warnings as errors.
    Docs,
    /// Measure: `peers` for the table of ratios against other programs, a name for one benchmark,
    /// nothing for all benchmarks.
    ///
    /// Example: cargo xtask bench peers
    Bench(bench::BenchArgs),
    /// Run fuzz targets, one after another; needs cargo-fuzz.
    ///
    /// Example: cargo xtask fuzz --target tunnel_frames --seconds 600
    Fuzz(fuzz::FuzzArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Test(args) => test::run(&args),
        Command::CheckDeps => check_deps::run(),
        Command::Fmt { check } => stages::fmt(check),
        Command::Lint => stages::clippy(),
        Command::Docs => stages::docs(),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
