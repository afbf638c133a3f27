//! The first and the last thing that a recording says.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::audit::Text;
use crate::ids::{ClusterName, HostId, Login, SessionId, UserName};
use crate::time::Timestamp;

/// The protocol of a recorded session. It says what the lines are.
///
/// ```
/// use access_core::recording::RecordingKind;
/// assert!(RecordingKind::Ssh.is_terminal());
/// assert!(!RecordingKind::Database.is_terminal());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordingKind {
    /// SSH, with or without a terminal.
    Ssh,
    /// A shell or a command in a Kubernetes pod.
    Kubernetes,
    /// A database.
    Database,
    /// A web application.
    App,
    /// A desktop.
    Desktop,
    /// One that this version does not know.
    Other(Text<64>),
}

impl RecordingKind {
    /// How it is written: `ssh`, `kube`, `db`, `app`, `desktop`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Ssh => "ssh",
            Self::Kubernetes => "kube",
            Self::Database => "db",
            Self::App => "app",
            Self::Desktop => "desktop",
            Self::Other(name) => name.as_str(),
        }
    }

    /// Whether its lines are an asciicast, with a header.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Ssh | Self::Kubernetes)
    }
}

impl Serialize for RecordingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RecordingKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Text::<64>::deserialize(deserializer)?;
        Ok(match name.as_str() {
            "ssh" => Self::Ssh,
            "kube" => Self::Kubernetes,
            "db" => Self::Database,
            "app" => Self::App,
            "desktop" => Self::Desktop,
            _ => Self::Other(name),
        })
    }
}

/// The size of a terminal in characters.
///
/// ```
/// use access_core::recording::TerminalSize;
/// assert_eq!(TerminalSize::new(80, 24).to_string(), "80x24");
/// assert_eq!(TerminalSize::new(0, 0), TerminalSize::new(1, 1), "a terminal has a size");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TerminalSize {
    columns: u16,
    rows: u16,
}

impl TerminalSize {
    /// The size that players assume when nothing is known.
    pub const DEFAULT: Self = Self { columns: 80, rows: 24 };

    /// A size; what is not within 1 and 9999 is moved there.
    pub fn new(columns: u32, rows: u32) -> Self {
        let bound = |n: u32| u16::try_from(n.clamp(1, 9999)).unwrap_or(1);
        Self { columns: bound(columns), rows: bound(rows) }
    }

    /// Characters in a row.
    pub fn columns(self) -> u16 {
        self.columns
    }

    /// Rows.
    pub fn rows(self) -> u16 {
        self.rows
    }

    /// Reads `80x24`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (columns, rows) = text.split_once('x')?;
        Some(Self::new(columns.parse().ok()?, rows.parse().ok()?))
    }
}

impl std::fmt::Display for TerminalSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.columns, self.rows)
    }
}

/// Whose session it is, on what, since when. Written before anything else.
///
/// ```
/// use access_core::recording::{RecordingKind, RecordingMeta, TerminalSize};
/// use access_core::{Login, SessionId, Timestamp, UserName};
/// let mut meta = RecordingMeta::new(
///     SessionId::new("s-1")?,
///     RecordingKind::Ssh,
///     UserName::new("alice")?,
///     "node/web-1",
///     Timestamp::from_secs(1_767_323_045),
/// );
/// meta.login = Some(Login::new("root")?);
/// meta.size = Some(TerminalSize::new(120, 40));
/// # Ok::<(), access_core::ids::IdError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordingMeta {
    /// The session.
    pub session_id: SessionId,
    /// Its protocol.
    pub kind: RecordingKind,
    /// The user.
    pub user: UserName,
    /// The account on the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// The target, such as `node/web-1`.
    pub target: Text<256>,
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<ClusterName>,
    /// The agent that records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<HostId>,
    /// When it started; the lines count from here.
    pub started: Timestamp,
    /// The terminal's first size; nothing when there is no terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<TerminalSize>,
    /// The terminal's type, such as `xterm-256color`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Text<128>>,
    /// The command, when the session was opened for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Text>,
}

impl RecordingMeta {
    /// What every recording has; the rest are fields.
    pub fn new(
        session_id: SessionId,
        kind: RecordingKind,
        user: UserName,
        target: impl Into<Text<256>>,
        started: Timestamp,
    ) -> Self {
        Self {
            session_id,
            kind,
            user,
            login: None,
            target: target.into(),
            cluster_name: None,
            server_id: None,
            started,
            size: None,
            term: None,
            command: None,
        }
    }
}

/// When and why a session ended. A recording without it broke off.
///
/// ```
/// use access_core::{Timestamp, recording::RecordingEnd};
/// let mut end = RecordingEnd::new(Timestamp::from_secs(1_767_323_100), "exit");
/// end.exit_code = Some(0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordingEnd {
    /// When.
    pub at: Timestamp,
    /// Why: `exit`, `client`, `locked`, `idle`, …
    pub reason: Text<256>,
    /// The exit status of the session's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u32>,
}

impl RecordingEnd {
    /// An end without an exit status.
    pub fn new(at: Timestamp, reason: impl Into<Text<256>>) -> Self {
        Self { at, reason: reason.into(), exit_code: None }
    }
}
