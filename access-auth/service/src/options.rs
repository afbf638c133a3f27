//! How an Auth Service is set up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use access_backend::{Backend, EventStore};
use access_core::role::{ROLE_FIELDS, RoleField};
use access_core::{Clock, ClusterName};

use crate::limits::Rate;

/// Where the state is: rows and events, usually one engine that is both.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Documents, secrets and the like.
    pub backend: Arc<dyn Backend>,
    /// The audit log.
    pub events: Arc<dyn EventStore>,
}

impl<T: Backend + EventStore> From<Arc<T>> for Storage {
    fn from(engine: Arc<T>) -> Self {
        Self { backend: engine.clone(), events: engine }
    }
}

/// Settings of an Auth Service.
#[derive(Clone)]
pub struct Options {
    /// The cluster's name: needed on the very first start; later on it may be left out, and must
    /// not be another one.
    pub cluster_name: Option<ClusterName>,
    /// Where the service keeps its sealing key, the log's JSON lines and recordings. Made with
    /// mode 0700 when it is not there.
    pub data_dir: PathBuf,
    /// The file with the key that seals the authorities' private keys; `seal.key` in `data_dir`
    /// when `None`, which is made on the first start. Replicas with a store in common need the
    /// same key.
    pub seal_key_file: Option<PathBuf>,
    /// Names and addresses, beside `auth.CLUSTER` and those of this machine, that clients reach
    /// the service by.
    pub names: Vec<String>,
    /// Where users and agents reach the cluster's proxies, `HOST:PORT`: told with invitations
    /// until proxies tell themselves.
    pub proxies: Vec<String>,
    /// Where recordings are kept; the folder `recordings` in `data_dir` when `None`.
    pub recordings: Option<Arc<dyn object_store::ObjectStore>>,
    /// Whether this process takes part in deleting what has expired, and how; `None` leaves it to
    /// other processes and to the engine.
    pub upkeep: Option<Upkeep>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What strangers and clients may start at most.
    pub limits: Limits,
    /// Fields of roles that came after schema 1: roles that use one are refused while a host that
    /// enforces them is too old to know it.
    pub role_fields: &'static [RoleField],
}

/// What one replica at a time deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// How often, about.
    pub every: Duration,
    /// How long audit events are kept, by their own time; `None` keeps them.
    pub keep_events: Option<Duration>,
}

impl Default for Upkeep {
    /// Every five seconds, and no events.
    fn default() -> Self {
        Self { every: Duration::from_secs(5), keep_events: None }
    }
}

impl Options {
    /// The usual settings.
    pub fn new(data_dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self {
            cluster_name: None,
            data_dir: data_dir.into(),
            seal_key_file: None,
            names: Vec::new(),
            proxies: Vec::new(),
            recordings: None,
            upkeep: Some(Upkeep::default()),
            clock,
            limits: Limits::default(),
            role_fields: ROLE_FIELDS,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("cluster_name", &self.cluster_name)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// What strangers and clients may start at most.
///
/// A source is the address of a client, also of one that a proxy leads here. Everybody behind one
/// NAT is one source, so the limits are those of a large office.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// Connections open at once from one source.
    pub connections_per_source: usize,
    /// Calls without an identity from one source, beside pings.
    pub entry: Rate,
    /// Pings from one source, which change nothing and take no call of another kind its turn.
    pub ping: Rate,
    /// Calls without an identity, pings among them, on one connection: what tells strangers apart
    /// who share an address.
    pub entry_per_connection: Rate,
    /// Calls of one identity.
    pub calls: Rate,
    /// Certificates for database accounts that one agent asks for.
    pub db_certificates: Rate,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a call that is no stream may take.
    pub call: Duration,
    /// How long a stream of an upload may pause.
    pub pause: Duration,
    /// Passwords that are hashed at once, in 19 MiB each.
    pub password_hashes: usize,
    /// Calls of strangers that are open at once.
    pub strangers: usize,
    /// Calls of a stranger that are open at once on one connection.
    pub strangers_per_connection: usize,
    /// How long the message of a stranger's call may take to arrive.
    pub stranger_message: Duration,
    /// How long a stranger's connection may be open without a call.
    pub stranger_quiet: Duration,
    /// Recordings that are uploaded at once; others wait.
    pub uploads: usize,
    /// The largest recording in bytes.
    pub recording: u64,
    /// How long host certificates hold.
    pub host_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_source: 4_000,
            entry: Rate::new(2_000, 200.0),
            ping: Rate::new(4_000, 400.0),
            entry_per_connection: Rate::new(30, 1.0),
            calls: Rate::new(2_000, 500.0),
            db_certificates: Rate::new(500, 50.0),
            handshake: Duration::from_secs(10),
            call: Duration::from_secs(30),
            pause: Duration::from_secs(60),
            password_hashes: std::thread::available_parallelism().map_or(2, |n| n.get().min(8)),
            strangers: 1_024,
            strangers_per_connection: 8,
            stranger_message: Duration::from_secs(10),
            stranger_quiet: Duration::from_secs(60),
            uploads: 32,
            recording: 16 * 1024 * 1024 * 1024,
            host_ttl: Duration::from_secs(24 * 3600),
        }
    }
}
