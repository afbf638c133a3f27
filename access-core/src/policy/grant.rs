//! Decisions, and what comes with those that allow.

use std::sync::Arc;
use std::time::Duration;

use super::reason::Reason;
use crate::ids::RoleName;
use crate::role::{CommandList, CreateDbUserMode, RecordMode};
use crate::time::Timestamp;

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, within limits.
    Allow(Grant),
    /// No, and why.
    Deny(Reason),
}

impl Decision {
    /// Whether it is a yes.
    pub fn is_allow(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// What comes with a yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The roles that allow it; none for the cluster's own services.
    pub roles: Vec<RoleName>,
    /// Its limits.
    pub limits: SessionLimits,
    /// What holds in a database session.
    pub database: DatabaseGrant,
}

impl Grant {
    /// A yes within limits and nothing else: for policies that have no roles.
    pub fn within(limits: SessionLimits) -> Self {
        Self { roles: Vec::new(), limits, database: DatabaseGrant::default() }
    }
}

/// What holds in a database session: the strictest of all roles that are held. Clones are cheap.
///
/// The gate looks at statements itself, each time by the roles of that moment, when it is asked
/// for [`Action::DatabaseStatement`](super::Action::DatabaseStatement). What is here is for what
/// the session does once, and for who wants to know beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseGrant {
    /// Whether it may be read only: the server is to be told, too.
    pub read_only: bool,
    /// Whether the connection may be one for replication.
    pub replication: bool,
    /// Whether bound values are kept out of the audit log and the recording, and the messages of the
    /// database's errors with them.
    pub redact_parameters: bool,
    /// The commands whose statements are refused. Filled in when a session is asked for, and not
    /// for its statements.
    pub deny_commands: CommandList,
    /// Whether the database account is made on the fly, and what becomes of it. Never for a
    /// database without an admin user.
    pub create_user: CreateDbUserMode,
    /// The roles within the database that an account which is made on the fly gets, in order;
    /// none when none is made. Filled in like `deny_commands`.
    pub roles: Arc<[String]>,
}

impl DatabaseGrant {
    /// What a session that began with this is held to by `now` and was not before, by the name that
    /// roles have for it.
    ///
    /// Its statements are judged by the roles of their moment, but what was prepared before runs on
    /// and is not looked at again, functions among it; and what was told to the server or chosen
    /// for the audit log stays as it was.
    pub(crate) fn is_behind(&self, now: &Self) -> Option<&'static str> {
        if now.read_only && !self.read_only {
            Some("db_read_only")
        } else if now.redact_parameters && !self.redact_parameters {
            Some("db_redact_parameters")
        } else if self.replication && !now.replication {
            Some("db_replication")
        } else if now.deny_commands.iter().any(|command| !self.deny_commands.forbids(command)) {
            Some("db_deny_commands")
        } else if self.roles.iter().any(|role| !now.roles.contains(role)) {
            Some("db_roles")
        } else {
            None
        }
    }
}

/// The limits of a session: the strictest of all roles that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// When it ends at the latest: with the certificate, unless neither a role nor the cluster
    /// demands that, and with what lent the roles or with the roles themselves.
    /// [`Timestamp::MAX`] when nothing ends it.
    pub expires: Timestamp,
    /// How long nothing may pass.
    pub idle: Option<Duration>,
    /// What happens when it cannot be recorded.
    pub record: RecordMode,
    /// The most sessions over one connection.
    pub max_sessions: Option<u32>,
    /// The most connections of the user at once.
    pub max_connections: Option<u32>,
    /// Whether a terminal may be had.
    pub permit_pty: bool,
    /// Whether connections may be forwarded from the client through the node.
    pub local_forwarding: bool,
    /// Whether connections may be forwarded from the node to the client.
    pub remote_forwarding: bool,
    /// Whether the SSH agent may be forwarded.
    pub forward_agent: bool,
    /// Whether files may be copied.
    pub file_copy: bool,
}

impl SessionLimits {
    /// No limits but an end: for policies that have no roles.
    pub fn until(expires: Timestamp) -> Self {
        Self {
            expires,
            idle: None,
            record: RecordMode::default(),
            max_sessions: None,
            max_connections: None,
            permit_pty: true,
            local_forwarding: true,
            remote_forwarding: true,
            forward_agent: true,
            file_copy: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_behind_what_is_stricter_and_nothing_else() {
        let deny = |commands: &[&str]| {
            let commands: Vec<_> = commands.iter().map(|text| (*text).to_owned()).collect();
            CommandList::compile(&commands).unwrap()
        };
        let begun = DatabaseGrant {
            replication: true,
            deny_commands: deny(&["DROP"]),
            roles: ["reader".to_owned(), "writer".to_owned()].into(),
            ..DatabaseGrant::default()
        };
        let with = |change: fn(&mut DatabaseGrant)| {
            let mut now = begun.clone();
            change(&mut now);
            (begun.is_behind(&now), now.is_behind(&begun))
        };
        assert_eq!(with(|_| ()), (None, None));
        assert_eq!(with(|now| now.read_only = true), (Some("db_read_only"), None));
        let redact = Some("db_redact_parameters");
        assert_eq!(with(|now| now.redact_parameters = true), (redact, None));
        assert_eq!(with(|now| now.replication = false), (Some("db_replication"), None));
        assert_eq!(with(|now| now.roles = ["writer".to_owned()].into()), (Some("db_roles"), None));
        let behind = |commands: &[&str]| {
            begun.is_behind(&DatabaseGrant { deny_commands: deny(commands), ..begun.clone() })
        };
        assert_eq!(behind(&["DROP", "COPY"]), Some("db_deny_commands"));
        // All of these were forbidden before.
        assert_eq!((behind(&["DROP TABLE", "DROP INDEX"]), behind(&[])), (None, None));
    }
}
