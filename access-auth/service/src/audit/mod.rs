//! The audit log: the service's own events, those that hosts hand over, and searching both.

mod allowed;
mod jsonl;
mod receive;
mod search;
mod writer;
mod writers;

pub(crate) use jsonl::JsonLines;
pub(crate) use writer::AuthAudit;

use access_backend::StoredEvent;
use access_core::audit::Envelope;
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::store::millis;

/// The longest name of a user that events are found by, in bytes.
const MAX_USER: usize = 256;

/// An event as the store keeps it.
fn stored(envelope: &Envelope, json: Vec<u8>) -> StoredEvent {
    StoredEvent {
        writer: envelope.writer.as_str().to_owned(),
        seq: envelope.seq,
        time: millis(envelope.time),
        name: envelope.event.name().to_owned(),
        user: user_of(&json),
        json: Bytes::from(json),
    }
}

/// Whom an event is about: its field `user`, whatever its kind.
fn user_of(json: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Form {
        user: Option<String>,
    }
    serde_json::from_slice::<Form>(json).ok()?.user.filter(|user| user.len() <= MAX_USER)
}

fn json_of(envelope: &Envelope) -> Result<Vec<u8>> {
    envelope.to_json().map_err(|err| Error::Internal(err.to_string()))
}
