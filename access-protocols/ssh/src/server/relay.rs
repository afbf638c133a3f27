//! Between a channel and a process: input, output, size, signals, and what ends it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use access_core::Permit;
use access_core::audit::AuditError;
use access_core::reach::{ExitStatus, Process, ProcessControl};
use access_core::recording::{RecordingError, TerminalSize};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::sftp::SftpJournal;
use super::tape::Tape;
use crate::channel::{Ends, Writer};
use crate::connection::{Connection, Ended};
use crate::pipe::{Counters, Pieces};

/// How long a terminal whose program has ended may stay quiet before it is closed, although
/// something in the background still holds it open.
const TERMINAL_QUIET: Duration = Duration::from_millis(200);

/// What a relay works with.
pub(super) struct Relay<'a> {
    pub(super) connection: &'a Connection,
    pub(super) writer: &'a Writer,
    pub(super) ends: Ends,
    pub(super) tape: &'a Tape,
    pub(super) record_input: bool,
    pub(super) sftp: Option<&'a SftpJournal>,
    pub(super) counters: &'a Counters,
    /// The connection's permit, and that of what runs here, if it is another.
    pub(super) permits: [&'a Permit; 2],
    pub(super) has_terminal: bool,
}

/// What ended a session.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The program.
    Exited(ExitStatus),
    /// The client closed the channel.
    Client,
    /// The connection, or whatever ended that.
    Connection(Ended),
    /// It could not be recorded any more.
    Recording(RecordingError),
    /// Its events could not be written any more.
    Audit(AuditError),
    /// Something else.
    Broken(String),
}

impl Relay<'_> {
    /// Relays until it is over. The process is gone then.
    pub(super) async fn run(mut self, process: Process) -> Outcome {
        let Process { stdin, stdout, stderr, control } = process;
        let control: Arc<dyn ProcessControl> = Arc::from(control);
        let Ends { input, closed, size, signals } = &mut self.ends;
        let (tape, counters, has_terminal) = (self.tape, self.counters, self.has_terminal);
        let judge = Judge { permits: self.permits, connection: self.connection };
        let shown = Shown {
            writer: self.writer,
            tape: self.tape,
            sftp: self.sftp,
            counters: self.counters,
            permits: self.permits,
        };
        let mut showing = pin!(async {
            match stderr {
                Some(stderr) => {
                    tokio::try_join!(shown.show(stdout, None), shown.show(stderr, Some(1)))
                        .map(drop)
                }
                None => shown.show(stdout, None).await,
            }
        });
        let mut feeding = pin!(async {
            let fed = feed(stdin, input, &shown, self.record_input).await;
            input.shut();
            fed
        });
        let mut exiting = pin!(control.wait());
        let mut over = pin!(self.connection.over());
        let mut flushing = pin!(self.tape.keep_flushed());
        let (mut status, mut shown_all, mut fed_all) = (None, false, false);
        let mut quiet = pin!(tokio::time::sleep(TERMINAL_QUIET));
        let mut last_tx = 0;
        loop {
            if let (Some(status), true) = (&status, shown_all) {
                return judge.exited(Clone::clone(status)).await;
            }
            tokio::select! {
                ended = &mut over => return Outcome::Connection(ended),
                () = closed.cancelled() => return Outcome::Client,
                err = &mut flushing => return Outcome::Recording(err),
                done = &mut showing, if !shown_all => match done {
                    Ok(()) => shown_all = true,
                    Err(outcome) => return outcome,
                },
                done = &mut feeding, if !fed_all => match done {
                    Ok(()) => fed_all = true,
                    Err(outcome) => return outcome,
                },
                exited = &mut exiting, if status.is_none() => match exited {
                    Ok(exited) => {
                        status = Some(exited);
                        quiet.as_mut().reset(tokio::time::Instant::now() + TERMINAL_QUIET);
                    }
                    Err(err) => return Outcome::Broken(err.to_string()),
                },
                () = &mut quiet, if status.is_some() && has_terminal => {
                    let tx = counters.tx();
                    shown_all = tx == last_tx;
                    last_tx = tx;
                    quiet.as_mut().reset(tokio::time::Instant::now() + TERMINAL_QUIET);
                }
                Ok(()) = size.changed(), if has_terminal => {
                    let size = *size.borrow_and_update();
                    if let Err(err) = control.resize(size) {
                        tracing::debug!(%err, "a terminal could not be resized");
                    }
                    let recorded = TerminalSize::new(size.columns.into(), size.rows.into());
                    if let Err(err) = tape.resize(recorded).await {
                        return Outcome::Recording(err);
                    }
                }
                Some(signal) = signals.recv() => {
                    if let Err(err) = control.signal(&signal) {
                        tracing::debug!(%err, "a signal could not be sent");
                    }
                }
            }
        }
    }
}

/// Tells by what a program has ended.
struct Judge<'a> {
    connection: &'a Connection,
    permits: [&'a Permit; 2],
}

impl Judge<'_> {
    /// A program that a permit's end has killed has not ended by itself.
    async fn exited(&self, status: ExitStatus) -> Outcome {
        let permit_ended =
            self.permits.iter().any(|permit| permit.ended().now_or_never().is_some());
        if matches!(status, ExitStatus::Signal { .. }) && permit_ended {
            let told = tokio::time::timeout(Duration::from_secs(1), self.connection.over());
            if let Ok(ended) = told.await {
                return Outcome::Connection(ended);
            }
        }
        Outcome::Exited(status)
    }
}

/// Where output goes.
struct Shown<'a> {
    writer: &'a Writer,
    tape: &'a Tape,
    sftp: Option<&'a SftpJournal>,
    counters: &'a Counters,
    permits: [&'a Permit; 2],
}

impl Shown<'_> {
    async fn show(
        &self,
        from: Box<dyn AsyncRead + Send + Unpin>,
        extended: Option<u32>,
    ) -> Result<(), Outcome> {
        let mut pieces = Pieces::new(from);
        loop {
            let piece = match pieces.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(()),
                Err(err) => {
                    tracing::debug!(%err, "a program's output broke off");
                    return Ok(());
                }
            };
            self.touch();
            self.tape.output(&piece).await.map_err(Outcome::Recording)?;
            let len = piece.len();
            let sent = match extended {
                Some(code) => self.writer.extended_data_bytes(code, piece).await,
                None => {
                    if let Some(sftp) = self.sftp {
                        sftp.server(&piece).await?;
                    }
                    self.writer.data_bytes(piece).await
                }
            };
            sent.map_err(|_| Outcome::Client)?;
            self.counters.sent(len);
        }
    }

    fn touch(&self) {
        for permit in self.permits {
            permit.touch();
        }
    }
}

async fn feed(
    mut stdin: Box<dyn AsyncWrite + Send + Unpin>,
    input: &crate::input::Input,
    shown: &Shown<'_>,
    record: bool,
) -> Result<(), Outcome> {
    while let Some(chunk) = input.next().await {
        shown.touch();
        shown.counters.received(chunk.len());
        if record {
            shown.tape.input(&chunk).await.map_err(Outcome::Recording)?;
        }
        if let Some(sftp) = shown.sftp {
            sftp.client(&chunk).await?;
        }
        if stdin.write_all(&chunk).await.is_err() || stdin.flush().await.is_err() {
            // The program reads no more; it may still write.
            return Ok(());
        }
    }
    let _ = stdin.shutdown().await;
    Ok(())
}
