//! Frames: the eight-byte head and the payload of each type (the table is in the crate's docs).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::code::{CloseCode, RefuseCode, ResetCode};
use crate::config::{MAX_FRAME, MAX_WINDOW, MIN_FRAME};
use crate::header::{HEADER_VERSION, OpenHeader};

/// Length of a frame's head in bytes.
pub const HEAD_LEN: usize = 8;
/// Longest payload of any frame but `DATA`, in bytes.
pub const MAX_CONTROL: usize = 512;
/// Longest reason in a `REFUSE` or `CLOSE`, in bytes.
pub const MAX_REASON: usize = 255;
/// The protocol version that this crate speaks.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"ATUN";
const HELLO_LEN: usize = 14;
/// The one flag there is: FIN on a `DATA`, ACK on a `PING`.
const FLAG: u8 = 1;

/// Number of a stream: odd if the client opened it, even if the server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Which end of the transport this is. Nothing but the parity of stream ids hangs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that dialled; opens odd ids.
    Client,
    /// The end that was dialled; opens even ids.
    Server,
}

/// What each end says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest version that the sender speaks.
    pub min_version: u8,
    /// Highest version that the sender speaks.
    pub max_version: u8,
    /// The sender's role.
    pub role: Role,
    /// Streams that the receiver may hold open at once.
    pub max_streams: u32,
    /// Largest frame payload that the sender takes, in bytes.
    pub max_frame: u16,
    /// What a later version appends; ignored by this one.
    pub extension: Bytes,
}

/// The header inside an `OPEN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenBody {
    /// A header of the version that this crate reads.
    Known(OpenHeader),
    /// A header of another version, whole: the open is refused, the tunnel lives on.
    Unknown(Bytes),
}

/// Every frame but `DATA`, whose payload is never held as one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Version and limits; the first frame of each end.
    Hello(Hello),
    /// Opens a stream and gives the acceptor's first send credit in bytes.
    Open {
        /// The new stream.
        id: StreamId,
        /// Bytes that the acceptor may send.
        window: u32,
        /// What is to be reached.
        body: OpenBody,
    },
    /// Accepts a stream and gives the opener's first send credit in bytes.
    Accept {
        /// The stream.
        id: StreamId,
        /// Bytes that the opener may send.
        window: u32,
    },
    /// Refuses a stream.
    Refuse {
        /// The stream.
        id: StreamId,
        /// Why.
        code: RefuseCode,
        /// Why, in words.
        reason: String,
    },
    /// Raises the receiver's send credit.
    Window {
        /// The stream.
        id: StreamId,
        /// Bytes to add.
        increment: u32,
    },
    /// Ends both directions of a stream at once; what is unread is discarded.
    Reset {
        /// The stream.
        id: StreamId,
        /// Why.
        code: ResetCode,
    },
    /// The sender reads no more; the other direction goes on.
    Stop {
        /// The stream.
        id: StreamId,
        /// Why.
        code: ResetCode,
    },
    /// Asks for an answer, or is one.
    Ping {
        /// Whether this is the answer.
        ack: bool,
        /// Repeated in the answer.
        token: u64,
    },
    /// No new streams; the tunnel closes once it is empty.
    GoAway {
        /// Why.
        code: CloseCode,
    },
    /// The tunnel is closed.
    Close {
        /// Why.
        code: CloseCode,
        /// Why, in words.
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello = 0,
    Open = 1,
    Accept = 2,
    Refuse = 3,
    Data = 4,
    Window = 5,
    Reset = 6,
    Stop = 7,
    Ping = 8,
    GoAway = 9,
    Close = 10,
}

/// A parsed and checked frame head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) flag: bool,
    pub(crate) length: usize,
    pub(crate) id: u32,
}

