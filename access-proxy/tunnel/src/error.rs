//! What can go wrong, seen from the program that embeds the tunnel.

use std::io;

use crate::code::{CloseCode, RefuseCode, ResetCode};

/// Everything that an operation on a tunnel or on one of its streams can report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tunnel is closed.
    #[error("tunnel closed: {0}")]
    Closed(CloseReason),
    /// The peer refused the stream.
    #[error("stream refused: {code}{}", reason_suffix(.reason))]
    Refused {
        /// The peer's code.
        code: RefuseCode,
        /// The peer's words, at most 255 bytes, to be shown as untrusted text.
        reason: String,
    },
    /// The stream was reset, by this end or by the peer.
    #[error("stream reset: {0}")]
    Reset(ResetCode),
    /// The peer reads no more from this stream; what it wrote is still readable.
    #[error("peer stopped reading: {0}")]
    Stopped(ResetCode),
    /// One of the two ends is draining; open the stream on another tunnel.
    #[error("tunnel is going away; open the stream on another one")]
    GoingAway,
    /// The peer's or this end's bound on streams or memory is reached.
    #[error("too many streams on this tunnel; wait for one to end or use another tunnel")]
    TooManyStreams,
    /// The target of an open header is longer than 255 bytes.
    #[error("target is {0} bytes long; at most 255 fit")]
    TargetTooLong(usize),
    /// The stream is not in a state that permits the operation.
    #[error("operation not possible in this state of the stream")]
    WrongState,
}

/// Why a tunnel ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This end closed it.
    #[error("closed by this end ({0})")]
    Local(CloseCode),
    /// The peer closed it.
    #[error("closed by the peer ({code}){}", reason_suffix(.reason))]
    Remote {
        /// The peer's code.
        code: CloseCode,
        /// The peer's words, at most 255 bytes, to be shown as untrusted text.
        reason: String,
    },
    /// The peer broke the protocol, and this end closed the tunnel with the code.
    #[error("peer broke the tunnel protocol ({0})")]
    Violation(CloseCode),
    /// All streams ended after a go-away.
    #[error("drained")]
    Drained,
    /// The transport ended with no word of the peer.
    #[error("connection lost")]
    Lost,
    /// The transport failed.
    #[error("transport failed: {0}")]
    Io(io::ErrorKind),
    /// Nothing was heard from the peer for the idle timeout.
    #[error("peer is silent, taken for dead")]
    DeadPeer,
    /// The peer sent no hello in time.
    #[error("peer sent no hello in time")]
    HelloTimeout,
    /// The driver future was dropped.
    #[error("tunnel driver was dropped")]
    Dropped,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Closed(CloseReason::DeadPeer | CloseReason::HelloTimeout) => {
                io::ErrorKind::TimedOut
            }
            Error::Closed(_) => io::ErrorKind::ConnectionAborted,
            Error::Refused { .. } => io::ErrorKind::ConnectionRefused,
            Error::Reset(_) => io::ErrorKind::ConnectionReset,
            Error::Stopped(_) => io::ErrorKind::BrokenPipe,
            Error::GoingAway | Error::TooManyStreams => io::ErrorKind::ResourceBusy,
            Error::TargetTooLong(_) => io::ErrorKind::InvalidInput,
            Error::WrongState => io::ErrorKind::NotConnected,
        };
        io::Error::new(kind, error)
    }
}

fn reason_suffix(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {}", reason.escape_debug()) }
}
