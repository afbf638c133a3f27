//! What must hold for any bytes that a peer can send; for fuzzers and for the tests beside them.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::code::CloseCode;
use crate::config::{Config, MIN_WINDOW};
use crate::connection::{Connection, Read};
use crate::decoder::{Decoder, Item};
use crate::frame::{Frame, HEAD_LEN, Head, Hello, MAX_CONTROL, Role, StreamId, VERSION};
use crate::header::OpenHeader;
use crate::transmit::Transmit;

const MAX_FRAME: usize = 4096;

/// Checks `data` as a stream of frames: decoding does not depend on how the bytes are cut, every
/// accepted frame encodes to the bytes that it came from, and neither the decoder nor a tunnel
/// that is fed with them holds more than its bounds. The first byte decides how the rest is cut.
///
/// # Errors
/// What does not hold.
pub fn check_frames(data: &[u8]) -> Result<(), String> {
    let Some((cut, data)) = data.split_first() else { return Ok(()) };
    let cut = usize::from(*cut) + 1;
    let whole = decode(data, usize::MAX)?;
    let pieces = decode(data, cut)?;
    if whole != pieces {
        return Err(format!("cut by {cut}: {pieces:?}, whole: {whole:?}"));
    }
    round_trip(data)?;
    tunnel(data, cut)
}

/// Checks `data` as the header of an open: what is read encodes to the same bytes.
///
/// # Errors
/// What does not hold.
pub fn check_header(data: &[u8]) -> Result<(), String> {
    let Ok(header) = OpenHeader::decode(data) else { return Ok(()) };
    let mut encoded = BytesMut::new();
    header.encode(&mut encoded).map_err(|err| format!("{header:?} does not encode: {err}"))?;
    if encoded == data { Ok(()) } else { Err(format!("{header:?} encodes to {encoded:02x?}")) }
}

/// What was decoded, pieces of data joined, and how it ended.
type Decoded = (Vec<Item>, Option<CloseCode>);

fn decode(data: &[u8], cut: usize) -> Result<Decoded, String> {
    let mut decoder = Decoder::new(MAX_FRAME);
    let mut items = Joined::default();
    for chunk in data.chunks(cut.min(data.len().max(1))) {
        let mut chunk = Bytes::copy_from_slice(chunk);
        loop {
            match decoder.next(&mut chunk) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(code) => return Ok((items.finish(), Some(code))),
            }
        }
        if !chunk.is_empty() {
            return Err("the decoder stopped before the end of its input".into());
        }
        if decoder.buffered() > 2 * MAX_CONTROL {
            return Err(format!("the decoder holds {} bytes", decoder.buffered()));
        }
    }
    Ok((items.finish(), None))
}

/// Items, of which pieces of data that follow each other on a stream become one. They are
/// gathered in place: a frame in pieces of one byte would else be copied for each of them.
#[derive(Default)]
struct Joined {
    items: Vec<Item>,
    /// Data that more may follow.
    open: Option<(StreamId, BytesMut)>,
}

impl Joined {
    fn push(&mut self, item: Item) {
        let Item::Data { id, bytes, fin } = item else {
            self.close(false);
            return self.items.push(item);
        };
        match &mut self.open {
            Some((before, data)) if *before == id => data.extend_from_slice(&bytes),
            _ => {
                self.close(false);
                self.open = Some((id, BytesMut::from(&bytes[..])));
            }
        }
        if fin {
            self.close(true);
        }
    }

    fn close(&mut self, fin: bool) {
        if let Some((id, data)) = self.open.take() {
            self.items.push(Item::Data { id, bytes: data.freeze(), fin });
        }
    }

    fn finish(mut self) -> Vec<Item> {
        self.close(false);
        self.items
    }
}

/// Takes the frames one by one and compares them with what they encode to.
fn round_trip(mut data: &[u8]) -> Result<(), String> {
    while let Some((raw, rest)) = data.split_first_chunk::<HEAD_LEN>() {
        let Ok(head) = Head::parse(*raw, MAX_FRAME) else { return Ok(()) };
        let Some((payload, rest)) = rest.split_at_checked(head.length) else { return Ok(()) };
        let original = data.get(..HEAD_LEN + head.length).unwrap_or_default();
        data = rest;
        let mut decoder = Decoder::new(MAX_FRAME);
        let mut encoded = BytesMut::new();
        match decoder.next(&mut Bytes::copy_from_slice(original)) {
            Err(_) => return Ok(()),
            Ok(Some(Item::Frame(frame))) => frame.encode(&mut encoded),
            Ok(Some(Item::Data { id, bytes, fin })) => {
                encoded.extend_from_slice(&Head::data(id, bytes.len(), fin));
                encoded.extend_from_slice(&bytes);
                if bytes != payload {
                    return Err("payload changed".into());
                }
            }
            Ok(None) => return Err("a whole frame was not decoded".into()),
        }
        if encoded != original {
            return Err(format!("{original:02x?} encodes to {encoded:02x?}"));
        }
    }
    Ok(())
}

/// The most pieces that a tunnel is fed with: each is a turn of the whole machine.
const MAX_TURNS: usize = 256;

