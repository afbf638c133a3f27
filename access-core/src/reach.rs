//! How a protocol reaches what a permit allows: the only way out.

use std::io;

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

    /// Starts a process as the account that the permit names. It is ended when the permit ends.
    ///
    /// # Errors
    /// [`ReachError`] when the permit is not one for a process, or it cannot be started.
    async fn spawn(&self, permit: &Permit, process: ProcessRequest) -> Result<Process, ReachError>;
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
