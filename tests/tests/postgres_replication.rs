//! Replication: COPY in both directions at once, for as long as anybody likes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, DbSite, Postgres, Process, without};
use nix::sys::signal::Signal;

#[test]
fn changes_are_streamed_and_acknowledged() {
    if without("postgresql") {
        return;
    }
    let cluster = Cluster::without_agent();
    let pg = Postgres::start_with(&cluster, "localhost", |data| {
        let config = data.join("postgresql.auto.conf");
        let mut config = OpenOptions::new().append(true).open(config).unwrap();
        config.write_all(b"wal_level = logical\n").unwrap();
    });
    let section = pg.section();
    let site = DbSite { cluster, pg }.serving(&section);
    let role = "kind: role\nversion: v1\nmetadata: { name: streams }\nspec:\n  \
                options: { db_replication: true }\n  \
                allow: { db_labels: { env: prod }, db_users: [owner], db_names: [shop] }\n";
    site.cluster.ctl(&["create", "-f", "-"], role).ok();
    site.add_user_with("alice", "access,streams", "owner", "shop");
    site.add_user_with("bob", "access", "owner", "shop");
    site.pg.sql("alter role owner replication");
    site.pg.sql_in("shop", "create table t (id int, name text)");
    let slot = "select pg_create_logical_replication_slot('changes', 'test_decoding')";
    site.pg.sql_in("shop", slot);
    let acknowledged =
        || site.pg.sql("select confirmed_flush_lsn - '0/0'::pg_lsn from pg_replication_slots");
    let before = acknowledged();
    let stream = |user: &str| {
        let way = site.straight(user, "owner");
        let mut receiver = Command::new("pg_recvlogical");
        receiver.args(["--slot=changes", "--start", "--file=-", "--status-interval=1"]);
        receiver.args(["--fsync-interval=1", "--no-loop", "--dbname", way.conninfo()]);
        Process::start("pg_recvlogical", receiver)
    };

    let refused = stream("bob");
    refused.wait_for("that it may not", |line| {
        line.contains("your roles do not permit this: replication").then_some(())
    });
    assert_ne!(refused.wait(), Some(0));

    let receiver = stream("alice");
    site.pg.sql_in(
        "shop",
        "insert into t select i, repeat('x', 1000) from generate_series(1, 5000) i",
    );
    receiver.wait_for("the last row", |line| {
        line.starts_with("table public.t: INSERT: id[integer]:5000 ").then_some(())
    });
    // What it says of how far it has come arrives, while rows go the other way.
    let until = Instant::now() + Duration::from_secs(20);
    while acknowledged() == before {
        assert!(Instant::now() < until, "nothing is acknowledged");
        std::thread::sleep(Duration::from_millis(100));
    }
    site.pg.sql_in("shop", "insert into t values (5001, 'later')");
    receiver.wait_for("a row that came later", |line| {
        line.contains("id[integer]:5001 name[text]:'later'").then_some(())
    });
    let inserts = receiver.output().matches("INSERT: ").count();
    assert_eq!(inserts, 5001);
    receiver.signal(Signal::SIGINT);
    assert_eq!(receiver.wait(), Some(0));

    let start = site.cluster.wait_for_event("db.session.start", |event| {
        event["replication"] == true && event["code"] == "TDB00I"
    });
    assert_eq!(start["user"], "alice", "{start:#?}");
    let query = site.cluster.wait_for_event("db.session.query", |event| {
        event["db_query"].as_str().is_some_and(|sql| sql.starts_with("START_REPLICATION SLOT"))
    });
    assert_eq!(query["sid"], start["sid"], "{query:#?}");
    site.cluster.wait_for_event("db.session.end", |event| event["sid"] == start["sid"]);
}
