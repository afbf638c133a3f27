//! Two Auth processes on one PostgreSQL are one cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, Done, Postgres, Process, bin, run, without};
use nix::sys::signal::Signal;
use serde_json::Value;

const ROLE: &str = r#"{"kind":"role","version":"v1","metadata":{"name":"ops"},"spec":{
    "allow":{"node_labels":{"*":"*"},"logins":["root"]}}}"#;

/// The folder of a replica, and its configuration.
fn configure(cluster: &Cluster, name: &str, conn_string: &str) {
    fs::create_dir_all(cluster.path(name)).unwrap();
    fs::set_permissions(cluster.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    let config = format!(
        "access:\n  data_dir: {}\n  log: {{ format: json }}\n  storage:\n    type: postgres\n    \
         conn_string: \"{conn_string}\"\nauth_service:\n  listen_addr: 127.0.0.1:0\n  \
         cluster_name: example.org\n",
        cluster.path(name).display()
    );
    cluster.write(&format!("{name}.yaml"), &config);
}

fn command(cluster: &Cluster, name: &str) -> Command {
    let mut command = Command::new(bin("auth"));
    command.arg("--config").arg(cluster.path(&format!("{name}.yaml")));
    command
}

/// Starts a replica; says whether it made the cluster.
fn start(cluster: &Cluster, name: &str) -> (Process, bool) {
    let process = Process::start(name, command(cluster, name));
    let new = process.wait_for("that Auth is up", |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "auth is up").then(|| line["new"].as_bool()).flatten()
    });
    (process, new)
}

fn ctl(cluster: &Cluster, name: &str, args: &[&str], input: &str) -> Done {
    let mut command = Command::new(bin("accessctl"));
    command.arg("--data-dir").arg(cluster.path(name)).args(args);
    run(&mut command, input)
}

/// Asks until the answer fits.
#[track_caller]
fn until(cluster: &Cluster, name: &str, args: &[&str], fits: impl Fn(&Done) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let done = ctl(cluster, name, args, "");
        if fits(&done) {
            return;
        }
        assert!(Instant::now() < end, "{args:?} on {name}: {done:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn replicas_share_nothing_but_the_database() {
    if without("postgresql") {
        return;
    }
    // It is there for the database's own sake: the server's certificate comes from it.
    let cluster = Cluster::without_agent();
    let mut pg = Postgres::start(&cluster);
    pg.sql("create role access login");
    pg.sql("create database access_backend owner access");
    let conn_string = pg.conn_string("access", "access_backend");
    for name in ["one", "two", "three"] {
        configure(&cluster, name, &conn_string);
    }

    let (one, new) = start(&cluster, "one");
    assert!(new);
    let pin = |name| {
        let done = ctl(&cluster, name, &["status", "--format=json"], "").ok();
        serde_json::from_str::<Value>(&done.out).unwrap()["ca_pin"].clone()
    };
    let first = pin("one");
    ctl(&cluster, "one", &["create", "-f", "-"], ROLE).ok();
    ctl(&cluster, "one", &["users", "add", "alice", "--roles=ops"], "").ok();

    // Without the key that seals the authorities it is no replica, and says what is missing.
    run(&mut command(&cluster, "two"), "").fails(1, "put the one of the first start there");
    fs::copy(cluster.path("one/seal.key"), cluster.path("two/seal.key")).unwrap();
    let (two, new) = start(&cluster, "two");
    assert!(!new);
    assert_eq!(pin("two"), first);
    assert!(ctl(&cluster, "two", &["users", "ls"], "").ok().out.contains("alice"));

    // What one writes the other has, also as what it decides by.
    let other = ROLE.replace("\"ops\"", "\"dev\"");
    ctl(&cluster, "two", &["create", "-f", "-"], &other).ok();
    until(&cluster, "one", &["get", "role/dev"], |done| done.code == 0);
    until(&cluster, "one", &["users", "add", "bob", "--roles=dev"], |done| done.code == 0);

    // The one is gone at once, the other goes on, and the first finds everything.
    one.kill9();
    ctl(&cluster, "two", &["users", "add", "carol", "--roles=dev"], "").ok();
    let (one, new) = start(&cluster, "one");
    assert!(!new);
    let users = ctl(&cluster, "one", &["users", "ls"], "").ok().out;
    assert!(["alice", "bob", "carol"].iter().all(|user| users.contains(user)), "{users}");

    // Without the database nothing is said to be done; with it, both go on by themselves.
    pg.stop();
    let done = ctl(&cluster, "two", &["users", "add", "dave", "--roles=dev"], "");
    assert!(done.code != 0, "{done:?}");
    pg.start_again();
    for name in ["one", "two"] {
        until(&cluster, name, &["users", "ls"], |done| {
            done.code == 0 && done.out.contains("carol") && !done.out.contains("dave")
        });
    }
    until(&cluster, "two", &["users", "add", "erin", "--roles=dev"], |done| done.code == 0);

    // A database that is not there is named with what leads to it.
    configure(&cluster, "three", &conn_string.replace("access_backend", "nowhere"));
    fs::copy(cluster.path("one/seal.key"), cluster.path("three/seal.key")).unwrap();
    let done = run(&mut command(&cluster, "three"), "");
    assert!(done.code == 1 && done.err.contains("storage.conn_string"), "{done:?}");
    assert!(done.err.contains("nowhere"), "{done:?}");

    for process in [one, two] {
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait(), Some(0));
    }
}
