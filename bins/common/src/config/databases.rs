//! The section about databases.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use access_client::types::{AdminUser, ResourceMatcher, ResourceMatchers};
pub use access_client::types::{TlsMode, TlsNegotiation};
use serde::{Deserialize, Deserializer, de};

use super::schema::address;
use super::value::Switch;

/// Databases.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DbSection {
    enabled: Option<Switch>,
    /// Which.
    pub databases: Vec<Database>,
    /// Which of those that administrators register, by their labels.
    #[serde(deserialize_with = "matchers")]
    pub resources: Vec<ResourceMatcher>,
}

impl DbSection {
    /// Whether it runs; yes, unless the file says no.
    pub fn enabled(&self) -> bool {
        self.enabled.is_none_or(|switch| switch.0)
    }
}

/// A database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its name in the cluster.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// Where it is, `HOST:PORT`; several nodes of one cluster with commas between them, which are
    /// tried in turn.
    pub uri: String,
    /// What it speaks.
    pub protocol: DatabaseProtocol,
    /// Labels for role matchers.
    #[serde(default)]
    pub static_labels: BTreeMap<String, String>,
    /// How it proves itself.
    #[serde(default)]
    pub tls: DbTls,
    /// Where clients may connect to it without a proxy, as if to the database itself: nowhere by
    /// default. They need the cluster's certificates there too.
    #[serde(default, deserialize_with = "address")]
    pub listen_addr: Option<SocketAddr>,
    /// A file whose first line is the password of every account, for a database that takes no
    /// certificates. Without it the agent shows a certificate of the `db-client` authority.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The account by which accounts of users are made on it for their sessions, where their roles
    /// say so. Accounts that are made have no password, and need a database that takes
    /// certificates.
    #[serde(default, deserialize_with = "admin_user")]
    pub admin_user: Option<AdminUser>,
}

/// What databases speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseProtocol {
    /// PostgreSQL.
    #[serde(alias = "postgresql")]
    Postgres,
    /// CockroachDB.
    #[serde(alias = "cockroach")]
    Cockroachdb,
    /// MySQL and MariaDB.
    Mysql,
    /// MongoDB.
    Mongodb,
}

/// How a database proves itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DbTls {
    /// What its certificate is held against.
    pub mode: TlsMode,
    /// The authority of its certificate, in PEM; the cluster's own `db` authority by default.
    pub ca_cert_file: Option<PathBuf>,
    /// The name that its certificate must have; the host that is dialled by default.
    pub server_name: Option<String>,
    /// How TLS begins.
    pub negotiation: TlsNegotiation,
}

fn admin_user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<AdminUser>, D::Error> {
    let admin = Option::<AdminUser>::deserialize(deserializer)?;
    if let Some(admin) = &admin {
        admin.check().map_err(de::Error::custom)?;
    }
    Ok(admin)
}

fn matchers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ResourceMatcher>, D::Error> {
    let matchers = Vec::<ResourceMatcher>::deserialize(deserializer)?;
    match ResourceMatchers::compile(&matchers) {
        Ok(_) => Ok(matchers),
        Err(err) => Err(de::Error::custom(format!("resources: {err}"))),
    }
}
