//! 1 GiB from the node.

use crate::Result;
use crate::contenders::{Contenders, Way};
use crate::machine;
use crate::process::timed;
use crate::stats::{Series, Target, heading, line, verdict};

/// Of both kinds of content: what a terminal would show is recorded as text, the rest as bytes,
/// and zeros compress better than either.
const CONTENTS: [(&str, &str); 1] = [("1 GiB of zeros", "head -c 1G /dev/zero")];

/// Runs all ways in turns and prints the tables, in MiB/s.
///
/// # Errors
/// When a command fails.
pub fn run(contenders: &Contenders, rounds: usize) -> Result<()> {
    for (title, command) in CONTENTS {
        let mut series = Way::ALL.map(|way| (way, Series::default()));
        for _ in 0..rounds {
            for (way, series) in &mut series {
                let took = timed(&mut contenders.ssh(*way, command))?;
                series.push(1024.0 / took.as_secs_f64());
            }
        }
        heading(title, "MiB/s");
        for (way, series) in &series {
            line(way.name(), series);
        }
        let [(_, direct), (_, program), (_, peer_jump), (_, jump)] = &series;
        let target = Target::AtLeast(1.0);
        verdict("`access proxy ssh` by OpenSSH's -J", program.ratio(peer_jump), "", target);
        verdict("ours with -J by OpenSSH's -J", jump.ratio(peer_jump), "", target);
        println!("`access proxy ssh` by direct {:.3}", program.ratio(direct));
    }
    let pid = contenders.cluster.quickstart.process.id();
    if let (Some(now), Some(peak)) =
        (machine::status_kib(pid, "VmRSS"), machine::status_kib(pid, "VmHWM"))
    {
        println!("the quickstart afterwards: {} MiB resident, peak {}", now / 1024, peak / 1024);
    }
    Ok(())
}
