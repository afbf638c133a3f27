//! `cargo xtask bench`: criterion's benchmarks, and the table of ratios against other programs.

use clap::Args;

use crate::run::{Outcome, cargo, done};

/// What `cargo xtask bench` takes.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// `peers`, or the name of one benchmark; all benchmarks without.
    name: Option<String>,
    /// Passed on to the runner or to the benchmark.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs what was asked for, in release.
pub(crate) fn run(args: &BenchArgs) -> Outcome {
    match args.name.as_deref() {
        Some("peers") => peers(&args.rest),
        Some(name) => {
            let bench = ["bench", "-p", "access-benches", "--bench", name, "--"];
            done(cargo(&bench).args(&args.rest))
        }
        None => done(&mut cargo(&["bench", "-p", "access-benches", "--benches"])),
    }
}

/// The side-by-side runner. It starts the programs themselves, so they are built first.
fn peers(rest: &[String]) -> Outcome {
    done(&mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
    let runner = ["run", "--release", "-p", "access-benches", "--bin", "peers", "--"];
    done(cargo(&runner).args(rest))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: BenchArgs,
    }

    #[test]
    fn what_follows_the_name_is_the_runner_s() {
        for words in [
            &["x", "peers", "--", "ssh", "--rounds", "3"][..],
            &["x", "peers", "ssh", "--rounds", "3"],
        ] {
            let args = Cli::try_parse_from(words).unwrap().args;
            assert_eq!(args.name.as_deref(), Some("peers"));
            assert_eq!(args.rest, ["ssh", "--rounds", "3"]);
        }
    }
}
