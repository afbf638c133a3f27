//! How a protocol reaches what a permit allows: the only way out.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::gate::{Guarded, Permit};

/// A two-way stream of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A two-way stream of bytes, of whatever kind.
pub type BoxedStream = Box<dyn Stream>;

/// Reaches targets. The target, the account and the address are taken out of the permit; there is
/// no parameter in which another could be named.
#[async_trait]
pub trait Reach: Send + Sync + 'static {
    /// Opens a connection to what the permit allows to connect to.
    ///
    /// # Errors
    /// [`ReachError`] when the permit is not one for a connection, or the target does not answer.
    async fn dial(&self, permit: &Permit) -> Result<Guarded<BoxedStream>, ReachError>;

    /// Opens a connection as [`Reach::dial`] does, and says where it leads. Targets that have
    /// several addresses are tried at one after the other; `skip` leaves out as many of them as
    /// were tried before, and [`Connected::next`] says with what to go on.
    ///
    /// Without an implementation of its own, a target has the one address that `dial` knows.
    ///
    /// # Errors
    /// As those of [`Reach::dial`].
    async fn connect(&self, permit: &Permit, skip: usize) -> Result<Connected, ReachError> {
        if skip > 0 {
            let source = io::Error::new(io::ErrorKind::NotFound, "no further address");
            return Err(ReachError::Io { what: "connecting to the target".into(), source });
        }
        Ok(Connected { stream: self.dial(permit).await?, place: None, next: None })
    }

    /// Starts a process as the account that the permit names. It is ended when the permit ends.
    ///
    /// # Errors
    /// [`ReachError`] when the permit is not one for a process, or it cannot be started.
    async fn spawn(&self, permit: &Permit, process: ProcessRequest) -> Result<Process, ReachError>;
}

/// A connection, and where it leads.
pub struct Connected {
    /// The connection.
    pub stream: Guarded<BoxedStream>,
    /// Where it leads, if that is known.
    pub place: Option<Arc<dyn Place>>,
    /// What to skip to try the addresses after this one, if there are any.
    pub next: Option<usize>,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.place.as_ref().map(|place| place.address());
        f.debug_struct("Connected").field("place", &place).finish_non_exhaustive()
    }
}

/// Where a connection leads: one address of one target, which a permit has opened. Only an
/// implementation of [`Reach`] makes one.
#[async_trait]
pub trait Place: Send + Sync + 'static {
    /// The host as it was configured: the name that a certificate of the target is held against.
    fn host(&self) -> &str;

    /// The address, for events.
    fn address(&self) -> String;

    /// Opens a connection to the very same server, to stop or undo there what the permit had
    /// begun. It can be had after the permit's end, which is when it is most needed; nothing else
    /// may be sent over it.
    ///
    /// # Errors
    /// [`ReachError::Io`] when it cannot be reached.
    async fn dial_to_stop(&self) -> Result<BoxedStream, ReachError>;
}

/// Why a target was not reached. The text may be shown to the user, who was allowed to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// The permit allows something else.
    #[error("the permit does not allow {0}")]
    NotPermitted(&'static str),
    /// The account does not exist on the target, or cannot be used.
    #[error("cannot act as {login:?} here: {why}")]
    Account {
        /// The account.
        login: String,
        /// What is wrong with it.
        why: String,
    },
    /// It could not be reached or started.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What came of it.
        source: io::Error,
    },
}

/// What to start, in the login's home directory, with its shell.
#[derive(Clone, Debug, Default)]
pub struct ProcessRequest {
    /// What to run.
    pub program: Program,
    /// A terminal; pipes when `None`.
    pub pty: Option<Pty>,
    /// Variables that the caller has already held against its allow-list.
    pub environment: Vec<(String, String)>,
}

/// What a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Program {
    /// The login shell, interactive.
    #[default]
    Shell,
    /// A command line, given to the login shell with `-c`.
    Command(Vec<u8>),
    /// The SFTP server over standard input and output.
    Sftp,
}

/// A terminal that the client asked for (RFC 4254, section 6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pty {
    /// The value of `TERM`.
    pub term: String,
    /// Its size.
    pub size: PtySize,
    /// Encoded terminal modes as opcode and argument (RFC 4254, section 8).
    pub modes: Vec<(u8, u32)>,
}

/// A terminal's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PtySize {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
    /// Width in pixels; 0 when unknown.
    pub pixel_width: u16,
    /// Height in pixels; 0 when unknown.
    pub pixel_height: u16,
}

/// A process that was started. Dropping it ends the process and its group.
pub struct Process {
    /// Its standard input; dropping it closes it.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output; with a terminal, everything that it shows.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error; none with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// The rest.
    pub control: Box<dyn ProcessControl>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// Steers a process and tells how it ended.
#[async_trait]
pub trait ProcessControl: Send + Sync {
    /// Its process id.
    fn id(&self) -> u32;

    /// Changes the size of its terminal; does nothing without one.
    ///
    /// # Errors
    /// What the system says.
    fn resize(&self, size: PtySize) -> io::Result<()>;

    /// Sends a signal to its process group, named as in RFC 4254, section 6.10 (`INT`, `TERM`, …).
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidInput`] for a name that is unknown.
    fn signal(&self, name: &str) -> io::Result<()>;

    /// Waits for its end. May be called again.
    async fn wait(&self) -> io::Result<ExitStatus>;
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself.
    Code(u32),
    /// By a signal, named as in RFC 4254, section 6.10.
    Signal {
        /// Without `SIG`.
        name: String,
        /// Whether it left a core file.
        core_dumped: bool,
    },
}
