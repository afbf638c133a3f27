//! `cargo xtask fuzz`: cargo-fuzz over the targets of `fuzz/`.
//!
//! What the targets promise, and what came of running them, is in `fuzz/README.md`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use crate::run::{Outcome, cargo, done, root, succeeds};

/// What `cargo xtask fuzz` takes.
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// One target; every target in turn without.
    #[arg(long, value_name = "T")]
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Only say which targets there are.
    #[arg(long)]
    list: bool,
}

/// Longer than that on one input is a finding.
const SLOW: Duration = Duration::from_secs(10);

/// Says what will be run, and fuzzes until the time is used up or an input fails.
pub(crate) fn run(args: &FuzzArgs) -> Outcome {
    let known = targets(&root().join("fuzz/fuzz_targets"))?;
    let chosen = choose(args.target.as_deref(), &known)?;
    println!("{}", chosen.join("\n"));
    if args.list {
        return Ok(());
    }
    if !succeeds(&mut cargo(&["fuzz", "--version"])) {
        return Err("cargo-fuzz is not installed: run `cargo install cargo-fuzz --locked`".into());
    }
    for target in chosen {
        let (corpus, seeds) = (format!("fuzz/corpus/{target}"), format!("fuzz/seeds/{target}"));
        // The first folder takes what is found, and cargo-fuzz does not make one that is named.
        let made = fs::create_dir_all(root().join(&corpus));
        made.map_err(|err| format!("cannot create {corpus}: {err}"))?;
        let mut command = cargo(&["fuzz", "run", target, &corpus, &seeds, "--"]);
        // The sanitizer is a flag of nightly compilers; this lets the pinned stable one take it.
        command.env("RUSTC_BOOTSTRAP", "1");
        command.arg(format!("-max_total_time={}", args.seconds));
        command.arg(format!("-timeout={}", SLOW.as_secs()));
        done(&mut command)?;
    }
    Ok(())
}

/// The target of that name; all without one.
fn choose<'a>(name: Option<&str>, known: &'a [String]) -> Result<Vec<&'a str>, String> {
    let Some(name) = name else { return Ok(known.iter().map(String::as_str).collect()) };
    let found = known.iter().find(|target| *target == name);
    let found =
        found.ok_or_else(|| format!("no fuzz target {name:?}; there are: {}", known.join(", ")))?;
    Ok(vec![found])
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

    #[test]
    fn a_target_is_chosen_by_its_name_and_all_without() {
        let known = ["a".to_owned(), "b".to_owned()];
        assert_eq!(choose(None, &known).unwrap(), ["a", "b"]);
        assert_eq!(choose(Some("b"), &known).unwrap(), ["b"]);
    }

    #[test]
    fn an_unknown_target_is_answered_with_those_there_are() {
        let why = choose(Some("c"), &["a".to_owned()]).unwrap_err();
        assert_eq!(why, "no fuzz target \"c\"; there are: a");
    }

    #[test]
    fn every_target_is_built_and_has_seeds() {
        let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        let targets = targets(&root().join("fuzz/fuzz_targets")).unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target}");
            let seeds = fs::read_dir(root().join("fuzz/seeds").join(&target));
            assert!(seeds.is_ok_and(|mut seeds| seeds.next().is_some()), "no seeds for {target}");
        }
    }
}
