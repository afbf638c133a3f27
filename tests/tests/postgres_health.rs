//! What administrators see of a database that answers, and of one that does not any more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, DbSite, Postgres, without};

/// Agents look every half minute.
const SEEN: Duration = Duration::from_secs(60);

/// Waits until administrators are shown this of `orders`.
#[track_caller]
fn wait_for(site: &DbSite, wanted: &str) -> String {
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
}

#[test]
fn a_database_that_stops_is_shown_as_unhealthy() {
    if without("postgresql") {
        return;
    }
    let mut site = DbSite::start();
    wait_for(&site, " healthy");
    site.pg.stop();
    let line = wait_for(&site, " unhealthy: ");
    assert!(line.contains("Connection refused"), "{line}");
}

#[test]
fn a_database_that_takes_no_certificate_of_ours_is_shown_as_unhealthy_once_somebody_comes() {
    if without("postgresql") {
        return;
    }
    let (cluster, other) = (Cluster::without_agent(), Cluster::without_agent());
    let clients =
        |cluster: &Cluster| cluster.ctl(&["auth", "export", "--type=db-client"], "").ok().out;
    let foreign = clients(&other);
    let mut file = None;
    let pg = Postgres::start_with(&cluster, "localhost", |data| {
        fs::write(data.join("clients.crt"), foreign).unwrap();
        file = Some(data.join("clients.crt"));
    });
    let section = pg.section();
    let site = DbSite { cluster, pg }.serving(&section);
    site.add_user("alice", "reader");
    // A look does not log in, and sees nothing of it.
    wait_for(&site, " healthy");
    let way = site.straight("alice", "reader");
    let refused = way.query("select 1");
    assert!(refused.err.contains("refuses the cluster's certificate"), "{refused:?}");
    wait_for(&site, " unhealthy: the database refuses the cluster's certificate");
    // Until somebody is let in.
    fs::write(file.unwrap(), clients(&site.cluster)).unwrap();
    site.pg.sql("select pg_reload_conf()");
    let end = Instant::now() + SEEN;
    while way.query("select 1").code != 0 {
        assert!(Instant::now() < end, "{:?}", way.query("select 1"));
        std::thread::sleep(Duration::from_millis(200));
    }
    wait_for(&site, " healthy");
}
