//! How a session ends: in words for the user, in events, and even when its task breaks off.

use std::sync::Arc;

use access_core::audit::events::{Exec, ExecCode, SessionContext, SessionEnd};
use access_core::audit::{List, Text};
use access_core::reach::ExitStatus;
use access_core::{Clock, Timestamp};

use super::events::Journal;
use super::relay::Outcome;
use super::tape::Kept;
use crate::pipe::Counters;

/// Writes `session.end` even when the session's task does not come to its end.
pub(super) struct EndGuard {
    journal: Journal,
    interactive: bool,
    started: Timestamp,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
    armed: bool,
}

impl EndGuard {
    pub(super) fn new(
        journal: Journal,
        interactive: bool,
        started: Timestamp,
        counters: Arc<Counters>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { journal, interactive, started, counters, clock, armed: true }
    }

    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }

    pub(super) fn event(
        &self,
        now: Timestamp,
        reason: &str,
        kept: Kept,
        outcome: &Outcome,
    ) -> SessionEnd {
        let exit_signal = match outcome {
            Outcome::Exited(ExitStatus::Signal { name, .. }) => Some(name.as_str().into()),
            _ => None,
        };
        let session = self.journal.context().clone();
        SessionEnd {
            participants: List::from_iter([session.user.as_str()]),
            session,
            interactive: self.interactive,
            session_start: self.started,
            session_stop: now,
            reason: reason.into(),
            exit_code: exit_code(outcome),
            exit_signal,
            tx: self.counters.tx(),
            rx: self.counters.rx(),
            session_recording: Some(kept.as_str().into()),
        }
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let outcome = Outcome::Broken("the session broke off".into());
            let event = self.event(self.clock.now(), "broke off", Kept::Part, &outcome);
            let journal = self.journal.clone();
            runtime.spawn(async move { journal.note(|_| event).await });
        }
    }
}

/// Why a session ended, in the words of `session.end`.
pub(super) fn reason(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Exited(_) => "exit",
        Outcome::Client => "client",
        Outcome::Connection(ended) => ended.reason,
        Outcome::Recording(_) => "recording failed",
        Outcome::Audit(_) => "audit log failed",
        Outcome::Broken(_) => "failed",
    }
}

/// What the user is told at the end, if it is not the program that ended.
pub(super) fn farewell(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Exited(_) | Outcome::Client => None,
        Outcome::Connection(ended) if ended.text.is_empty() => None,
        Outcome::Connection(ended) => Some(format!("session ended: {}", ended.text)),
        Outcome::Recording(_) => {
            Some("session ended: it must be recorded, which is not possible any more".into())
        }
        Outcome::Audit(_) => Some("session ended: the audit log cannot be written".into()),
        Outcome::Broken(why) => Some(why.clone()),
    }
}

pub(super) fn exit_code(outcome: &Outcome) -> Option<u32> {
    match outcome {
        Outcome::Exited(ExitStatus::Code(code)) => Some(*code),
        _ => None,
    }
}

pub(super) fn exec(session: SessionContext, command: &[u8], outcome: &Outcome) -> Exec {
    let (code, exit_error) = match outcome {
        Outcome::Exited(ExitStatus::Code(0)) => (ExecCode::Executed, None),
        Outcome::Exited(ExitStatus::Code(_)) => (ExecCode::Failed, None),
        Outcome::Exited(ExitStatus::Signal { name, .. }) => {
            (ExecCode::Failed, Some(Text::of(format_args!("signal {name}"))))
        }
        Outcome::Broken(why) => (ExecCode::Failed, Some(why.as_str().into())),
        other => (ExecCode::Failed, Some(reason(other).into())),
    };
    Exec { code, session, command: Text::lossy(command), exit_code: exit_code(outcome), exit_error }
}
