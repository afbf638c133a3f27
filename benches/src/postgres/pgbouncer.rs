//! The other side: pgbouncer, which gives each client a connection of its own.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use super::pki::Authority;
use super::server::{
    ACCOUNT, DATABASE, Postgres, as_postgres, free_port, give_to_postgres, wait_for,
};
use crate::Result;
use crate::process::Running;

/// A pgbouncer, and its port.
#[derive(Debug)]
pub(super) struct PgBouncer {
    /// Where it listens, on `localhost`.
    pub(super) port: u16,
    _process: Running,
}

impl PgBouncer {
    /// Starts one before a database, with TLS and certificates on both of its sides.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    #[allow(clippy::disallowed_methods, reason = "it only looks whether somebody listens")]
    pub(super) fn start(folder: &Path, authority: &Authority, postgres: &Postgres) -> Result<Self> {
        let own = folder.join("pgbouncer");
        fs::create_dir(&own)?;
        let server = authority.server("pgbouncer-server")?;
        let client = authority.client("pgbouncer-client", ACCOUNT)?;
        for (from, to) in [
            (&authority.root, "root.crt"),
            (&server.cert, "server.crt"),
            (&server.key, "server.key"),
            (&client.cert, "client.crt"),
            (&client.key, "client.key"),
        ] {
            fs::copy(from, own.join(to))?;
        }
        fs::write(own.join("users.txt"), format!("\"{ACCOUNT}\" \"\"\n"))?;
        let port = free_port()?;
        let config = format!(
            "[databases]\n{DATABASE} = host=localhost port={to} dbname={DATABASE}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             logfile = {own}/log\nauth_type = cert\nauth_file = {own}/users.txt\n\
             pool_mode = session\ndefault_pool_size = 200\nmax_client_conn = 400\n\
             client_tls_sslmode = verify-full\nclient_tls_ca_file = {own}/root.crt\n\
             client_tls_cert_file = {own}/server.crt\nclient_tls_key_file = {own}/server.key\n\
             server_tls_sslmode = verify-full\nserver_tls_ca_file = {own}/root.crt\n\
             server_tls_cert_file = {own}/client.crt\nserver_tls_key_file = {own}/client.key\n",
            to = postgres.port,
            own = own.display(),
        );
        fs::write(own.join("pgbouncer.ini"), config)?;
        give_to_postgres(&own)?;
        let process = as_postgres(Path::new("pgbouncer"))
            .arg(own.join("pgbouncer.ini"))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|err| format!("pgbouncer is needed (apt-get install pgbouncer): {err}"))?;
        let pgbouncer = Self { port, _process: Running(process) };
        wait_for("pgbouncer", || TcpStream::connect(("127.0.0.1", port)).ok())?;
        Ok(pgbouncer)
    }
}
