//! Starting a process as the login user.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access_core::gate::Permit;
use access_core::policy::Action;
use access_core::reach::{Process, ProcessRequest, Program, Pty, ReachError};
use futures::FutureExt;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};

use crate::account::Account;
use crate::environment::{self, Terminal};
use crate::pipes;
use crate::process::{Control, privileges};
use crate::pty::{self, Master};
use crate::supervise::{Leader, supervise};
use crate::sys::{self, Executable, Launch};

/// How the SFTP server is started.
#[derive(Debug)]
pub(crate) enum SftpServer {
    /// A program of the host.
    Program { path: OsString, args: Vec<OsString> },
    /// A program that calls [`crate::sftp::run_if_invoked`], opened beforehand.
    Opened(File),
}

/// What is the same for every process.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) sftp: SftpServer,
    pub(crate) grace: Duration,
}

/// Starts what a permit for a process allows.
pub(crate) async fn spawn(
    settings: Arc<Settings>,
    permit: &Permit,
    request: ProcessRequest,
) -> Result<Process, ReachError> {
    let login = login_of(permit, &request.program)?.to_owned();
    if request.pty.is_some() && !permit.grant().limits.permit_pty {
        return Err(ReachError::NotPermitted("a terminal"));
    }
    let now = permit.granted_at();
    let program = format!("starting {} as {login}", name_of(&request.program));
    let failed = |source| ReachError::Io { what: program.clone(), source };
    if let Some(reason) = permit.ended().now_or_never() {
        return Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, reason)));
    }
    let grace = settings.grace;
    // Looking an account up may ask the network, and forking a large process takes a while.
    let started = tokio::task::spawn_blocking(move || start(&settings, &login, now, &request))
        .await
        .map_err(|err| failed(io::Error::other(err)))?;
    let Started { account, leader, ends } = started.map_err(|err| match err {
        StartError::Account(err) => err,
        StartError::Io(err) => failed(err),
    })?;
    wire(account, leader, ends, permit, grace).map_err(failed)
}

/// The login that the permit names, if it permits a program of this kind.
fn login_of<'a>(permit: &'a Permit, program: &Program) -> Result<&'a str, ReachError> {
    match (permit.action(), program) {
        (Action::SshSession { login }, Program::Shell | Program::Command(_))
        | (Action::SshSftp { login }, Program::Sftp) => Ok(login.as_str()),
        (_, Program::Sftp) => Err(ReachError::NotPermitted("files by SFTP")),
        (_, Program::Shell | Program::Command(_)) => {
            Err(ReachError::NotPermitted("a shell or command"))
        }
    }
}

fn name_of(program: &Program) -> &'static str {
    match program {
        Program::Shell => "the login shell",
        Program::Command(_) => "a command",
        Program::Sftp => "the SFTP server",
    }
}

/// A process with our ends of what it talks over, before the runtime knows of them.
struct Started {
    account: Account,
    leader: Leader,
    ends: Ends,
}

enum Ends {
    Terminal(OwnedFd),
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
}

enum StartError {
    Account(ReachError),
    Io(io::Error),
}

impl<E: Into<io::Error>> From<E> for StartError {
    fn from(err: E) -> Self {
        Self::Io(err.into())
    }
}

fn start(
    settings: &Settings,
    login: &str,
    now: access_core::Timestamp,
    request: &ProcessRequest,
) -> Result<Started, StartError> {
    let account = Account::find(login, now).map_err(StartError::Account)?;
    if request.program == Program::Sftp {
        account.check_files().map_err(StartError::Account)?;
    }
    // The SFTP protocol is binary: a terminal in between would change it.
    let pty = request.pty.as_ref().filter(|_| request.program != Program::Sftp);
    match pty {
        Some(pty) => start_on_terminal(settings, account, request, pty),
        None => start_on_pipes(settings, account, request),
    }
}

fn start_on_terminal(
    settings: &Settings,
    account: Account,
    request: &ProcessRequest,
    asked: &Pty,
) -> Result<Started, StartError> {
    let opened = pty::open_for(&account, asked)?;
    let terminal = Terminal { term: &asked.term, path: &opened.path };
    let launch = prepare(settings, &account, request, Some(terminal))?;
    let (stdout, stderr) = (opened.slave.try_clone()?, opened.slave.try_clone()?);
    let child = sys::launch(launch, opened.slave, stdout, stderr)?;
    Ok(Started { account, leader: Leader::new(child), ends: Ends::Terminal(opened.master) })
}

