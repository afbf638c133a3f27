//! Which sessions are open, so that each that began also ends, whatever ended the process.

use std::collections::BTreeMap;

use access_core::audit::events::{DbSessionEnd, SessionEnd};
use access_core::audit::{Envelope, Event, List};
use access_core::{SessionId, Timestamp};
use serde::{Deserialize, Serialize};

/// The events that opened the sessions that are open, as they were written.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct OpenSessions(BTreeMap<SessionId, serde_json::Value>);

impl OpenSessions {
    /// Takes note of an event that was written.
    pub(super) fn note(&mut self, event: &Event, json: &[u8]) {
        match event {
            Event::SessionStart(start) => self.open(&start.session.sid, json),
            // A refused one opened nothing.
            Event::DbSessionStart(start) if start.outcome.success => {
                self.open(&start.session.sid, json);
            }
            Event::SessionEnd(end) => self.close(&end.session.sid),
            Event::DbSessionEnd(end) => self.close(&end.session.sid),
            _ => {}
        }
    }

    /// Takes note of a line that is read back.
    pub(super) fn note_json(&mut self, json: &[u8]) {
        if opens_or_closes(json)
            && let Ok(envelope) = Envelope::from_json(json)
        {
            self.note(&envelope.event, json);
        }
    }

    /// The ends of all that are open, as of a process that is gone.
    pub(super) fn ends(&self, last_seen: impl Fn(&SessionId) -> Option<Timestamp>) -> Vec<Event> {
        let starts = self
            .0
            .values()
            .filter_map(|json| serde_json::from_value::<Envelope>(json.clone()).ok());
        starts.filter_map(|start| end_of(start, &last_seen)).collect()
    }

    fn open(&mut self, sid: &SessionId, json: &[u8]) {
        if let Ok(value) = serde_json::from_slice(json) {
            self.0.insert(sid.clone(), value);
        }
    }

    fn close(&mut self, sid: &SessionId) {
        self.0.remove(sid);
    }
}

/// Whether an event ends something that an earlier one began, so that it may use the reserve.
pub(super) fn is_end(event: &Event) -> bool {
    matches!(
        event,
        Event::SessionEnd(_)
            | Event::DbSessionEnd(_)
            | Event::SessionData(_)
            | Event::ClientDisconnect(_)
    )
}

fn opens_or_closes(json: &[u8]) -> bool {
    ["session.start", "session.end", "db.session.start", "db.session.end"]
        .iter()
        .any(|name| json.starts_with(format!("{{\"event\":\"{name}\"").as_bytes()))
}

fn end_of(start: Envelope, last_seen: &impl Fn(&SessionId) -> Option<Timestamp>) -> Option<Event> {
    match start.event {
        Event::SessionStart(event) => {
            let stop = last_seen(&event.session.sid).unwrap_or(start.time).max(start.time);
            let end = SessionEnd {
                interactive: event.interactive,
                session_start: start.time,
                session_stop: stop,
                participants: List::from_iter([event.session.user.as_str()]),
                reason: "agent stopped".into(),
                exit_code: None,
                exit_signal: None,
                tx: 0,
                rx: 0,
                session_recording: event.session_recording,
                session: event.session,
            };
            Some(end.into())
        }
        Event::DbSessionStart(event) => {
            let stop = last_seen(&event.session.sid).unwrap_or(start.time).max(start.time);
            let end = DbSessionEnd {
                session: event.session,
                db: event.db,
                session_start: Some(start.time),
                session_stop: Some(stop),
                reason: Some("agent stopped".into()),
                statements: None,
                tx: 0,
                rx: 0,
                session_recording: event.session_recording,
            };
            Some(end.into())
        }
        _ => None,
    }
}
