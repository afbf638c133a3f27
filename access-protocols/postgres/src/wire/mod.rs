//! PostgreSQL's frontend/backend protocol on the wire: what arrives is taken apart here, within
//! bounds, and what is sent is put together. Nothing here knows of sessions.
//!
//! See <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

pub(crate) mod encode;
mod failure;
mod fields;
mod frame;
mod report;
mod startup;

pub use failure::{Failure, sqlstate};
pub(crate) use fields::Fields;
pub(crate) use frame::{Head, head};
pub(crate) use report::{Reported, columns, parameter_status, reported, rows_of};
pub use startup::{CancelRequest, First, MAX_STARTUP, Startup, first};

/// Why bytes are no message. The text may be shown to the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A packet before the session has a length that none can have.
    #[error("invalid length of startup packet: {0}")]
    StartupLength(u32),
    /// A start-up packet cannot be read.
    #[error("invalid startup packet: {0}")]
    Startup(&'static str),
    /// A protocol that is not spoken here.
    #[error("unsupported frontend protocol {0}.{1}: 3.0 and later minor versions are supported")]
    Version(u16, u16),
    /// A message's length is impossible for its type.
    #[error("invalid length {length} of a message of type {kind:?}")]
    Length {
        /// The message's type.
        kind: char,
        /// The length that it claims.
        length: u32,
    },
    /// A message that cannot be there at this moment.
    #[error("unexpected message of type {0:?}")]
    Unexpected(char),
    /// A message cannot be read.
    #[error("malformed message of type {0:?}")]
    Malformed(char),
}
