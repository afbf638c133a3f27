//! A cluster moves from its file to PostgreSQL and back while people are logged in: nobody notices
//! more than that the Auth Service was started again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use access_e2e::{Cluster, Done, Postgres, Process, bin, run, without};
use nix::sys::signal::Signal;
use serde_json::Value;

/// `accessctl` with a configuration of the Auth Service.
fn ctl(config: &std::path::Path, args: &[&str]) -> Done {
    run(Command::new(bin("accessctl")).arg("--config").arg(config).args(args), "")
}

fn migrate(args: &[&str]) -> Process {
    let mut command = Command::new(bin("accessctl"));
    command.args(["backend", "migrate"]).args(args);
    Process::start("accessctl", command)
}

fn stop_auth(cluster: &mut Cluster) {
    let auth = cluster.auth.take().unwrap();
    auth.signal(Signal::SIGTERM);
    assert_eq!(auth.wait(), Some(0));
}

/// Starts Auth with this configuration.
fn start_auth(cluster: &mut Cluster, config: &std::path::Path) {
    let mut command = Command::new(bin("auth"));
    command.arg("--config").arg(config);
    let process = Process::start("auth", command);
    process.wait_for("that it is up", |line| line.contains("auth is up").then_some(()));
    cluster.auth = Some(process);
}

