//! The one file with `unsafe`: becoming the login user between `fork` and `exec`, and a few
//! calls without a safe wrapper.
//!
//! Between `fork` and `exec` of a program with threads only async-signal-safe functions may run:
//! another thread may have held any lock, the allocator's among them, at the moment of the fork.
//! So everything that the child needs is laid out by the parent, and the child makes system calls
//! over it and nothing else.
#![allow(unsafe_code, reason = "see above; every block says what makes it sound")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::unistd::{Gid, Pid, Uid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The permissions that a login's new files are denied, as in most systems' `login.defs`.
const UMASK: libc::mode_t = 0o022;

/// The highest descriptor that is looked at where the kernel has no `close_range`.
const MAX_DESCRIPTOR: RawFd = 65_536;

/// Whose privileges a child takes on.
#[derive(Debug)]
pub(crate) struct Privileges {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// Supplementary groups.
    pub(crate) groups: Vec<Gid>,
}

/// What a child executes.
#[derive(Debug)]
pub(crate) enum Executable {
    /// The file at a path, opened with the login's privileges.
    Path(CString),
    /// A file that is open already, so that it need not be reachable for the login.
    File(OwnedFd),
}

/// Everything about a child.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) executable: Executable,
    pub(crate) argv: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    /// `None` to stay who this process is.
    pub(crate) privileges: Option<Privileges>,
    /// Where it starts; `/` where that cannot be entered.
    pub(crate) directory: CString,
    /// Whether standard input is a terminal that becomes its controlling one.
    pub(crate) terminal: bool,
}

/// Starts a child in a session of its own.
///
/// # Errors
/// What the system says about the fork, or about the step in the child that failed.
pub(crate) fn launch(
    launch: Launch,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> io::Result<Child> {
    // The program's name is not used: the hook below executes, because only it can execute a
    // file that is open.
    let mut command = Command::new("/");
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    let prepared = Prepared::new(launch);
    // SAFETY: the hook makes only async-signal-safe calls on memory that `Prepared` owns and the
    // parent laid out; see `Prepared::execute`. It allocates nothing: `io::Error` from an error
    // number does not.
    unsafe { command.pre_exec(move || Err(prepared.become_and_execute())) };
    command.spawn()
}

/// Sends a signal to a process group with the privileges of an account, from a short-lived child:
/// the kernel then decides whether that account may, which this process, being root, would not
/// learn. (Changing the identity of a thread instead would let that account signal this process.)
///
/// # Errors
/// What the system says.
pub(crate) fn signal_as(privileges: Privileges, group: Pid, signal: libc::c_int) -> io::Result<()> {
    let mut command = Command::new("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: as in `launch`; `_exit` and `kill` are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            take_on(&privileges)?;
            let code = if libc::kill(-group.as_raw(), signal) == 0 { 0 } else { last_errno() };
            libc::_exit(code & 0xff)
        });
    }
    let status = command.spawn()?.wait()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        None => Err(io::Error::other("the process that was to send the signal was killed")),
    }
}

/// A descriptor that becomes readable when a child of this process ends, which reaps nothing.
///
/// # Errors
/// What the system says; `ENOSYS` before Linux 5.3.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers, and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made for us and nobody else knows it. Its close-on-exec
    // flag is set by the kernel.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has the runtime watch a descriptor.
///
/// # Errors
/// What the system says.
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, which `AsyncFd`,
    // owning it, does after it has taken it out of the watched set.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Sets a terminal's size, which signals its foreground group.
