//! What stock clients do: pgbench and psql.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::process::{Running, output, timed};

/// What pgbench runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Its name in the tables.
    pub(super) name: &'static str,
    /// How many clients.
    clients: usize,
    /// What else it is told.
    args: &'static [&'static str],
    /// A script in the place of its own.
    script: Option<&'static str>,
}

/// Ten statements go out before the first answer is waited for.
const PIPELINE: &str = "\\set aid random(1, 1000000)\n\\startpipeline\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid + 1;\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid + 2;\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid + 3;\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid + 4;\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid + 5;\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid + 6;\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid + 7;\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid + 8;\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid + 9;\n\
    \\endpipeline\n";

impl Load {
    /// `pgbench -S` by so many clients.
    pub(super) const fn select(name: &'static str, clients: usize) -> Self {
        Self { name, clients, args: &["-S"], script: None }
    }

    /// The same by prepared statements.
    pub(super) const fn prepared(name: &'static str, clients: usize) -> Self {
        Self { name, clients, args: &["-S", "-M", "prepared"], script: None }
    }

    /// Batches of ten.
    pub(super) const fn pipelined(name: &'static str, clients: usize) -> Self {
        Self { name, clients, args: &["-M", "prepared"], script: Some(PIPELINE) }
    }

    /// A connection for each statement.
    pub(super) const fn connecting(name: &'static str, clients: usize) -> Self {
        Self { name, clients, args: &["-S", "-C"], script: None }
    }

    /// Runs it, and gives transactions a second.
    ///
    /// # Errors
    /// When pgbench fails.
    pub(super) fn run(&self, folder: &Path, conninfo: &str, span: Duration) -> Result<f64> {
        let mut pgbench = Command::new("pgbench");
        pgbench.arg("-n").args(self.args);
        if let Some(script) = self.script {
            let path = folder.join("script.sql");
            std::fs::write(&path, script)?;
            pgbench.arg("-f").arg(path);
        }
        pgbench.args(["-c", &self.clients.to_string(), "-j", &self.clients.min(2).to_string()]);
        pgbench.args(["-T", &span.as_secs().to_string()]).arg(conninfo);
        let said = output(&mut pgbench, "")?;
        let figure = said.lines().find_map(|line| line.strip_prefix("tps = "));
        let figure = figure.and_then(|rest| rest.split(' ').next());
        Ok(figure.ok_or_else(|| format!("pgbench said: {said}"))?.parse()?)
    }
}

/// Copies the large table out, and gives how long that took.
///
/// # Errors
/// When psql fails.
pub(super) fn copy_out(conninfo: &str) -> Result<Duration> {
    timed(Command::new("psql").args(["-Xq", "-c", "\\copy bulk to '/dev/null'"]).arg(conninfo))
}

/// Opens so many sessions, each of which runs one statement and then does nothing until this is
/// dropped.
///
/// # Errors
/// When pgbench cannot be started.
pub(super) fn idle(folder: &Path, conninfo: &str, sessions: usize) -> Result<Running> {
    let path = folder.join("idle.sql");
    std::fs::write(&path, "SELECT 1;\n\\sleep 600 s\n")?;
    let mut pgbench = Command::new("pgbench");
    pgbench.args(["-n", "-t", "1", "-c", &sessions.to_string(), "-f"]).arg(path).arg(conninfo);
    Ok(Running(pgbench.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
}
