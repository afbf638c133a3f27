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

    /// The least version, if a server is older than that.
    pub(crate) fn too_old(self, banner: &str) -> Option<&'static str> {
        let digits = banner.split_once(|c: char| c.is_ascii_digit()).and_then(|(before, _)| {
            let version = banner.strip_prefix(before)?;
            let mut parts = version.split(|c: char| !c.is_ascii_digit());
            let mut part = || parts.next().and_then(|part| part.parse::<u32>().ok());
            Some((part()?, part().unwrap_or(0)))
        });
        let (least, shown) = match self {
            Self::Postgres => ((14, 0), "14"),
            Self::CockroachDb => ((23, 1), "23.1"),
        };
        // What does not say its version is given the benefit of the doubt.
        digits.filter(|version| *version < least).map(|_| shown)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banners_are_understood() {
        let postgres = "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu";
        let roach = "CockroachDB CCL v25.2.0 (x86_64-pc-linux-gnu, built 2025/05/09)";
        assert_eq!(Engine::of_banner(postgres), Some(Engine::Postgres));
        assert_eq!(Engine::of_banner(roach), Some(Engine::CockroachDb));
        assert_eq!(Engine::of_banner("MySQL"), None);
        assert_eq!(Engine::Postgres.too_old(postgres), None);
        assert_eq!(Engine::CockroachDb.too_old(roach), None);
        assert_eq!(Engine::Postgres.too_old("PostgreSQL 13.9"), Some("14"));
        assert_eq!(Engine::Postgres.too_old("PostgreSQL 17devel"), None);
        assert_eq!(Engine::CockroachDb.too_old("CockroachDB CCL v22.2.1"), Some("23.1"));
        assert_eq!(Engine::CockroachDb.too_old("CockroachDB"), None);
    }
}
