//! A peer that breaks the protocol, and the code with which each breach closes the tunnel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::IoSlice;
use std::time::{Duration, Instant};

use access_tunnel::proto::{
    Connection, Frame, Hello, Item, OpenBody, Read, Role, Transmit, VERSION,
};
use access_tunnel::{
    CloseCode, CloseReason, Config, Error, Flavour, MIN_WINDOW, OpenHeader, RefuseCode, ResetCode,
    StreamId,
};
use bytes::{BufMut, Bytes, BytesMut};

/// A machine and the hostile hand that feeds it. The machine is the server: the peer opens odd
/// ids, the machine even ones.
struct Victim {
    conn: Connection,
    now: Instant,
    decoder: access_tunnel::proto::Decoder,
}

impl Victim {
    fn silent(config: Config) -> Self {
        let now = Instant::now();
        let decoder = access_tunnel::proto::Decoder::new(65535);
        Self { conn: Connection::new(Role::Server, config, now), now, decoder }
    }

    fn with(config: Config) -> Self {
        let mut victim = Self::silent(config);
        victim.frame(&hello());
        assert!(victim.conn.is_established());
        victim
    }

    fn new() -> Self {
        Self::with(Config::new())
    }

    fn feed(&mut self, bytes: impl Into<Bytes>) {
        self.conn.handle_input(bytes.into(), self.now);
    }

    fn frame(&mut self, frame: &Frame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        self.feed(out);
    }

    fn data(&mut self, id: u32, payload: &[u8], fin: bool) {
        self.feed(raw(4, u8::from(fin), id, payload));
    }

    fn open(&mut self, id: u32) {
        self.frame(&open(id, 100_000));
    }

    /// A stream that the peer opened and that we accepted.
    fn accepted(&mut self, id: u32) -> StreamId {
        self.open(id);
        let (id, _) = self.conn.next_incoming().unwrap();
        self.conn.accept(id).unwrap();
        id
    }

    fn sent(&mut self) -> Vec<Item> {
        let mut out = Transmit::new();
        let mut items = Vec::new();
        while self.conn.poll_transmit(&mut out, self.now) {
            while !out.is_empty() {
                let mut slices = [IoSlice::new(&[]); 8];
                let n = out.slices(&mut slices);
                let bytes: Vec<u8> = slices[..n].iter().flat_map(|s| s.to_vec()).collect();
                out.advance(bytes.len());
                let mut bytes = Bytes::from(bytes);
                while let Some(item) = self.decoder.next(&mut bytes).unwrap() {
                    items.push(item);
                }
            }
        }
        items
    }

    /// The tunnel is closed with the code, and the peer is told so.
    #[track_caller]
    fn assert_violation(mut self, code: CloseCode) {
        assert_eq!(self.conn.close_reason(), Some(&CloseReason::Violation(code)));
        let last = self.sent().pop();
        let expected = Frame::Close { code, reason: String::new() };
        assert_eq!(last, Some(Item::Frame(expected)));
        assert!(self.conn.is_finished());
    }

    #[track_caller]
    fn assert_fine(&self) {
        assert_eq!(self.conn.close_reason(), None);
    }
}

fn hello() -> Frame {
    Frame::Hello(Hello {
        min_version: VERSION,
        max_version: VERSION,
        role: Role::Client,
        max_streams: 10,
        max_frame: 16_000,
        extension: Bytes::new(),
    })
}

fn hello_with(change: impl FnOnce(&mut Hello)) -> Frame {
    let Frame::Hello(mut hello) = hello() else { unreachable!() };
    change(&mut hello);
    Frame::Hello(hello)
}

fn open(id: u32, window: u32) -> Frame {
    let body = OpenBody::Known(OpenHeader::new("node/x", Flavour::Raw));
    Frame::Open { id: StreamId(id), window, body }
}

fn raw(kind: u8, flags: u8, id: u32, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u16(payload.len() as u16);
    out.put_u32(id);
    out.put_slice(payload);
    out
}

