//! The account that a process runs as.

use std::ffi::CString;
use std::io::Read;
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
    fn nologin_closes_with_its_own_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(nologin_text(file.path()).unwrap(), "logins are closed on this node");
        std::fs::write(file.path(), "back at noon\n").unwrap();
        assert_eq!(nologin_text(file.path()).unwrap(), "back at noon");
        assert_eq!(nologin_text(Path::new("/nonexistent")), None);
    }
}
