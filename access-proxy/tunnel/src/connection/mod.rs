//! The tunnel as a machine without I/O: bytes and the time go in, bytes and events come out.

mod input;
mod ops;
mod output;
mod stream;
mod table;
mod timers;
mod window;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::code::CloseCode;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{CloseReason, Error};
use crate::frame::{Frame, Hello, Role, StreamId, VERSION};
use crate::header::OpenHeader;
use crate::scheduler::Scheduler;
pub(crate) use table::IdHasher;
use table::Table;
use window::Rtt;

/// Encoded control frames that wait for the transport. A peer that makes us queue more than it
/// reads is closed.
const MAX_CONTROL_QUEUE: usize = 512 * 1024;
/// The transport gets no longer than this for the last frames.
const MAX_CLOSE: Duration = Duration::from_secs(3);

/// Something that whoever drives the machine should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer's hello has come; streams can be opened.
    Established,
    /// [`Connection::next_incoming`] has something.
    Incoming,
    /// The open was answered: ask [`Connection::poll_open`].
    Answered(StreamId),
    /// A read that was [`Read::Blocked`] is worth another try.
    Readable(StreamId),
    /// A write that found no room is worth another try.
    Writable(StreamId),
    /// The peer drains: open no more streams.
    PeerGoingAway,
    /// The tunnel is closed for streams; see [`Connection::close_reason`].
    Closed,
}

/// What [`Connection::read`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Bytes, not empty.
    Chunk(Bytes),
    /// The peer finished, and everything was read.
    Eof,
    /// Nothing now; an [`Event::Readable`] will follow.
    Blocked,
}

/// Figures of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Latest round trip, if one was measured.
    pub rtt: Option<Duration>,
    /// Best round trip of the last seconds.
    pub best_rtt: Option<Duration>,
    /// Streams in the table now, those included that linger.
    pub streams: usize,
    /// Streams opened by this end so far.
    pub opened: u64,
    /// Streams opened by the peer so far.
    pub incoming: u64,
    /// Bytes taken from the transport so far.
    pub bytes_in: u64,
    /// Bytes given to the transport so far.
    pub bytes_out: u64,
    /// Received bytes that nobody has read yet.
    pub unread: usize,
    /// Written bytes that are not yet given to the transport.
    pub unsent: usize,
    /// Sum of the receive windows.
    pub windows: usize,
}

/// The multiplexer of one end, without I/O.
///
/// Whoever drives it calls [`handle_input`](Self::handle_input) with what the transport brings,
/// [`poll_transmit`](Self::poll_transmit) while there is room to write,
/// [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) has passed,
/// and drains [`poll_event`](Self::poll_event) after each of these. After a call that acts on a
/// stream, [`wants_transmit`](Self::wants_transmit) says whether there is something to write.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    config: Config,
    decoder: Decoder,
    streams: Table,
    scheduler: Scheduler,
    /// Encoded control frames; they go before data.
    control: BytesMut,
    window_updates: VecDeque<StreamId>,
    events: VecDeque<Event>,
    incoming: VecDeque<(StreamId, OpenHeader)>,
    /// Writers that wait for the memory of all streams, not for their own.
    memory_blocked: Vec<StreamId>,

    peer: Option<Limits>,
    /// Whether streams of the peer are taken at all.
    accepting: bool,
    /// We sent a go-away.
    draining: bool,
    peer_draining: bool,
    closed: Option<CloseReason>,
    /// A close frame waits in `control`, or nothing is left to send.
    finished: bool,

    rtt: Rtt,
    ping: timers::Ping,
    started: Instant,
    last_input: Instant,
    now: Instant,
    open_deadlines: VecDeque<(Instant, StreamId)>,
    linger_deadlines: VecDeque<(Instant, StreamId)>,
    close_deadline: Option<Instant>,
    stats: Stats,
}

/// What the peer's hello allows.
#[derive(Clone, Copy, Debug)]
struct Limits {
    max_streams: u32,
    max_frame: usize,
}

