//! Why an account could not be made, and what to do about it.

use std::io;

use super::{Account, GROUP};
use crate::wire::{Failure, Reported, WireError, sqlstate};

/// Why an account could not be made, enabled, disabled or dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum UserError {
    /// The user's name is no name of an account.
    #[error("{name:?} cannot be the name of an account on the database: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else made it.
    #[error("the account {0:?} is on the database already and was not made by access")]
    Foreign(String),
    /// It may do what no account may that is made here.
    #[error(
        "the account {0:?} was given more than roles on the database (SUPERUSER, CREATEROLE, \
         CREATEDB, REPLICATION or BYPASSRLS)"
    )]
    Powerful(String),
    /// Roles that the policy grants are not there.
    #[error("the database has no role {} (from db_roles)", listed(.0))]
    NoSuchRole(Vec<String>),
    /// Other sessions of the same user are on that have other roles.
    #[error(
        "other sessions of {0:?} are on with other roles in the database: end them first, and \
         connect again"
    )]
    OtherRoles(String),
    /// It has roles that were not granted here and cannot be taken away.
    #[error("the account {name:?} has roles on the database that cannot be revoked: {}", listed(.roles))]
    Stuck {
        /// The account.
        name: String,
        /// The roles.
        roles: Vec<String>,
    },
    /// The admin user may not.
    #[error("the database's admin user {admin:?} may not {what}: {why}")]
    Admin {
        /// The admin user.
        admin: String,
        /// What it may not do.
        what: String,
        /// What the database says.
        why: String,
        /// What would help.
        hint: String,
    },
    /// Others are at it, and do not come to an end.
    #[error("another session of {0:?} is beginning or ending: try again")]
    Locked(String),
    /// The database says no.
    #[error("{0}")]
    Reported(Reported),
    /// The database sends what is no message.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The connection broke off.
    #[error("the connection of the admin user broke off: {0}")]
    Io(#[from] io::Error),
}

impl UserError {
    /// The server's own code, if it said something.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Reported(reported) => Some(&reported.code),
            _ => None,
        }
    }

    /// What an answer of the server's to a statement means.
    pub(super) fn explained(self, account: &Account<'_>, doing: &Doing<'_>) -> Self {
        match self {
            Self::Reported(reported) if reported.code == sqlstate::INSUFFICIENT_PRIVILEGE => {
                let admin = account.admin.to_owned();
                let (what, hint) = doing.said(account);
                Self::Admin { admin, what, why: reported.message, hint }
            }
            Self::Reported(reported) if reported.code == LOCK_NOT_AVAILABLE => {
                Self::Locked(account.name.to_owned())
            }
            other => other,
        }
    }

    /// For the client, who may know why its own account is not there.
    pub(crate) fn failure(&self) -> Failure {
        let failure = |message: String| {
            let message = format!("your account on this database cannot be made: {message}");
            Failure::fatal(sqlstate::INVALID_AUTHORIZATION, message)
        };
        match self {
            Self::Foreign(name) => failure(self.to_string()).hint(format!(
                "its administrator has to rename it, or to hand it over: GRANT {} TO {}",
                super::text::identifier(GROUP),
                super::text::identifier(name),
            )),
            Self::Powerful(_) => failure(self.to_string())
                .hint("ask the database's administrator to take that away from it"),
            Self::NoSuchRole(_) => failure(self.to_string())
                .hint("ask for the role to be made there, or to be taken out of db_roles"),
            Self::Stuck { .. } => {
                failure(self.to_string()).hint("ask the database's administrator to revoke them")
            }
            // What the server says of its administration is for the log.
            Self::Admin { admin, what, hint, .. } => {
                failure(format!("the database's admin user {admin:?} may not {what}"))
                    .hint(format!("ask the database's administrator: {hint}"))
            }
            Self::Name { .. } | Self::OtherRoles(_) | Self::Locked(_) => failure(self.to_string()),
            Self::Reported(reported) => failure(reported.to_string()),
            Self::Wire(_) | Self::Io(_) => {
                Failure { code: sqlstate::CONNECTION_FAILURE.into(), ..failure(self.to_string()) }
            }
        }
    }
}

/// `55P03` (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// What is being done when the server says no.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing<'a> {
    Looking,
    Making,
    Marking,
    Granting(&'a str),
    Revoking(&'a str),
    Changing,
    Dropping,
}

impl Doing<'_> {
    /// In words, and what would help.
    fn said(&self, account: &Account<'_>) -> (String, String) {
        use super::text::identifier;
        let admin = identifier(account.admin);
        let createrole = format!("ALTER ROLE {admin} CREATEROLE");
        let with_admin =
            |role: &str| format!("GRANT {} TO {admin} WITH ADMIN OPTION", identifier(role));
        match self {
            Self::Looking => ("look at accounts".into(), createrole),
            Self::Making => ("make accounts".into(), createrole),
            Self::Marking => (format!("grant the role {GROUP:?}"), with_admin(GROUP)),
            Self::Granting(role) => (format!("grant the role {role:?}"), with_admin(role)),
            Self::Revoking(role) => (format!("revoke the role {role:?}"), with_admin(role)),
            Self::Changing => {
                (format!("change the account {:?}", account.name), with_admin(account.name))
            }
            Self::Dropping => {
                (format!("drop the account {:?}", account.name), with_admin(account.name))
            }
        }
    }
}

fn listed(roles: &[String]) -> String {
    roles.iter().map(|role| format!("{role:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::DatabaseProtocol;

    #[test]
    fn what_the_admin_user_lacks_is_named() {
        let account = Account::new("alice", "access-admin", DatabaseProtocol::Postgres).unwrap();
        let denied = || {
            let code = sqlstate::INSUFFICIENT_PRIVILEGE.to_owned();
            UserError::Reported(Reported { code, message: "secret".into(), ..Reported::default() })
        };
        let failure = denied().explained(&account, &Doing::Making).failure();
        assert_eq!(failure.code, "28000");
        assert!(failure.message.ends_with("\"access-admin\" may not make accounts"), "{failure}");
        assert!(failure.hint.unwrap().ends_with("ALTER ROLE \"access-admin\" CREATEROLE"));
        let failure = denied().explained(&account, &Doing::Granting("a\"b")).failure();
        let hint = failure.hint.unwrap();
        assert!(hint.ends_with("GRANT \"a\"\"b\" TO \"access-admin\" WITH ADMIN OPTION"), "{hint}");
        assert!(!failure.message.contains("secret"));
        let failure = UserError::NoSuchRole(vec!["x".into(), "y".into()]).failure();
        assert!(failure.message.contains("no role \"x\", \"y\" (from db_roles)"), "{failure}");
    }
}
