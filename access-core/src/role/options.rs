//! The options of a role: limits and switches.

use serde::{Deserialize, Serialize};

use super::is_default;
use super::span::Span;
use super::value::Values;

/// Limits and switches for the sessions of those who hold a role.
///
/// With several roles the strictest wins: the shortest span, the smallest number, the strictest
/// recording, a demand over none. The exceptions are `port_forwarding`, `forward_agent` and
/// `db_replication`, which one of the roles that allow the session must permit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleOptions {
    /// The longest life of a certificate.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_session_ttl: Option<Span>,
    /// How long nothing may pass before a session ends; `never` for no limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub client_idle_timeout: Option<Span>,
    /// Whether sessions end with the certificate. A role can demand it where the cluster does
    /// not; it cannot waive it where the cluster does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disconnect_expired_cert: Option<bool>,
    /// What happens when a session cannot be recorded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub record_session: RecordSession,
    /// Whether connections may be forwarded through nodes; they may unless this says no. One
    /// role that allows the session and permits it is enough.
    #[serde(default, skip_serializing_if = "is_default")]
    pub port_forwarding: Option<bool>,
    /// The same by direction; a no is final, whatever other roles say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ssh_port_forwarding: SshPortForwarding,
    /// Whether the SSH agent may be forwarded; it may not unless this says yes. One role that
    /// allows the session and permits it is enough.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forward_agent: Option<bool>,
    /// Whether files may be copied; they may unless one role says no.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ssh_file_copy: Option<bool>,
    /// Whether terminals may be had; they may unless one role says no.
    #[serde(default, skip_serializing_if = "is_default")]
    pub permit_pty: Option<bool>,
    /// Whether only certificates that are bound to an address will do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pin_source_ip: Option<bool>,
    /// The most sessions over one connection.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_sessions: Option<u32>,
    /// The most connections of one user at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_connections: Option<u32>,
    /// Whether each session needs a certificate that was made for its target with a second factor.
    #[serde(default, skip_serializing_if = "is_default")]
    pub require_session_mfa: Option<bool>,
    /// Whether database accounts are made on the fly, and what becomes of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub create_db_user_mode: Option<CreateDbUserMode>,
    /// Whether databases may be read only: statements that write are refused, those that would
    /// lift the restriction too, and the server is told to make every transaction read-only. One
    /// role that says yes is enough.
    #[serde(default, skip_serializing_if = "is_default")]
    pub db_read_only: Option<bool>,
    /// Statements that are refused in database sessions, by the command that they carry out:
    /// `DROP`, `DROP TABLE`, `ALTER`, `COPY FROM`. One that is named forbids all that begin with
    /// its words. What any of the roles forbids is forbidden. Where anything is, a statement that
    /// cannot be read is refused as well: one of more than 1 MiB, or one that begins with no word.
    ///
    /// It holds against statements that are sent. What functions and `DO` blocks do inside the
    /// server is up to the rights of the database account.
    #[serde(default, skip_serializing_if = "is_default")]
    pub db_deny_commands: Values,
    /// Whether database connections for replication may be opened; they may not unless one of
    /// the roles that allow the session says yes, and none that is held says no.
    #[serde(default, skip_serializing_if = "is_default")]
    pub db_replication: Option<bool>,
    /// Whether the values that are bound to statements are kept out of the audit log and the
    /// recording, and with them what the database says of errors, which may repeat them. One role
    /// that says yes is enough.
    #[serde(default, skip_serializing_if = "is_default")]
    pub db_redact_parameters: Option<bool>,
}

/// What happens when a session cannot be recorded, strictest last.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RecordMode {
    /// Sessions are not recorded.
    Off,
    /// They go on without.
    #[default]
    BestEffort,
    /// They do not start, or end.
    Strict,
}

/// Recording by protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSession {
    /// For what is not named.
    #[serde(default, skip_serializing_if = "is_default")]
    pub default: Option<RecordMode>,
    /// Terminals and commands on nodes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ssh: Option<RecordMode>,
    /// Databases.
    #[serde(default, skip_serializing_if = "is_default")]
    pub db: Option<RecordMode>,
    /// Web apps.
    #[serde(default, skip_serializing_if = "is_default")]
    pub app: Option<RecordMode>,
    /// Kubernetes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub k8s: Option<RecordMode>,
    /// Desktops.
    #[serde(default, skip_serializing_if = "is_default")]
    pub desktop: Option<RecordMode>,
}

/// Forwarding by direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshPortForwarding {
    /// From the client through the node (`ssh -L`, `ssh -W`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub local: Forwarding,
    /// From the node to the client (`ssh -R`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub remote: Forwarding,
}

/// One direction of forwarding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forwarding {
    /// Whether it may be used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub enabled: Option<bool>,
}

/// Whether database accounts are made on the fly, strictest first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum CreateDbUserMode {
    /// They are not.
    #[default]
    Off,
    /// They are, and are removed when the session ends.
    BestEffortDrop,
    /// They are, and are locked when the session ends.
    Keep,
}
