//! The checks, each one call of a tool over the whole workspace.

use crate::run::{Outcome, cargo, done, find_program, succeeds};

/// Formats, or with `check` only says what is not formatted.
pub(crate) fn fmt(check: bool) -> Outcome {
    let args: &[&str] = if check { &["fmt", "--all", "--check"] } else { &["fmt", "--all"] };
    done(&mut cargo(args))
}

/// Clippy over every target.
pub(crate) fn clippy() -> Outcome {
    done(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// Every test but those in documentation. `without` are the peers that the caller does without.
pub(crate) fn tests(without: &str) -> Outcome {
    // Tests of whole programs start them from the target folder, which `cargo test` alone does
    // not fill with programs of other packages.
    done(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let nextest = succeeds(&mut cargo(&["nextest", "--version"]));
    let args: &[&str] = if nextest {
        &["nextest", "run", "--workspace", "--no-fail-fast"]
    } else {
        // Documentation tests have a stage of their own, which these four leave them to.
        &["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"]
    };
    done(cargo(args).env("ACCESS_TEST_WITHOUT", without))
}

/// The examples in the documentation.
pub(crate) fn doc_tests() -> Outcome {
    done(&mut cargo(&["test", "--workspace", "--doc", "--no-fail-fast"]))
}

/// The documentation itself.
pub(crate) fn docs() -> Outcome {
    done(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

/// What cargo-deny came to.
#[derive(Debug)]
pub(crate) enum Denied {
    /// It ran.
    Ran(Outcome),
    /// It is not there, and was not asked for.
    Absent,
}

/// Licences, bans and sources by cargo-deny, which `install` builds first when it is not there.
pub(crate) fn deny(install: bool) -> Denied {
    if find_program("cargo-deny").is_none() && !succeeds(&mut cargo(&["deny", "--version"])) {
        if !install {
            return Denied::Absent;
        }
        if let Err(why) = done(&mut cargo(&["install", "cargo-deny", "--locked"])) {
            return Denied::Ran(Err(why));
        }
    }
    Denied::Ran(done(&mut cargo(&["deny", "check", "bans", "licenses", "sources"])))
}
