//! Numbers, times and ids of events: what a sink adds to what it accepts.

use std::fmt;
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use serde_json::Map;

use super::envelope::{Envelope, EnvelopeError, Stamp};
use super::events::Event;
use super::text::Text;
use crate::ids::{ClusterName, WriterId, uuid_text};
use crate::time::Clock;

/// Makes envelopes in order.
///
/// A sink holds one under the same lock under which it writes, so that the order of the numbers is
/// the order in its file. A number is spent only when [`Stamper::commit`] is told that the
/// envelope was written: a failed write leaves no hole.
///
/// ```
/// use std::sync::Arc;
/// use access_core::audit::{Event, Stamper, events::UserLogout};
/// use access_core::{ClusterName, Timestamp, WriterId, time::ManualClock};
///
/// let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1)));
/// let mut stamper =
///     Stamper::new(ClusterName::new("example.com")?, WriterId::new("w1")?, 1, clock);
/// let event: Event = UserLogout { user: "alice".into(), addr_remote: None }.into();
/// let envelope = stamper.stamp(event);
/// assert_eq!(envelope.seq, 1);
/// stamper.commit(&envelope);
/// assert_eq!(stamper.next_seq(), 2);
/// # Ok::<(), access_core::ids::IdError>(())
/// ```
#[derive(Clone)]
pub struct Stamper {
    cluster_name: ClusterName,
    writer: WriterId,
    next_seq: u64,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Stamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamper")
            .field("writer", &self.writer)
            .field("next_seq", &self.next_seq)
            .finish_non_exhaustive()
    }
}

impl Stamper {
    /// Numbers a writer's events from `next_seq` on: 1 for a new writer, or one more than the last
    /// that was written.
    pub fn new(
        cluster_name: ClusterName,
        writer: WriterId,
        next_seq: u64,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { cluster_name, writer, next_seq: next_seq.max(1), clock }
    }

    /// The envelope of an event, with the next number; the number is not spent yet.
    pub fn stamp(&self, event: Event) -> Envelope {
        let seq = self.next_seq;
        Envelope {
            uid: Text::from(uid_of(&self.writer, seq)),
            time: self.clock.now(),
            cluster_name: self.cluster_name.clone(),
            writer: self.writer.clone(),
            seq,
            event,
            extra: Map::new(),
        }
    }

    /// Appends the line of JSON of an event's envelope, without making one.
    /// The event is written together with so many before it, whose numbers are not spent yet
    /// either: [`Stamper::spend`] does that for all.
    ///
    /// # Errors
    /// [`EnvelopeError`] as [`Envelope::append_json`].
    pub fn append_json(
        &self,
        event: &Event,
        ahead: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), EnvelopeError> {
        let Self { cluster_name, writer, clock, .. } = self;
        let seq = self.next_seq.saturating_add(ahead);
        let uid = uid_of(writer, seq);
        let stamp = Stamp { uid: &uid, time: clock.now(), cluster_name, writer, seq };
        stamp.append_json(event, &Map::new(), out)
    }

    /// Spends the number of an envelope that was written.
    pub fn commit(&mut self, envelope: &Envelope) {
        self.spend(envelope.seq);
    }

    /// Spends all numbers up to one that was written.
    pub fn spend(&mut self, seq: u64) {
        self.next_seq = self.next_seq.max(seq.saturating_add(1));
    }

    /// The number that the next event gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Whose events these are.
    pub fn writer(&self) -> &WriterId {
        &self.writer
    }
}

/// The `uid` of a writer's event: the first half of a digest in the form of a UUID.
pub fn uid_of(writer: &WriterId, seq: u64) -> String {
    let mut digest = Context::new(&SHA256);
    digest.update(b"access audit event\0");
    digest.update(writer.as_str().as_bytes());
    digest.update(&[0]);
    digest.update(&seq.to_be_bytes());
    uuid_text(digest.finish().as_ref().first_chunk().copied().unwrap_or_default())
}
