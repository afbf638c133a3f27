//! The recording of a session, under the rule that the user's roles make.

use std::sync::Arc;

use access_core::recording::{
    Recorder, RecordingEnd, RecordingError, RecordingMeta, RecordingSession, TerminalSize,
};
use access_core::role::RecordMode;
use access_core::{Clock, Timestamp};
use tokio::sync::{Mutex, Notify};

use super::budget::{Budget, Share};

/// A recording, or none. Under [`RecordMode::Strict`] its methods fail when it does; otherwise it
/// falls silent and the session goes on.
pub(crate) struct Tape {
    clock: Arc<dyn Clock>,
    mode: RecordMode,
    state: Mutex<State>,
    /// Something was recorded that has to be written away.
    waits: Notify,
}

enum State {
    Running(Running),
    /// There is none.
    Off,
    /// There was one, until it failed.
    Failed,
}

struct Running {
    session: Box<dyn RecordingSession>,
    /// Bounds, unless all is recorded.
    budgets: Option<Budgets>,
}

/// A flood in one direction takes no room from the other.
struct Budgets {
    input: Budget,
    output: Budget,
}

#[derive(Clone, Copy)]
enum Direction {
    Input,
    Output,
}

impl Running {
    fn record(
        &mut self,
        direction: Direction,
        now: Timestamp,
        data: &[u8],
    ) -> Result<(), RecordingError> {
        let Share { gap, kept } = match (&mut self.budgets, direction) {
            (None, _) => Share { gap: None, kept: data.len() },
            (Some(budgets), Direction::Input) => budgets.input.share(now, data.len()),
            (Some(budgets), Direction::Output) => budgets.output.share(now, data.len()),
        };
        self.note(direction, now, gap)?;
        match data.get(..kept) {
            None | Some([]) => Ok(()),
            Some(data) => self.write(direction, now, data),
        }
    }

    /// Notes in its place what is missing.
    fn note(
        &mut self,
        direction: Direction,
        now: Timestamp,
        gap: Option<u64>,
    ) -> Result<(), RecordingError> {
        let Some(gap) = gap else { return Ok(()) };
        let note = format!("\r\n[{gap} bytes are not recorded here]\r\n");
        self.write(direction, now, note.as_bytes())
    }

    fn write(
        &mut self,
        direction: Direction,
        now: Timestamp,
        data: &[u8],
    ) -> Result<(), RecordingError> {
        match direction {
            Direction::Input => self.session.input(now, data),
            Direction::Output => self.session.output(now, data),
        }
    }

    async fn finish(mut self, end: RecordingEnd) -> Result<(), RecordingError> {
        if let Some(Budgets { input, output }) = &mut self.budgets {
            let (input, output) = (input.gap(), output.gap());
            self.note(Direction::Input, end.at, input)?;
            self.note(Direction::Output, end.at, output)?;
        }
        self.session.finish(end).await
    }
}

/// What became of a recording, for `session.end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Whole,
    Part,
    Nothing,
}

impl Kept {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "node",
            Self::Part => "node (incomplete)",
            Self::Nothing => "off",
        }
    }
}

impl Tape {
    /// No recording.
    pub(crate) fn off(clock: Arc<dyn Clock>) -> Self {
        Self { clock, mode: RecordMode::Off, state: Mutex::new(State::Off), waits: Notify::new() }
    }

    /// Starts a recording.
    ///
    /// # Errors
    /// When it cannot be and must.
    pub(crate) async fn start(
        recorder: Option<&Arc<dyn Recorder>>,
        clock: Arc<dyn Clock>,
        mode: RecordMode,
        meta: RecordingMeta,
    ) -> Result<Self, RecordingError> {
        if mode == RecordMode::Off {
            return Ok(Self::off(clock));
        }
        let is_command = meta.command.is_some() && meta.size.is_none();
        let now = meta.started;
        let started = match recorder {
            Some(recorder) => recorder.start(meta).await,
            None => Err(RecordingError::Storage("nothing here records".into())),
        };
        let state = match started {
            Ok(session) => {
                // What a terminal shows is what somebody read. What a command reads and writes
                // without one may be gigabytes for another program.
                let bounded = mode == RecordMode::BestEffort && is_command;
                let budgets =
                    bounded.then(|| Budgets { input: Budget::new(now), output: Budget::new(now) });
                State::Running(Running { session, budgets })
            }
            Err(err) if mode == RecordMode::Strict => return Err(err),
            Err(err) => {
                tracing::warn!(%err, "a session goes on without its recording");
                State::Failed
            }
        };
        Ok(Self { clock, mode, state: Mutex::new(state), waits: Notify::new() })
    }

    /// Whether it is being made.
    pub(crate) async fn runs(&self) -> bool {
        matches!(*self.state.lock().await, State::Running(_))
    }

    /// Records output; it may be shown when this returns.
    pub(crate) async fn output(&self, data: &[u8]) -> Result<(), RecordingError> {
        self.record(Direction::Output, data).await
    }

    /// Records input, where nothing echoes it; it may be handed on when this returns.
    pub(crate) async fn input(&self, data: &[u8]) -> Result<(), RecordingError> {
        self.record(Direction::Input, data).await
    }

    async fn record(&self, direction: Direction, data: &[u8]) -> Result<(), RecordingError> {
        if self.mode == RecordMode::Off {
            return Ok(());
        }
        let now = self.clock.now();
        let mut state = self.state.lock().await;
        let State::Running(running) = &mut *state else { return Ok(()) };
        let mut done = running.record(direction, now, data);
        if done.is_ok() && running.session.due(now) {
            done = running.session.flush().await;
        }
        self.judge(&mut state, done)
    }

    pub(crate) async fn resize(&self, size: TerminalSize) -> Result<(), RecordingError> {
        let mut state = self.state.lock().await;
        let State::Running(running) = &mut *state else { return Ok(()) };
        let done = running.session.resize(self.clock.now(), size);
        self.judge(&mut state, done)
    }

    /// Writes away what waits when its time has come; returns only when that fails and matters.
    pub(crate) async fn keep_flushed(&self) -> RecordingError {
        loop {
            let deadline = match &*self.state.lock().await {
                State::Running(running) => running.session.deadline(),
                State::Off | State::Failed => break,
            };
            match deadline {
                Some(deadline) => self.clock.sleep_until(deadline).await,
                None => {
                    self.waits.notified().await;
                    continue;
                }
            }
            let mut state = self.state.lock().await;
            let State::Running(running) = &mut *state else { continue };
            if running.session.due(self.clock.now()) {
                let done = running.session.flush().await;
                if let Err(err) = self.judge(&mut state, done) {
                    return err;
                }
            }
        }
        std::future::pending().await
    }

    /// Ends it and says what there is of it.
    pub(crate) async fn finish(&self, end: RecordingEnd) -> Kept {
        match std::mem::replace(&mut *self.state.lock().await, State::Off) {
            State::Off => Kept::Nothing,
            State::Failed => Kept::Part,
            State::Running(running) => match running.finish(end).await {
                Ok(()) => Kept::Whole,
                Err(err) => {
                    tracing::warn!(%err, "a recording could not be ended");
                    Kept::Part
                }
            },
        }
    }

    fn judge(
        &self,
        state: &mut State,
        done: Result<(), RecordingError>,
    ) -> Result<(), RecordingError> {
        let Err(err) = done else {
            self.waits.notify_one();
            return Ok(());
        };
        *state = State::Failed;
        if self.mode == RecordMode::Strict {
            return Err(err);
        }
        tracing::warn!(%err, "a session goes on without its recording");
        Ok(())
    }
}