/// The ids of all events so far.
fn events(cluster: &Cluster) -> Vec<String> {
    let done = cluster.ctl(&["audit", "search", "--limit=100000", "--format=json"], "").ok();
    let events: Vec<Value> = serde_json::from_str(&done.out).unwrap();
    let mut ids: Vec<_> =
        events.iter().map(|event| event["uid"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

fn has_all(all: &[String], some: &[String]) {
    let missing: Vec<_> = some.iter().filter(|id| all.binary_search(id).is_err()).collect();
    assert!(missing.is_empty(), "{missing:?} are gone");
}

fn engine(cluster: &Cluster) -> Value {
    let done = cluster.ctl(&["backend", "status", "--format=json"], "").ok();
    serde_json::from_str(&done.out).unwrap()
}

#[test]
fn a_cluster_moves_to_postgres_and_back_with_people_in_it() {
    if without("postgresql") {
        return;
    }
    let mut cluster = Cluster::start();
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
    cluster.add_user("alice", &["--roles=access", &format!("--logins={user}")]);
    cluster.login("alice").ok();
    let config = cluster.ssh_config("alice");
    let to = format!("{user}@web-1.node.example.com");
    let ssh = |cluster: &Cluster, said: &str| {
        let done = run(&mut cluster.ssh(&config, &[&to, "echo", said]), "").ok();
        assert_eq!(done.out.trim(), said);
    };
    ssh(&cluster, "before");
    cluster.wait_for_events("session.end", 1);
    let pg = Postgres::start(&cluster);
    pg.sql("create role access login");
    pg.sql("create database access_backend owner access");
    let conn = pg.conn_string("access", "access_backend");
    // On the port that it got.
    let text = std::fs::read_to_string(cluster.path("auth.yaml")).unwrap();
    let old = cluster.write("auth.yaml", &text.replace("127.0.0.1:0", &cluster.auth_addr));
    let new = cluster.write(
        "auth-postgres.yaml",
        &std::fs::read_to_string(&old).unwrap().replace(
            "  log: {",
            &format!("  storage: {{ type: postgres, conn_string: \"{conn}\" }}\n  log: {{"),
        ),
    );
    let file = format!("sqlite:{}", cluster.path("auth/access.db").display());

    // A session that lasts through all of it.
    let mut session = cluster.ssh(&config, &[&to, "cat"]);
    let mut session = session.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut typed = session.stdin.take().unwrap();
    let mut shown = BufReader::new(session.stdout.take().unwrap());
    let mut echo = |line: &str| {
        writeln!(typed, "{line}").unwrap();
        let mut back = String::new();
        shown.read_line(&mut back).unwrap();
        assert_eq!(back.trim(), line);
    };
    echo("at first");

    // Wrong ways are told before anything is done.
    let wrong = |args: &[&str]| {
        let mut all = vec!["backend", "migrate"];
        all.extend(args);
        run(Command::new(bin("accessctl")).args(all), "")
    };
    wrong(&["--from", &file, "--to", "postgres://a:secret@localhost/d"]).fails(2, "--to-config");
    wrong(&["--from", &file, "--to", &file]).fails(1, "in use by another process");
    wrong(&["--from", "sqlite:/nowhere/x.db", "--to", &conn]).fails(1, "/nowhere/x.db");

    // It copies while Auth runs; broken off and begun again it goes on.
    wrong(&["--from", &file, "--to", &conn, "--copy-only"]).ok();
    run(Command::new(bin("auth")).arg("--config").arg(&new), "").fails(1, "half a copy of sqlite:");
    let killed = migrate(&["--from", &file, "--to", &conn, "--wait=60s"]);
    killed.wait_for("that Auth is to be stopped", |line| line.contains("now stop").then_some(()));
    killed.kill9();
    let moving = migrate(&["--from", &file, "--to", &conn, "--wait=60s"]);
    moving.wait_for("that Auth is to be stopped", |line| line.contains("now stop").then_some(()));
    assert!(moving.output().contains("going on with"), "{}", moving.output());
    ssh(&cluster, "meanwhile");
    cluster.wait_for_events("session.end", 2);
    let before = events(&cluster);
    stop_auth(&mut cluster);
    echo("without auth");
    moving
        .wait_for("that it is done", |line| line.contains("the same on both sides").then_some(()));
    let said = moving.output();
    assert_eq!(moving.wait(), Some(0), "{said}");

    // The old one is the old one.
    run(Command::new(bin("auth")).arg("--config").arg(&old), "")
        .fails(1, "was moved to postgres://");
    start_auth(&mut cluster, &new);
    let status = engine(&cluster);
    assert_eq!(status["engine"], "postgres");
    assert!(status["rows"].as_u64().unwrap() > 10 && status["event_days"] == 365, "{status}");
    let text = cluster.ctl(&["backend", "status"], "").ok().out;
    assert!(text.contains("Engine:      postgres") && text.contains("Latency:"), "{text}");
    echo("with the new store");
    ssh(&cluster, "after");
    cluster.wait_for_events("session.end", 3);
    has_all(&events(&cluster), &before);
    assert!(cluster.ctl(&["users", "ls"], "").ok().out.contains("alice"));
    cluster.access("alice", &["ls"], "").ok();

    // Without a daemon the tool opens the database itself, when it is told where that is.
    stop_auth(&mut cluster);
    cluster.ctl(&["users", "ls"], "").fails(1, "was moved to postgres://");
    assert!(ctl(&new, &["users", "ls"]).ok().out.contains("alice"));
    assert_eq!(
        serde_json::from_str::<Value>(&ctl(&new, &["backend", "status", "--format=json"]).ok().out)
            .unwrap()["engine"],
        "postgres"
    );
    start_auth(&mut cluster, &new);
    ssh(&cluster, "and again");
    cluster.wait_for_events("session.end", 4);
    let before = events(&cluster);

    // And back, with Auth running at first.
    let config_of = new.display().to_string();
    let moving = migrate(&["--from-config", &config_of, "--to", &file, "--wait=60s"]);
    let line = moving.wait_for("that Auth is to be stopped", |line| {
        line.contains("now stop").then(|| line.to_owned())
    });
    assert!(line.contains("access from this host"), "{line}");
    stop_auth(&mut cluster);
    moving
        .wait_for("that it is done", |line| line.contains("the same on both sides").then_some(()));
    assert_eq!(moving.wait(), Some(0));
    run(Command::new(bin("auth")).arg("--config").arg(&new), "").fails(1, "was moved to sqlite:");
    start_auth(&mut cluster, &old);
    assert_eq!(engine(&cluster)["engine"], "sqlite");
    echo("back again");
    ssh(&cluster, "at last");
    cluster.wait_for_events("session.end", 5);
    has_all(&events(&cluster), &before);
    drop(typed);
    assert!(session.wait().unwrap().success());
    // The recordings of all of that are there.
    let recordings = || cluster.ctl(&["recordings", "ls", "--format=json"], "").ok().out;
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while serde_json::from_str::<Vec<Value>>(&recordings()).unwrap().is_empty() {
        assert!(std::time::Instant::now() < until, "no recording");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn regions_are_printed_for_cockroachdb_and_refused_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let config = |kind: &str| {
        let path = dir.path().join(format!("{kind}.yaml"));
        let text = format!(
            "access:\n  storage:\n    type: {kind}\n    conn_string: postgres://u@127.0.0.1:1/state\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    };
    let args = ["backend", "multi-region", "--primary=a", "--region=b,c\"d", "--survive=region"];
    let done = run(Command::new(bin("accessctl")).args(args), "").ok();
    assert_eq!(
        done.out.lines().collect::<Vec<_>>(),
        [
            r#"ALTER DATABASE "access_backend" SET PRIMARY REGION "a";"#,
            r#"ALTER DATABASE "access_backend" ADD REGION IF NOT EXISTS "b";"#,
            r#"ALTER DATABASE "access_backend" ADD REGION IF NOT EXISTS "c""d";"#,
            r#"ALTER DATABASE "access_backend" SURVIVE REGION FAILURE;"#,
        ]
    );
    let done = ctl(&config("cockroachdb"), &args).ok();
    assert!(done.out.starts_with(r#"ALTER DATABASE "state" SET PRIMARY"#), "{}", done.out);
    ctl(&config("postgres"), &args).fails(2, "regions are CockroachDB's");
    run(Command::new(bin("accessctl")).args(args).arg("--apply"), "").fails(2, "--config");
    let two = ["backend", "multi-region", "--primary=a", "--region=b", "--survive=region"];
    run(Command::new(bin("accessctl")).args(two), "").fails(2, "takes three regions");
}
