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

/// One note as `psql` would show it. Lines end as on a terminal. It is made for each statement, so
/// that most of it is put together without the machinery of formats.
fn write_note(out: &mut String, prompt: &str, note: &Note) {
    match &note.what {
        Some(What::Query { text }) => write_line(out, &[prompt, &lines(text.as_str())]),
        Some(What::Parse { name, text }) => {
            out.extend([prompt, "\\parse "]);
            write_quoted(out, name.as_str());
            write_line(out, &[" ", &lines(text.as_str())]);
        }
        Some(What::Bind { portal, statement, parameters }) => {
            write_bind(out, prompt, portal.as_str(), statement.as_str(), parameters);
        }
        Some(What::Execute { portal, max_rows, bound }) => {
            if let Some(Bound { statement, parameters }) = bound {
                write_bind(out, prompt, portal.as_str(), statement.as_str(), parameters);
            }
            out.extend([prompt, "\\execute "]);
            write_quoted(out, portal.as_str());
            match max_rows {
                0 => out.push_str("\r\n"),
                rows => write_line(out, &[" limit ", &rows.to_string()]),
            }
        }
        Some(What::Close { name, .. }) => {
            out.extend([prompt, "\\close "]);
            write_quoted(out, name.as_str());
            out.push_str("\r\n");
        }
        Some(What::Call { function, .. }) => {
            write_line(out, &[prompt, "\\call ", &function.to_string()]);
        }
        None => out.extend(["[of ", &note.number.to_string(), "] "]),
    }
    if let Some(outcome) = &note.outcome {
        write_outcome(out, outcome);
    }
}

fn write_line(out: &mut String, parts: &[&str]) {
    out.extend(parts.iter().copied());
    out.push_str("\r\n");
}

fn write_bind(
    out: &mut String,
    prompt: &str,
    portal: &str,
    statement: &str,
    parameters: &Parameters,
) {
    out.extend([prompt, "\\bind "]);
    write_quoted(out, portal);
    out.push(' ');
    write_quoted(out, statement);
    out.push_str(" (");
    for (at, value) in parameters.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        match value {
            None => out.push_str("NULL"),
            Some(value) => write_quoted(out, value),
        }
    }
    out.push_str(")\r\n");
}

fn write_outcome(out: &mut String, outcome: &Outcome) {
    let Outcome { rows, tag, error, columns, skipped, .. } = outcome;
    for columns in columns {
        write_line(out, &[" ", &lines(&columns.join(" | "))]);
    }
    if let Some(error) = error {
        let parts = [&error.severity, ":  ", &error.code, ": ", &lines(&error.message)];
        write_line(out, &parts);
    }
    if *skipped {
        out.push_str("(not run)\r\n");
    } else if !tag.is_empty() {
        write_line(out, &[&lines(tag)]);
    } else if let Some(rows) = rows {
        write_line(out, &["(", &rows.to_string(), " rows)"]);
    }
}

/// A text in quotes, with escapes for what would not show.
fn write_quoted(out: &mut String, text: &str) {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\');
    if text.bytes().all(plain) {
        out.extend(["\"", text, "\""]);
    } else {
        // Writing into a String can't fail.
        let _ = write!(out, "{text:?}");
    }
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
