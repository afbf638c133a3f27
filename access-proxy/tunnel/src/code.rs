//! The numeric codes that cross the wire.

use std::fmt;

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident($repr:ty) { $($(#[$doc:meta])* $konst:ident = $value:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl $name {
            $($(#[$doc])* pub const $konst: Self = Self($value);)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($value => f.write_str($text),)*
                    other => write!(f, "code {other:#x}"),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x} {})"), self.0, self)
            }
        }
    };
}

codes! {
    /// Why a whole tunnel was closed. Codes below `0x100` belong to the protocol, the others to
    /// the application.
    CloseCode(u32) {
        /// Closed on purpose, nothing was wrong.
        NORMAL = 0x0, "normal";
        /// A frame of an unknown type, with unknown flags, out of place or malformed.
        PROTOCOL = 0x1, "protocol violation";
        /// The two ends share no protocol version.
        VERSION = 0x2, "no common version";
        /// A frame longer or shorter than its type or the announced maximum permits.
        FRAME_SIZE = 0x3, "bad frame size";
        /// A stream id of the wrong parity, out of sequence, or never opened.
        STREAM_ID = 0x4, "bad stream id";
        /// A frame that the state of its stream does not permit.
        STREAM_STATE = 0x5, "frame in the wrong stream state";
        /// More bytes than the window allowed, or a window raised past its maximum.
        WINDOW = 0x6, "window violated";
        /// An open header of a known version that does not parse.
        HEADER = 0x7, "malformed open header";
        /// More concurrent streams than were allowed.
        STREAM_LIMIT = 0x8, "too many streams";
        /// More frames that demand an answer than the peer reads answers.
        FLOOD = 0x9, "flood of control frames";
        /// No hello within the deadline.
        HELLO_TIMEOUT = 0xa, "no hello in time";
        /// Nothing was heard for the idle timeout.
        DEAD_PEER = 0xb, "peer is silent";
    }
}

codes! {
    /// Why one stream was reset, or why its reader stopped. Codes below `0x100` belong to the
    /// protocol, the others to the application.
    ResetCode(u32) {
        /// The stream was dropped before it was finished.
        CANCELLED = 0x0, "cancelled";
        /// The reader went away; what it wrote itself stays valid.
        STOPPED = 0x1, "reader stopped";
        /// The open was not answered in time.
        TIMEOUT = 0x2, "timed out";
        /// A stream that nobody holds any more made no progress.
        LINGER = 0x3, "undelivered data abandoned";
        /// The session behind the stream was ended by policy.
        ENDED = 0x4, "ended by policy";
        /// Relaying to or from the target failed.
        TARGET_FAILED = 0x5, "target failed";
    }
}

codes! {
    /// Why an open was refused. Codes below `0x100` belong to the protocol, the others to the
    /// application.
    RefuseCode(u16) {
        /// Refused without a better reason.
        REFUSED = 0x0, "refused";
        /// This end does not serve the target.
        UNKNOWN_TARGET = 0x1, "unknown target";
        /// A bound on streams, backlog or memory is reached.
        OVERLOADED = 0x2, "overloaded";
        /// This end is draining.
        GOING_AWAY = 0x3, "going away";
        /// This end takes no streams.
        NOT_ACCEPTING = 0x4, "not accepting streams";
        /// The header is of a version that this end does not read.
        UNSUPPORTED = 0x5, "header version not supported";
        /// The target is known but can't be reached now.
        UNAVAILABLE = 0x6, "target unavailable";
        /// The opener may not reach the target.
        FORBIDDEN = 0x7, "forbidden";
        /// No answer came in time. Never sent; made up by the opener.
        TIMEOUT = 0x8, "no answer in time";
    }
}
