//! Side by side with other programs, everything started here on loopback.
//!
//! `cargo xtask bench peers [-- NAME…]` with `ssh`, `bulk`, `quickstart`, `postgres`, or the name of a bench;
//! all of them without. `--rounds N` changes how often each contender takes its turn.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use std::process::ExitCode;

use access_benches::contenders::Contenders;
use access_benches::criterion::BENCHES;
use access_benches::{Result, bulk, criterion, machine, postgres, quickstart, ssh};

/// What can be asked for beside the benches.
const OWN: [&str; 4] = ["ssh", "bulk", "quickstart", "postgres"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("peers: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut names = Vec::new();
    let mut rounds = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--rounds" {
            rounds = Some(args.next().ok_or("--rounds needs a number")?.parse::<usize>()?);
        } else if OWN.contains(&arg.as_str()) || BENCHES.contains(&arg.as_str()) {
            names.push(arg);
        } else {
            let known = [OWN.as_slice(), &BENCHES].concat().join(", ");
            return Err(format!("there is no {arg}; there are {known}").into());
        }
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    machine::print();
    if wanted("quickstart") {
        quickstart::run(rounds.unwrap_or(5))?;
    }
    if wanted("ssh") || wanted("bulk") {
        let contenders = Contenders::start()?;
        if wanted("ssh") {
            ssh::run(&contenders, rounds.unwrap_or(15))?;
        }
        if wanted("bulk") {
            bulk::run(&contenders, rounds.unwrap_or(5))?;
        }
    }
    if wanted("postgres") {
        postgres::run(rounds.unwrap_or(5))?;
    }
    for bench in BENCHES.into_iter().filter(|bench| wanted(bench)) {
        criterion::run(bench)?;
    }
    println!("\nload at the end: {}", machine::load());
    Ok(())
}
