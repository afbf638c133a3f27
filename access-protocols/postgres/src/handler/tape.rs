//! The recording of a session, as a transcript: what was sent, and the shape of what came back.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use access_core::audit::Parameters;
use access_core::recording::{
    Recorder, RecordingEnd, RecordingError, RecordingMeta, RecordingSession,
};
use access_core::role::RecordMode;
use access_core::{Clock, Timestamp};

use crate::machine::{Bound, Note, Outcome, What};

/// A recording, or none. Under [`RecordMode::Strict`] its methods fail when it does; otherwise it
/// falls silent and the session goes on.
pub(super) struct Tape {
    clock: Arc<dyn Clock>,
    strict: bool,
    state: State,
    /// What the client's prompt would be.
    prompt: String,
}

enum State {
    Off,
    Running(Box<dyn RecordingSession>),
    Failed,
}

impl Tape {
    /// Starts a recording, if there is to be one.
    ///
    /// # Errors
    /// When it cannot be made and must.
    pub(super) async fn start(
        recorder: Option<&Arc<dyn Recorder>>,
        clock: Arc<dyn Clock>,
        mode: RecordMode,
        meta: RecordingMeta,
        prompt: String,
    ) -> Result<Self, RecordingError> {
        let strict = mode == RecordMode::Strict;
        let started = match (mode, recorder) {
            (RecordMode::Off, _) => None,
            (_, Some(recorder)) => Some(recorder.start(meta).await),
            (_, None) => Some(Err(RecordingError::Storage("nothing here records".into()))),
        };
        let state = match started {
            None => State::Off,
            Some(Ok(session)) => State::Running(session),
            Some(Err(err)) if strict => return Err(err),
            Some(Err(err)) => {
                tracing::warn!(%err, "a session goes on without its recording");
                State::Failed
            }
        };
        Ok(Self { clock, strict, state, prompt })
    }

    pub(super) const fn runs(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// What there is of it, in the words of the events.
    pub(super) const fn kept(&self) -> &'static str {
        match self.state {
            State::Off => "off",
            State::Running(_) => "node",
            State::Failed => "node (incomplete)",
        }
    }

    /// Records notes; what they tell may pass when this returns.
    pub(super) async fn record(&mut self, notes: &[Note]) -> Result<(), RecordingError> {
        let State::Running(session) = &mut self.state else { return Ok(()) };
        let now = self.clock.now();
        let mut text = String::new();
        for note in notes {
            write_note(&mut text, &self.prompt, note);
        }
        let mut done = if text.is_empty() { Ok(()) } else { session.output(now, text.as_bytes()) };
        if done.is_ok() && session.due(now) {
            done = session.flush().await;
        }
        self.judge(done)
    }

    /// When [`Tape::flush`] should be called.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match &self.state {
            State::Running(session) => session.deadline(),
            State::Off | State::Failed => None,
        }
    }

    /// Writes away what waits, if its time has come.
    pub(super) async fn flush(&mut self) -> Result<(), RecordingError> {
        let State::Running(session) = &mut self.state else { return Ok(()) };
        if !session.due(self.clock.now()) {
            return Ok(());
        }
        let done = session.flush().await;
        self.judge(done)
    }

    /// Ends it and says what there is of it.
    pub(super) async fn finish(&mut self, reason: &str) -> &'static str {
        let kept = self.kept();
        let State::Running(session) = std::mem::replace(&mut self.state, State::Off) else {
            return kept;
        };
        match session.finish(RecordingEnd::new(self.clock.now(), reason)).await {
            Ok(()) => kept,
            Err(err) => {
                tracing::warn!(%err, "a recording could not be ended");
                "node (incomplete)"
            }
        }
    }

    fn judge(&mut self, done: Result<(), RecordingError>) -> Result<(), RecordingError> {
        let Err(err) = done else { return Ok(()) };
        self.state = State::Failed;
        if self.strict {
            return Err(err);
        }
        tracing::warn!(%err, "a session goes on without its recording");
        Ok(())
    }
}

/// One note as `psql` would show it. Lines end as on a terminal.
fn write_note(out: &mut String, prompt: &str, note: &Note) {
    let number = note.number;
    // Writing into a String can't fail.
    let _ = match &note.what {
        Some(What::Query { text }) => write!(out, "{prompt}{}\r\n", lines(text.as_str())),
        Some(What::Parse { name, text }) => {
            write!(out, "{prompt}\\parse {} {}\r\n", quoted(name.as_str()), lines(text.as_str()))
        }
        Some(What::Bind { portal, statement, parameters }) => {
            write_bind(out, prompt, portal.as_str(), statement.as_str(), parameters)
        }
        Some(What::Execute { portal, max_rows, bound }) => {
            if let Some(Bound { statement, parameters }) = bound {
                let _ = write_bind(out, prompt, portal.as_str(), statement.as_str(), parameters);
            }
            match max_rows {
                0 => write!(out, "{prompt}\\execute {:?}\r\n", portal.as_str()),
                rows => write!(out, "{prompt}\\execute {:?} limit {rows}\r\n", portal.as_str()),
            }
        }
        Some(What::Close { name, .. }) => {
            write!(out, "{prompt}\\close {}\r\n", quoted(name.as_str()))
        }
        Some(What::Call { function, .. }) => write!(out, "{prompt}\\call {function}\r\n"),
        None => write!(out, "[of {number}] "),
    };
    if let Some(outcome) = &note.outcome {
        write_outcome(out, outcome);
    }
}

fn write_bind(
    out: &mut String,
    prompt: &str,
    portal: &str,
    statement: &str,
    parameters: &Parameters,
) -> std::fmt::Result {
    write!(out, "{prompt}\\bind {portal:?} {statement:?} (")?;
    for (at, value) in parameters.iter().enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        match value {
            None => write!(out, "{comma}NULL")?,
            Some(value) => write!(out, "{comma}{value:?}")?,
        }
    }
    out.write_str(")\r\n")
}

fn write_outcome(out: &mut String, outcome: &Outcome) {
    let Outcome { rows, tag, error, columns, skipped, .. } = outcome;
    for columns in columns {
        let _ = write!(out, " {}\r\n", lines(&columns.join(" | ")));
    }
    if let Some(error) = error {
        let _ = write!(out, "{}:  {}: {}\r\n", error.severity, error.code, lines(&error.message));
    }
    if *skipped {
        out.push_str("(not run)\r\n");
    } else if !tag.is_empty() {
        let _ = write!(out, "{}\r\n", lines(tag));
    } else if let Some(rows) = rows {
        let _ = write!(out, "({rows} rows)\r\n");
    }
}

fn quoted(name: &str) -> String {
    format!("{name:?}")
}

/// A text for a terminal: no control characters but line ends, which return.
fn lines(text: &str) -> Cow<'_, str> {
    // The control characters that have more than one byte begin with this one.
    if !text.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == 0xc2) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\r\n"),
            '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}
