//! Databases.

use std::fmt;

use access_core::document::{Document, DocumentError, DocumentSpec};
use access_core::policy::ApiKind;
use access_core::role::ROLE_SCHEMA;
use access_core::{HostId, Login, Timestamp};
use serde::{Deserialize, Serialize};

use super::is_default;
use super::served::Served;

/// A database as stored and printed. Its labels are the document's; that of an agent's own
/// configuration expires unless its agent writes it again.
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
    /// What its clients speak.
    pub protocol: DbProtocol,
    /// Where the server is, `HOST:PORT`; several of one cluster with commas between them.
    pub uri: String,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: String,
    /// The account that makes and disables accounts of users, where that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_user: Option<Login>,
    /// The agent that serves it.
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
    fn host(&self) -> &HostId {
        &self.host
    }

    fn role_schema(&self) -> u32 {
        self.role_schema
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
        Ok(())
    }
}

impl DbSpec {
    /// The longest `uri`, in bytes.
    pub const MAX_URI: usize = 1024;
    /// The longest `description`, in bytes.
    pub const MAX_DESCRIPTION: usize = 1024;

    /// A database of which nothing more is known.
    pub fn new(protocol: DbProtocol, uri: impl Into<String>, host: HostId) -> Self {
        Self {
            protocol,
            uri: uri.into(),
            description: String::new(),
            admin_user: None,
            host,
            hostname: String::new(),
            version: String::new(),
            role_schema: ROLE_SCHEMA,
            health: Health::default(),
        }
    }
}
