//! The environment of a login, built from nothing.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use crate::account::Account;

/// Where commands are looked for, as Debian's `sshd` has it.
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/games";
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The most variables that a caller may bring along.
const MAX_VARIABLES: usize = 256;

/// What the account decides, whatever the caller says.
const OWN: [&str; 7] = ["HOME", "USER", "LOGNAME", "SHELL", "PATH", "TERM", "SSH_TTY"];

/// A terminal, as far as the environment tells of it.
pub(crate) struct Terminal<'a> {
    pub(crate) term: &'a str,
    pub(crate) path: &'a str,
}

/// The variables of a login. The caller's come from an allow-list of its own; those that the
/// account decides, that steer the dynamic linker, or that are malformed are left out.
pub(crate) fn build(
    account: &Account,
    terminal: Option<Terminal<'_>>,
    from_caller: &[(String, String)],
) -> Vec<CString> {
    let mut variables = Vec::new();
    let mut set = |name: &[u8], value: &[u8]| {
        variables.extend(CString::new([name, b"=", value].concat()).ok());
    };
    set(b"HOME", account.home.as_os_str().as_bytes());
    set(b"USER", account.name.as_bytes());
    set(b"LOGNAME", account.name.as_bytes());
    set(b"SHELL", account.shell.as_os_str().as_bytes());
    set(b"PATH", if account.uid.is_root() { ROOT_PATH } else { USER_PATH }.as_bytes());
    if let Some(terminal) = terminal {
        set(b"TERM", terminal.term.as_bytes());
        set(b"SSH_TTY", terminal.path.as_bytes());
    }
    let mut seen: Vec<&str> = Vec::new();
    // The last of several values wins, as if they had been set one after another.
    for (name, value) in from_caller.iter().rev().filter(|(name, _)| may_be_set(name)) {
        if seen.len() == MAX_VARIABLES {
            break;
        }
        if !seen.contains(&name.as_str()) {
            seen.push(name);
            set(name.as_bytes(), value.as_bytes());
        }
    }
    variables
}

fn may_be_set(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['=', '\0'])
        && !OWN.contains(&name)
        && !name.starts_with("LD_")
}

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::*;

    #[test]
    fn the_caller_adds_but_does_not_replace() {
        let account = Account {
            name: "alice".into(),
            uid: Uid::from_raw(1000),
            gid: Gid::from_raw(1000),
            groups: vec![],
            home: "/home/alice".into(),
            shell: "/bin/bash".into(),
        };
        let caller: Vec<(String, String)> = [
            ("LANG", "de_DE.UTF-8"),
            ("PATH", "/tmp"),
            ("LD_PRELOAD", "/tmp/x.so"),
            ("A=B", "c"),
            ("", "x"),
            ("LC_ALL", "C"),
            ("LC_ALL", "POSIX"),
            ("BAD", "nul\0"),
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .to_vec();
        let terminal = Terminal { term: "xterm", path: "/dev/pts/9" };
        let mut found: Vec<String> = build(&account, Some(terminal), &caller)
            .into_iter()
            .map(|v| v.into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "HOME=/home/alice",
                "LANG=de_DE.UTF-8",
                "LC_ALL=POSIX",
                "LOGNAME=alice",
                "PATH=/usr/local/bin:/usr/bin:/bin:/usr/games",
                "SHELL=/bin/bash",
                "SSH_TTY=/dev/pts/9",
                "TERM=xterm",
                "USER=alice",
            ]
        );
    }
}
