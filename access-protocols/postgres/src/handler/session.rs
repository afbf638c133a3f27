//! A session that has begun: what it consists of, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use access_core::audit::events::{DbSessionEnd, DbSessionMalformedPacket};
use access_core::audit::{AuditError, Text};
use access_core::gate::EndReason;
use access_core::recording::RecordingError;
use access_core::wake::Bell;
use access_core::{Clock, Timestamp};
use futures::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio_util::task::TaskTracker;

use super::cancel::{Registered, stop};
use super::journal::Journal;
use super::judge::Judge;
use super::relay::{Side, Timer, Way};
use super::tape::Tape;
use super::target::StopLine;
use crate::machine::{Broken, Machine, Note};
use crate::wire::{Failure, encode, sqlstate};

/// How long the client has to take its last messages, and the database its leave.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a message may take to be whole of which the client has a part when the permit ends.
const COMPLETION: Duration = Duration::from_millis(250);

/// What ended a session.
#[derive(Debug)]
pub(super) enum Cause {
    /// The client left.
    Client,
    /// The database closed the connection; what it said, if anything.
    Server(Option<String>),
    /// The permit ended.
    Ended(EndReason),
    /// Its events could not be written any more.
    Audit(AuditError),
    /// It could not be recorded any more.
    Recording(RecordingError),
    /// One of both sent what cannot be.
    Broken(Broken),
}

impl Cause {
    /// In the words of `db.session.end`.
    fn reason(&self) -> Text<256> {
        match self {
            Self::Client => "client".into(),
            Self::Server(None) => "server".into(),
            Self::Server(Some(words)) => Text::of(format_args!("server: {words}")),
            Self::Ended(EndReason::Expired) => "certificate expired".into(),
            Self::Ended(EndReason::Idle) => "idle".into(),
            Self::Ended(EndReason::Withdrawn(_)) => "locked".into(),
            Self::Ended(EndReason::Gone(_)) => "removed".into(),
            Self::Ended(_) => "ended".into(),
            Self::Audit(err) => Text::of(format_args!("audit failed: {err}")),
            Self::Recording(err) => Text::of(format_args!("recording failed: {err}")),
            Self::Broken(broken) => Text::of(broken),
        }
    }

    /// What the client is told, unless the database has told it.
    fn failure(&self) -> Option<Failure> {
        let (code, text) = match self {
            Self::Client | Self::Server(Some(_)) => return None,
            Self::Server(None) => {
                (sqlstate::CONNECTION_FAILURE, "the database closed the connection".to_owned())
            }
            Self::Ended(reason) => (sqlstate::ADMIN_SHUTDOWN, format!("session ended: {reason}")),
            Self::Audit(_) => {
                (sqlstate::IO_ERROR, "session ended: the audit log cannot be written".into())
            }
            Self::Recording(_) => (
                sqlstate::IO_ERROR,
                "session ended: it must be recorded, which is not possible any more".into(),
            ),
            Self::Broken(Broken::ReadOnlyLifted) => (
                sqlstate::INSUFFICIENT_PRIVILEGE,
                "session ended: it may only read, and that was lifted".into(),
            ),
            Self::Broken(Broken::Client(err)) => (sqlstate::PROTOCOL_VIOLATION, err.to_string()),
            Self::Broken(other) => {
                (sqlstate::CONNECTION_FAILURE, format!("session ended: {other}"))
            }
        };
        Some(Failure::fatal(code, text))
    }
}

/// A session between a client and a database. Dropping it ends it too, and leaves its events.
pub(super) struct Session {
    pub(super) client: Side,
    pub(super) server: Side,
    pub(super) machine: Machine,
    /// From the client.
    pub(super) up: Way,
    /// To the client.
    pub(super) down: Way,
    /// To be accepted before anything more goes to the client.
    pub(super) notes: Vec<Note>,
    /// What had gone to the client before the notes ended with a whole message.
    pub(super) whole: bool,
    /// The database was asked to answer, because the next statement waits for it.
    pub(super) hurried: bool,
    pub(super) journal: Journal,
    pub(super) judge: Judge,
    pub(super) tape: Tape,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ended: BoxFuture<'static, EndReason>,
    /// Rings when that is to be polled.
    pub(super) end_bell: Bell,
    pub(super) timer: Timer,
    pub(super) cancellable: Registered,
    pub(super) stop: StopLine,
    pub(super) started: Timestamp,
    /// What it leaves to be done when it is dropped.
    pub(super) left: TaskTracker,
    /// Its end is written.
    pub(super) over: bool,
}

impl Session {
    /// Runs to its end.
    pub(super) async fn run(mut self: Box<Self>) {
        let cause = self.relay().await;
        tracing::debug!(?cause, sid = self.journal.session.sid.as_str(), "a database session ends");
        if !matches!(cause, Cause::Client | Cause::Server(_)) && self.machine.is_busy() {
            self.left.spawn(stop(self.stop.clone()));
        }
        if let Cause::Broken(broken @ (Broken::Client(_) | Broken::Server(_))) = &cause {
            let (session, db) = (self.journal.session.clone(), self.journal.db.clone());
            let error = Text::of(broken);
            self.journal.note(DbSessionMalformedPacket { session, db, error, payload: None }).await;
        }
        self.machine.tell(&mut self.notes);
        let told = self.accept_notes().await;
        let untold = told.is_err() || matches!(cause, Cause::Audit(_) | Cause::Recording(_));
        let boundary = if untold {
            // What was not accepted is not shown.
            self.down.out.pieces.clear();
            self.whole
        } else {
            if matches!(cause, Cause::Ended(_)) && !self.machine.at_boundary() {
                drop(tokio::time::timeout(COMPLETION, self.complete_message()).await);
            }
            self.machine.at_boundary()
        };
        let cause = match (cause, told) {
            (Cause::Client | Cause::Server(_), Err(cause)) => cause,
            (cause, _) => cause,
        };
        let last = cause.failure().map(|failure| encode::error_response(&failure));
        let last = last.filter(|_| boundary);
        let _ = tokio::time::timeout(FAREWELL, self.say_farewell(last)).await;
        let _ = tokio::time::timeout(FAREWELL, self.server.stream.shutdown()).await;
        let reason = cause.reason();
        let kept = self.tape.finish(reason.as_str()).await;
        let event = self.end_event(reason, kept);
        self.over = true;
        self.journal.note(event).await;
    }

    fn end_event(&self, reason: Text<256>, kept: &'static str) -> DbSessionEnd {
        DbSessionEnd {
            session: self.journal.session.clone(),
            db: self.journal.db.clone(),
            session_start: Some(self.started),
            session_stop: Some(self.clock.now()),
            reason: Some(reason),
            statements: Some(self.machine.statements()),
            tx: self.down.bytes,
            rx: self.up.bytes,
            session_recording: Some(kept.into()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.machine.tell(&mut self.notes);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            if self.machine.is_busy() {
                self.left.spawn_on(stop(self.stop.clone()), &runtime);
            }
            let notes = std::mem::take(&mut self.notes);
            let event = self.end_event("agent stopped".into(), self.tape.kept());
            let journal = self.journal.clone();
            let tell = async move {
                if let Err(err) = journal.accept(notes).await {
                    tracing::warn!(%err, "the last statements of a session could not be recorded");
                }
                journal.note(event).await;
            };
            self.left.spawn_on(tell, &runtime);
        }
    }
}
