//! One session: a shell, a command or SFTP in a channel, from its permission to its last event.

use std::net::SocketAddr;
use std::sync::Arc;

use access_core::audit::events::{ClientDisconnect, SessionRejected, SessionStart};
use access_core::audit::{Durability, List, Text};
use access_core::gate::Denied;
use access_core::policy::Action;
use access_core::reach::{ExitStatus, Process, ProcessRequest, Program, Pty};
use access_core::recording::{
    RecordingEnd, RecordingError, RecordingKind, RecordingMeta, TerminalSize,
};
use access_core::{Permit, Timestamp};
use russh::server::Handle;

use super::Parts;
use super::copying::is_copy;
use super::end::{EndGuard, exec, exit_code, farewell, reason};
use super::events::{Journal, command_list};
use super::exit::{close, tell};
use super::guest::Guest;
use super::relay::{Outcome, Relay};
use super::sftp::{SftpJournal, command_disallowed, disallowed, subsystem};
use super::tape::Tape;
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
    let Pending { writer, mut ends, mut pty, environment } = pending;
    if let Some(pty) = &mut pty {
        // Changes of its size from here on are news.
        pty.size = *ends.size.borrow_and_update();
    }
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
            size: self
                .pty
                .as_ref()
                .map(|pty| Text::of(format_args!("{}:{}", pty.size.columns, pty.size.rows))),
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
    /// and otherwise as far as somebody would read. Without a terminal the input is recorded as
    /// well. SFTP leaves events instead.
    async fn tape(&self) -> Result<Tape, RecordingError> {
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
        mut environment: Vec<(String, String)>,
        permit: &Permit,
        tape: &Tape,
    ) -> Option<ExitStatus> {
        environment.extend(of_connection(self.connection.client_addr));
        let request =
            ProcessRequest { program: self.program.clone(), pty: self.pty.clone(), environment };
        let mut guard = EndGuard::new(
            self.journal.clone(),
            self.pty.is_some(),
            self.started,
            Arc::clone(&self.counters),
            Arc::clone(&self.parts.checker.clock),
        );
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
        let sftp = (self.program == Program::Sftp).then(|| SftpJournal::new(self.journal.clone()));
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
            // A terminal echoes what is typed. Without one the commands may come by the input
            // alone, as in `ssh web-1 bash < script`.
            record_input: self.pty.is_none(),
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

/// What `sshd` tells of the connection: shells read their start files by it, and scripts the
/// client's address. A node behind a tunnel has no address of its own in it; `sshd` writes the same
/// where it was not reached over a socket.
fn of_connection(client: Option<SocketAddr>) -> [(String, String); 2] {
    let (ip, port) = match client {
        Some(client) => (client.ip().to_canonical().to_string(), client.port()),
        None => ("UNKNOWN".to_owned(), u16::MAX),
    };
    let none = u16::MAX;
    [
        ("SSH_CLIENT".to_owned(), format!("{ip} {port} {none}")),
        ("SSH_CONNECTION".to_owned(), format!("{ip} {port} UNKNOWN {none}")),
    ]
}
