//! Two Auth processes on one PostgreSQL are one cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, Done, Postgres, Process, Replicas, bin, run, without};
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
    run(&mut command(&cluster, "two"), "").fails(1, "copy the file here that another Auth");
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

#[test]
fn four_that_start_at_once_on_an_empty_database_are_one_cluster() {
    if without("postgresql") {
        return;
    }
    let (mut replicas, mut cluster) = Replicas::start(4);
    assert_eq!((0..4).filter(|at| replicas.made_it(*at)).count(), 1);
    let status = |at: usize| {
        let done = replicas.ctl(at, &["status", "--format=json"], "").ok();
        let status: Value = serde_json::from_str(&done.out).unwrap();
        status["ca_pin"].clone()
    };
    assert!((1..4).all(|at| status(at) == status(0)));
    for at in 0..4 {
        replicas.ctl(at, &["users", "add", &format!("user-{at}"), "--roles=access"], "").ok();
    }
    for at in 0..4 {
        let users = replicas.ctl(at, &["users", "ls"], "").ok().out;
        assert!((0..4).all(|n| users.contains(&format!("user-{n}"))), "{at}: {users}");
    }
    // One file was made, whole, and nothing beside it.
    let shared = fs::read_dir(cluster.path("shared")).unwrap();
    let mut files: Vec<_> = shared.map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["recordings", "seal.key"]);
    // Nobody has met anything that is worth a word.
    for at in 0..4 {
        let said = replicas.process(at).output();
        assert!(!said.contains("\"ERROR\"") && !said.contains("\"WARN\""), "{at}: {said}");
    }
    // The database's own words do not count about the test's question whether it is up, and about
    // those who were second and began their transaction again, as they have to.
    let said = replicas.store.log();
    let own = [
        "the database system is starting up",
        "role \"root\" does not exist",
        "could not serialize access due to concurrent update",
    ];
    let wrong = said
        .lines()
        .filter(|line| ["ERROR:", "FATAL:", "PANIC:"].iter().any(|word| line.contains(word)))
        .find(|line| !own.iter().any(|own| line.contains(own)));
    assert_eq!(wrong, None, "{said}");

    // Joining and commands are told of all of them, and do with one.
    cluster.add_proxy();
    let identity = cluster.path("id").display().to_string();
    replicas.ctl(0, &["users", "add", "root-user", "--roles=editor"], "").ok();
    replicas
        .ctl(
            0,
            &["auth", "sign", "--user=root-user", "--format=file", "--ttl=1h", "--out", &identity],
            "",
        )
        .ok();
    let elsewhere = |auth: &str| {
        let mut command = Command::new(bin("accessctl"));
        command.args(["--identity", &identity, "--auth-server", auth, "users", "ls"]);
        run(&mut command, "")
    };
    let proxy = format!("--proxy={}", cluster.proxy_addr);
    let through = |code| {
        let mut command = Command::new(bin("accessctl"));
        command.args(["--identity", &identity, &proxy, "users", "ls"]);
        let done = run(&mut command, "");
        assert_eq!(done.code, code, "{done:?}");
    };
    // Two are gone, and one takes connections and says nothing.
    replicas.kill9(0);
    replicas.kill9(1);
    replicas.process(2).signal(Signal::SIGSTOP);
    for _ in 0..6 {
        elsewhere(&replicas.addrs()).ok();
        through(0);
    }
    replicas.process(2).signal(Signal::SIGCONT);
    replicas.kill9(2);
    elsewhere(&replicas.addrs()).ok();
    through(0);
    replicas.kill9(3);
    let none = elsewhere(&replicas.addrs()).fails(5, "any of the addresses");
    for addr in replicas.addrs().split(',') {
        assert!(none.err.contains(&format!("{addr}: Connection refused")), "{none:?}");
    }
    through(5);
    replicas.start_again(2);
    elsewhere(&replicas.addrs()).ok();
    through(0);
    assert!(!replicas.made_it(2));
}
