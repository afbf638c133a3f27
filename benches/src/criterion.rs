//! The benches under `benches/` that print ratios by themselves, run from here.

use std::process::Command;

use crate::Result;

/// Those of which `peers` runs the closing measurements: what each prints once criterion has
/// nothing to do for it.
pub const BENCHES: [&str; 5] = ["tunnel", "issuing", "policy", "backend", "recording"];

/// Runs the closing measurements of a bench.
///
/// # Errors
/// When it fails.
pub fn run(name: &str) -> Result<()> {
    println!("\n{name}");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["bench", "--quiet", "-p", "access-benches", "--bench", name]);
    if name != "tunnel" {
        // Criterion's own figures are left out by a filter that none of them has in its name.
        command.args(["--", "ratios-alone"]);
    }
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("bench {name} failed: {status}").into()) }
}
