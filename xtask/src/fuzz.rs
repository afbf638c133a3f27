//! `cargo xtask fuzz`: cargo-fuzz over the targets of `fuzz/`.

use std::fs;
use std::path::Path;

use clap::Args;

use crate::run::{Outcome, cargo, done, root, succeeds};

/// What `cargo xtask fuzz` takes.
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// One target; every target in turn without.
    target: Option<String>,
    /// Inputs to try on each target; without end when one target is named, 100,000 else.
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
}

/// Inputs on each target when all of them are run.
const RUNS_OF_EACH: u64 = 100_000;

/// Fuzzes until the runs are used up or an input fails.
pub(crate) fn run(args: &FuzzArgs) -> Outcome {
    let known = targets(&root().join("fuzz/fuzz_targets"))?;
    let (chosen, runs) = choose(args, &known)?;
    if !succeeds(&mut cargo(&["fuzz", "--version"])) {
        return Err("cargo-fuzz is not installed: run `cargo install cargo-fuzz --locked`".into());
    }
    for target in chosen {
        let mut command = cargo(&["fuzz", "run", target]);
        // The sanitizer is a flag of nightly compilers; this lets the pinned stable one take it.
        command.env("RUSTC_BOOTSTRAP", "1");
        if let Some(runs) = runs {
            command.arg("--").arg(format!("-runs={runs}"));
        }
        done(&mut command)?;
    }
    Ok(())
}

/// Which targets, and how many inputs for each; `None` goes on until it is stopped.
fn choose<'a>(args: &FuzzArgs, known: &'a [String]) -> Result<(Vec<&'a str>, Option<u64>), String> {
    let Some(name) = &args.target else {
        let all = known.iter().map(String::as_str).collect();
        return Ok((all, Some(args.runs.unwrap_or(RUNS_OF_EACH))));
    };
    let target = known
        .iter()
        .find(|target| *target == name)
        .ok_or_else(|| format!("no fuzz target {name:?}; there are: {}", known.join(", ")))?;
    Ok((vec![target], args.runs))
}

/// The names of the targets: the files in their folder.
fn targets(folder: &Path) -> Result<Vec<String>, String> {
    let unreadable = |err| format!("cannot read {}: {err}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ext| ext == "rs")
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(target: Option<&str>, runs: Option<u64>) -> FuzzArgs {
        FuzzArgs { target: target.map(str::to_owned), runs }
    }

    #[test]
    fn all_targets_end_and_a_named_one_goes_on() {
        let known = ["a".to_owned(), "b".to_owned()];
        assert_eq!(choose(&args(None, None), &known).unwrap(), (vec!["a", "b"], Some(100_000)));
        assert_eq!(choose(&args(Some("b"), None), &known).unwrap(), (vec!["b"], None));
        assert_eq!(choose(&args(Some("b"), Some(7)), &known).unwrap(), (vec!["b"], Some(7)));
    }

    #[test]
    fn an_unknown_target_is_answered_with_those_there_are() {
        let why = choose(&args(Some("c"), None), &["a".to_owned()]).unwrap_err();
        assert_eq!(why, "no fuzz target \"c\"; there are: a");
    }

    #[test]
    fn the_targets_are_found() {
        assert!(!targets(&root().join("fuzz/fuzz_targets")).unwrap().is_empty());
    }
}
