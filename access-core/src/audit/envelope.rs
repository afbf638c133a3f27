//! An event with when, where and in which order: what is stored and sent.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::events::Event;
use super::text::Text;
use crate::ids::{ClusterName, WriterId};
use crate::time::Timestamp;

/// An event as it is stored and sent: one JSON object.
///
/// `writer` and `seq` order it: `writer` is the spool (or Auth replica) that accepted it, `seq`
/// counts that writer's events from 1 without holes, so that a reader knows what is missing. `uid`
/// follows from both, so that an event that is delivered twice is known as one.
///
/// Reading never fails for a kind, a code or a field that this version does not know: they are
/// kept and written again.
///
/// ```
/// use access_core::audit::{Envelope, Event};
/// let line = r#"{"event":"lunar.landing","code":"TZZ00I","time":"2026-01-02T03:04:05Z",
///     "uid":"u1","cluster_name":"example.com","writer":"w1","seq":7,"crew":3}"#;
/// let envelope: Envelope = serde_json::from_str(line)?;
/// assert!(matches!(envelope.event, Event::Unknown(_)));
/// assert_eq!(serde_json::to_value(&envelope)?["crew"], 3);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Unique among all events.
    pub uid: Text<256>,
    /// When it was accepted.
    pub time: Timestamp,
    /// The cluster.
    pub cluster_name: ClusterName,
    /// Who accepted it.
    pub writer: WriterId,
    /// The how manyeth of the writer's events it is, from 1.
    pub seq: u64,
    /// What happened.
    pub event: Event,
    /// Fields of a known kind that this version does not know.
    pub extra: Map<String, Value>,
}

/// A text that is no event.
#[derive(Debug, thiserror::Error)]
#[error("not an audit event: {0}")]
pub struct EnvelopeError(#[from] serde_json::Error);

impl Envelope {
    /// Its one line of JSON, without the line's end.
    ///
    /// # Errors
    /// [`EnvelopeError`] when a field can't be written as JSON; those defined here can.
    pub fn to_json(&self) -> Result<Vec<u8>, EnvelopeError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads an event.
    ///
    /// # Errors
    /// [`EnvelopeError`] when the bytes are no JSON object or lack what every envelope has.
    pub fn from_json(json: &[u8]) -> Result<Self, EnvelopeError> {
        Ok(serde_json::from_slice(json)?)
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("event", self.event.name())?;
        map.serialize_entry("code", self.event.code())?;
        map.serialize_entry("time", &self.time)?;
        map.serialize_entry("uid", &self.uid)?;
        map.serialize_entry("cluster_name", &self.cluster_name)?;
        map.serialize_entry("writer", &self.writer)?;
        map.serialize_entry("seq", &self.seq)?;
        self.event.write_fields(&mut map)?;
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[derive(Deserialize)]
struct Wire {
    event: Text<256>,
    code: Text<256>,
    time: Timestamp,
    uid: Text<256>,
    cluster_name: ClusterName,
    writer: WriterId,
    seq: u64,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { event, code, time, uid, cluster_name, writer, seq, fields } =
            Wire::deserialize(deserializer)?;
        if event.is_empty() {
            return Err(de::Error::custom("the event has no name"));
        }
        let (event, extra) = Event::read(event, code, fields);
        Ok(Self { uid, time, cluster_name, writer, seq, event, extra })
    }
}
