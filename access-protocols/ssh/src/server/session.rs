//! One session: a shell, a command or SFTP in a channel, from its permission to its last event.

use std::sync::Arc;

use access_core::audit::events::{
    ClientDisconnect, Exec, ExecCode, SessionContext, SessionEnd, SessionRejected, SessionStart,
};
use access_core::audit::{Durability, List, Text};
use access_core::gate::Denied;
use access_core::policy::Action;
use access_core::reach::{ExitStatus, Process, ProcessRequest, Program, Pty};
use access_core::recording::{RecordingEnd, RecordingKind, RecordingMeta, TerminalSize};
use access_core::{Permit, Timestamp};
use russh::server::Handle;

use super::Parts;
use super::copying::is_copy;
use super::events::{Journal, command_list};
use super::exit::{close, tell};
use super::handler::Guest;
use super::relay::{Outcome, Relay};
use super::sftp::{SftpJournal, command_disallowed, disallowed, subsystem};
use super::tape::{Kept, Tape};
use crate::channel::{Ends, Pending, Writer};
use crate::connection::Connection;
use crate::pipe::Counters;

/// What a session is started with.
pub(super) struct Start {
    pub(super) parts: Arc<Parts>,
    pub(super) connection: Arc<Connection>,
    pub(super) handle: Handle,
    pub(super) guest: Arc<Guest>,
    pub(super) pending: Pending,
    pub(super) program: Program,
}

/// Runs a session to its end.
pub(super) async fn run(start: Start) {
    let Start { parts, connection, handle, guest, pending, program } = start;
    let Pending { writer, ends, pty, environment } = pending;
    let session = Session {
        journal: guest.journal.of_new_session(),
        started: parts.checker.clock.now(),
        counters: Arc::new(Counters::default()),
        parts,
        connection,
        guest,
        program,
        pty,
    };
    let status = match session.prepare().await {
        Ok((permit, tape)) => session.serve(&writer, ends, environment, &permit, &tape).await,
        Err(text) => {
            tell(&writer, session.pty.is_some(), &text).await;
            None
        }
    };
    close(&writer, &handle, status.as_ref()).await;
}

struct Session {
    parts: Arc<Parts>,
    connection: Arc<Connection>,
    guest: Arc<Guest>,
    journal: Journal,
    started: Timestamp,
    counters: Arc<Counters>,
    program: Program,
    pty: Option<Pty>,
}

impl Session {
    /// Permission, recording, and the event that says that it starts. The error is for the user.
    async fn prepare(&self) -> Result<(Permit, Tape), String> {
        let permit = match self.permit().await {
            Ok(permit) => permit,
            Err(denied) => {
                let why = denied.to_string();
                match &self.program {
                    Program::Command(command) => {
                        self.journal
                            .note(|session| command_disallowed(session, command, &why))
                            .await;
                    }
                    _ => self.journal.note(|session| disallowed(session, &why)).await,
                }
                return Err(format!("access denied: {}", denied.public()));
            }
        };
        let tape = match self.tape().await {
            Ok(tape) => tape,
            Err(err) => {
                tracing::warn!(%err, "a session that must be recorded does not start");
                let reason = Text::of(format_args!("it must be recorded and cannot be: {err}"));
                self.journal.note(|session| SessionRejected { session, reason, max: None }).await;
                return Err("this session must be recorded, which is not possible now: \
                            ask an administrator"
                    .into());
            }
        };
        let start = SessionStart {
            session: self.journal.context().clone(),
            interactive: self.pty.is_some(),
            size: self.pty.as_ref().map(|pty| {
                Text::of(format_args!("{}:{}", pty.size.columns, pty.size.rows))
            }),
            initial_command: self.initial_command(),
            session_recording: Some(if tape.runs().await { "node" } else { "off" }.into()),
        };
        // The permit is on the disk already; this has to be in the spool before anything runs.
        match self.journal.write(start, Durability::Soon).await {
            Ok(()) => Ok((permit, tape)),
            Err(err) => {
                tracing::warn!(%err, "a session does not start");
                Err("the session cannot start: the audit log cannot be written".into())
            }
        }
    }

    /// The session's own permit, or that for copying files.
    async fn permit(&self) -> Result<Permit, Denied> {
        let login = self.guest.login.clone();
        match &self.program {
            Program::Shell => {}
            Program::Sftp => return self.ask(Action::SshSftp { login }).await,
            Program::Command(command) => {
                if is_copy(command) {
                    self.ask(Action::SshSftp { login }).await?;
                }
            }
        }
        Ok(self.guest.permit.clone())
    }

    async fn ask(&self, action: Action) -> Result<Permit, Denied> {
        self.parts.gate.authorize_within(&self.guest.permit, action).await
    }

    fn initial_command(&self) -> List {
        match &self.program {
            Program::Shell => List::default(),
            Program::Command(command) => command_list(command),
            Program::Sftp => command_list(b"sftp"),
        }
    }

    /// Terminals and shells are recorded whole; commands without a terminal too when they must be,
    /// and otherwise as far as somebody would read. SFTP leaves events instead.
    async fn tape(&self) -> Result<Tape, access_core::recording::RecordingError> {
        let clock = Arc::clone(&self.parts.checker.clock);
        if self.program == Program::Sftp {
            return Ok(Tape::off(clock));
        }
        let context = self.journal.context();
        let target = self.guest.permit.target().to_string();
        let mut meta = RecordingMeta::new(
            context.sid.clone(),
            RecordingKind::Ssh,
            context.user.clone(),
            target,
            self.started,
        );
        meta.login.clone_from(&context.login);
        meta.cluster_name = Some((self.parts.checker.trust)().cluster().clone());
        meta.server_id = Some(context.server_id.clone());
        if let Some(pty) = &self.pty {
            meta.size = Some(TerminalSize::new(pty.size.columns.into(), pty.size.rows.into()));
            meta.term = Some(pty.term.as_str().into());
        }
        if let Program::Command(command) = &self.program {
            meta.command = Some(Text::lossy(command));
        }
        let mode = self.guest.permit.grant().limits.record;
        Tape::start(self.parts.recorder.as_ref(), clock, mode, meta).await
    }