/// Feeds a tunnel that accepts every second stream and reads half of what comes, until it closes.
fn tunnel(data: &[u8], cut: usize) -> Result<(), String> {
    let cut = cut.max(data.len().div_ceil(MAX_TURNS));
    let now = Instant::now();
    let mut config = Config::new();
    config.max_frame = MAX_FRAME;
    config.max_incoming = 16;
    config.max_receive_memory = 8 * MIN_WINDOW as usize;
    let mut conn = Connection::new(Role::Server, config, now);
    let mut hello = BytesMut::new();
    Frame::Hello(Hello {
        min_version: VERSION,
        max_version: VERSION,
        role: Role::Client,
        max_streams: 16,
        max_frame: 4096,
        extension: Bytes::new(),
    })
    .encode(&mut hello);
    conn.handle_input(hello.freeze(), now);
    let mut streams = Vec::new();
    for (n, chunk) in data.chunks(cut).enumerate() {
        conn.handle_input(Bytes::copy_from_slice(chunk), now);
        while conn.poll_event().is_some() {}
        while let Some((id, _)) = conn.next_incoming() {
            if id.0 % 4 == 1 {
                let _ = conn.accept(id);
                let _ = conn.write_copy(id, b"welcome");
                streams.push(id);
            } else {
                conn.detach(id);
            }
        }
        if n % 2 == 0 {
            streams.retain(|id| match conn.read(*id) {
                Ok(Read::Chunk(_) | Read::Blocked) => true,
                Ok(Read::Eof) | Err(_) => {
                    conn.detach(*id);
                    false
                }
            });
        }
        let stats = conn.stats();
        if stats.unread > stats.windows || stats.windows > conn.config().max_receive_memory {
            return Err(format!("receive memory out of bounds: {stats:?}"));
        }
        if stats.streams > 16 {
            return Err(format!("too many streams: {stats:?}"));
        }
        let mut out = Transmit::new();
        conn.poll_transmit(&mut out, now);
        if out.len() > 64 * 1024 + 600 * (cut + 1) {
            return Err(format!("{} bytes to send after {cut} came", out.len()));
        }
        if conn.close_reason().is_some() {
            // What comes after that is dropped unread; one more turn shows that it is.
            conn.handle_input(Bytes::copy_from_slice(data), now);
            let mut out = Transmit::new();
            if conn.poll_transmit(&mut out, now) {
                return Err(format!("{} bytes to send after the end", out.len()));
            }
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{RefuseCode, ResetCode};
    use crate::frame::OpenBody;
    use crate::header::Flavour;

    fn xorshift(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    /// Frames as a peer would send them.
    fn corpus() -> Vec<u8> {
        let mut out = BytesMut::new();
        let mut header = OpenHeader::new("node/web-1", Flavour::Tls);
        header.client_addr = Some("[2001:db8::1]:443".parse().unwrap());
        for id in [1, 3, 5] {
            let body = OpenBody::Known(header.clone());
            Frame::Open { id: StreamId(id), window: 70_000, body }.encode(&mut out);
        }
        for id in [1u32, 5] {
            out.extend_from_slice(&Head::data(StreamId(id), 300, id == 5));
            out.extend_from_slice(&[id as u8; 300]);
        }
        Frame::Window { id: StreamId(1), increment: 99 }.encode(&mut out);
        Frame::Ping { ack: false, token: 7 }.encode(&mut out);
        Frame::Stop { id: StreamId(5), code: ResetCode::STOPPED }.encode(&mut out);
        Frame::Reset { id: StreamId(1), code: ResetCode::ENDED }.encode(&mut out);
        let unknown = OpenBody::Unknown(Bytes::from_static(&[9, 1, 2]));
        Frame::Open { id: StreamId(7), window: 1, body: unknown }.encode(&mut out);
        Frame::Accept { id: StreamId(2), window: 1 }.encode(&mut out);
        let refuse =
            Frame::Refuse { id: StreamId(2), code: RefuseCode(3), reason: "é".repeat(127) };
        refuse.encode(&mut out);
        Frame::GoAway { code: CloseCode::NORMAL }.encode(&mut out);
        Frame::Close { code: CloseCode(0x100), reason: "bye".into() }.encode(&mut out);
        out.to_vec()
    }

    #[test]
    fn holds_for_a_mutated_corpus() {
        let corpus = corpus();
        for cut in [0, 1, 7, 255] {
            let mut data = vec![cut];
            data.extend_from_slice(&corpus);
            check_frames(&data).unwrap();
        }
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..3000 {
            let mut data = vec![xorshift(&mut state) as u8];
            data.extend_from_slice(&corpus);
            for _ in 0..xorshift(&mut state) % 6 {
                let at = xorshift(&mut state) as usize % data.len();
                match xorshift(&mut state) % 3 {
                    0 => data[at] = xorshift(&mut state) as u8,
                    1 => data.truncate(at + 1),
                    _ => data[at] ^= 1 << (xorshift(&mut state) % 8),
                }
            }
            check_frames(&data).unwrap_or_else(|e| panic!("{e}\n{data:02x?}"));
        }
    }

    #[test]
    fn notices_a_frame_that_changes() {
        // A reason that is not whole characters is refused, not altered.
        let mut bad = BytesMut::new();
        Frame::Close { code: CloseCode(1), reason: "é".into() }.encode(&mut bad);
        let last = bad.len() - 1;
        bad[last] = b'x';
        let (items, code) = decode(&bad, usize::MAX).unwrap();
        assert!(items.is_empty());
        assert_eq!(code, Some(CloseCode::PROTOCOL));
    }
}
