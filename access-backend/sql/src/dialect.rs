//! What differs between the databases.

use std::fmt;

use crate::statements::{COCKROACHDB, POSTGRES, Statements};

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// PostgreSQL, from version 14 on.
    Postgres,
    /// CockroachDB, from version 23.1 on.
    CockroachDb,
}

impl Engine {
    /// Its name in configuration files and in [`Capabilities`](access_backend::Capabilities).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::CockroachDb => "cockroachdb",
        }
    }

    pub(crate) const fn statements(self) -> &'static Statements {
        match self {
            Self::Postgres => &POSTGRES,
            Self::CockroachDb => &COCKROACHDB,
        }
    }

    /// The engine that a server says it is, by what `version()` answers.
    pub(crate) fn of_banner(banner: &str) -> Option<Self> {
        match () {
            () if banner.starts_with("CockroachDB") => Some(Self::CockroachDb),
            () if banner.starts_with("PostgreSQL") => Some(Self::Postgres),
            () => None,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
