//! A real PostgreSQL that trusts an authority for its clients' certificates, and a gateway before
//! it, over loopback.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::type_complexity,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod pg;
pub mod pki;
pub mod script;

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access_core::audit::{Envelope, Event, MemorySink};
use access_core::credentials::{CredentialsError, TargetCertificate, TargetCredentials};
use access_core::gate::{Gate, GateOptions, PolicySource};
use access_core::identity::{AuthorityKind, SharedTrust, TrustStore, TrustedAuthority};
use access_core::ids::ResourceName;
use access_core::policy::{
    Action, Context, DatabaseGrant, Decision, Grant, Reason, SessionLimits, Target,
};
use access_core::reach::Reach;
use access_core::recording::MemoryRecorder;
use access_core::role::RecordMode;
use access_core::tls::SharedKey;
use access_core::{
    Clock, ClusterName, HostId, Login, Permit, Resource, ResourceKind, ResourceRef, Timestamp,
    VerifiedIdentity,
};
use access_host::{HostReach, SystemClock};
use access_postgres::{
    Database, DatabaseProtocol, Databases, Door, PostgresOptions, PostgresServer, TargetAuth,
    TargetTls, TlsMode,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;

pub use pg::Postgres;
pub use pki::Ca;

pub const CLUSTER: &str = "example.com";

/// Everything that a test may wait for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A policy that a test changes as it likes.
pub struct Rules {
    deny: Mutex<Option<Box<dyn Fn(&Action) -> Option<Reason> + Send>>>,
    grant: Mutex<Grant>,
    changes: watch::Sender<u64>,
}

impl Rules {
    fn new() -> Arc<Self> {
        let mut limits = SessionLimits::until(Timestamp::MAX);
        limits.record = RecordMode::Off;
        Arc::new(Self {
            deny: Mutex::new(None),
            grant: Mutex::new(Grant { roles: vec![], limits, database: DatabaseGrant::default() }),
            changes: watch::Sender::new(0),
        })
    }

    /// Denies what the function has a reason for, from now on.
    pub fn deny(&self, deny: impl Fn(&Action) -> Option<Reason> + Send + 'static) {
        *self.deny.lock().unwrap() = Some(Box::new(deny));
        self.changes.send_modify(|n| *n += 1);
    }

    pub fn grant(&self, change: impl FnOnce(&mut Grant)) {
        change(&mut self.grant.lock().unwrap());
    }
}

impl PolicySource for Rules {
    fn decide(
        &self,
        _who: &VerifiedIdentity,
        action: &Action,
        _target: &Target,
        _context: &Context,
        _now: Timestamp,
    ) -> Decision {
        if let Some(reason) = self.deny.lock().unwrap().as_ref().and_then(|deny| deny(action)) {
            return Decision::Deny(reason);
        }
        Decision::Allow(self.grant.lock().unwrap().clone())
    }

    fn fresh_at(&self) -> Option<Timestamp> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Makes certificates for database accounts, as Auth would.
struct Minted(Ca);

#[async_trait::async_trait]
impl TargetCredentials for Minted {
    async fn client_certificate(
        &self,
        permit: &Permit,
    ) -> Result<TargetCertificate, CredentialsError> {
        let login = permit.action().login().ok_or(CredentialsError::NotForThis("no account"))?;
        Ok(TargetCertificate {
            key: self.0.client(login.as_str()).certified(),
            not_after: Timestamp::MAX,
        })
    }

    async fn admin_certificate(
        &self,
        permit: &Permit,
    ) -> Result<TargetCertificate, CredentialsError> {
        let Target::Resource(Resource { admin_user: Some(admin), .. }) = permit.target() else {
            return Err(CredentialsError::NotForThis("no admin user"));
        };
        let key = self.0.client(admin.as_str()).certified();
        Ok(TargetCertificate { key, not_after: Timestamp::MAX })
    }
}

/// How a gateway is set up.
pub struct Setup {
    pub auth: TargetAuth,
    pub tls: Option<TargetTls>,
    pub addresses: Vec<String>,
    pub options: PostgresOptions,
    /// The admin user.
    pub admin: Option<&'static str>,
    pub protocol: DatabaseProtocol,
}

impl Setup {
    /// As it should be: verified TLS with certificates on both sides.
    pub fn of(pg: &Postgres) -> Self {
        let roots = [pg.db_ca.root()];
        Self {
            auth: TargetAuth::Certificate,
            tls: Some(TargetTls::new(TlsMode::VerifyFull, roots).unwrap()),
            addresses: vec![format!("localhost:{}", pg.port)],
            options: PostgresOptions::default(),
            admin: None,
            protocol: DatabaseProtocol::Postgres,
        }
    }
}

pub struct Gateway {
    pub dir: tempfile::TempDir,
    pub users: Ca,
    pub hosts: Ca,
    pub addr: SocketAddr,
    pub rules: Arc<Rules>,
    pub sink: MemorySink,
    pub recorder: MemoryRecorder,
    pub server: PostgresServer,
    /// What is connected; aborting one is what an agent does that stops.
    pub connections: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
    pub resource: Resource,
}

impl Gateway {
    pub async fn before(pg: &Postgres) -> Self {
        Self::with(pg, Setup::of(pg)).await
    }

    pub async fn with(pg: &Postgres, setup: Setup) -> Self {
        Self::serving(pg.client_ca.clone(), setup).await
    }

    /// One whose certificates for databases are by this authority.
    pub async fn serving(client_ca: Ca, setup: Setup) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let (users, hosts) = (Ca::new("users"), Ca::new("hosts"));
        let cluster = ClusterName::new(CLUSTER).unwrap();
        let trusted = TrustedAuthority {
            kind: AuthorityKind::User,
            cluster: cluster.clone(),
            ssh: vec![],
            tls: vec![users.root()],
        };
        let trust = SharedTrust::new(TrustStore::new(cluster, [trusted]).unwrap());
        let trust = Arc::new(trust);
        let (rules, sink) = (Rules::new(), MemorySink::new(1_000_000));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let gate = Gate::new(
            rules.clone(),
            Arc::new(sink.clone()),
            Arc::clone(&clock),
            GateOptions::default(),
        );
        let id = ResourceRef {
            kind: ResourceKind::Database,
            name: ResourceName::new("orders").unwrap(),
        };
        let host = HostId::new("host-1").unwrap();
        let mut resource = Resource::new(id.clone(), Default::default(), host);
        resource.admin_user = setup.admin.map(|name| Login::new(name).unwrap());
        let reach = HostReach::builder().build().unwrap();
        reach.set_route(&id, &setup.addresses).unwrap();
        let database = Database {
            resource: resource.clone(),
            protocol: setup.protocol,
            tls: setup.tls,
            auth: setup.auth,
            admin_database: None,
        };
        let recorder = MemoryRecorder::new(None);
        let server = PostgresServer::builder()
            .gate(Arc::new(gate))
            .reach(Arc::new(reach) as Arc<dyn Reach>)
            .audit(Arc::new(sink.clone()))
            .clock(Arc::clone(&clock))
            .recorder(Arc::new(recorder.clone()))
            .credentials(Arc::new(Minted(client_ca)))
            .databases(Databases::new([database]))
            .options(setup.options)
            .build()
            .unwrap();
        let pair = hosts.server(&["localhost", "orders.db.example.com"]);
        let key = Arc::new(SharedKey::new(vec![pair.cert.clone()], pair.key_der()).unwrap());
        let door = Door::new(server.clone(), id, key, trust).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections: Arc<Mutex<Vec<tokio::task::AbortHandle>>> = Arc::default();
        let kept = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, client) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let door = door.clone();
                let served = tokio::spawn(async move { door.serve(stream, Some(client)).await });
                kept.lock().unwrap().push(served.abort_handle());
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let gateway =
            Self { dir, users, hosts, addr, rules, sink, recorder, server, connections, resource };
        gateway.write_user("alice");
        gateway
    }

    fn write_user(&self, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        let pair = self.users.user(name);
        let path = |ext: &str| self.dir.path().join(format!("{name}.{ext}"));
        std::fs::write(path("crt"), pair.cert_pem()).unwrap();
        std::fs::write(path("key"), pair.key_pem()).unwrap();
        std::fs::set_permissions(path("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(self.dir.path().join("root.crt"), self.hosts.root_pem()).unwrap();
    }

    /// A connection string for libpq, as database account and to a database.
    pub fn conninfo(&self, account: &str, database: &str) -> String {
        let dir = self.dir.path().display();
        format!(
            "host=localhost hostaddr=127.0.0.1 port={} user={account} dbname={database} \
             sslmode=verify-full sslrootcert={dir}/root.crt sslcert={dir}/alice.crt \
             sslkey={dir}/alice.key",
            self.addr.port()
        )
    }

    /// `psql` through the gateway, without anything of the user's own.
    pub fn psql(&self, account: &str) -> Command {
        let mut psql = Command::new("psql");
        psql.arg("-X").arg(self.conninfo(account, "postgres"));
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        psql.kill_on_drop(true);
        psql
    }

    /// Runs SQL in `psql`, in one simple query.
    pub async fn run(&self, account: &str, sql: &str) -> Output {
        let output = self.psql(account).args(["-At", "-c", sql]).output();
        tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap()
    }

    /// A driver's connection through the gateway.
    pub async fn connect(&self, account: &str) -> tokio_postgres::Client {
        let (client, connection) = self.try_connect(account).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub async fn try_connect(
        &self,
        account: &str,
    ) -> Result<
        (
            tokio_postgres::Client,
            tokio_postgres::Connection<
                tokio_postgres::Socket,
                <tokio_postgres_rustls::MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<
                    tokio_postgres::Socket,
                >>::Stream,
            >,
        ),
        tokio_postgres::Error,
    > {
        let mut config = tokio_postgres::Config::new();
        config
            .host("localhost")
            .hostaddr([127, 0, 0, 1].into())
            .port(self.addr.port())
            .user(account)
            .dbname("postgres")
            .ssl_mode(tokio_postgres::config::SslMode::Require);
        config.connect(self.connector()).await
    }

    pub fn client_tls(&self) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.hosts.root()).unwrap();
        let pair = self.users.user("alice");
        rustls::ClientConfig::builder_with_provider(pki::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![pair.cert.clone()], pair.key_der())
            .unwrap()
    }

    pub fn connector(&self) -> tokio_postgres_rustls::MakeRustlsConnect {
        tokio_postgres_rustls::MakeRustlsConnect::new(self.client_tls())
    }

    /// A TLS connection to the gateway, for bytes of a test's own.
    pub async fn raw(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut tcp = self.tcp().await;
        tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'S');
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.client_tls()));
        connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
    }

    #[allow(clippy::disallowed_methods, reason = "a test's client")]
    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Waits for an event.
    pub async fn wait_for(&self, fits: impl FnMut(&Event) -> bool) -> Envelope {
        tokio::time::timeout(PATIENCE, self.sink.wait_for(fits)).await.expect("no such event")
    }

    /// Every event as JSON.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.sink.envelopes().iter().map(|e| serde_json::to_value(e).unwrap()).collect()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The memory of this process, in KiB.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
