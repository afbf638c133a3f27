//! Accounts that are made for sessions, by an account that may do so: the database's admin user.
//!
//! ```text
//!             not there ──────────────┐ make, mark
//!                                     ▼
//!  marked and disabled ──────► marked, may log in, ◄──┐ the next session of the same user
//!            ▲      enable     exactly the roles   ───┘
//!            │                        │ the last session ends
//!            └──── disable ───────────┴──── drop ────► not there
//! ```
//!
//! What was made here is a member of the group [`GROUP`]; nothing else is ever touched. An account
//! has no password, so that nobody is it but by a certificate of the cluster, and has the roles
//! that the policy grants, no more and no fewer.
//!
//! Several agents may serve one server. They agree by locks in the server, two for each account:
//! whoever changes an account holds the first to the end of the transaction, and a session that
//! begins holds the second from before its account is changed until it is connected. So nobody who
//! counts the sessions of an account misses one. Locks of PostgreSQL are of one database each: all
//! agents connect to the same one, `postgres` unless told otherwise. CockroachDB has no such locks.

mod activate;
mod client;
mod deactivate;
mod error;
mod facts;
mod text;

pub(crate) use activate::{Activated, activate, settle};
pub(crate) use client::Admin;
pub(crate) use deactivate::{Deactivated, abandoned, deactivate};
pub(crate) use error::UserError;

use crate::database::DatabaseProtocol;

/// The group that every account is a member of that was made here. It is made when it is not there.
pub(crate) const GROUP: &str = "access-auto-user";

/// The database that the admin user connects to, unless told otherwise.
pub(crate) const USUAL_DATABASE: &str = "postgres";

/// The longest name of an account, in bytes; more are cut off by the server without a word.
const MAX_NAME: usize = 63;

/// An account, and the server that it is on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'a> {
    pub(crate) name: &'a str,
    /// Who makes it, for hints.
    pub(crate) admin: &'a str,
    pub(crate) protocol: DatabaseProtocol,
}

impl<'a> Account<'a> {
    /// An account that can be made.
    ///
    /// # Errors
    /// [`UserError::Name`] when its name is none on the server.
    pub(crate) fn new(
        name: &'a str,
        admin: &'a str,
        protocol: DatabaseProtocol,
    ) -> Result<Self, UserError> {
        let refused = |why: String| Err(UserError::Name { name: name.to_owned(), why });
        if name.is_empty() || name.len() > MAX_NAME {
            return refused(format!("{} bytes, of which {MAX_NAME} are allowed", name.len()));
        }
        if name.contains('\0') {
            return refused("it has a zero byte".into());
        }
        if name == GROUP || name == admin {
            return refused("it is there for something else".into());
        }
        // Two users who differ in case only would share an account.
        if protocol == DatabaseProtocol::CockroachDb && name.chars().any(char::is_uppercase) {
            return refused("CockroachDB does not tell upper from lower case".into());
        }
        Ok(Self { name, admin, protocol })
    }

    /// Whether the server has locks that agents can agree by.
    const fn has_locks(&self) -> bool {
        matches!(self.protocol, DatabaseProtocol::Postgres)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_server_would_read_otherwise_are_refused() {
        use DatabaseProtocol::{CockroachDb, Postgres};
        let long = "x".repeat(64);
        let wide = "ä".repeat(32);
        for name in ["", "a\0b", GROUP, "admin", &long, &wide] {
            let refused = Account::new(name, "admin", Postgres).unwrap_err();
            assert!(matches!(refused, UserError::Name { .. }), "{name}");
        }
        for name in ["alice", "Alice@example.com", "\";drop role x;--", &"x".repeat(63)] {
            assert!(Account::new(name, "admin", Postgres).is_ok(), "{name}");
        }
        assert!(Account::new("alice", "admin", CockroachDb).is_ok());
        assert!(Account::new("Alice", "admin", CockroachDb).is_err());
    }
}
