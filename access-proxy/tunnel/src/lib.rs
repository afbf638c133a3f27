//! A reverse-tunnel multiplexer: sans-I/O core, async driver, fair and bounded.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![forbid(unsafe_code)]

mod code;
mod config;
mod connection;
mod decoder;
mod driver;
mod error;
mod frame;
mod handle;
mod header;
mod queue;
mod scheduler;
mod shared;
mod stream;
mod transmit;

pub use code::{CloseCode, RefuseCode, ResetCode};
pub use config::{Config, MAX_FRAME, MAX_WINDOW, MIN_FRAME, MIN_WINDOW};
pub use driver::Driver;
pub use error::{CloseReason, Error};
pub use frame::{MAX_REASON, StreamId};
pub use handle::{Handle, Incoming, PendingStream, Tunnel};
pub use header::{Flavour, MAX_TARGET, OpenHeader};
pub use stream::Stream;

pub use connection::Stats;

/// The machine without I/O, for another runtime, a simulation or a fuzzer.
pub mod proto {
    pub use crate::connection::{Connection, Event, Read};
    pub use crate::decoder::{Decoder, Item};
    pub use crate::frame::{
        Frame, HEAD_LEN, Hello, MAX_CONTROL, OpenBody, Role, StreamId, VERSION,
    };
    pub use crate::transmit::Transmit;
}