#[test]
fn hello_must_come_first_and_once_and_fit() {
    let mut v = Victim::silent(Config::new());
    v.frame(&Frame::Ping { ack: false, token: 1 });
    v.assert_violation(CloseCode::PROTOCOL);
    let mut v = Victim::silent(Config::new());
    v.data(1, b"x", false);
    v.assert_violation(CloseCode::PROTOCOL);
    let mut v = Victim::new();
    v.frame(&hello());
    v.assert_violation(CloseCode::PROTOCOL);
    let mut v = Victim::silent(Config::new());
    v.feed(&b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"[..]);
    v.assert_violation(CloseCode::PROTOCOL);
    for (change, code) in [
        ((|h| h.role = Role::Server) as fn(&mut Hello), CloseCode::PROTOCOL),
        (|h| h.min_version = 2, CloseCode::PROTOCOL),
        (|h| (h.min_version, h.max_version) = (2, 9), CloseCode::VERSION),
        (|h| (h.min_version, h.max_version) = (0, 0), CloseCode::VERSION),
        (|h| h.max_frame = 1023, CloseCode::PROTOCOL),
    ] {
        let mut v = Victim::silent(Config::new());
        v.frame(&hello_with(change));
        v.assert_violation(code);
    }
    // A later version is welcome as long as it still speaks ours.
    let mut v = Victim::silent(Config::new());
    v.frame(&hello_with(|h| {
        h.max_version = 7;
        h.extension = Bytes::from_static(b"whatever");
    }));
    v.assert_fine();
    assert!(v.conn.is_established());
}

#[test]
fn window_overflow() {
    let mut v = Victim::new();
    let id = v.accepted(1);
    let window = v.conn.config().initial_window as usize;
    let mut left = window;
    while left > 0 {
        let n = left.min(16_000);
        v.data(1, &vec![0; n], false);
        left -= n;
    }
    v.assert_fine();
    assert_eq!(v.conn.stats().unread, window);
    // Read but not granted again: still a breach.
    assert!(matches!(v.conn.read(id), Ok(Read::Chunk(_))));
    v.data(1, b"x", false);
    v.assert_violation(CloseCode::WINDOW);
}

#[test]
fn credit_overflow_and_zero_credit() {
    for (first, increment) in [(100, 1 << 30), (100, 0), (100, u32::MAX)] {
        let mut v = Victim::new();
        v.frame(&open(1, first));
        let (id, _) = v.conn.next_incoming().unwrap();
        v.conn.accept(id).unwrap();
        v.feed(raw(5, 0, 1, &u32::to_be_bytes(increment)));
        v.assert_violation(CloseCode::WINDOW);
    }
    let mut v = Victim::new();
    v.frame(&open(1, 0));
    v.assert_violation(CloseCode::WINDOW);
}

#[test]
fn stream_ids_out_of_place() {
    for id in [2, 4, 3, 5, u32::MAX] {
        let mut v = Victim::new();
        v.open(id);
        v.assert_violation(CloseCode::STREAM_ID);
    }
    let mut v = Victim::new();
    v.open(1);
    v.open(1);
    v.assert_violation(CloseCode::STREAM_ID);
    // Frames for streams that nobody opened, of either side.
    for id in [1, 2, 7, 8] {
        for kind in [2u8, 3, 4, 5, 6, 7] {
            let mut v = Victim::new();
            v.feed(raw(kind, 0, id, &[0, 0, 0, 1]));
            v.assert_violation(CloseCode::STREAM_ID);
        }
    }
    // A stream's frame on the tunnel, and the other way round.
    let mut v = Victim::new();
    v.data(0, b"x", false);
    v.assert_violation(CloseCode::STREAM_ID);
    let mut v = Victim::new();
    v.feed(raw(8, 0, 1, &[0; 8]));
    v.assert_violation(CloseCode::STREAM_ID);
}

#[test]
fn frames_that_the_state_forbids() {
    // Before the decision.
    for (kind, payload) in [(4, &b"x"[..]), (5, &[0, 0, 0, 1]), (7, &[0; 4]), (2, &[0, 0, 0, 1])] {
        let mut v = Victim::new();
        v.open(1);
        v.feed(raw(kind, 0, 1, payload));
        v.assert_violation(CloseCode::STREAM_STATE);
    }
    // After FIN.
    let mut v = Victim::new();
    v.accepted(1);
    v.data(1, b"last", true);
    v.assert_fine();
    v.data(1, b"x", false);
    v.assert_violation(CloseCode::STREAM_STATE);
    // An answer to what was not asked.
    let mut v = Victim::new();
    v.accepted(1);
    v.frame(&Frame::Accept { id: StreamId(1), window: 1 });
    v.assert_violation(CloseCode::STREAM_STATE);
    let mut v = Victim::new();
    let id = v.conn.open(&OpenHeader::new("x", Flavour::Tls), v.now).unwrap();
    v.frame(&Frame::Accept { id, window: 1 });
    v.assert_fine();
    v.frame(&Frame::Refuse { id, code: RefuseCode::REFUSED, reason: String::new() });
    v.assert_violation(CloseCode::STREAM_STATE);
}

#[test]
fn frames_too_long_too_short_or_unknown() {
    let max = Config::new().max_frame;
    let mut v = Victim::new();
    v.accepted(1);
    v.data(1, &vec![0; max], false);
    v.assert_fine();
    v.data(1, &vec![0; max + 1], false);
    v.assert_violation(CloseCode::FRAME_SIZE);
    for (kind, length) in [(0, 13), (0, 513), (1, 4), (1, 513), (2, 3), (2, 5), (3, 1), (3, 258)] {
        let mut v = Victim::silent(Config::new());
        v.feed(raw(kind, 0, u32::from(kind > 0), &vec![0; length]));
        v.assert_violation(CloseCode::FRAME_SIZE);
    }
    for (kind, length) in [(4, 0), (5, 5), (6, 0), (7, 8), (8, 7), (9, 0), (10, 3), (10, 260)] {
        let mut v = Victim::new();
        v.feed(raw(kind, 0, u32::from(kind < 8), &vec![0; length]));
        v.assert_violation(CloseCode::FRAME_SIZE);
    }
    for (kind, flags) in [(11, 0), (255, 0), (4, 2), (5, 1), (8, 3)] {
        let mut v = Victim::new();
        v.feed(raw(kind, flags, 1, &[0; 8]));
        v.assert_violation(CloseCode::PROTOCOL);
    }
    let mut v = Victim::new();
    v.feed(raw(10, 0, 0, &[0, 0, 0, 0, 0xff]));
    v.assert_violation(CloseCode::PROTOCOL);
}

#[test]
fn header_garbage_closes_but_a_later_version_is_refused() {
    for garbage in [&[1u8][..], &[1, 0xff, 0, 0], &[1; 40]] {
        let mut v = Victim::new();
        let mut payload = BytesMut::from(&[0u8, 1, 0, 0][..]);
        payload.put_slice(garbage);
        v.feed(raw(1, 0, 1, &payload));
        v.assert_violation(CloseCode::HEADER);
    }
    let mut v = Victim::new();
    v.feed(raw(1, 0, 1, &[0, 1, 0, 0, 2, 0xff, 0xff]));
    v.assert_fine();
    assert_eq!(v.conn.stats().streams, 0);
    let refusal =
        Frame::Refuse { id: StreamId(1), code: RefuseCode::UNSUPPORTED, reason: String::new() };
    assert!(v.sent().contains(&Item::Frame(refusal)));
}

#[test]
fn stream_limit_and_opener_only_ends() {
    let mut v = Victim::with(Config::opener());
    v.open(1);
    v.assert_violation(CloseCode::STREAM_LIMIT);
    let mut config = Config::new();
    config.max_incoming = 3;
    let mut v = Victim::with(config);
    for id in [1, 3, 5] {
        v.open(id);
    }
    v.assert_fine();
    v.open(7);
    v.assert_violation(CloseCode::STREAM_LIMIT);
}

#[test]
fn rapid_open_and_reset_is_bounded_by_what_we_hold() {
    let mut config = Config::new();
    config.max_incoming = 8;
    let mut v = Victim::with(config);
    for n in 0..1000 {
        let id = n * 2 + 1;
        v.open(id);
        v.frame(&Frame::Reset { id: StreamId(id), code: ResetCode::CANCELLED });
        assert!(v.conn.stats().streams <= 8);
    }
    v.assert_fine();
    assert_eq!(v.conn.next_incoming(), None);
    assert_eq!(v.conn.stats().streams, 0);
    let refused = v
        .sent()
        .into_iter()
        .filter(|i| matches!(i, Item::Frame(Frame::Refuse { code: RefuseCode::OVERLOADED, .. })));
    assert_eq!(refused.count(), 992);
}

#[test]
fn flood_of_pings_that_are_never_read() {
    let mut v = Victim::new();
    let mut pings = 0;
    while v.conn.close_reason().is_none() {
        v.frame(&Frame::Ping { ack: false, token: pings });
        pings += 1;
        assert!(pings < 100_000);
    }
    v.assert_violation(CloseCode::FLOOD);
}

#[test]
fn receive_memory_is_capped_over_all_streams() {
    let mut config = Config::new();
    config.max_receive_memory = 20 * MIN_WINDOW as usize;
    config.initial_window = 2 * MIN_WINDOW;
    let mut v = Victim::with(config.clone());
    for n in 0..100u32 {
        v.open(n * 2 + 1);
        if let Some((id, _)) = v.conn.next_incoming() {
            v.conn.accept(id).unwrap();
            v.data(n * 2 + 1, &[0; 16_000], false);
        }
    }
    v.assert_fine();
    let stats = v.conn.stats();
    assert!(stats.windows <= config.max_receive_memory);
    assert!(stats.streams >= 10 && stats.streams <= 20, "{stats:?}");
    assert_eq!(stats.unread, stats.streams * 16_000);
    assert_eq!(v.conn.open(&OpenHeader::new("x", Flavour::Raw), v.now), Err(Error::TooManyStreams));
}

#[test]
fn single_byte_frames_cost_little_more_than_their_bytes() {
    let mut v = Victim::new();
    let id = v.accepted(1);
    let mut many = BytesMut::new();
    for _ in 0..20_000 {
        many.extend_from_slice(&raw(4, 0, 1, b"x"));
    }
    v.feed(many);
    v.assert_fine();
    let mut chunks = 0;
    while let Ok(Read::Chunk(_)) = v.conn.read(id) {
        chunks += 1;
    }
    assert!(chunks <= 3, "{chunks} chunks");
}

#[test]
fn late_frames_for_a_stream_that_we_reset_are_no_breach() {
    let mut v = Victim::new();
    let id = v.accepted(1);
    v.conn.reset(id, ResetCode::ENDED);
    v.conn.detach(id);
    v.data(1, b"in flight", false);
    v.frame(&Frame::Window { id, increment: 5 });
    v.frame(&Frame::Stop { id, code: ResetCode::STOPPED });
    v.data(1, b"", true);
    v.assert_fine();
    assert_eq!(v.conn.stats().unread, 0);
}

#[test]
fn silence_is_pinged_then_fatal() {
    let mut v = Victim::new();
    v.sent();
    let config = v.conn.config().clone();
    // The first ping, for the round trip, is never answered; the peer sends something else.
    v.now += config.idle_timeout - Duration::from_millis(1);
    v.conn.handle_timeout(v.now);
    v.assert_fine();
    v.frame(&Frame::Ping { ack: true, token: 1 });
    v.now += config.keep_alive;
    assert_eq!(v.conn.poll_timeout(), Some(v.now));
    v.conn.handle_timeout(v.now);
    assert_eq!(v.sent(), [Item::Frame(Frame::Ping { ack: false, token: 2 })]);
    v.now += config.idle_timeout - config.keep_alive;
    assert_eq!(v.conn.poll_timeout(), Some(v.now));
    v.conn.handle_timeout(v.now);
    assert_eq!(v.conn.close_reason(), Some(&CloseReason::DeadPeer));
}

#[test]
fn deadlines_of_hello_open_and_linger() {
    let mut v = Victim::silent(Config::new());
    v.now += v.conn.config().hello_timeout;
    v.conn.handle_timeout(v.now);
    assert_eq!(v.conn.close_reason(), Some(&CloseReason::HelloTimeout));

    let mut v = Victim::new();
    let id = v.conn.open(&OpenHeader::new("x", Flavour::Tls), v.now).unwrap();
    assert_eq!(v.conn.poll_open(id), None);
    v.now += v.conn.config().open_timeout;
    v.frame(&Frame::Ping { ack: true, token: 9 });
    v.conn.handle_timeout(v.now);
    let timeout = Error::Refused { code: RefuseCode::TIMEOUT, reason: String::new() };
    assert_eq!(v.conn.poll_open(id), Some(Err(timeout)));
    v.frame(&Frame::Accept { id, window: 5 });
    v.assert_fine();

    let mut v = Victim::new();
    v.frame(&open(1, 10));
    let (id, _) = v.conn.next_incoming().unwrap();
    v.conn.accept(id).unwrap();
    v.conn.write_copy(id, &[0; 100]).unwrap();
    v.conn.finish(id).unwrap();
    v.conn.detach(id);
    v.sent();
    // Ten bytes went before the stream was let go of the second time round; then none do.
    for _ in 0..3 {
        v.now += v.conn.config().linger;
        v.frame(&Frame::Ping { ack: true, token: 9 });
        v.conn.handle_timeout(v.now);
    }
    assert_eq!(v.conn.stats().streams, 0);
    let reset = Frame::Reset { id, code: ResetCode::LINGER };
    assert!(v.sent().contains(&Item::Frame(reset)));
}
