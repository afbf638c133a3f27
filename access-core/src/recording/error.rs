//! What can go wrong while recording.

/// Why something was not recorded. Whether the session goes on is the caller's decision: one that
/// must be recorded ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// One piece is larger than a chunk can be.
    #[error("{what} has {size} bytes, more than a recording can hold in one piece ({max})")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// What was recorded is not written away as fast as it comes.
    #[error("{pending} bytes of the recording wait to be written: flush before recording more")]
    Backlog {
        /// How many bytes wait.
        pending: usize,
    },
    /// The code of an event is none that may be used.
    #[error("invalid event code {0:?}: use 2 to 32 of a-z, 0-9, '.', '_' and '-'")]
    EventCode(String),
    /// The recording has been ended.
    #[error("the recording has ended")]
    Ended,
    /// The recording can't be written.
    #[error("the recording can't be written: {0}")]
    Storage(String),
    /// The recorder's key did not sign.
    #[error("the recording can't be signed: {0}")]
    Signature(String),
    /// Something can't be written as JSON.
    #[error("the recording can't be encoded: {0}")]
    Encoding(String),
}