impl Head {
    /// Reads a head; `max_frame` bounds the payload of a `DATA`.
    pub(crate) fn parse(raw: [u8; HEAD_LEN], max_frame: usize) -> Result<Self, CloseCode> {
        let [kind, flags, l0, l1, i0, i1, i2, i3] = raw;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let id = u32::from_be_bytes([i0, i1, i2, i3]);
        use Kind::*;
        let (kind, lengths, of_stream) = match kind {
            0 => (Hello, HELLO_LEN..=MAX_CONTROL, false),
            1 => (Open, 5..=MAX_CONTROL, true),
            2 => (Accept, 4..=4, true),
            3 => (Refuse, 2..=2 + MAX_REASON, true),
            4 => (Data, 0..=max_frame, true),
            5 => (Window, 4..=4, true),
            6 => (Reset, 4..=4, true),
            7 => (Stop, 4..=4, true),
            8 => (Ping, 8..=8, false),
            9 => (GoAway, 4..=4, false),
            10 => (Close, 4..=4 + MAX_REASON, false),
            _ => return Err(CloseCode::PROTOCOL),
        };
        let known_flags = if matches!(kind, Data | Ping) { FLAG } else { 0 };
        if flags & !known_flags != 0 {
            return Err(CloseCode::PROTOCOL);
        }
        if !lengths.contains(&length) {
            return Err(CloseCode::FRAME_SIZE);
        }
        let flag = flags & FLAG != 0;
        if kind == Data && length == 0 && !flag {
            return Err(CloseCode::FRAME_SIZE);
        }
        if of_stream != (id != 0) {
            return Err(CloseCode::STREAM_ID);
        }
        Ok(Self { kind, flag, length, id })
    }

    /// The head of a `DATA` frame. `length` is at most [`MAX_FRAME`].
    pub(crate) fn data(id: StreamId, length: usize, fin: bool) -> [u8; HEAD_LEN] {
        raw_head(Kind::Data, fin, length, id.0)
    }
}

fn raw_head(kind: Kind, flag: bool, length: usize, id: u32) -> [u8; HEAD_LEN] {
    debug_assert!(length <= MAX_FRAME);
    let [l0, l1] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let [i0, i1, i2, i3] = id.to_be_bytes();
    [kind as u8, u8::from(flag), l0, l1, i0, i1, i2, i3]
}

impl Frame {
    /// Reads a whole control frame whose head was already checked. The payload has `head.length`
    /// bytes.
    pub(crate) fn decode(head: Head, payload: &[u8]) -> Result<Self, CloseCode> {
        let id = StreamId(head.id);
        let mut p = payload;
        // The head bounded the length of each type, so these reads only fail on a type mix-up.
        let short = |_| CloseCode::FRAME_SIZE;
        Ok(match head.kind {
            Kind::Hello => Frame::Hello(decode_hello(p)?),
            Kind::Open => {
                let window = window(p.try_get_u32().map_err(short)?)?;
                let body = match p.first() {
                    Some(&HEADER_VERSION) => OpenBody::Known(OpenHeader::decode(p)?),
                    _ => OpenBody::Unknown(Bytes::copy_from_slice(p)),
                };
                Frame::Open { id, window, body }
            }
            Kind::Accept => Frame::Accept { id, window: window(p.try_get_u32().map_err(short)?)? },
            Kind::Refuse => Frame::Refuse {
                id,
                code: RefuseCode(p.try_get_u16().map_err(short)?),
                reason: decode_reason(p)?,
            },
            Kind::Window => {
                Frame::Window { id, increment: window(p.try_get_u32().map_err(short)?)? }
            }
            Kind::Reset => Frame::Reset { id, code: ResetCode(p.try_get_u32().map_err(short)?) },
            Kind::Stop => Frame::Stop { id, code: ResetCode(p.try_get_u32().map_err(short)?) },
            Kind::Ping => Frame::Ping { ack: head.flag, token: p.try_get_u64().map_err(short)? },
            Kind::GoAway => Frame::GoAway { code: CloseCode(p.try_get_u32().map_err(short)?) },
            Kind::Close => Frame::Close {
                code: CloseCode(p.try_get_u32().map_err(short)?),
                reason: decode_reason(p)?,
            },
            Kind::Data => return Err(CloseCode::PROTOCOL),
        })
    }

