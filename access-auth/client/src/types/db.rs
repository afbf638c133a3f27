//! Databases.

use std::fmt;

use access_core::document::{Document, DocumentError, DocumentSpec};
use access_core::policy::ApiKind;
use access_core::role::ROLE_SCHEMA;
use access_core::{HostId, Login, Timestamp};
use serde::{Deserialize, Serialize};

use super::db_target::{check_addresses, no_password};
use super::served::Served;
use super::{DbTls, is_default};

/// A database as stored and printed. Its labels are the document's; that of an agent's own
/// configuration expires unless its agent writes it again.
///
/// One without a host is an administrator's: agents that match its labels serve it, several if
/// there are several, and nothing of it is in their configurations.
pub type DbDocument = Document<DbSpec>;

/// What clients of a database speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DbProtocol {
    /// PostgreSQL.
    Postgres,
    /// CockroachDB, which speaks PostgreSQL's protocol.
    Cockroachdb,
}

impl DbProtocol {
    /// Every protocol.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::Cockroachdb];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Cockroachdb => "cockroachdb",
        }
    }

    /// Reads the word for it.
    ///
    /// # Errors
    /// [`DocumentError::Field`] with the nearest word that there is.
    pub fn parse(word: &str) -> Result<Self, DocumentError> {
        Self::ALL.into_iter().find(|one| one.as_str() == word).ok_or_else(|| {
            let valid = Self::ALL.map(Self::as_str);
            DocumentError::Field(access_core::document::unknown("protocol", word, &valid))
        })
    }
}

impl fmt::Display for DbProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DbSpec {
    /// Who says that there is one; what `host` says when it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<DbOrigin>,
    /// What its clients speak.
    pub protocol: DbProtocol,
    /// Where the server is, `HOST:PORT`; several of one cluster with commas between them.
    pub uri: String,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: String,
    /// The account that makes and disables accounts of users, where that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_user: Option<AdminUser>,
    /// How it proves itself, for agents that have nothing but the document to go by.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: DbTls,
    /// The agent that serves it, out of its own configuration; none for one that an administrator
    /// registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// What the agent's host calls itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname: String,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub version: String,
    /// The schema of roles that the agent knows; 0 when it does not say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub role_schema: u32,
    /// What the agent last found of the server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: Health,
    /// Of one that an administrator registered: the agents that serve it at the moment. Auth fills
    /// this in for whoever reads, and heeds nothing of it in what is written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub servers: Vec<DbServer>,
    /// Nothing: files are agents' own.
    #[doc(hidden)]
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "no_password")]
    pub password_file: (),
}

/// Who says that there is a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DbOrigin {
    /// An agent, by its configuration.
    Config,
    /// An administrator, by this document.
    Dynamic,
}

/// What an agent tells of a database that an administrator registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DbServer {
    /// The agent.
    pub host: HostId,
    /// What the agent's host calls itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname: String,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub version: String,
    /// The schema of roles that the agent knows; 0 when it does not say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub role_schema: u32,
    /// What the agent last found of the server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: Health,
}

/// The account by which accounts of users are made on a server, for their sessions, and disabled
/// after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminUser {
    /// What it is called there.
    pub name: Login,
    /// The database on the server that it connects to; `postgres` when none is named. All agents
    /// that serve the same server have to name the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_database: Option<String>,
}

impl AdminUser {
    /// The longest name of an account or a database, in bytes: more are cut off by the server.
    pub const MAX_NAME: usize = 63;
    /// Accounts that no agent can name itself an administrator by: CockroachDB's superuser, and its
    /// own nodes.
    pub const RESERVED: [&str; 2] = ["root", "node"];

    /// One that connects to the usual database.
    pub fn new(name: Login) -> Self {
        Self { name, default_database: None }
    }

    /// Whether it can be one.
    ///
    /// # Errors
    /// [`DocumentError::Field`] says what is wrong with it.
    pub fn check(&self) -> Result<(), DocumentError> {
        let refused = |field: &str, why: &str| Err(DocumentError::Field(format!("{field}: {why}")));
        let name = self.name.as_str();
        if name.len() > Self::MAX_NAME {
            return refused("admin_user.name", "63 bytes at most");
        }
        if Self::RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
            let why = "root and node are none: make an account of its own";
            return refused("admin_user.name", why);
        }
        match self.default_database.as_deref() {
            Some("") => refused("admin_user.default_database", "it is empty"),
            Some(name) if name.len() > Self::MAX_NAME || name.chars().any(char::is_control) => {
                refused("admin_user.default_database", "63 bytes at most, and none of control")
            }
            _ => Ok(()),
        }
    }
}

