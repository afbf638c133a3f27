//! How long a quickstart takes until it is ready, and what it weighs.

use std::time::Duration;

use crate::Result;
use crate::cluster::Quickstart;
use crate::contenders::private_folder;
use crate::machine::{status_kib, threads};
use crate::stats::{Series, Target, heading, line, verdict};

/// How long it is left alone before it is weighed.
const IDLE: Duration = Duration::from_secs(2);

/// Starts it on new folders and on an old one in turns, and prints the tables.
///
/// # Errors
/// When it does not come up.
pub fn run(rounds: usize) -> Result<()> {
    let old = private_folder()?;
    let old_data = old.path().join("data");
    drop(Quickstart::start(&old_data)?);
    let mut fresh = Series::default();
    let (mut again, mut resident, mut anonymous) = <(Series, Series, Series)>::default();
    let mut count = None;
    for _ in 0..rounds {
        let new = private_folder()?;
        fresh.push(Quickstart::start(&new.path().join("data"))?.took.as_secs_f64() * 1e3);
        let quickstart = Quickstart::start(&old_data)?;
        again.push(quickstart.took.as_secs_f64() * 1e3);
        std::thread::sleep(IDLE);
        let pid = quickstart.process.id();
        let mib = |field| status_kib(pid, field).map(|kib| kib as f64 / 1024.0);
        resident.push(mib("VmRSS").ok_or("it is gone")?);
        anonymous.push(mib("RssAnon").ok_or("it is gone")?);
        count = threads(pid);
    }
    heading("quickstart, from its start to the line that says it is ready", "ms");
    line("on a new data directory", &fresh);
    line("on its data directory of before", &again);
    heading("quickstart, memory 2 s later", "MiB");
    line("resident", &resident);
    line("of that anonymous, the rest being the program's own pages", &anonymous);
    println!("  threads: {}", count.unwrap_or_default());
    verdict("ready after start, new", fresh.median() / 1e3, "s", Target::AtMost(0.5));
    verdict("ready after start, again", again.median() / 1e3, "s", Target::AtMost(0.5));
    verdict("memory, idle", resident.median(), "MiB", Target::AtMost(40.0));
    Ok(())
}
