//! `ssh node true`, the whole command.

use crate::Result;
use crate::contenders::{Contenders, Way};
use crate::process::timed;
use crate::stats::{Series, Target, heading, line, verdict};

/// Runs all ways in turns and prints the table.
///
/// # Errors
/// When a command fails.
pub fn run(contenders: &Contenders, rounds: usize) -> Result<()> {
    let mut series = Way::ALL.map(|way| (way, Series::default()));
    // The first ones pay for caches.
    for way in Way::ALL {
        timed(&mut contenders.ssh(way, "true"))?;
    }
    for _ in 0..rounds {
        for (way, series) in &mut series {
            series.push(timed(&mut contenders.ssh(*way, "true"))?.as_secs_f64() * 1e3);
        }
    }
    heading("ssh node true, the whole command", "ms");
    for (way, series) in &series {
        line(way.name(), series);
    }
    let [(_, direct), (_, program), (_, peer_jump), (_, jump)] = &series;
    verdict("`access proxy ssh` by direct", program.ratio(direct), "", Target::AtMost(1.15));
    verdict("ours with -J by OpenSSH's -J", jump.ratio(peer_jump), "", Target::AtMost(1.0));
    Ok(())
}
