//! Ways to the cluster: the store itself, a service elsewhere, and nothing at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use common::{CLUSTER, Daemon, command, make_store, private_dir, run};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_the_store_is_used_itself() {
    let dir = private_dir();
    make_store(dir.path()).await;
    let data_dir = dir.path().to_str().unwrap();
    let args = ["--data-dir", data_dir, "users", "add", "alice", "--roles=access"];
    run(&args, "", &[]).await.ok();
    // What a daemon leaves that was killed.
    drop(UnixListener::bind(dir.path().join("auth.sock")).unwrap());
    let listing = ["--data-dir", data_dir, "users", "ls", "--format=json"];
    let (one, other) = tokio::join!(run(&listing, "", &[]), run(&listing, "", &[]));
    for users in [one.json(), other.json()] {
        assert_eq!(users[0]["metadata"]["name"], "alice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_of_a_quickstart_is_found() {
    let dir = private_dir();
    let data_dir = dir.path().join("access-data");
    std::fs::create_dir(&data_dir).unwrap();
    std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    make_store(&data_dir).await;
    let output = command(&["status"]).current_dir(dir.path()).output().await.unwrap();
    let done = common::Done::from(output).ok();
    assert!(done.out.contains(CLUSTER), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_a_cluster_stays_as_it_is() {
    let dir = private_dir();
    let args = ["--data-dir", dir.path().to_str().unwrap(), "status"];
    run(&args, "", &[]).await.fails(1, &["is no data directory of an Auth Service"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_store_that_nobody_serves_is_said_to_be_out_of_reach() {
    let dir = private_dir();
    make_store(dir.path()).await;
    let options = access_backend::SqliteOptions::new(dir.path().join("access.db"));
    let _held = access_backend::Sqlite::open(options).await.unwrap();
    let args = ["--data-dir", dir.path().to_str().unwrap(), "status"];
    run(&args, "", &[]).await.fails(5, &["another program holds", "access.db"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_it_takes_an_identity_and_the_policy_decides() {
    let auth = Daemon::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("--auth-server={}", listener.local_addr().unwrap());
    let serving = auth.service.clone();
    tokio::spawn(async move { serving.serve_tls(listener, std::future::pending()).await });

    let mut identities = Vec::new();
    for (name, roles) in [("admin", "--roles=editor"), ("alice", "--roles=access")] {
        auth.ctl(&["users", "add", name, roles, "--logins=root"]).await.ok();
        let path = auth.path(name).to_str().unwrap().to_owned();
        let out = format!("--out={path}");
        auth.ctl(&["auth", "sign", &format!("--user={name}"), &out]).await.ok();
        identities.push(path);
    }
    let [admin, alice] = identities.as_slice() else { panic!("{identities:?}") };
    let users = ["users", "ls", "--format=json"];
    let as_admin = [&[address.as_str(), "--identity", admin][..], &users].concat();
    assert_eq!(run(&as_admin, "", &[]).await.json().as_array().unwrap().len(), 2);
    let by_environment = [&[address.as_str()][..], &users].concat();
    run(&by_environment, "", &[("ACCESS_IDENTITY", admin)]).await.ok();
    let as_alice = [&[address.as_str(), "--identity", alice][..], &users].concat();
    run(&as_alice, "", &[]).await.fails(3, &["denied"]);

    // Certificates from before a change are void.
    auth.ctl(&["users", "update", "admin", "--logins=nobody"]).await.ok();
    run(&as_admin, "", &[]).await.fails(4, &["log in"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_logged_in_learns_how_to() {
    let home = tempfile::tempdir().unwrap();
    let env = [("ACCESS_HOME", home.path().to_str().unwrap())];
    let done = run(&["--proxy=example.com", "status"], "", &env).await;
    done.fails(4, &["access login --proxy=example.com:3080", "--data-dir"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_address_is_its_own_exit_code() {
    let auth = Daemon::start().await;
    auth.ctl(&["users", "add", "a", "--roles=access", "--logins=a"]).await.ok();
    let path = auth.path("a").to_str().unwrap().to_owned();
    auth.ctl(&["auth", "sign", "--user=a", &format!("--out={path}")]).await.ok();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let args = [&format!("--auth-server={free}"), "--identity", &path, "status"];
    run(&args, "", &[]).await.fails(5, &["cannot reach"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_error() {
    let auth = Daemon::start().await;
    let dir = auth.dir.path().to_str().unwrap();
    for args in [&["--data-dir", dir, "get", "roles"][..], &["completions", "bash"], &["--help"]] {
        let mut child = command(args).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let done = common::Done::from(child.wait_with_output().await.unwrap()).ok();
        assert_eq!(done.err, "", "{args:?}");
    }
}
