//! A reverse-tunnel multiplexer: many streams over one transport, opened from either end.
//!
//! An agent inside a private network dials out, and the party that it reached opens streams back
//! through that connection. The crate is two layers: [`proto`], a machine that does no I/O and
//! reads no clock, and over it an asynchronous [`Driver`] for any `AsyncRead + AsyncWrite` of
//! Tokio, a TLS stream as a rule. It authenticates nobody: the transport has done that.
//!
//! ```
//! use access_tunnel::{Config, Flavour, OpenHeader, Tunnel};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (dialled_out, accepted) = tokio::io::duplex(64 * 1024);
//!
//! // The agent dials out, and then serves the streams that come back.
//! let (agent, mut incoming, driver) = Tunnel::client(dialled_out, Config::new());
//! tokio::spawn(driver);
//! tokio::spawn(async move {
//!     let _agent = agent;
//!     while let Some(pending) = incoming.next().await {
//!         assert_eq!(pending.header().target, "node/web-1");
//!         let Ok(stream) = pending.accept() else { continue };
//!         tokio::spawn(async move {
//!             let (mut reader, mut writer) = tokio::io::split(stream);
//!             let _ = tokio::io::copy(&mut reader, &mut writer).await;
//!             let _ = writer.shutdown().await;
//!         });
//!     }
//! });
//!
//! // The proxy opens streams and takes none.
//! let (proxy, _, driver) = Tunnel::server(accepted, Config::opener());
//! tokio::spawn(driver);
//! let mut stream = proxy.open(OpenHeader::new("node/web-1", Flavour::Raw)).await?;
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?;
//! let mut echoed = String::new();
//! stream.read_to_string(&mut echoed).await?;
//! assert_eq!(echoed, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//! * **Bounded.** Streams, the backlog, frames, headers, queued bytes, and the sum of the receive
//!   windows ([`Config`]). Who breaks a bound closes the tunnel with a [`CloseCode`].
//! * **Fair.** Streams take turns by bytes; one that just starts to send goes first for 16 KiB,
//!   so that small round trips overtake bulk. At most one batch ([`Config::transmit_batch`]) is
//!   handed to the transport at a time. What queues in the socket is the caller's: set
//!   `TCP_NOTSENT_LOWAT` on slow links.
//! * **No stream waits for another's reader.** A stalled one holds its own window and nothing else.
//! * **Windows adapt.** A stream that uses up half its window within two round trips gets twice
//!   as much, up to [`Config::max_window`] and half of [`Config::max_receive_memory`]; above
//!   that, windows beyond a fair share shrink.
//! * **Dead peers are noticed.** Pings after [`Config::keep_alive`] of silence, the end after
//!   [`Config::idle_timeout`].
//! * **Idle costs little.** Buffers are made when bytes come and given back after a quiet second.
//!
//! # Wire format, version 1
//! Each end sends `HELLO` first, without waiting for the other's. All numbers are big-endian.
//! Every frame starts with eight bytes:
//!
//! | bytes | field | |
//! | --- | --- | --- |
//! | 1 | type | see below |
//! | 1 | flags | bit 0: FIN on `DATA`, ACK on `PING`; all others 0 |
//! | 2 | length | of the payload |
//! | 4 | stream | odd: opened by the client, even: by the server; 0 for the tunnel itself |
//!
//! | type | name | stream | payload |
//! | --- | --- | --- | --- |
//! | 0 | `HELLO` | 0 | magic `ATUN`, lowest and highest version (u8 each), role (u8: 1 client, 2 server), u8 0, streams that the receiver may hold open (u32), largest `DATA` payload that the sender takes (u16, at least 1024); up to 498 bytes that a later version may append |
//! | 1 | `OPEN` | new | window (u32), header |
//! | 2 | `ACCEPT` | yes | window (u32) |
//! | 3 | `REFUSE` | yes | [`RefuseCode`] (u16), reason (UTF-8, up to 255 bytes) |
//! | 4 | `DATA` | yes | bytes; none only with FIN |
//! | 5 | `WINDOW` | yes | bytes to add to the credit (u32) |
//! | 6 | `RESET` | yes | [`ResetCode`] (u32): both halves end, unread bytes are discarded |
//! | 7 | `STOP` | yes | [`ResetCode`] (u32): the sender reads no more, and ignores what still comes |
//! | 8 | `PING` | 0 | 8 bytes, repeated in the answer, which has ACK |
//! | 9 | `GOAWAY` | 0 | [`CloseCode`] (u32): no new streams of either side |
//! | 10 | `CLOSE` | 0 | [`CloseCode`] (u32), reason (UTF-8, up to 255 bytes) |
//!
//! The header in an `OPEN`:
//!
//! | bytes | field | |
//! | --- | --- | --- |
//! | 1 | version | 1; an open with another is refused with [`RefuseCode::UNSUPPORTED`] |
//! | 1 | flags | bit 0: flavour raw; bits 1–2: client address none (0), IPv4 (1), IPv6 (2); all others 0 |
//! | 16 | trace id | |
//! | 0, 6, 18 | client address | address, then port (u16) |
//! | 1 | length | of the target |
//! | 0–255 | target | UTF-8 |
//!
//! Ids of each side rise by two from 1 or 2 without a gap. The `window` of an `OPEN` is what the
//! acceptor may send, that of an `ACCEPT` what the opener may; a window is never 0 nor above
//! 2^30. No `DATA` goes before the `ACCEPT`. Frames for a stream that is over are ignored, as they may
//! have crossed its end; frames for one that never was are a violation, and so is all that this
//! table does not allow. Who finds one sends `CLOSE` and closes:
//!
//! | breach | code |
//! | --- | --- |
//! | unknown type or flag, no `HELLO` first or a second one, same role, malformed text | [`CloseCode::PROTOCOL`] |
//! | no common version | [`CloseCode::VERSION`] |
//! | length outside the type's bounds | [`CloseCode::FRAME_SIZE`] |
//! | id of the wrong side, out of sequence, never opened, or 0 where a stream belongs | [`CloseCode::STREAM_ID`] |
//! | `DATA` before `ACCEPT` or after FIN, an answer to no open | [`CloseCode::STREAM_STATE`] |
//! | more bytes than credit; credit of 0 or above 2^30 | [`CloseCode::WINDOW`] |
//! | malformed header of version 1 | [`CloseCode::HEADER`] |
//! | more streams than the `HELLO` allows | [`CloseCode::STREAM_LIMIT`] |
//! | demanding answers faster than reading them | [`CloseCode::FLOOD`] |
//!
//! # A stream's life
//! ```text
//!            we open                                the peer opens
//!               │ OPEN                                   │ OPEN
//!           Opening ── REFUSE, RESET, deadline ─► gone ◄── refuse(), RESET ── Deciding
//!               │ ACCEPT                                 │ accept() / ACCEPT
//!               └──────────────► Open ◄──────────────────┘
//!                                 │
//!       send half: Open ─ shutdown() ─► Finishing ─ FIN sent ─► Done;  STOP came ─► Done
//!       recv half: Open ─ FIN came ─► Finished;  dropped after shutdown() / STOP ─► Stopped
//!       RESET by either side, or a drop before shutdown(), ends both halves
//! ```
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
#[doc(hidden)]
pub mod oracle;
mod queue;
mod read_ahead;
mod scheduler;
mod shared;
mod stream;
mod transmit;

pub use code::{CloseCode, RefuseCode, ResetCode};
pub use config::{Config, MAX_FRAME, MAX_WINDOW, MIN_FRAME, MIN_WINDOW};
pub use connection::Stats;
pub use driver::Driver;
pub use error::{CloseReason, Error};
pub use frame::{MAX_REASON, StreamId};
pub use handle::{Handle, Incoming, PendingStream, Tunnel};
pub use header::{Flavour, MAX_TARGET, OpenHeader};
pub use read_ahead::ReadAhead;
pub use stream::Stream;

/// The machine without I/O, for another runtime, a simulation or a fuzzer.
pub mod proto {
    pub use crate::connection::{Connection, Event, Read};
    pub use crate::decoder::{Decoder, Item};
    pub use crate::frame::{
        Frame, HEAD_LEN, Hello, MAX_CONTROL, OpenBody, Role, StreamId, VERSION,
    };
    pub use crate::transmit::Transmit;
}
