//! `cargo xtask test`: everything that CI runs, in one order, to the end.

use std::time::{Duration, Instant};

use clap::Args;

use crate::run::Outcome;
use crate::stages::{self, Denied};
use crate::{check_deps, peers};

/// What `cargo xtask test` takes.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Do without a peer: tests that need it pass over it, and say so. May be repeated.
    #[arg(long, value_name = "NAME", value_parser = peers::known())]
    without: Vec<String>,
    /// Build and install cargo-deny when it is not there; takes minutes.
    #[arg(long)]
    install_deny: bool,
}

/// How one stage ended.
struct Ended {
    name: &'static str,
    took: Duration,
    result: Result<Option<String>, String>,
}

/// Runs every stage, whatever became of the ones before.
pub(crate) fn run(args: &TestArgs) -> Outcome {
    let without = args.without.join(",");
    let mut ended = Vec::new();
    let mut stage = |name: &'static str, work: &dyn Fn() -> Result<Option<String>, String>| {
        println!("\n=== {name}");
        let start = Instant::now();
        let result = work();
        let took = start.elapsed();
        if let Err(why) = &result {
            eprintln!("{why}");
        }
        println!("=== {name}: {} after {}", word(&result), seconds(took));
        ended.push(Ended { name, took, result });
    };
    let plain = |outcome: Outcome| outcome.map(|()| None);

    stage("peers", &|| plain(peers::provide(&args.without)));
    stage("format", &|| plain(stages::fmt(true)));
    stage("check-deps", &|| plain(check_deps::run()));
    stage("clippy", &|| plain(stages::clippy()));
    stage("tests", &|| stages::tests(&without).map(|()| passed_over()));
    stage("doc tests", &|| plain(stages::doc_tests()));
    stage("docs", &|| plain(stages::docs()));
    stage("deny", &|| deny(args.install_deny));

    summary(&ended, &args.without)
}

/// What the tests pass over that is not asked for.
fn passed_over() -> Option<String> {
    std::env::var_os("ACCESS_TEST_POSTGRES_REGRESS").is_none().then(|| {
        "NOT RUN: PostgreSQL's own scripts; set ACCESS_TEST_POSTGRES_REGRESS (tests/README.md)"
            .into()
    })
}

fn deny(install: bool) -> Result<Option<String>, String> {
    match stages::deny(install) {
        Denied::Ran(outcome) => outcome
            .map(|()| Some("advisories not checked: their database is not fetched here".into())),
        Denied::Absent => {
            let note = "NOT RUN: cargo-deny is not installed, so licences, bans and sources were \
                        not checked; run `cargo xtask test --install-deny`";
            println!("{note}");
            Ok(Some(note.into()))
        }
    }
}

/// Says how each stage ended; an error when one failed.
fn summary(ended: &[Ended], without: &[String]) -> Outcome {
    println!("\n=== summary");
    for stage in ended {
        let note = match &stage.result {
            Ok(note) => note.as_deref().unwrap_or_default(),
            Err(why) => why.lines().next().unwrap_or_default(),
        };
        println!(
            "{:<10} {:>8}  {:<6} {note}",
            stage.name,
            seconds(stage.took),
            word(&stage.result)
        );
    }
    if !without.is_empty() {
        println!("done without: {}", without.join(", "));
    }
    let failed: Vec<&str> =
        ended.iter().filter(|stage| stage.result.is_err()).map(|stage| stage.name).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

fn word(result: &Result<Option<String>, String>) -> &'static str {
    if result.is_ok() { "ok" } else { "FAILED" }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(name: &'static str, result: Result<Option<String>, String>) -> Ended {
        Ended { name, took: Duration::from_millis(1_250), result }
    }

    #[test]
    fn one_failure_fails_the_whole_and_is_named() {
        let stages = [ended("format", Ok(None)), ended("clippy", Err("a lint".into()))];
        assert_eq!(summary(&stages, &[]).unwrap_err(), "failed: clippy");
        assert!(summary(&stages[..1], &["rsync".into()]).is_ok());
    }

    #[test]
    fn times_are_read_at_a_glance() {
        assert_eq!(seconds(Duration::from_millis(61_250)), "61.2 s");
    }
}