impl Connection {
    /// A machine whose hello is ready to be sent.
    pub fn new(role: Role, config: Config, now: Instant) -> Self {
        let config = config.bounded();
        let mut control = BytesMut::new();
        hello(role, &config).encode(&mut control);
        Self {
            role,
            decoder: Decoder::new(config.max_frame),
            streams: Table::new(role),
            scheduler: Scheduler::default(),
            control,
            window_updates: VecDeque::new(),
            events: VecDeque::new(),
            incoming: VecDeque::new(),
            memory_blocked: Vec::new(),
            peer: None,
            accepting: true,
            draining: false,
            peer_draining: false,
            closed: None,
            finished: false,
            rtt: Rtt::default(),
            ping: timers::Ping::default(),
            started: now,
            last_input: now,
            now,
            open_deadlines: VecDeque::new(),
            linger_deadlines: VecDeque::new(),
            close_deadline: None,
            stats: Stats::default(),
            config,
        }
    }

    /// Whether the peer's hello has come.
    pub fn is_established(&self) -> bool {
        self.peer.is_some()
    }

    /// Whether the peer sent a go-away.
    pub fn is_peer_going_away(&self) -> bool {
        self.peer_draining
    }

    /// Whether this end sent a go-away.
    pub fn is_going_away(&self) -> bool {
        self.draining
    }

    /// Why the tunnel is closed, if it is. There may still be a last frame to transmit.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.closed.as_ref()
    }

    /// Whether the tunnel is closed and nothing is left to transmit.
    pub fn is_finished(&self) -> bool {
        self.finished && self.control.is_empty()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Current figures.
    pub fn stats(&self) -> Stats {
        Stats {
            rtt: self.rtt.latest(),
            best_rtt: self.rtt.best(),
            streams: self.streams.len(),
            unread: self.streams.unread,
            unsent: self.streams.unsent,
            windows: self.streams.windows,
            ..self.stats
        }
    }

    /// Bounds and settings in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Announces that no new streams will be opened or accepted; once the last one has ended the
    /// tunnel closes with [`CloseReason::Drained`].
    pub fn go_away(&mut self, code: CloseCode) {
        if self.closed.is_none() && !self.draining {
            self.draining = true;
            Frame::GoAway { code }.encode(&mut self.control);
            self.refuse_waiting();
            self.close_if_drained();
        }
    }

    /// Closes the tunnel at once: streams fail, what is queued is discarded, and a last frame
    /// tells the peer.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.shut(CloseReason::Local(code), Some((code, reason)));
    }

    /// Tells the machine that the transport is of no use any more.
    pub fn transport_lost(&mut self, reason: CloseReason) {
        self.shut(reason, None);
        self.finished = true;
        self.control.clear();
    }

    fn shut(&mut self, reason: CloseReason, tell: Option<(CloseCode, &str)>) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(reason);
        self.control.clear();
        // A peer looks at nothing before the hello.
        if let Some((code, reason)) = tell {
            if self.stats.bytes_out == 0 {
                hello(self.role, &self.config).encode(&mut self.control);
            }
            Frame::Close { code, reason: reason.to_owned() }.encode(&mut self.control);
        }
        self.finished = true;
        self.close_deadline = Some(self.now + self.config.linger.min(MAX_CLOSE));
        self.scheduler = Scheduler::default();
        self.window_updates.clear();
        self.open_deadlines.clear();
        self.linger_deadlines.clear();
        self.memory_blocked.clear();
        self.incoming.clear();
        self.streams.discard_outgoing();
        self.events.push_back(Event::Closed);
    }

    /// Closes the tunnel because the peer broke the protocol.
    fn violation(&mut self, code: CloseCode) {
        self.shut(CloseReason::Violation(code), Some((code, "")));
    }

    fn close_if_drained(&mut self) {
        if self.draining && self.closed.is_none() && self.streams.is_empty() {
            self.shut(CloseReason::Drained, Some((CloseCode::NORMAL, "drained")));
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        match &self.closed {
            Some(reason) => Err(Error::Closed(reason.clone())),
            None => Ok(()),
        }
    }
}

fn hello(role: Role, config: &Config) -> Frame {
    Frame::Hello(Hello {
        min_version: VERSION,
        max_version: VERSION,
        role,
        max_streams: config.max_incoming,
        max_frame: u16::try_from(config.max_frame).unwrap_or(u16::MAX),
        extension: Bytes::new(),
    })
}
