//! PostgreSQL itself on a loopback port, and what comes between it and a store.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    reason = "each test binary uses a part of it"
)]

pub mod cutter;
pub mod roach;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use access_backend::{Clock, Key, NewItem, Value};
use access_backend_sql::{Engine, Sql, SqlOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A server that is ended when this is dropped.
pub struct Server {
    dir: tempfile::TempDir,
    pub port: u16,
    process: std::sync::Mutex<Option<Child>>,
    databases: AtomicU32,
}

impl Server {
    /// One that trusts everybody on loopback.
    pub fn start() -> Arc<Self> {
        Self::start_with(|_| {})
    }

    /// One whose data directory was changed before.
    pub fn start_with(change: impl FnOnce(&Path)) -> Arc<Self> {
        // With RUST_LOG, a test that fails tells more.
        let _once = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::Builder::new().prefix("access-sql-pg-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = dir.path().join("data");
        copy_of_template(&data);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             fsync = off\nmax_connections = 200\nmax_prepared_transactions = 5\n",
            data.display()
        );
        fs::write(data.join("postgresql.auto.conf"), config).unwrap();
        change(&data);
        own(&data);
        let server =
            Self { dir, port, process: std::sync::Mutex::default(), databases: AtomicU32::new(0) };
        server.start_again();
        Arc::new(server)
    }

    /// One that follows this one, and takes no writes.
    pub fn standby(&self) -> Arc<Self> {
        Self::start_with(|data| {
            let config = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
            fs::remove_dir_all(data).unwrap();
            let mut copy = Command::new(program("pg_basebackup"));
            copy.arg("-h").arg(self.data()).args(["-p", &self.port.to_string(), "-U", "postgres"]);
            done(copy.args(["-c", "fast", "--no-sync", "-D"]).arg(data));
            let way = format!("host=127.0.0.1 port={} user=postgres", self.port);
            let config = format!("{config}primary_conninfo = '{way}'\n");
            fs::write(data.join("postgresql.auto.conf"), config).unwrap();
            fs::write(data.join("standby.signal"), "").unwrap();
        })
    }

    /// Starts it after [`Server::stop`], on the same port.
    pub fn start_again(&self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let process = as_postgres(&program("postgres"))
            .arg("-D")
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.process.lock().unwrap() = Some(process);
        let until = Instant::now() + Duration::from_secs(60);
        let ready = || {
            let mut command = Command::new(program("pg_isready"));
            command.arg("-h").arg(self.data()).args(["-p", &self.port.to_string()]);
            command.output().unwrap().status.success()
        };
        while !ready() {
            assert!(Instant::now() < until, "PostgreSQL does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Ends it with all of its sessions at once.
    pub fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            let _ = kill(Pid::from_raw(process.id() as i32), Signal::SIGQUIT);
            let _ = process.wait();
        }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Runs SQL as the superuser, through the socket.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new("psql");
        psql.arg("-h").arg(self.data()).args(["-p", &self.port.to_string(), "-U", "postgres"]);
        psql.args(["-d", database, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        let out = psql.output().unwrap();
        assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// A database that nobody has used.
    pub fn database(&self) -> String {
        let name = format!("d{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// The way to a database of it.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- PostgreSQL said:\n{}", self.log());
        }
    }
}

pub fn url(port: u16, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable&pool_max_conns=10")
}

/// Options for tests.
pub fn options(url: &str) -> SqlOptions {
    SqlOptions::new(Engine::Postgres, url).unwrap()
}

pub async fn open(url: &str) -> Arc<Sql> {
    Arc::new(Sql::open(options(url)).await.unwrap())
}

/// An empty store with this clock.
pub async fn fresh(server: Arc<Server>, clock: Arc<dyn Clock>) -> Arc<Sql> {
    let database = tokio::task::spawn_blocking({
        let server = server.clone();
        move || server.database()
    });
    let url = server.url(&database.await.unwrap());
    let options = SqlOptions { clock, max_clock_skew: None, ..options(&url) };
    Arc::new(Sql::open(options).await.unwrap())
}

pub fn key(path: &str) -> Key {
    Key::parse(path).unwrap()
}

pub fn item(path: &str, value: &str) -> NewItem {
    NewItem::new(key(path), Value::new(value.to_owned()).unwrap())
}

/// Where Debian keeps the programs of a version.
pub fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is not installed: cargo xtask test does that");
    let newest = versions.map(|entry| entry.unwrap().path()).max();
    newest.expect("no version of PostgreSQL").join("bin").join(name)
}

/// The server refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn done(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

pub fn own(path: &Path) {
    if nix::unistd::geteuid().is_root() {
        done(Command::new("chown").arg("-R").arg("postgres:postgres").arg(path));
    }
}

/// A data directory takes seconds to make, and every test has one of its own: copies of one.
fn copy_of_template(into: &Path) {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres-template");
    if !kept.exists() {
        let own_copy = kept.with_extension(std::process::id().to_string());
        let fresh = into.with_file_name("fresh");
        fs::create_dir(&fresh).unwrap();
        own(&fresh);
        let mut initdb = as_postgres(&program("initdb"));
        done(initdb.args(["-A", "trust", "--no-sync", "-U", "postgres", "-D"]).arg(&fresh));
        done(Command::new("cp").arg("-a").arg(&fresh).arg(&own_copy));
        // Another test may have been faster.
        if fs::rename(&own_copy, &kept).is_err() {
            fs::remove_dir_all(&own_copy).unwrap();
        }
        fs::remove_dir_all(&fresh).unwrap();
    }
    done(Command::new("cp").arg("-a").arg(&kept).arg(into));
    own(into);
}
