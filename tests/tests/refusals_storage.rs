//! A store that cannot be used: said in words, with nothing made anew over what is there, and as
//! good as before once the reason is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use access_backend::{Backend, Sqlite, SqliteOptions};
use access_e2e::{Cluster, Done, Postgres, Process, Volume, bin, off_by, run, without};
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

/// Auth with its state in a database.
struct OnPostgres {
    store: Postgres,
    dir: tempfile::TempDir,
}

impl OnPostgres {
    fn new() -> Self {
        let dir = tempfile::Builder::new().permissions(mode(0o700)).tempdir().unwrap();
        Self { store: Postgres::store(), dir }
    }

    fn command(&self, conn_string: &str) -> Command {
        static CONFIGS: AtomicUsize = AtomicUsize::new(0);
        let number = CONFIGS.fetch_add(1, Ordering::Relaxed);
        let config = self.dir.path().join(format!("auth-{number}.yaml"));
        let text = format!(
            "access:\n  data_dir: {}\n  log: {{ format: json }}\n  storage:\n    type: postgres\n    \
             conn_string: \"{conn_string}\"\nauth_service:\n  listen_addr: 127.0.0.1:0\n  \
             cluster_name: example.org\n",
            self.dir.path().join("data").display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(bin("auth"));
        command.arg("--config").arg(config);
        command
    }

    fn good(&self) -> String {
        self.store.conn_string("access", "access_backend")
    }

    /// It does not start, says why, and has made nothing.
    #[track_caller]
    fn refuses(&self, conn_string: &str, text: &str) -> Done {
        let done = run(&mut self.command(conn_string), "");
        assert!(matches!(done.code, 1 | 2) && done.err.contains(text), "{text:?}: {done:?}");
        assert!(!done.err.contains("panicked") && done.out.is_empty(), "{done:?}");
        done
    }

    fn sql(&self, sql: &str) {
        self.store.sql_in("access_backend", sql);
    }

    fn starts(&self) -> Process {
        let process = Process::start("auth", self.command(&self.good()));
        process.wait_for("that Auth is up", |line| line.contains("auth is up").then_some(()));
        process
    }

    fn ctl(&self, args: &[&str], input: &str) -> Done {
        let mut command = Command::new(bin("accessctl"));
        command.arg("--data-dir").arg(self.dir.path().join("data")).args(args);
        run(&mut command, input)
    }
}

fn mode(bits: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

fn end(process: Process) {
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait(), Some(0));
}

#[test]
fn a_database_that_will_not_do() {
    if without("postgresql") {
        return;
    }
    let mut site = OnPostgres::new();
    // Before there is anything.
    let good = site.good();
    // One that is nowhere is waited for, for half a minute.
    let mut nowhere = site.command("postgres://access@db.invalid/x?sslmode=disable");
    nowhere.arg("--data-dir").arg(site.dir.path().join("elsewhere"));
    let nowhere = std::thread::spawn(move || run(&mut nowhere, ""));
    site.refuses(&format!("{good}&sslmod=disable"), "sslmode");
    site.store.sql("create role poor login");
    let poor = site.store.conn_string("poor", "access_backend");
    let done = site
        .refuses(&poor, "as an administrator run: GRANT ALL ON DATABASE access_backend TO poor");
    assert!(done.err.contains("storage.conn_string"), "{done:?}");
    site.store.sql("alter role access set default_transaction_read_only = on");
    let done = site.refuses(&good, "is a read-only replica");
    assert!(
        done.err.contains("name the primary") && done.err.contains("storage.conn_string"),
        "{done:?}"
    );
    site.store.sql("alter role access reset default_transaction_read_only");
    let mut late = site.command(&good);
    off_by(&mut late, "-10s");
    let done = run(&mut late, "").fails(1, "s from this machine's; set both by NTP");
    assert!(done.err.contains("10 s") || done.err.contains("9 s"), "{done:?}");
    let data = site.dir.path().join("data");
    assert!(!data.join("seal.key").exists(), "nothing was made");

    // A few seconds are borne, by those who come later too.
    let mut ahead = site.command(&good);
    off_by(&mut ahead, "+3s");
    let process = Process::start("auth", ahead);
    process.wait_for("that Auth is up", |line| line.contains("auth is up").then_some(()));
    site.ctl(&["users", "add", "alice", "--roles=access"], "").ok();
    // What is too large is not written, not even in part, and the limit is told.
    let large = format!(
        "kind: role\nversion: v1\nmetadata: {{ name: large, description: \"{}\" }}\nspec: {{}}\n",
        "x".repeat(1_100_000)
    );
    let done = site.ctl(&["create", "-f", "-"], &large);
    assert!(done.code != 0 && done.err.contains("limit"), "{:.400}", format!("{done:?}"));
    assert!(!site.ctl(&["get", "role"], "").ok().out.contains("large"));
    // It becomes a replica under Auth, and a primary again.
    site.store.sql("alter system set default_transaction_read_only = on");
    site.store.sql("select pg_reload_conf()");
    let refused = |site: &OnPostgres| {
        let done = site.ctl(&["users", "add", "bob", "--roles=access"], "");
        (done.code != 0).then_some(done)
    };
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let done = loop {
        match refused(&site) {
            Some(done) => break done,
            None => drop(site.ctl(&["users", "rm", "bob"], "")),
        }
        assert!(std::time::Instant::now() < until, "it is still written to");
    };
    assert!(done.code == 5 && done.err.contains("cannot use its store"), "{done:?}");
    process.wait_for("why", |line| line.contains("is a read-only replica").then_some(()));
    site.store.sql("alter system reset default_transaction_read_only");
    site.store.sql("select pg_reload_conf()");
    while let Some(done) = refused(&site) {
        assert!(std::time::Instant::now() < until, "{done:?}");
    }
    end(process);

    let done =
        nowhere.join().unwrap().fails(1, "storage.conn_string: postgres://access@db.invalid/x");
    assert!(done.err.contains("check host and port"), "{done:?}");

    // Somebody was at the tables.
    site.sql("update backend_version set version = 99");
    let done = site.refuses(&good, "schema version 99");
    assert!(done.err.contains("run the newer release"), "{done:?}");
    site.sql(
        "update backend_version set version = 1; alter table kv rename column expires to ends",
    );
    let done = site.refuses(&good, "kv has no column expires");
    assert!(
        done.err.contains("storage.conn_string") && done.err.contains("from a backup"),
        "{done:?}"
    );
    site.sql("alter table kv rename column ends to expires");
    let process = site.starts();
    assert!(site.ctl(&["users", "ls"], "").ok().out.contains("alice"));
    // And under Auth.
    site.sql("alter table kv rename column value to content");
    let done = site.ctl(&["users", "add", "carol", "--roles=access"], "");
    assert!(done.code != 0, "{done:?}");
    process.wait_for("why", |line| line.contains("not as this program left them").then_some(()));
    site.sql("alter table kv rename column content to value");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while site.ctl(&["users", "add", "carol", "--roles=access"], "").code != 0 {
        assert!(std::time::Instant::now() < until, "it does not come back");
    }
    end(process);

    // One that is away is waited for.
    site.store.stop();
    let process = Process::start("auth", site.command(&good));
    std::thread::sleep(std::time::Duration::from_secs(2));
    site.store.start_again();
    process.wait_for("that Auth is up", |line| line.contains("auth is up").then_some(()));
    assert!(site.ctl(&["users", "ls"], "").ok().out.contains("carol"));
    end(process);
}

#[test]
fn a_pool_that_is_too_small_says_so_and_recovers() {
    if without("postgresql") {
        return;
    }
    let site = OnPostgres::new();
    let conn_string = format!("{}&pool_max_conns=2", site.good());
    let process = Process::start("auth", site.command(&conn_string));
    process.wait_for("that Auth is up", |line| line.contains("auth is up").then_some(()));
    let mut locked = site.store.direct("psql", "postgres", "access_backend");
    let mut locked = Process::start("psql", {
        locked.arg("-XAtq");
        locked
    });
    let mut input = locked.stdin();
    std::io::Write::write_all(&mut input, b"begin; lock table kv; select 'locked';\n").unwrap();
    locked.wait_for("that it is locked", |line| (line == "locked").then_some(()));
    let adding: Vec<_> = (0..6)
        .map(|n| {
            let mut command = Command::new(bin("accessctl"));
            command.arg("--data-dir").arg(site.dir.path().join("data"));
            command.args(["users", "add", &format!("user-{n}"), "--roles=access"]);
            std::thread::spawn(move || run(&mut command, ""))
        })
        .collect();
    process.wait_for("what to raise", |line| {
        line.contains("raise pool_max_conns in storage.conn_string").then_some(())
    });
    std::io::Write::write_all(&mut input, b"rollback;\n").unwrap();
    let done: Vec<_> = adding.into_iter().map(|one| one.join().unwrap()).collect();
    assert!(done.iter().any(|done| done.code == 5), "{done:?}");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(40);
    while site.ctl(&["users", "add", "late", "--roles=access"], "").code != 0 {
        assert!(std::time::Instant::now() < until, "it does not recover");
    }
    // Who was told that it is done is there.
    let users = site.ctl(&["users", "ls"], "").ok().out;
    for (n, done) in done.iter().enumerate().filter(|(_, done)| done.code == 0) {
        assert!(users.contains(&format!("user-{n}")), "{done:?}: {users}");
    }
    drop((input, locked));
    end(process);
}
