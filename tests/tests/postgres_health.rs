//! What administrators see of a database that answers, and of one that does not any more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use access_e2e::{DbSite, without};

/// Agents look every half minute.
const SEEN: Duration = Duration::from_secs(60);

#[test]
fn a_database_that_stops_is_shown_as_unhealthy() {
    if without("postgresql") {
        return;
    }
    let mut site = DbSite::start();
    let wait_for = |site: &DbSite, wanted: &str| {
        let end = Instant::now() + SEEN;
        loop {
            let text = site.cluster.ctl(&["db", "ls"], "").ok().out;
            let line = text.lines().find(|line| line.contains("orders"));
            if let Some(line) = line.filter(|line| line.contains(wanted)) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "{wanted} is not there: {text}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    wait_for(&site, " healthy");
    site.pg.stop();
    let line = wait_for(&site, " unhealthy: ");
    assert!(line.contains("Connection refused"), "{line}");
}
