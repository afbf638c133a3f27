//! Watching a process until its end, and bringing that about when its permit ends.
//!
//! ```text
//!             exits by itself ────────────────────────────┐
//!  running ─┬─ permit ended ──► HUP to its session ─┐     ├─► reaped, status told
//!           └─ Process dropped ► HUP to its group ──┴─ grace ─ KILL ─┘
//! ```
//!
//! The process is reaped last, so that until then its id, which names its group and session too,
//! can't have become somebody else's.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use access_core::reach::ExitStatus;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::{signals, sys};

/// How often a group that was told to hang up is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The first process of a session, until it is reaped.
///
/// Dropping it before that kills its group at once.
pub(crate) struct Leader {
    pid: Pid,
    /// `None` once it is reaped.
    child: Mutex<Option<Child>>,
}

/// Whom to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// The leader's process group: what hung up takes along.
    Group,
    /// Every process of the session, jobs in the background too: what was allowed is no longer.
    Session,
}

impl Leader {
    pub(crate) fn new(child: Child) -> Self {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        Self { pid, child: Mutex::new(Some(child)) }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Runs something while the process cannot be reaped; `ESRCH` when it has been.
    pub(crate) fn while_unreaped<T>(
        &self,
        act: impl FnOnce(Pid) -> io::Result<T>,
    ) -> io::Result<T> {
        let child = self.lock();
        if child.is_none() {
            return Err(Errno::ESRCH.into());
        }
        act(self.pid)
    }

    fn reap(&self) -> io::Result<ExitStatus> {
        let mut slot = self.lock();
        let Some(mut child) = slot.take() else { return Err(Errno::ECHILD.into()) };
        Ok(told(child.wait()?))
    }

    fn send(&self, scope: Scope, signal: Signal) {
        let _ = self.while_unreaped(|pid| {
            // That nobody is left to get it is no failure.
            let _ = killpg(pid, signal);
            if scope == Scope::Session {
                for member in living(pid, scope) {
                    let _ = kill(member, signal);
                }
            }
            Ok(())
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let Some(mut child) = self.lock().take() else { return };
        let _ = killpg(self.pid, Signal::SIGKILL);
        // Mostly immediate, but a process in the middle of I/O dies later, and this may be a
        // thread of the runtime. If no thread is to be had, init reaps it after us.
        let _ = std::thread::Builder::new().name("reap".into()).spawn(move || child.wait());
    }
}

/// Watches a process until it is reaped, and tells its status.
pub(crate) async fn supervise(
    leader: Arc<Leader>,
    permit_ended: impl Future<Output = ()>,
    dropped: oneshot::Receiver<()>,
    grace: Duration,
    status: watch::Sender<Option<Result<ExitStatus, io::ErrorKind>>>,
) {
    let exit = Exit::of(leader.pid());
    let scope = tokio::select! {
        () = exit.wait() => None,
        () = permit_ended => Some(Scope::Session),
        _ = dropped => Some(Scope::Group),
    };
    if let Some(scope) = scope {
        end(&leader, scope, grace).await;
        exit.wait().await;
    }
    let reaped = leader.reap();
    if let Err(err) = &reaped {
        tracing::error!(pid = leader.pid().as_raw(), error = %err, "a process can't be reaped");
    }
    status.send_replace(Some(reaped.map_err(|err| err.kind())));
}

async fn end(leader: &Leader, scope: Scope, grace: Duration) {
    leader.send(scope, Signal::SIGHUP);
    // A stopped job would keep its SIGHUP for later.
    leader.send(scope, Signal::SIGCONT);
    let gone = async {
        while !living(leader.pid(), scope).is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if timeout(grace, gone).await.is_err() {
        leader.send(scope, Signal::SIGKILL);
    }
}

/// The members of a group or session that have not exited. Only `/proc` knows them.
fn living(leader: Pid, scope: Scope) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| is_living_member(&stat, leader, scope))
        })
        .map(Pid::from_raw)
        .collect()
}

/// Reads a line of proc_pid_stat(5): the name in brackets may hold anything, brackets included;
/// after it come state, parent, group, session.
fn is_living_member(stat: &str, leader: Pid, scope: Scope) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next();
    let number = match scope {
        Scope::Group => fields.nth(1),
        Scope::Session => fields.nth(2),
    };
    !matches!(state, Some("Z" | "X"))
        && number.and_then(|n| n.parse().ok()) == Some(leader.as_raw())
}

/// Waits for a child's end without reaping it.
enum Exit {
    /// By a descriptor.
    Descriptor(AsyncFd<OwnedFd>),
    /// By a thread, where the kernel has no such descriptors.
    Thread(watch::Receiver<bool>),
}

impl Exit {
    fn of(pid: Pid) -> Self {
        let descriptor = sys::pidfd_open(pid).and_then(|fd| sys::register(fd, Interest::READABLE));
        match descriptor {
            Ok(fd) => Self::Descriptor(fd),
            Err(_) => {
                let (done, exited) = watch::channel(false);
                tokio::task::spawn_blocking(move || {
                    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
                    while let Err(Errno::EINTR) = waitid(Id::Pid(pid), flags) {}
                    done.send_replace(true);
                });
                Self::Thread(exited)
            }
        }
    }

    async fn wait(&self) {
        match self {
            // Readability is never cleared, so that every later wait returns at once.
            Self::Descriptor(fd) => drop(fd.readable().await),
            Self::Thread(exited) => drop(exited.clone().wait_for(|done| *done).await),
        }
    }
}

fn told(status: std::process::ExitStatus) -> ExitStatus {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(u32::try_from(code).unwrap_or(u32::MAX)),
        (None, signal) => ExitStatus::Signal {
            name: signals::name_of(signal.unwrap_or_default()),
            core_dumped: status.core_dumped(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_by_group_and_session() {
        let line = "77 (a) b (c)) S 1 50 40 34816 77 4194304";
        let at = |pid, scope| is_living_member(line, Pid::from_raw(pid), scope);
        assert!(at(50, Scope::Group) && !at(40, Scope::Group));
        assert!(at(40, Scope::Session) && !at(50, Scope::Session));
        let zombie = line.replace(") S ", ") Z ");
        assert!(!is_living_member(&zombie, Pid::from_raw(50), Scope::Group));
        assert!(!is_living_member("nonsense", Pid::from_raw(50), Scope::Group));
    }
}
