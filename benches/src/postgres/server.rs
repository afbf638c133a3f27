//! PostgreSQL itself, which takes nobody from the network without a certificate.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::pki::Authority;
use crate::Result;
use crate::process::{Running, output};

/// The account that everybody works as.
pub(super) const ACCOUNT: &str = "bench";
/// The database.
pub(super) const DATABASE: &str = "postgres";
/// How long anything may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, and its port.
#[derive(Debug)]
pub(super) struct Postgres {
    data: PathBuf,
    /// Where it listens, on `localhost`.
    pub(super) port: u16,
    _process: Running,
}

/// One of PostgreSQL's programs. Servers are where Debian keeps them, by version.
fn bin(program: &str) -> Result<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map_err(|err| format!("PostgreSQL is needed (apt-get install postgresql): {err}"))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    versions.sort();
    Ok(versions.last().ok_or("no version of PostgreSQL")?.join("bin").join(program))
}

/// A program that refuses to be root, as the system's user `postgres`.
pub(super) fn as_postgres(program: &Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

/// Gives files to that user.
///
/// # Errors
/// When that fails.
pub(super) fn give_to_postgres(path: &Path) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        output(Command::new("chown").arg("-R").arg("postgres:postgres").arg(path), "")?;
    }
    Ok(())
}

/// A port that nobody has at the moment.
///
/// # Errors
/// When there is none.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Polls until something is there.
///
/// # Errors
/// When it does not come in a minute.
pub(super) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= until {
            return Err(format!("waited in vain for {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Postgres {
    /// Starts one that trusts these roots for its clients' certificates.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub(super) fn start(folder: &Path, authority: &Authority, client_roots: &str) -> Result<Self> {
        let data = folder.join("postgres");
        fs::create_dir(&data)?;
        give_to_postgres(&data)?;
        let mut initdb = as_postgres(&bin("initdb")?);
        initdb.args(["-A", "trust", "--no-sync", "-U", "postgres", "-D"]).arg(&data);
        output(&mut initdb, "")?;
        let pair = authority.server("postgres")?;
        fs::copy(&pair.cert, data.join("server.crt"))?;
        fs::copy(&pair.key, data.join("server.key"))?;
        fs::set_permissions(data.join("server.key"), Permissions::from_mode(0o600))?;
        fs::write(data.join("clients.crt"), client_roots)?;
        let hba = "local all all trust\nhostssl all all 127.0.0.1/32 cert clientcert=verify-full\n";
        fs::write(data.join("pg_hba.conf"), hba)?;
        let port = free_port()?;
        let config = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n\
             ssl_ca_file = 'clients.crt'\nfsync = off\nmax_connections = 400\n\
             shared_buffers = '512MB'\n",
            data.display()
        );
        fs::write(data.join("postgresql.auto.conf"), config)?;
        give_to_postgres(&data)?;
        let process = as_postgres(&bin("postgres")?)
            .arg("-D")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("postgres.log"))?)
            .spawn()?;
        let postgres = Self { data, port, _process: Running(process) };
        wait_for("PostgreSQL", || postgres.sql("select 1").ok())?;
        Ok(postgres)
    }

    /// Fills it: pgbench's tables of a million rows, and one of so many MiB to be copied.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn fill(&self, mib: usize) -> Result<()> {
        self.sql(&format!("create role {ACCOUNT} login superuser"))?;
        let mut pgbench = self.local("pgbench")?;
        pgbench.args(["-q", "-i", "-s", "10", "-U", ACCOUNT, DATABASE]);
        output(&mut pgbench, "")?;
        // As text, a row of it takes 262 to 264 bytes.
        let rows = mib * 1024 * 1024 / 263;
        self.sql(&format!(
            "create unlogged table bulk as select i, repeat(md5(i::text), 8) as t \
             from generate_series(1, {rows}) i"
        ))?;
        self.sql("vacuum analyze bulk")?;
        Ok(())
    }

    fn local(&self, program: &str) -> Result<Command> {
        let mut command = as_postgres(&bin(program)?);
        command.arg("-h").arg(&self.data).args(["-p", &self.port.to_string()]);
        Ok(command)
    }

    /// Runs SQL past everybody else, and gives what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn sql(&self, sql: &str) -> Result<String> {
        let mut psql = self.local("psql")?;
        psql.args(["-XAtU", "postgres", "-d", DATABASE, "-v", "ON_ERROR_STOP=1", "-c", sql]);
        Ok(output(&mut psql, "")?.trim().to_owned())
    }
}