/// Whether a server answers its agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The verdict.
    #[serde(default)]
    pub status: HealthStatus,
    /// Why, when it is not healthy; [`Health::MAX_MESSAGE`] bytes at most.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
    /// When the agent looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Timestamp>,
}

impl Health {
    /// The longest message, in bytes.
    pub const MAX_MESSAGE: usize = 1024;
}

/// A verdict on a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// It answers.
    Healthy,
    /// It does not, or not as it should.
    Unhealthy,
}

impl HealthStatus {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl DocumentSpec for DbSpec {
    const KIND: ApiKind = ApiKind::Db;
}

impl Served for DbSpec {
    fn host(&self) -> Option<&HostId> {
        self.host.as_ref()
    }

    fn role_schema(&self) -> u32 {
        self.role_schema
    }

    fn admin_user(&self) -> Option<&Login> {
        self.admin_user.as_ref().map(|admin| &admin.name)
    }

    fn check(&self) -> Result<(), DocumentError> {
        let bounds = [
            ("uri", &self.uri, Self::MAX_URI),
            ("description", &self.description, Self::MAX_DESCRIPTION),
            ("health.message", &self.health.message, Health::MAX_MESSAGE),
        ];
        for (field, text, most) in bounds {
            if text.len() > most {
                return Err(DocumentError::Field(format!("spec.{field}: {most} bytes at most")));
            }
            // It is shown in terminals.
            if text.chars().any(char::is_control) {
                let why = format!("spec.{field}: it has a control character");
                return Err(DocumentError::Field(why));
            }
        }
        if self.uri.is_empty() {
            let why = "spec.uri: where the server is, HOST:PORT, is missing";
            return Err(DocumentError::Field(why.into()));
        }
        if let Some(admin) = &self.admin_user {
            admin.check()?;
        }
        let why = match (self.origin, &self.host) {
            (Some(DbOrigin::Dynamic), Some(_)) => {
                "spec.host: a dynamic database has none, agents find it by its labels"
            }
            (Some(DbOrigin::Config), None) => {
                "spec.host: it is missing; a database that administrators register is dynamic"
            }
            (_, Some(_)) => return Ok(()),
            (_, None) => {
                check_addresses(&self.uri)?;
                return self.tls.check();
            }
        };
        Err(DocumentError::Field(why.into()))
    }
}

impl DbSpec {
    /// The longest `uri`, in bytes.
    pub const MAX_URI: usize = 1024;
    /// The longest `description`, in bytes.
    pub const MAX_DESCRIPTION: usize = 1024;

    /// A database of which nothing more is known.
    pub fn new(protocol: DbProtocol, uri: impl Into<String>, host: HostId) -> Self {
        let role_schema = ROLE_SCHEMA;
        Self { host: Some(host), role_schema, ..Self::dynamic(protocol, uri) }
    }

    /// A database as an administrator registers it.
    pub fn dynamic(protocol: DbProtocol, uri: impl Into<String>) -> Self {
        Self {
            origin: None,
            protocol,
            uri: uri.into(),
            description: String::new(),
            admin_user: None,
            tls: DbTls::default(),
            host: None,
            hostname: String::new(),
            version: String::new(),
            role_schema: 0,
            health: Health::default(),
            servers: Vec::new(),
            password_file: (),
        }
    }

    /// Whether an administrator registered it.
    pub fn is_dynamic(&self) -> bool {
        self.host.is_none()
    }

    /// What an administrator says of it, without what is found out: as it is stored, and as agents
    /// compare it.
    #[must_use]
    pub fn as_registered(self) -> Self {
        Self {
            origin: Some(DbOrigin::Dynamic),
            host: None,
            hostname: String::new(),
            version: String::new(),
            role_schema: 0,
            health: Health::default(),
            servers: Vec::new(),
            ..self
        }
    }
}