///
/// # Errors
/// What the system says.
pub(crate) fn set_window_size(terminal: impl AsFd, size: libc::winsize) -> io::Result<()> {
    // SAFETY: TIOCSWINSZ reads a `winsize`, which outlives the call.
    let done =
        unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has a connection of TCP repeat what is not acknowledged at least so often, in milliseconds.
///
/// # Errors
/// What the system says; `ENOPROTOOPT` before Linux 6.15.
pub(crate) fn set_longest_wait(connection: impl AsFd, millis: libc::c_int) -> io::Result<()> {
    /// `TCP_RTO_MAX_MS` of `linux/tcp.h`.
    const LONGEST_WAIT: libc::c_int = 44;
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: the call reads an integer of that size, which outlives it.
    let done = unsafe {
        libc::setsockopt(
            connection.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            LONGEST_WAIT,
            (&raw const millis).cast(),
            size,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A moment in the time zone of the system: year, month (0 to 11), day, hour, minute.
pub(crate) fn local_time(secs: i64) -> Option<(i32, usize, i32, i32, i32)> {
    // SAFETY: all-zero is a valid `tm`: integers, and a pointer that may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values; the function keeps neither.
    let found = unsafe { libc::localtime_r(&raw const secs, &raw mut parts) };
    if found.is_null() {
        return None;
    }
    let month = usize::try_from(parts.tm_mon).ok()?;
    Some((parts.tm_year + 1900, month, parts.tm_mday, parts.tm_hour, parts.tm_min))
}

/// A launch with the pointers that `exec` takes.
struct Prepared {
    launch: Launch,
    argv: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    last_descriptor: RawFd,
}

// SAFETY: the pointers lead into the `CString`s of `launch`, which own their memory wherever they
// are moved, are never changed again, and live as long as the pointers do.
unsafe impl Send for Prepared {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Prepared {}

impl Prepared {
    fn new(launch: Launch) -> Self {
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let argv = pointers(&launch.argv);
        let environment = pointers(&launch.environment);
        let last_descriptor =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
                .map_or(MAX_DESCRIPTOR, |(soft, _)| {
                    RawFd::try_from(soft).unwrap_or(MAX_DESCRIPTOR).min(MAX_DESCRIPTOR)
                });
        Self { launch, argv, environment, last_descriptor }
    }

    /// Runs in the child. Returns only when something failed.
    fn become_and_execute(&self) -> io::Error {
        match self.become_login() {
            Ok(()) => self.execute(),
            Err(err) => err,
        }
    }

    fn become_login(&self) -> io::Result<()> {
        // SAFETY: system calls over integers; `ioctl` with TIOCSCTTY takes an integer too.
        unsafe {
            check(libc::setsid())?;
            if self.launch.terminal {
                check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            }
            libc::umask(UMASK);
        }
        reset_signals();
        self.close_on_exec();
        if let Some(privileges) = &self.launch.privileges {
            take_on(privileges)?;
        }
        // After the change of identity: what root may enter is not what the login may, and on
        // NFS it is often the other way round.
        // SAFETY: both are NUL-terminated strings that outlive the calls.
        unsafe {
            if libc::chdir(self.launch.directory.as_ptr()) != 0 {
                check(libc::chdir(c"/".as_ptr()))?;
            }
        }
        Ok(())
    }

    fn execute(&self) -> io::Error {
        // SAFETY: both arrays end in a null pointer and hold NUL-terminated strings, all of which
        // `self` keeps alive; the calls return only on failure.
        unsafe {
            match &self.launch.executable {
                Executable::Path(path) => {
                    libc::execve(path.as_ptr(), self.argv.as_ptr(), self.environment.as_ptr());
                }
                Executable::File(file) => {
                    let empty: &CStr = c"";
                    libc::syscall(
                        libc::SYS_execveat,
                        file.as_raw_fd(),
                        empty.as_ptr(),
                        self.argv.as_ptr(),
                        self.environment.as_ptr(),
                        libc::AT_EMPTY_PATH,
                    );
                }
            }
        }
        io::Error::last_os_error()
    }

    /// Marks everything but the three standard descriptors, so that nothing of this process is
    /// left in the login's. (The pipe on which a failure is reported is marked already.)
    fn close_on_exec(&self) {
        // SAFETY: system calls over integers; a descriptor that is not open is an error that
        // means nothing here.
        unsafe {
            if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
                == 0
            {
                return;
            }
            for fd in 3..self.last_descriptor {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// Takes on an account's privileges for good, and makes sure of that. Runs in the child.
fn take_on(privileges: &Privileges) -> io::Result<()> {
    let (uid, gid) = (privileges.uid.as_raw(), privileges.gid.as_raw());
    // SAFETY: `Gid` is a transparent `gid_t`, so that the list is an array of `gid_t` of that
    // length; the other calls take integers and pointers to integers of this frame.
    unsafe {
        check(libc::setgroups(privileges.groups.len(), privileges.groups.as_ptr().cast()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;

        let (mut real, mut effective, mut saved) = (0, 0, 0);
        check(libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved))?;
        let uid_is_set = (real, effective, saved) == (uid, uid, uid);
        check(libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved))?;
        let gid_is_set = (real, effective, saved) == (gid, gid, gid);
        // Also catches capabilities that outlived the change.
        let can_go_back = uid != 0 && (libc::setuid(0) == 0 || (gid != 0 && libc::setgid(0) == 0));
        if !uid_is_set || !gid_is_set || can_go_back {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
    }
    Ok(())
}

/// Every signal to its default and none blocked: what this process ignores (SIGPIPE for one)
/// would stay ignored across `exec`. Runs in the child.
fn reset_signals() {
    // Room for the kernel's `sigaction` of any architecture.
    let raw_default = [0_u64; 8];
    // SAFETY: all-zero is a valid `sigaction` (SIG_DFL, no flags, an empty mask), in the form of
    // the kernel too, whose signal sets have 8 bytes; `sigset_t` is initialised by `sigemptyset`
    // before it is read. Signals whose action can't be set give an error that means nothing here.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=libc::SIGRTMAX() {
            libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        }
        // Those that the C library keeps for itself are inherited as well, and out of its reach.
        for signal in 32..libc::SIGRTMIN() {
            let none = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const raw_default, none, 8);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn last_errno() -> libc::c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