    /// Starts the program, relays, and writes down how it ended. The status is for the client.
    async fn serve(
        &self,
        writer: &Writer,
        ends: Ends,
        environment: Vec<(String, String)>,
        permit: &Permit,
        tape: &Tape,
    ) -> Option<ExitStatus> {
        let request = ProcessRequest {
            program: self.program.clone(),
            pty: self.pty.clone(),
            environment,
        };
        let mut guard = EndGuard::new(self);
        let spawned = tokio::select! {
            spawned = self.parts.reach.spawn(permit, request) => spawned,
            ended = self.connection.over() => {
                self.end(&mut guard, tape, &Outcome::Connection(ended)).await;
                return None;
            }
        };
        let outcome = match spawned {
            Ok(process) => self.relay(writer, ends, permit, tape, process).await,
            Err(err) => Outcome::Broken(err.to_string()),
        };
        match &outcome {
            Outcome::Recording(err) => tracing::warn!(%err, "a session ends with its recording"),
            Outcome::Audit(err) => tracing::warn!(%err, "a session ends with its audit log"),
            _ => {}
        }
        if let Some(text) = farewell(&outcome) {
            tell(writer, self.pty.is_some(), &text).await;
        }
        self.end(&mut guard, tape, &outcome).await;
        match outcome {
            Outcome::Exited(status) => Some(status),
            _ => None,
        }
    }

    async fn relay(
        &self,
        writer: &Writer,
        ends: Ends,
        permit: &Permit,
        tape: &Tape,
        process: Process,
    ) -> Outcome {
        let sftp = (self.program == Program::Sftp)
            .then(|| SftpJournal::new(self.journal.clone()));
        if sftp.is_some() {
            let requested = subsystem(self.journal.context().clone(), None);
            if let Err(err) = self.journal.write(requested, Durability::Soon).await {
                return Outcome::Audit(err);
            }
        }
        let relay = Relay {
            connection: &self.connection,
            writer,
            ends,
            tape,
            record_input: self.program == Program::Shell && self.pty.is_none(),
            sftp: sftp.as_ref(),
            counters: &self.counters,
            permits: [&self.guest.permit, permit],
            has_terminal: self.pty.is_some(),
        };
        let outcome = relay.run(process).await;
        if let Some(sftp) = sftp {
            sftp.finish().await;
        }
        outcome
    }

    /// Everything that is written when a session is over.
    async fn end(&self, guard: &mut EndGuard, tape: &Tape, outcome: &Outcome) {
        let now = self.parts.checker.clock.now();
        let reason = reason(outcome);
        let mut end = RecordingEnd::new(now, reason);
        end.exit_code = exit_code(outcome);
        let kept = tape.finish(end).await;
        match &self.program {
            Program::Command(command) => {
                self.journal.note(|session| exec(session, command, outcome)).await;
            }
            Program::Sftp => {
                if let Outcome::Broken(why) = outcome {
                    self.journal.note(|session| subsystem(session, Some(why.clone()))).await;
                }
            }
            Program::Shell => {}
        }
        if let Outcome::Connection(ended) = outcome
            && !ended.text.is_empty()
        {
            let reason = ended.text.as_str().into();
            self.journal.note(|session| ClientDisconnect { session, reason }).await;
        }
        guard.disarm();
        let event = guard.event(now, reason, kept, outcome);
        self.journal.note(|_| event).await;
    }
}

/// Writes `session.end` even when the session's task does not come to its end.
struct EndGuard {
    journal: Journal,
    interactive: bool,
    started: Timestamp,
    counters: Arc<Counters>,
    clock: Arc<dyn access_core::Clock>,
    armed: bool,
}

impl EndGuard {
    fn new(session: &Session) -> Self {
        Self {
            journal: session.journal.clone(),
            interactive: session.pty.is_some(),
            started: session.started,
            counters: Arc::clone(&session.counters),
            clock: Arc::clone(&session.parts.checker.clock),
            armed: true,
        }
    }

    fn disarm(&mut self) {
        self.armed = false;
    }

    fn event(
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
fn reason(outcome: &Outcome) -> &'static str {
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
fn farewell(outcome: &Outcome) -> Option<String> {
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

fn exit_code(outcome: &Outcome) -> Option<u32> {
    match outcome {
        Outcome::Exited(ExitStatus::Code(code)) => Some(*code),
        _ => None,
    }
}

fn exec(session: SessionContext, command: &[u8], outcome: &Outcome) -> Exec {
    let (code, exit_error) = match outcome {
        Outcome::Exited(ExitStatus::Code(0)) => (ExecCode::Executed, None),
        Outcome::Exited(ExitStatus::Code(_)) => (ExecCode::Failed, None),
        Outcome::Exited(ExitStatus::Signal { name, .. }) => {
            (ExecCode::Failed, Some(Text::of(format_args!("signal {name}"))))
        }
        Outcome::Broken(why) => (ExecCode::Failed, Some(why.as_str().into())),
        other => (ExecCode::Failed, Some(reason(other).into())),
    };
    Exec {
        code,
        session,
        command: Text::lossy(command),
        exit_code: exit_code(outcome),
        exit_error,
    }
}
