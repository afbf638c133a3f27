//! The recording of a session, under the rule that the user's roles make.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use access_core::Clock;
use access_core::recording::{
    Recorder, RecordingEnd, RecordingError, RecordingMeta, RecordingSession, TerminalSize,
};
use access_core::role::RecordMode;
use tokio::sync::{Mutex, Notify};

/// How much of the output of a command without a terminal is recorded, unless all must be.
const COMMAND_OUTPUT: u64 = 1024 * 1024;

const CUT_SHORT: &[u8] = b"\r\n[the rest of the output is not recorded]\r\n";

/// A recording, or none. Under [`RecordMode::Strict`] its methods fail when it does; otherwise it
/// falls silent and the session goes on.
pub(crate) struct Tape {
    clock: Arc<dyn Clock>,
    mode: RecordMode,
    /// How much output is still recorded.
    room: AtomicU64,
    state: Mutex<State>,
    /// Something was recorded that has to be written away.
    waits: Notify,
}

enum State {
    Running(Box<dyn RecordingSession>),
    /// There is none.
    Off,
    /// There was one, until it failed.
    Failed,
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
        Self {
            clock,
            mode: RecordMode::Off,
            room: AtomicU64::new(0),
            state: Mutex::new(State::Off),
            waits: Notify::new(),
        }
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
        let started = match recorder {
            Some(recorder) => recorder.start(meta).await,
            None => Err(RecordingError::Storage("nothing here records".into())),
        };
        let state = match started {
            Ok(session) => State::Running(session),
            Err(err) if mode == RecordMode::Strict => return Err(err),
            Err(err) => {
                tracing::warn!(%err, "a session goes on without its recording");
                State::Failed
            }
        };
        // What a terminal shows is what somebody read. What a command writes without one may be
        // gigabytes for another program.
        let bounded = mode == RecordMode::BestEffort && is_command;
        let room = AtomicU64::new(if bounded { COMMAND_OUTPUT } else { u64::MAX });
        Ok(Self { clock, mode, room, state: Mutex::new(state), waits: Notify::new() })
    }

    /// Whether it is being made.
    pub(crate) async fn runs(&self) -> bool {
        matches!(*self.state.lock().await, State::Running(_))
    }

    /// Records output; it may be shown when this returns.
    pub(crate) async fn output(&self, data: &[u8]) -> Result<(), RecordingError> {
        let room = self.room.load(Ordering::Relaxed);
        if room == 0 {
            return Ok(());
        }
        let len = data.len() as u64;
        self.room.store(room.saturating_sub(len), Ordering::Relaxed);
        let now = self.clock.now();
        let mut state = self.state.lock().await;
        let State::Running(session) = &mut *state else { return Ok(()) };
        let mut done = session.output(now, data);
        if done.is_ok() && room <= len {
            done = session.output(now, CUT_SHORT);
        }
        if done.is_ok() && session.due(now) {
            done = session.flush().await;
        }
        self.judge(&mut state, done)
    }

    /// Records input, where nothing echoes it.
    pub(crate) async fn input(&self, data: &[u8]) -> Result<(), RecordingError> {
        let mut state = self.state.lock().await;
        let State::Running(session) = &mut *state else { return Ok(()) };
        let done = session.input(self.clock.now(), data);
        self.judge(&mut state, done)
    }

    pub(crate) async fn resize(&self, size: TerminalSize) -> Result<(), RecordingError> {
        let mut state = self.state.lock().await;
        let State::Running(session) = &mut *state else { return Ok(()) };
        let done = session.resize(self.clock.now(), size);
        self.judge(&mut state, done)
    }

    /// Writes away what waits when its time has come; returns only when that fails and matters.
    pub(crate) async fn keep_flushed(&self) -> RecordingError {
        loop {
            let deadline = match &*self.state.lock().await {
                State::Running(session) => session.deadline(),
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
            let State::Running(session) = &mut *state else { continue };
            if session.due(self.clock.now()) {
                let done = session.flush().await;
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
            State::Running(session) => match session.finish(end).await {
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
