//! The account that a process runs as.

use std::ffi::CString;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use access_core::reach::ReachError;
use access_core::time::Timestamp;
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};

/// What the system's user database says about an account.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// Every group, the primary one included.
    pub(crate) groups: Vec<Gid>,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
}

impl Account {
    /// Looks an account up and decides whether this process can act as it. Blocks: the database
    /// may lie behind a network.
    ///
    /// # Errors
    /// [`ReachError::Account`] with a text for the user.
    pub(crate) fn find(login: &str, now: Timestamp) -> Result<Self, ReachError> {
        let refuse = |why: String| ReachError::Account { login: login.to_owned(), why };
        let user = User::from_name(login)
            .map_err(|err| refuse(format!("the user database can't be read: {err}")))?
            .ok_or_else(|| refuse("there is no such account on this node".into()))?;
        // Some databases fold case. Roles were decided for the name as it was asked for, so that
        // another spelling must not lead to an account that they deny.
        if user.name != login {
            return Err(refuse(format!("the account is called {:?} on this node", user.name)));
        }
        let own = geteuid();
        if !own.is_root() && own != user.uid {
            return Err(refuse(format!(
                "this node does not run as root, so that it serves only its own user, {}",
                User::from_uid(own).ok().flatten().map_or_else(|| own.to_string(), |u| u.name)
            )));
        }
        if own.is_root() && expired(Path::new("/etc/shadow"), login, now) {
            return Err(refuse("the account has expired".into()));
        }
        if !user.uid.is_root()
            && let Some(text) = nologin_text(Path::new("/etc/nologin"))
        {
            return Err(refuse(text));
        }
        let c_name = CString::new(login).map_err(|_| refuse("its name is malformed".into()))?;
        let groups = getgrouplist(&c_name, user.gid)
            .map_err(|err| refuse(format!("its groups can't be read: {err}")))?;
        let shell =
            if user.shell.as_os_str().is_empty() { PathBuf::from("/bin/sh") } else { user.shell };
        Ok(Self { name: user.name, uid: user.uid, gid: user.gid, groups, home: user.dir, shell })
    }

    /// Refuses accounts that are not meant to have files served around their shell, such as those
    /// with `nologin` or `git-shell`: SFTP does not pass through the shell that would limit them.
    ///
    /// # Errors
    /// [`ReachError::Account`] with a text for the user.
    pub(crate) fn check_files(&self) -> Result<(), ReachError> {
        if is_open(&self.shell, Path::new("/etc/shells")) {
            return Ok(());
        }
        Err(ReachError::Account {
            login: self.name.clone(),
            why: format!(
                "the account's shell, {}, is none that gives access to all files (see /etc/shells)",
                self.shell.display()
            ),
        })
    }

    /// Whether a process must change its identity to become this account.
    pub(crate) fn needs_change(&self) -> bool {
        geteuid().is_root()
    }
}

/// The text of `/etc/nologin` when the file is there: it keeps everybody but root out.
fn nologin_text(path: &Path) -> Option<String> {
    if !path.exists() {
        return None;
    }
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(1024).read_to_string(&mut text);
    }
    let text = text.trim();
    Some(if text.is_empty() { "logins are closed on this node".into() } else { text.to_owned() })
}

/// Shells that hold somebody back, and are listed as login shells on some systems nevertheless.
const RESTRICTED: &[&str] =
    &["nologin", "false", "true", "git-shell", "rbash", "rksh", "rksh93", "rzsh"];
/// What counts where the system does not list its shells.
const USUAL: &str = "/bin/sh\n/bin/bash\n";

/// Whether a shell leaves its user free, as FTP daemons judge it: it is listed in shells(5).
fn is_open(shell: &Path, shells: &Path) -> bool {
    let restricted =
        shell.file_name().is_some_and(|name| RESTRICTED.iter().any(|known| name == *known));
    // An empty one would be found in empty lines.
    if restricted || !shell.is_absolute() {
        return false;
    }
    let listed = match std::fs::read(shells) {
        Ok(listed) => listed,
        Err(err) if err.kind() == ErrorKind::NotFound => USUAL.into(),
        Err(err) => {
            tracing::warn!(%err, "{} cannot be read: no files are served", shells.display());
            return false;
        }
    };
    listed
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii())
        .any(|line| line == shell.as_os_str().as_bytes())
}

/// Whether the eighth field of the account's line in the shadow file (days since the epoch, see
/// shadow(5)) lies in the past. Accounts that are not listed there do not expire by it.
fn expired(shadow: &Path, login: &str, now: Timestamp) -> bool {
    let Ok(text) = std::fs::read_to_string(shadow) else { return false };
    let today = now.as_secs() / 86_400;
    text.lines()
        .filter_map(|line| line.strip_prefix(login)?.strip_prefix(':'))
        .filter_map(|rest| rest.split(':').nth(6)?.parse::<i64>().ok())
        .any(|day| day > 0 && day < today)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_secs(20_000 * 86_400)
    }

    #[test]
    fn unknown_accounts_and_other_spellings_are_refused() {
        let err = Account::find("no-such-user-here", now()).unwrap_err();
        assert_eq!(
            err.to_string(),
            "cannot act as \"no-such-user-here\" here: there is no such account on this node"
        );
        assert!(Account::find("ROOT", now()).is_err());
    }

    #[test]
    fn the_shadow_file_tells_expiry() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "old:!:19000:0:99999:7::19999:\nnew:!:19000:0:99999:7::20001:\nany:!:1:0:9:7:::\n",
        )
        .unwrap();
        assert!(expired(file.path(), "old", now()));
        assert!(!expired(file.path(), "new", now()));
        assert!(!expired(file.path(), "any", now()));
        assert!(!expired(file.path(), "ol", now()));
        assert!(!expired(Path::new("/nonexistent"), "old", now()));
    }

    #[test]
    fn shells_that_hold_somebody_back_are_known() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "# valid login shells\n/bin/bash\n /opt/fish # mine\n/bin/rbash\n\
                    /usr/sbin/nologin\n/usr/bin/git-shell\n";
        std::fs::write(file.path(), text).unwrap();
        let open = |shell: &str| is_open(Path::new(shell), file.path());
        assert!(open("/bin/bash") && open("/opt/fish"));
        for shell in [
            "/bin/zsh",
            "/bin/bas",
            "bash",
            "",
            "#",
            "/bin/rbash",
            "/usr/sbin/nologin",
            "/usr/bin/git-shell",
            "/bin/false",
        ] {
            assert!(!open(shell), "{shell}");
        }
        let without = |shell: &str| is_open(Path::new(shell), Path::new("/nonexistent"));
        assert!(without("/bin/sh") && without("/bin/bash"));
        assert!(!without("/opt/fish") && !without("/usr/sbin/nologin"));
        // It is there, but cannot be read.
        assert!(!is_open(Path::new("/bin/bash"), Path::new("/proc")));
    }

    #[test]
    fn nologin_closes_with_its_own_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(nologin_text(file.path()).unwrap(), "logins are closed on this node");
        std::fs::write(file.path(), "back at noon\n").unwrap();
        assert_eq!(nologin_text(file.path()).unwrap(), "back at noon");
        assert_eq!(nologin_text(Path::new("/nonexistent")), None);
    }
}
