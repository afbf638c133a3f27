//! Settings of one end of a tunnel.

use std::time::Duration;

/// Largest payload that a frame can carry (its length field has 16 bits).
pub const MAX_FRAME: usize = u16::MAX as usize;
/// Smallest maximum that an end may announce, so that a peer cannot force tiny frames.
pub const MIN_FRAME: usize = 1024;
/// Smallest receive window that a stream is ever given, in bytes.
pub const MIN_WINDOW: u32 = 16 * 1024;
/// Largest receive window, in bytes: credit above it is a violation.
pub const MAX_WINDOW: u32 = 1 << 30;

/// Settings of one end of a tunnel. Every bound is enforced on the peer as well as on this end;
/// values outside their range are brought into it when the tunnel starts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Streams that the peer may hold open at once. 0: it may open none. Default 4096.
    pub max_incoming: u32,
    /// Streams that this end holds open at once. Default 4096.
    pub max_outgoing: u32,
    /// Incoming streams that wait for a decision before more are refused. Default 256.
    pub backlog: usize,
    /// Largest payload of a frame in bytes, sent and received, `MIN_FRAME..=MAX_FRAME`.
    /// The default of 16,376 fills one TLS record together with the frame's header.
    pub max_frame: usize,
    /// Receive window of a new stream in bytes, while memory is not short. Default 256 KiB.
    pub initial_window: u32,
    /// Receive window that a busy stream can grow to, in bytes. Default 4 MiB.
    pub max_window: u32,
    /// Sum of all receive windows in bytes: received bytes that nobody has read never take more.
    /// Default 128 MiB.
    pub max_receive_memory: usize,
    /// Bytes that one stream queues for sending before its writer has to wait. Default 256 KiB.
    pub send_buffer: usize,
    /// Bytes that all streams queue for sending before each is held to 32 KiB. Default 1 MiB:
    /// what waits longer than the cache remembers it costs twice.
    pub max_send_memory: usize,
    /// Bytes handed to the transport in one go: the most that can stand ahead of a small frame
    /// inside this end. Default 64 KiB.
    pub transmit_batch: usize,
    /// Largest read from the transport in bytes. Default 64 KiB; a quiet tunnel falls back to
    /// 4 KiB.
    pub read_buffer: usize,
    /// The peer is pinged after this long without a word of it. Default 15 s.
    pub keep_alive: Duration,
    /// The peer is taken for dead after this long without a word of it. Default 45 s.
    pub idle_timeout: Duration,
    /// The peer's hello has to come within this time. Default 10 s.
    pub hello_timeout: Duration,
    /// An open has to be answered within this time. Default 30 s.
    pub open_timeout: Duration,
    /// A finished stream that nobody holds any more is reset when its last bytes make no progress
    /// for this long; the transport has as long to take the last frames of a closed tunnel, up to
    /// 3 s. Default 30 s.
    pub linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_incoming: 4096,
            max_outgoing: 4096,
            backlog: 256,
            max_frame: 16 * 1024 - 8,
            initial_window: 256 * 1024,
            max_window: 4 * 1024 * 1024,
            max_receive_memory: 128 * 1024 * 1024,
            send_buffer: 256 * 1024,
            max_send_memory: 1024 * 1024,
            transmit_batch: 64 * 1024,
            read_buffer: 64 * 1024,
            keep_alive: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(45),
            hello_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// The defaults, for an end to which the peer may open streams.
    pub fn new() -> Self {
        Self::default()
    }

    /// The defaults, for an end that only opens streams itself: an open by the peer closes the
    /// tunnel.
    pub fn opener() -> Self {
        Self { max_incoming: 0, ..Self::default() }
    }

    /// Brings every value into its range.
    pub(crate) fn bounded(mut self) -> Self {
        const MS: Duration = Duration::from_millis(1);
        self.max_incoming = self.max_incoming.min(1 << 20);
        self.max_outgoing = self.max_outgoing.min(1 << 20);
        self.max_frame = self.max_frame.clamp(MIN_FRAME, MAX_FRAME);
        self.initial_window = self.initial_window.clamp(MIN_WINDOW, MAX_WINDOW);
        self.max_window = self.max_window.clamp(self.initial_window, MAX_WINDOW);
        self.max_receive_memory = self.max_receive_memory.max(MIN_WINDOW as usize);
        self.send_buffer = self.send_buffer.max(MIN_FRAME);
        self.max_send_memory = self.max_send_memory.max(self.send_buffer);
        self.transmit_batch = self.transmit_batch.clamp(MIN_FRAME, 1 << 20);
        self.read_buffer = self.read_buffer.clamp(4096, 1 << 20);
        self.keep_alive = self.keep_alive.max(MS);
        self.idle_timeout = self.idle_timeout.max(self.keep_alive.saturating_mul(2));
        self.hello_timeout = self.hello_timeout.max(MS);
        self.open_timeout = self.open_timeout.max(MS);
        self.linger = self.linger.max(MS);
        self
    }
}
