//! Cutting a byte stream of any chunking into frames.

use bytes::{Buf, Bytes, BytesMut};

use crate::code::CloseCode;
use crate::frame::{Frame, HEAD_LEN, Head, Kind, StreamId};

/// What [`Decoder::next`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole control frame.
    Frame(Frame),
    /// A piece of a `DATA` frame: payload is passed on as it comes, so that nothing waits for the
    /// end of a frame.
    Data {
        /// The stream.
        id: StreamId,
        /// The piece; empty only in an empty frame that carries FIN.
        bytes: Bytes,
        /// Set on the last piece of a frame that carries FIN.
        fin: bool,
    },
}

/// Cuts a byte stream into frames. Holds no more than one head and one control frame.
#[derive(Debug)]
pub struct Decoder {
    max_frame: usize,
    head: [u8; HEAD_LEN],
    have: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Head,
    Control { head: Head, payload: BytesMut },
    Data { id: StreamId, fin: bool, remaining: usize },
}

impl Decoder {
    /// A decoder that takes `DATA` payloads of up to `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self { max_frame, head: [0; HEAD_LEN], have: 0, state: State::Head }
    }

    /// Bytes held back until the rest of a head or control frame arrives.
    pub fn buffered(&self) -> usize {
        match &self.state {
            State::Control { payload, .. } => self.have + payload.capacity(),
            _ => self.have,
        }
    }

    /// Takes the next item off the front of `input`; `None` when all of it is used up.
    ///
    /// # Errors
    /// The code to close the tunnel with. The decoder is of no use afterwards.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Item>, CloseCode> {
        loop {
            match &mut self.state {
                State::Head => {
                    let missing = self.head.get_mut(self.have..).unwrap_or_default();
                    let n = missing.len().min(input.len());
                    input.copy_to_slice(missing.get_mut(..n).unwrap_or_default());
                    self.have += n;
                    if self.have < HEAD_LEN {
                        return Ok(None);
                    }
                    self.have = 0;
                    let head = Head::parse(self.head, self.max_frame)?;
                    if head.kind != Kind::Data {
                        self.state = State::Control { head, payload: BytesMut::new() };
                        continue;
                    }
                    let id = StreamId(head.id);
                    if head.length == 0 {
                        return Ok(Some(Item::Data { id, bytes: Bytes::new(), fin: true }));
                    }
                    self.state = State::Data { id, fin: head.flag, remaining: head.length };
                }
                State::Control { head, payload } => {
                    let head = *head;
                    let missing = head.length - payload.len();
                    if payload.is_empty() && input.len() >= missing {
                        let whole = input.split_to(missing);
                        self.state = State::Head;
                        return Frame::decode(head, &whole).map(|f| Some(Item::Frame(f)));
                    }
                    let n = missing.min(input.len());
                    payload.extend_from_slice(&input.split_to(n));
                    if payload.len() < head.length {
                        return Ok(None);
                    }
                    let whole = std::mem::take(payload);
                    self.state = State::Head;
                    return Frame::decode(head, &whole).map(|f| Some(Item::Frame(f)));
                }
                State::Data { id, fin, remaining } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let bytes = input.split_to(input.len().min(*remaining));
                    *remaining -= bytes.len();
                    let ended = *remaining == 0;
                    let item = Item::Data { id: *id, bytes, fin: *fin && ended };
                    if ended {
                        self.state = State::Head;
                    }
                    return Ok(Some(item));
                }
            }
        }
    }
}
