//! Recordings of sessions: what is known of each.

use access_core::document::{Document, DocumentSpec};
use access_core::policy::ApiKind;
use access_core::{HostId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

use super::is_default;

/// What is known of a recording, as stored and printed. Its name is the session's id.
pub type RecordingDocument = Document<RecordingSpec>;

/// What is known of a recording.
///
/// Who and what is told by the recording itself, so that it is as true as the host that uploaded
/// it; the host is the one that Auth saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingSpec {
    /// The session.
    pub session: SessionId,
    /// The host that uploaded it.
    pub host: HostId,
    /// The session's protocol: `ssh`, `db`, …
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: String,
    /// The user.
    #[serde(default, skip_serializing_if = "is_default")]
    pub user: String,
    /// The account on the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The target, such as `node/web-1`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target: String,
    /// When the session started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it was uploaded in full.
    pub uploaded: Timestamp,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// How it ends.
    pub state: RecordingState,
}

impl DocumentSpec for RecordingSpec {
    const KIND: ApiKind = ApiKind::Session;
}

/// How a recording ends, as far as can be told without knowing whose signatures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// It is whole, and signed.
    Complete,
    /// It is whole, and not signed.
    Unsigned,
    /// It breaks off.
    Truncated,
    /// It was changed or damaged, it is that of another session, or it is no recording.
    Damaged,
    /// It is of a version of the format that Auth does not know.
    Unknown,
}

impl RecordingState {
    /// The word that is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Unsigned => "unsigned",
            Self::Truncated => "truncated",
            Self::Damaged => "damaged",
            Self::Unknown => "unknown",
        }
    }
}