fn start_on_pipes(
    settings: &Settings,
    account: Account,
    request: &ProcessRequest,
) -> Result<Started, StartError> {
    let launch = prepare(settings, &account, request, None)?;
    let (child_in, stdin) = pipes::pair()?;
    let (stdout, child_out) = pipes::pair()?;
    let (stderr, child_err) = pipes::pair()?;
    let child = sys::launch(launch, child_in, child_out, child_err)?;
    let ends = Ends::Pipes { stdin, stdout, stderr };
    Ok(Started { account, leader: Leader::new(child), ends })
}

fn prepare(
    settings: &Settings,
    account: &Account,
    request: &ProcessRequest,
    terminal: Option<Terminal<'_>>,
) -> io::Result<Launch> {
    let shell = account.shell.as_os_str().as_bytes();
    let shell_name = account.shell.file_name().unwrap_or(account.shell.as_os_str()).as_bytes();
    let on_terminal = terminal.is_some();
    let (executable, argv) = match &request.program {
        // The dash is what makes a shell read its login files.
        Program::Shell => {
            (Executable::Path(text(shell)?), vec![text([b"-", shell_name].concat())?])
        }
        Program::Command(command) => (
            Executable::Path(text(shell)?),
            vec![text(shell_name)?, text("-c")?, text(command.as_slice())?],
        ),
        Program::Sftp => match &settings.sftp {
            SftpServer::Program { path, args } => {
                let mut argv = vec![text(path.as_bytes())?];
                for arg in args {
                    argv.push(text(arg.as_bytes())?);
                }
                (Executable::Path(text(path.as_bytes())?), argv)
            }
            SftpServer::Opened(file) => (
                Executable::File(file.try_clone()?.into()),
                vec![text(crate::sftp::PROGRAM_NAME)?, text(crate::sftp::ARGUMENT)?],
            ),
        },
    };
    Ok(Launch {
        executable,
        argv,
        environment: environment::build(account, terminal, &request.environment),
        privileges: account.needs_change().then(|| privileges(account)),
        directory: directory(&account.home)?,
        terminal: on_terminal,
    })
}

fn directory(home: &Path) -> io::Result<CString> {
    text(if home.as_os_str().is_empty() { b"/" } else { home.as_os_str().as_bytes() })
}

fn text(bytes: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "a zero byte cannot be passed to a program")
    })
}

/// Gives our ends to the runtime, ties them to the permit, and has the process watched.
fn wire(
    account: Account,
    leader: Leader,
    ends: Ends,
    permit: &Permit,
    grace: Duration,
) -> io::Result<Process> {
    let leader = Arc::new(leader);
    let (told, status) = watch::channel(None);
    let (held, dropped) = oneshot::channel();
    let exited = {
        let mut status = status.clone();
        async move { drop(status.wait_for(Option::is_some).await) }
    };
    let control = |master| {
        Box::new(Control { leader: Arc::clone(&leader), account, master, status, _held: held })
    };
    let process = match ends {
        Ends::Terminal(fd) => {
            let master = Master::new(fd)?;
            Process {
                stdin: Box::new(permit.guard(master.writer())),
                stdout: Box::new(permit.guard(master.reader(exited))),
                stderr: None,
                control: control(Some(master)),
            }
        }
        Ends::Pipes { stdin, stdout, stderr } => Process {
            stdin: Box::new(permit.guard(pipes::Writer::new(stdin)?)),
            stdout: Box::new(permit.guard(pipe::Receiver::from_owned_fd(stdout)?)),
            stderr: Some(Box::new(permit.guard(pipe::Receiver::from_owned_fd(stderr)?))),
            control: control(None),
        },
    };
    let ended = ended(permit);
    tokio::spawn(supervise(leader, ended, dropped, grace, told));
    Ok(process)
}

fn ended(permit: &Permit) -> impl Future<Output = ()> + Send + 'static {
    let ended = permit.ended();
    async move {
        let reason = ended.await;
        tracing::info!(%reason, "the permit of a process has ended, and the process with it");
    }
}
