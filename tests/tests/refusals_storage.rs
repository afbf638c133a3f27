//! A store that cannot be used: said in words, with nothing made anew over what is there, and as
//! good as before once the reason is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::process::Command;

use access_backend::{Backend, Sqlite, SqliteOptions};
use access_e2e::{Cluster, Done, Volume, bin, run};
use nix::sys::signal::Signal;

fn stopped() -> Cluster {
    let mut cluster = Cluster::without_agent();
    cluster.add_user("alice", &["--roles=access", "--logins=root"]);
    let auth = cluster.auth.take().unwrap();
    auth.signal(Signal::SIGTERM);
    assert_eq!(auth.wait(), Some(0));
    cluster
}

fn start(cluster: &Cluster) -> Done {
    let mut command = Command::new(bin("auth"));
    command.arg("--config").arg(cluster.path("auth.yaml"));
    let done = run(&mut command, "");
    assert!(!done.err.contains("panicked") && done.out.is_empty(), "{done:?}");
    done
}

/// It starts again, and is the cluster that it was.
fn is_as_before(mut cluster: Cluster) {
    let pin = cluster.pin.clone();
    cluster.start_auth();
    assert_eq!(cluster.pin, pin);
    assert!(cluster.ctl(&["users", "ls"], "").ok().out.contains("alice"));
}

#[test]
fn locked_by_another_process() {
    let cluster = stopped();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let path = cluster.path("auth/access.db");
    let held = runtime.block_on(Sqlite::open(SqliteOptions::new(&path))).unwrap();
    let done = start(&cluster).fails(1, "in use by another process");
    assert!(done.err.contains("access.db") && done.err.contains("stop that one"), "{done:?}");
    // The command line waits for no lock either.
    let done = cluster.ctl(&["users", "ls"], "");
    assert!(done.code == 5 && done.err.contains("another program holds"), "{done:?}");
    runtime.block_on(held.close()).unwrap();
    drop(held);
    is_as_before(cluster);
}

#[test]
fn truncated() {
    let cluster = stopped();
    let database = cluster.path("auth/access.db");
    // Its log would make up for what is missing; here both are lost. A store that was closed in
    // peace has none.
    let log = cluster.path("auth/access.db-wal");
    let kept = cluster.path("kept-wal");
    let had_log = log.exists();
    if had_log {
        fs::rename(&log, &kept).unwrap();
    }
    let whole = fs::read(&database).unwrap();
    assert!(whole.len() > 8192, "{}", whole.len());
    for keep in [whole.len() / 2, 4096, 4096 + 100, 60] {
        fs::write(&database, &whole[..keep]).unwrap();
        let _ = fs::remove_file(cluster.path("auth/access.db-shm"));
        let done = start(&cluster);
        assert_eq!(done.code, 1, "{keep}: {done:?}");
        assert!(
            done.err.contains("access.db is damaged") && done.err.contains("last backup"),
            "{keep}: {done:?}"
        );
        assert_eq!(fs::read(&database).unwrap(), &whole[..keep], "{keep}: it was written to");
    }
    fs::write(&database, &whole).unwrap();
    if had_log {
        fs::rename(&kept, &log).unwrap();
    }
    is_as_before(cluster);
}

#[test]
fn a_data_directory_that_cannot_be_written() {
    let cluster = stopped();
    for name in ["auth", "proxy", "agent"] {
        let data = cluster.path(&format!("read-only-{name}"));
        fs::create_dir(&data).unwrap();
        let text = format!("access:\n  data_dir: {}\n", data.display());
        let config = cluster.write(&format!("read-only-{name}.yaml"), &text);
        // In a mount namespace of its own, so that it is gone with the process.
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec"]).arg(format!(
            "mount -t tmpfs -o ro,mode=0700 tmpfs '{}'; exec '{}' --config '{}'",
            data.display(),
            bin(name).display(),
            config.display()
        ));
        let done = run(&mut command, "").fails(1, "cannot use the data directory");
        assert!(done.err.contains("Read-only file system"), "{done:?}");
        assert!(done.err.contains(data.to_str().unwrap()), "{done:?}");
        // Below a file nothing can be made.
        let below = config.join("data");
        let text = format!("access:\n  data_dir: {}\n", below.display());
        let config = cluster.write(&format!("below-{name}.yaml"), &text);
        let mut command = Command::new(bin(name));
        run(command.arg("--config").arg(config), "").fails(1, "cannot use the data directory");
    }
    is_as_before(cluster);
}

#[test]
fn a_full_disk_at_auth() {
    let volume = Volume::of_kib(16 * 1024);
    let mut cluster = stopped();
    let data = cluster.path("auth");
    run(Command::new("cp").arg("-a").arg(data.join(".")).arg(volume.path()), "").ok();
    fs::remove_dir_all(&data).unwrap();
    let volume = volume.at(&data);
    cluster.start_auth();
    cluster.login("alice").ok();

    let filler = volume.fill();
    // What fits into space that the database has already is still written.
    let add = |n: usize| {
        let name = format!("user-{n}");
        (cluster.ctl(&["users", "add", &name, "--roles=access", "--logins=root"], ""), name)
    };
    let (refused, name) =
        (0..500).map(add).find(|(done, _)| done.code != 0).expect("the disk is not full");
    assert!(refused.code == 5 && refused.out.is_empty(), "{refused:?}");
    assert!(refused.err.contains("cannot use its store: try again"), "{refused:?}");
    let auth = cluster.auth.as_ref().unwrap();
    auth.wait_for("why", |line| line.contains("no space left").then_some(()));
    let users = cluster.ctl(&["users", "ls"], "").ok();
    assert!(!users.out.contains(&format!("{name} ")), "{name} is half there: {users:?}");
    assert!(users.out.contains("alice"), "{users:?}");
    let login = cluster.login("alice");
    assert!(!login.err.contains("panicked"), "{login:?}");

    fs::remove_file(filler).unwrap();
    cluster.ctl(&["users", "add", &name, "--roles=access", "--logins=root"], "").ok();
    cluster.login("alice").ok();
    let auth = cluster.auth.take().unwrap();
    auth.signal(Signal::SIGTERM);
    assert_eq!(auth.wait(), Some(0), "it was the same process all along");
    is_as_before(cluster);
}