    /// Appends the whole frame. Reasons longer than [`MAX_REASON`] are cut, and a header that
    /// does not encode (its target is too long) leaves `out` as it was.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, HEAD_LEN);
        let (kind, flag, id) = match self {
            Frame::Hello(hello) => {
                encode_hello(hello, out);
                (Kind::Hello, false, 0)
            }
            Frame::Open { id, window, body } => {
                out.put_u32(*window);
                match body {
                    OpenBody::Known(header) if header.encode(out).is_err() => {
                        out.truncate(start);
                        return;
                    }
                    OpenBody::Known(_) => {}
                    OpenBody::Unknown(raw) => out.put_slice(raw),
                }
                (Kind::Open, false, id.0)
            }
            Frame::Accept { id, window } => {
                out.put_u32(*window);
                (Kind::Accept, false, id.0)
            }
            Frame::Refuse { id, code, reason } => {
                out.put_u16(code.0);
                out.put_slice(clip(reason).as_bytes());
                (Kind::Refuse, false, id.0)
            }
            Frame::Window { id, increment } => {
                out.put_u32(*increment);
                (Kind::Window, false, id.0)
            }
            Frame::Reset { id, code } => {
                out.put_u32(code.0);
                (Kind::Reset, false, id.0)
            }
            Frame::Stop { id, code } => {
                out.put_u32(code.0);
                (Kind::Stop, false, id.0)
            }
            Frame::Ping { ack, token } => {
                out.put_u64(*token);
                (Kind::Ping, *ack, 0)
            }
            Frame::GoAway { code } => {
                out.put_u32(code.0);
                (Kind::GoAway, false, 0)
            }
            Frame::Close { code, reason } => {
                out.put_u32(code.0);
                out.put_slice(clip(reason).as_bytes());
                (Kind::Close, false, 0)
            }
        };
        let length = out.len() - start - HEAD_LEN;
        if let Some(head) = out.get_mut(start..start + HEAD_LEN) {
            head.copy_from_slice(&raw_head(kind, flag, length, id));
        }
    }
}

/// A window that is neither zero nor beyond what any window may be.
fn window(value: u32) -> Result<u32, CloseCode> {
    if value == 0 || value > MAX_WINDOW { Err(CloseCode::WINDOW) } else { Ok(value) }
}

fn decode_hello(mut p: &[u8]) -> Result<Hello, CloseCode> {
    let Some((fixed, extension)) = p.split_first_chunk::<HELLO_LEN>() else {
        return Err(CloseCode::FRAME_SIZE);
    };
    let extension = Bytes::copy_from_slice(extension);
    p = fixed;
    if p.split_off(..4) != Some(&MAGIC[..]) {
        return Err(CloseCode::PROTOCOL);
    }
    let (min_version, max_version) = (p.get_u8(), p.get_u8());
    let role = match p.get_u8() {
        1 => Role::Client,
        2 => Role::Server,
        _ => return Err(CloseCode::PROTOCOL),
    };
    if p.get_u8() != 0 || min_version > max_version {
        return Err(CloseCode::PROTOCOL);
    }
    let (max_streams, max_frame) = (p.get_u32(), p.get_u16());
    if usize::from(max_frame) < MIN_FRAME {
        return Err(CloseCode::PROTOCOL);
    }
    Ok(Hello { min_version, max_version, role, max_streams, max_frame, extension })
}

fn encode_hello(hello: &Hello, out: &mut BytesMut) {
    out.put_slice(&MAGIC);
    out.put_u8(hello.min_version);
    out.put_u8(hello.max_version);
    out.put_u8(match hello.role {
        Role::Client => 1,
        Role::Server => 2,
    });
    out.put_u8(0);
    out.put_u32(hello.max_streams);
    out.put_u16(hello.max_frame);
    out.put_slice(&hello.extension);
}

fn decode_reason(p: &[u8]) -> Result<String, CloseCode> {
    std::str::from_utf8(p).map(str::to_owned).map_err(|_| CloseCode::PROTOCOL)
}

/// The longest prefix of whole characters that fits a reason.
pub(crate) fn clip(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(MAX_REASON)).unwrap_or_default()
}
