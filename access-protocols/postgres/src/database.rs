//! The databases that are served: what they are, how they are spoken to.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use access_core::{Resource, ResourceRef};
use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use crate::tls::TargetTls;

/// Which database speaks PostgreSQL's protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DatabaseProtocol {
    /// PostgreSQL itself, or what behaves like it.
    #[default]
    Postgres,
    /// CockroachDB.
    CockroachDb,
}

impl DatabaseProtocol {
    /// The word in configurations and events: `postgres`, `cockroachdb`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::CockroachDb => "cockroachdb",
        }
    }
}

/// Where a password is read from, each time that it is needed.
pub type PasswordSource =
    Arc<dyn Fn() -> std::io::Result<Zeroizing<Vec<u8>>> + Send + Sync + 'static>;

/// How a database is told who connects.
#[derive(Clone)]
#[non_exhaustive]
pub enum TargetAuth {
    /// By a client certificate for the database account, minutes long, which the server's
    /// [`TargetCredentials`](access_core::credentials::TargetCredentials) make.
    Certificate,
    /// By a stored password, the same for all accounts, and SCRAM-SHA-256. Nothing weaker is
    /// answered.
    Password(PasswordSource),
    /// Not at all: for a database that asks nothing of whoever can connect.
    Nothing,
}

impl TargetAuth {
    /// A password that is the first line of a file, which is read for each session.
    pub fn password_file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::Password(Arc::new(move || {
            let mut bytes = Zeroizing::new(std::fs::read(&path)?);
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            if let Some(end) = end {
                bytes.truncate(end);
            }
            Ok(bytes)
        }))
    }
}

impl std::fmt::Debug for TargetAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificate => "Certificate",
            Self::Password(_) => "Password",
            Self::Nothing => "Nothing",
        })
    }
}

/// A database that is served. Its addresses are known to [`Reach`](access_core::reach::Reach).
#[derive(Clone, Debug)]
pub struct Database {
    /// Which resource it is, and its labels.
    pub resource: Resource,
    /// What it is.
    pub protocol: DatabaseProtocol,
    /// TLS to it; none, if it is spoken to in clear.
    pub tls: Option<TargetTls>,
    /// How it is told who connects.
    pub auth: TargetAuth,
    /// The database that the resource's admin user connects to; `postgres` when none is named.
    pub admin_database: Option<String>,
}

/// The databases that are served at the moment. Clones share them.
///
/// ```
/// use access_postgres::Databases;
/// let databases = Databases::default();
/// databases.replace([]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Databases(Arc<ArcSwap<HashMap<ResourceRef, Arc<Database>>>>);

impl Databases {
    /// These, until they are replaced.
    pub fn new(databases: impl IntoIterator<Item = Database>) -> Self {
        let shared = Self::default();
        shared.replace(databases);
        shared
    }

    /// Serves these and no others from now on; sessions that are open go on.
    pub fn replace(&self, databases: impl IntoIterator<Item = Database>) {
        let by_id = databases.into_iter().map(|db| (db.resource.id.clone(), Arc::new(db)));
        self.0.store(Arc::new(by_id.collect()));
    }

    /// One of them.
    pub fn get(&self, id: &ResourceRef) -> Option<Arc<Database>> {
        self.0.load().get(id).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Database>> {
        self.0.load().values().cloned().collect()
    }
}
