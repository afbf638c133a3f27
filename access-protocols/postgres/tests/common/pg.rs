//! PostgreSQL itself, on a port of its own, stopped by its process id.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Ca;

pub struct Postgres {
    pub dir: tempfile::TempDir,
    pub port: u16,
    /// Signs the server's certificate.
    pub db_ca: Ca,
    /// Is trusted for its clients' certificates.
    pub client_ca: Ca,
    process: Child,
}

/// Where Debian keeps the programs of a version.
fn bin(program: &str) -> PathBuf {
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is needed: apt-get install postgresql")
        .map(|entry| entry.unwrap().path())
        .collect();
    versions.sort();
    versions.last().expect("no version of PostgreSQL").join("bin").join(program)
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

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", super::text(&output.stderr));
}

fn own(path: &Path) {
    if nix::unistd::geteuid().is_root() {
        run(Command::new("chown").arg("-R").arg("postgres:postgres").arg(path));
    }
}

/// A cluster takes seconds to make, and every test has one of its own: they are copies of one.
fn template(into: &Path) {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres-template");
    if !kept.exists() {
        let fresh = tempfile::tempdir_in(into.parent().unwrap()).unwrap();
        std::fs::set_permissions(fresh.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let data = fresh.path().join("data");
        std::fs::create_dir(&data).unwrap();
        own(&data);
        run(as_postgres(&bin("initdb"))
            .args(["-A", "trust", "--no-sync", "-U", "postgres", "-D"])
            .arg(&data));
        let own_copy = kept.with_extension(fresh.path().file_name().unwrap());
        run(Command::new("cp").arg("-a").arg(&data).arg(&own_copy));
        if std::fs::rename(&own_copy, &kept).is_err() {
            std::fs::remove_dir_all(&own_copy).unwrap();
        }
    }
    run(Command::new("cp").arg("-a").arg(&kept).arg(into));
    own(into);
}

impl Postgres {
    /// One that takes `cert clientcert=verify-full` from the network and nothing else.
    pub fn start() -> Self {
        Self::with_hba(
            "hostssl all all 127.0.0.1/32 cert clientcert=verify-full\n\
                        hostssl replication all 127.0.0.1/32 cert clientcert=verify-full\n",
        )
    }

    pub fn with_hba(hba: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let data = dir.path().join("data");
        template(&data);
        let (db_ca, client_ca) = (Ca::new("databases"), Ca::new("database clients"));
        let pair = db_ca.server(&["localhost"]);
        std::fs::write(data.join("server.crt"), pair.cert_pem()).unwrap();
        std::fs::write(data.join("server.key"), pair.key_pem()).unwrap();
        std::fs::set_permissions(data.join("server.key"), PermissionsExt::from_mode(0o600))
            .unwrap();
        std::fs::write(data.join("clients.crt"), client_ca.root_pem()).unwrap();
        std::fs::write(data.join("pg_hba.conf"), format!("local all all trust\n{hba}")).unwrap();
        let port = free_port();
        let config = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n\
             ssl_ca_file = 'clients.crt'\nfsync = off\nwal_level = logical\nmax_connections = 50\n",
            data.display()
        );
        std::fs::write(data.join("postgresql.auto.conf"), config).unwrap();
        own(&data);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let process = as_postgres(&bin("postgres"))
            .arg("-D")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let postgres = Self { dir, port, db_ca, client_ca, process };
        postgres.wait_until_ready();
        postgres
    }

    fn wait_until_ready(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.ready() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "PostgreSQL does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.sql("create role reader login; create role alice login");
    }

    fn local(&self, program: &str) -> Command {
        let mut command = as_postgres(&bin(program));
        command.arg("-h").arg(self.dir.path().join("data")).args(["-p", &self.port.to_string()]);
        command.stdin(Stdio::null());
        command
    }

    fn ready(&self) -> bool {
        let mut ready = self.local("pg_isready");
        ready.stdout(Stdio::null()).status().unwrap().success()
    }

    /// Runs SQL as the superuser, past the gateway.
    pub fn sql(&self, sql: &str) -> String {
        let mut psql = self.local("psql");
        let output = psql
            .args(["-XAtU", "postgres", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .output()
            .unwrap();
        assert!(output.status.success(), "{sql}: {}", super::text(&output.stderr));
        super::text(&output.stdout).trim().to_owned()
    }

    /// Kills the server and all of its sessions at once.
    pub fn kill(&self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT).unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        let _ = self.process.wait();
    }
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
