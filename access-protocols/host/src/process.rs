//! Steering a process that runs.

use std::io;
use std::sync::Arc;

use access_core::reach::{ExitStatus, ProcessControl, PtySize};
use async_trait::async_trait;
use nix::sys::signal::killpg;
use tokio::sync::{oneshot, watch};

use crate::account::Account;
use crate::pty::Master;
use crate::signals;
use crate::supervise::Leader;
use crate::sys::{self, Privileges};

/// The end of a process, for as many as want to know.
pub(crate) type Status = watch::Receiver<Option<Result<ExitStatus, io::ErrorKind>>>;

/// Control over one process; dropping it tells the supervisor to end the process.
pub(crate) struct Control {
    pub(crate) leader: Arc<Leader>,
    pub(crate) account: Account,
    pub(crate) master: Option<Master>,
    pub(crate) status: Status,
    /// Closed by being dropped.
    pub(crate) _held: oneshot::Sender<()>,
}

#[async_trait]
impl ProcessControl for Control {
    fn id(&self) -> u32 {
        u32::try_from(self.leader.pid().as_raw()).unwrap_or_default()
    }

    fn resize(&self, size: PtySize) -> io::Result<()> {
        self.master.as_ref().map_or(Ok(()), |master| master.resize(size))
    }

    fn signal(&self, name: &str) -> io::Result<()> {
        let signal = signals::by_name(name).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "no signal of this name can be sent")
        })?;
        self.leader.while_unreaped(|leader| {
            // An interactive shell ignores what its jobs are meant to get.
            let group = self.master.as_ref().and_then(Master::foreground).unwrap_or(leader);
            if self.account.needs_change() && !self.account.uid.is_root() {
                // The group may hold processes that the login may not signal: `sudo`'s.
                sys::signal_as(privileges(&self.account), group, signal as i32)
            } else {
                Ok(killpg(group, signal)?)
            }
        })
    }

    async fn wait(&self) -> io::Result<ExitStatus> {
        let mut status = self.status.clone();
        let ended = status.wait_for(Option::is_some).await;
        match ended.as_deref() {
            Ok(Some(Ok(status))) => Ok(status.clone()),
            Ok(Some(Err(kind))) => Err((*kind).into()),
            Ok(None) | Err(_) => Err(io::Error::other("nobody watches the process any more")),
        }
    }
}

/// An account's privileges, for a child to take on.
pub(crate) fn privileges(account: &Account) -> Privileges {
    Privileges { uid: account.uid, gid: account.gid, groups: account.groups.clone() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use nix::sys::signal::Signal;
    use nix::unistd::{Gid, Pid, Uid, geteuid};

    use super::*;

    #[test]
    fn a_login_signals_no_more_than_it_may() {
        if !geteuid().is_root() {
            return;
        }
        // Root's process in a login's group, as `sudo` leaves it.
        let mut other = std::process::Command::new("sleep");
        let mut other = other.arg("1000").process_group(0).spawn().unwrap();
        let group = Pid::from_raw(i32::try_from(other.id()).unwrap());
        let stranger =
            Privileges { uid: Uid::from_raw(65_534), gid: Gid::from_raw(65_534), groups: vec![] };
        let refused = sys::signal_as(stranger, group, Signal::SIGKILL as i32).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let root = Privileges { uid: Uid::from_raw(0), gid: Gid::from_raw(0), groups: vec![] };
        sys::signal_as(root, group, Signal::SIGKILL as i32).unwrap();
        assert!(!other.wait().unwrap().success());
    }
}
