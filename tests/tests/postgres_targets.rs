//! Databases as they are configured, and what clients set for their sessions: all of it as it is
//! without us.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, DbSite, Postgres, Process, run, without};
use nix::sys::signal::Signal;

/// PostgreSQL as several databases of the configuration.
fn start() -> DbSite {
    let cluster = Cluster::without_agent();
    let pg = Postgres::start(&cluster);
    let other = Postgres::start_with(&cluster, "elsewhere.example.org", |_| {});
    let mut section = pg.section();
    // Nobody listens at the first address.
    let second = pg.entry("second", "").replace("uri: localhost:", "uri: localhost:1,localhost:");
    assert!(second.contains("localhost:1,"), "{second}");
    section.push_str(&second);
    // A certificate for another name is good enough, and none is not.
    section.push_str(&other.entry("required", "    tls: { mode: require }\n"));
    section.push_str(&other.entry("verified", ""));
    let roach = pg.entry("roach", "").replace("protocol: postgres", "protocol: cockroachdb");
    section.push_str(&roach);
    let site = DbSite { cluster, pg }.serving(&section);
    site.add_user("alice", "reader");
    addresses_and_modes(&site);
    drop(other);
    site
}

fn addresses_and_modes(site: &DbSite) {
    let way = site.straight("alice", "reader");
    let at = |name: &str| {
        let mut psql = Command::new("psql");
        let conninfo = way.conninfo().replace("host=orders.", &format!("host={name}."));
        run(psql.arg(conninfo).args(["-XAt", "-c", "select current_user"]), "")
    };
    for name in ["orders", "second", "required"] {
        assert_eq!(at(name).ok().out, "reader\n", "{name}");
    }
    let refused = at("verified");
    assert!(refused.err.contains("the database's certificate is not for localhost"), "{refused:?}");
    let start = site.cluster.wait_for_event("db.session.start", |event| {
        event["db_service"] == "second" && event["code"] == "TDB00I"
    });
    let port = site.pg.port.to_string();
    assert!(start["db_uri"].as_str().unwrap().ends_with(&port), "{start:#?}");
}

#[test]
fn what_is_configured_and_what_clients_set_holds() {
    if without("postgresql") {
        return;
    }
    let site = start();
    site.pg.sql_in("shop", "create schema sales; create table sales.t as select 77 as n");
    site.pg
        .sql_in("shop", "grant usage on schema sales to reader; grant select on sales.t to reader");
    for way in site.ways("alice", "reader") {
        let mut psql = way.psql(&["-At", "-c", "show search_path", "-c", "select n from t"]);
        psql.env("PGOPTIONS", "-c search_path=sales -c statement_timeout=7s");
        psql.args(["-c", "show statement_timeout", "-c", "show application_name"]);
        psql.env("PGAPPNAME", "ledger").env("PGCLIENTENCODING", "LATIN1");
        psql.args(["-c", "show client_encoding"]);
        let done = run(&mut psql, "").ok();
        assert_eq!(done.out, "sales\n77\n7s\nledger\nLATIN1\n", "{}", way.name);
    }

    // The client of CockroachDB is run where it is installed; here it is a script that tells how.
    let folder = site.cluster.path("bin");
    fs::create_dir(&folder).unwrap();
    let script = "#!/bin/sh\nfor word; do echo \"word $word\"; done\n\
                  exec psql \"$3\" -XAtc 'select current_user, current_database()'\n";
    fs::write(folder.join("cockroach"), script).unwrap();
    fs::set_permissions(folder.join("cockroach"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let args = ["db", "connect", "--db-user=reader", "--db-name=shop", "roach", "--", "--echo-sql"];
    let mut connect = site.access_command("alice", &args);
    let done = run(connect.env("PATH", &path), "").ok();
    let lines: Vec<_> = done.out.lines().collect();
    assert_eq!(lines[..2], ["word sql", "word --url"], "{done:?}");
    assert!(lines[2].starts_with("word postgresql://reader@/shop?host="), "{done:?}");
    assert_eq!(lines[3..], ["word --echo-sql", "reader|shop"], "{done:?}");
    // For what speaks PostgreSQL's protocol it is psql, installed or not.
    let args = ["db", "connect", "--db-user=reader", "--db-name=shop", "orders", "--", "-XAtc"];
    let mut connect = site.access_command("alice", &[&args[..], &["select 5"]].concat());
    assert_eq!(run(connect.env("PATH", &path), "").ok().out, "5\n");
}

fn shows(site: &DbSite, kind: &str, label: &str) -> bool {
    site.cluster.ctl(&[kind, "ls"], "").ok().out.contains(label)
}

#[track_caller]
fn wait_for_label(site: &DbSite, kind: &str, label: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while !shows(site, kind, label) {
        assert!(Instant::now() < until, "{kind} ls never shows {label}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_is_said_of_databases_takes_a_restart() {
    if without("postgresql") {
        return;
    }
    let mut site = DbSite::start();
    site.add_user("alice", "reader");
    let config = site.cluster.path("agent.yaml");
    let text = fs::read_to_string(&config).unwrap();
    // The labels of the node as well, which are followed.
    fs::write(&config, text.replace("env: prod", "env: test")).unwrap();
    let agent = site.cluster.agent.as_ref().unwrap();
    agent.signal(Signal::SIGHUP);
    agent.wait_for("what takes a restart", |line| {
        line.contains("db_service.databases has changed: it takes a restart").then_some(())
    });
    wait_for_label(&site, "nodes", "env=test");
    // Roles are asked about the labels that are shown.
    assert!(shows(&site, "db", "env=prod") && !shows(&site, "db", "env=test"));
    assert_eq!(site.straight("alice", "reader").query("select 1").ok().out, "1\n");
    let agent = site.cluster.agent.take().unwrap();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    site.cluster.start_agent();
    site.cluster.wait_for_node("web-1");
    wait_for_label(&site, "db", "env=test");
}

#[test]
fn a_session_in_which_nothing_happens_ends() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start();
    let role = "kind: role\nversion: v1\nmetadata: { name: brisk }\nspec:\n  \
                options: { client_idle_timeout: 2s }\n";
    site.cluster.ctl(&["create", "-f", "-"], role).ok();
    site.add_user_with("alice", "access,brisk", "reader", "shop");
    let way = site.straight("alice", "reader");
    let mut psql = Process::start("psql", way.psql(&["-At"]));
    let mut keys = psql.stdin();
    let since = Instant::now();
    // What is asked keeps it.
    while since.elapsed() < Duration::from_secs(4) {
        let from = psql.lines();
        keys.write_all(b"select 'there', pg_sleep(0.5);\n").unwrap();
        psql.wait_from(from, "an answer", |line| line.starts_with("there").then_some(()));
    }
    let last = Instant::now();
    let end = site.cluster.wait_for_event("db.session.end", |_| true);
    assert_eq!(end["reason"], "idle", "{end:#?}");
    assert!(last.elapsed() >= Duration::from_millis(1500), "{:?}", last.elapsed());
    assert!(last.elapsed() < Duration::from_secs(10), "{:?}", last.elapsed());
    // psql shows it when it is asked something.
    keys.write_all(b"select 1;\n").unwrap();
    psql.wait_for("why", |line| line.contains("FATAL:  session ended: ").then_some(()));
    assert_eq!(psql.wait(), Some(2));
}
