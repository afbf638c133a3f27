//! PostgreSQL itself, set up as an administrator would: it trusts the cluster's authority for
//! accounts of databases, proves itself by what the cluster signed for it, and takes nothing but
//! certificates from the network.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::Cluster;
use crate::run::{bin, run};

/// A server on a loopback port, ended when this is dropped.
pub struct Postgres {
    dir: tempfile::TempDir,
    /// Its port.
    pub port: u16,
    process: Option<Child>,
}

impl Postgres {
    /// Starts one that trusts a cluster, with the database `shop` and the accounts `reader` and
    /// `owner` in it.
    pub fn start(cluster: &Cluster) -> Self {
        Self::start_with(cluster, "localhost", |_| {})
    }

    /// Starts one whose certificate is for a name; something may be changed in its data directory
    /// before.
    pub fn start_with(cluster: &Cluster, name: &str, change: impl FnOnce(&Path)) -> Self {
        let (dir, data) = new_folder();
        let out = dir.path().join("server");
        let (host, path) = (format!("--host={name}"), out.display().to_string());
        cluster.ctl(&["auth", "sign", "--format=db", &host, "--ttl=1h", "--out", &path], "").ok();
        for (from, to) in [("crt", "server.crt"), ("key", "server.key")] {
            fs::copy(out.with_extension(from), data.join(to)).unwrap();
        }
        let clients = cluster.ctl(&["auth", "export", "--type=db-client"], "").ok().out;
        fs::write(data.join("clients.crt"), clients).unwrap();
        let hba = "local all all trust\nhostssl all all 127.0.0.1/32 cert clientcert=verify-full\n";
        fs::write(data.join("pg_hba.conf"), hba).unwrap();
        let port = free_port();
        let config = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n\
             ssl_ca_file = 'clients.crt'\nfsync = off\nmax_connections = 50\n",
            data.display()
        );
        fs::write(data.join("postgresql.auto.conf"), config).unwrap();
        change(&data);
        let postgres = Self::run(dir, port);
        postgres.sql("create role reader login; create role owner login");
        postgres.sql("create database shop owner owner");
        postgres
    }

    /// Starts one that keeps the state of Auth, in `access_backend` of the user `access`: reached
    /// through its socket alone, without certificates.
    pub fn store() -> Self {
        let (dir, data) = new_folder();
        let port = free_port();
        fs::write(data.join("pg_hba.conf"), "local all all trust\n").unwrap();
        let config = format!(
            "port = {port}\nlisten_addresses = ''\nunix_socket_directories = '{}'\n\
             max_connections = 100\n",
            data.display()
        );
        fs::write(data.join("postgresql.auto.conf"), config).unwrap();
        let postgres = Self::run(dir, port);
        postgres.sql("create role access login");
        postgres.sql("create database access_backend owner access");
        postgres
    }

    fn run(dir: tempfile::TempDir, port: u16) -> Self {
        let mut postgres = Self { dir, port, process: None };
        own(&postgres.data());
        postgres.start_again();
        postgres
    }

    /// What it has logged since it was started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Starts it after [`Postgres::stop`], on the same port.
    pub fn start_again(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let process = as_postgres(&program("postgres"))
            .arg("-D")
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let until = Instant::now() + Duration::from_secs(60);
        let ready = || {
            let mut command = Command::new(program("pg_isready"));
            run(command.arg("-h").arg(self.data()).args(["-p", &self.port.to_string()]), "").code
        };
        while ready() != 0 {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "PostgreSQL does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it with all of its sessions at once.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = kill(Pid::from_raw(process.id() as i32), Signal::SIGQUIT);
            let _ = process.wait();
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The section of the agent's configuration that serves it as `orders`.
    pub fn section(&self) -> String {
        format!("db_service:\n  databases:\n{}", self.entry("orders", ""))
    }

    /// A database in that section, with more lines about it.
    pub fn entry(&self, name: &str, more: &str) -> String {
        format!(
            "  - name: {name}\n    uri: localhost:{}\n    protocol: postgres\n    \
             static_labels: {{ env: prod }}\n{more}",
            self.port
        )
    }

    /// A stock program that goes straight to it, past the cluster.
    pub fn direct(&self, program: &str, account: &str, database: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("PGHOST", self.data())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", account)
            .env("PGDATABASE", database);
        command
    }

    /// What leads a program to it through its socket, as a URL.
    pub fn conn_string(&self, account: &str, database: &str) -> String {
        let folder = self.data().display().to_string().replace('/', "%2F");
        format!("postgres://{account}@{folder}:{}/{database}?sslmode=disable", self.port)
    }

    /// Runs SQL as the superuser, in `shop` if that is there already.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    /// Runs SQL as the superuser.
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        let mut psql = self.direct("psql", "postgres", database);
        run(psql.args(["-XAt", "-v", "ON_ERROR_STOP=1", "-c", sql]), "").ok().out.trim().to_owned()
    }

    /// How many statements in which a text stands are being executed.
    pub fn executing(&self, text: &str) -> usize {
        let text = text.replace('\'', "''");
        let sql = format!(
            "select count(*) from pg_stat_activity where state = 'active' \
             and pid <> pg_backend_pid() and position('{text}' in query) > 0"
        );
        self.sql(&sql).parse().unwrap()
    }

    /// Waits until so many of them are.
    #[track_caller]
    pub fn wait_for_executing(&self, text: &str, count: usize) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let now = self.executing(text);
            if now == count {
                return;
            }
            assert!(Instant::now() < until, "{now} of {text:?} are executed, not {count}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- PostgreSQL said:\n{log}");
        }
        self.stop();
    }
}

/// A folder with a data directory in it.
fn new_folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::Builder::new().prefix("access-e2e-pg-").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data = dir.path().join("data");
    copy_of_template(&data);
    (dir, data)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where Debian keeps the programs of a version.
fn program(name: &str) -> PathBuf {
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

fn own(path: &Path) {
    for name in ["server.key", "server.crt"] {
        let path = path.join(name);
        if path.exists() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    if nix::unistd::geteuid().is_root() {
        run(Command::new("chown").arg("-R").arg("postgres:postgres").arg(path), "").ok();
    }
}

/// A data directory takes seconds to make, and every test has one of its own: copies of one.
fn copy_of_template(into: &Path) {
    let kept = bin("access").with_file_name("postgres-template");
    if !kept.exists() {
        let own_copy = kept.with_extension(into.parent().unwrap().file_name().unwrap());
        let fresh = into.with_file_name("fresh");
        fs::create_dir(&fresh).unwrap();
        own(&fresh);
        let mut initdb = as_postgres(&program("initdb"));
        run(initdb.args(["-A", "trust", "--no-sync", "-U", "postgres", "-D"]).arg(&fresh), "").ok();
        run(Command::new("cp").arg("-a").arg(&fresh).arg(&own_copy), "").ok();
        // Another test may have been faster.
        if fs::rename(&own_copy, &kept).is_err() {
            fs::remove_dir_all(&own_copy).unwrap();
        }
        fs::remove_dir_all(&fresh).unwrap();
    }
    run(Command::new("cp").arg("-a").arg(&kept).arg(into), "").ok();
    own(into);
}
