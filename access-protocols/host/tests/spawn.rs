//! Processes without a terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::Command;

use access_core::Login;
use access_core::policy::Action;
use access_core::reach::{ExitStatus, Process, ProcessRequest, Program, Pty, Reach, ReachError};
use support::{Account, Door, command, finish, is_root, reach, run, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn code(code: u32) -> ExitStatus {
    ExitStatus::Code(code)
}

#[tokio::test]
async fn a_child_is_the_login_and_nobody_else() {
    let (door, account) = (Door::new(), Account::new());
    let expected = Command::new("id").arg("-G").arg(&account.name).output().unwrap().stdout;
    let (out, err, status) = run(&door, &account.name, "id -un; id -run; pwd; id -G").await;
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some(account.name.as_str()), "{err}");
    assert_eq!(lines.next(), Some(account.name.as_str()));
    assert_eq!(lines.next(), account.home.to_str());
    let sorted = |text: &str| {
        let mut ids: Vec<u32> = text.split_whitespace().map(|id| id.parse().unwrap()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(lines.next().unwrap()), sorted(&String::from_utf8(expected).unwrap()));
    assert_eq!(status, code(0));
}

#[tokio::test]
async fn privileges_are_gone_for_good() {
    if !is_root() {
        return;
    }
    let (door, account) = (Door::new(), Account::new());
    let line = "grep -E '^(Uid|Gid|CapPrm|CapEff|CapAmb|SigBlk|SigIgn)' /proc/self/status; \
                perl -e '$< = 0; $> = 0; print \"still $>\\n\"'; cat /etc/shadow; umask";
    let (out, err, _) = run(&door, &account.name, line).await;
    let uid = nix::unistd::User::from_name(&account.name).unwrap().unwrap().uid;
    assert!(out.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}")), "{out}");
    for empty in ["CapPrm", "CapEff", "CapAmb", "SigBlk", "SigIgn"] {
        assert!(out.contains(&format!("{empty}:\t0000000000000000")), "{empty}: {out}");
    }
    assert!(!out.contains("still 0"), "{out}");
    assert!(err.contains("/etc/shadow: Permission denied"), "{err}");
    assert!(out.ends_with("0022\n"), "{out}");
}

#[tokio::test]
async fn nothing_of_this_process_is_in_the_child() {
    let (door, account) = (Door::new(), Account::new());
    // One that std did not mark, as a careless library would leave it.
    let leak = nix::unistd::dup(std::io::stdin()).unwrap();
    let request = ProcessRequest {
        environment: vec![("LANG".into(), "C.UTF-8".into()), ("LD_PRELOAD".into(), "/x".into())],
        ..command("ls -l /proc/self/fd; echo; env; echo; ps -o sid= -p $$; echo $$")
    };
    let process = reach().spawn(&door.session(&account.name).await, request).await.unwrap();
    let id = process.control.id();
    let (out, ..) = finish(process).await;
    drop(leak);
    let mut parts = out.split("\n\n");
    let fds = parts.next().unwrap();
    // Three of its own, and the directory that is being listed; the first line is the total.
    assert_eq!(fds.lines().count(), 5, "{fds}");
    let mut names: Vec<&str> = parts
        .next()
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name))
        .filter(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER"]);
    // A session of its own, whose leader it is.
    let ids: Vec<u32> = parts.next().unwrap().lines().map(|l| l.trim().parse().unwrap()).collect();
    assert_eq!(ids, [id, id]);
}

#[tokio::test]
async fn the_end_is_told_as_it_was() {
    let (door, account) = (Door::new(), Account::new());
    assert_eq!(run(&door, &account.name, "exit 7").await.2, code(7));
    assert_eq!(run(&door, &account.name, "no-such-command").await.2, code(127));
    let (.., status) = run(&door, &account.name, "kill -KILL $$").await;
    assert_eq!(status, ExitStatus::Signal { name: "KILL".into(), core_dumped: false });
    let process = start(&door, &account.name, "exec sleep 1000").await;
    process.control.signal("TERM").unwrap();
    let (one, two) = tokio::join!(process.control.wait(), process.control.wait());
    assert_eq!(one.unwrap(), ExitStatus::Signal { name: "TERM".into(), core_dumped: false });
    assert!(matches!(two.unwrap(), ExitStatus::Signal { .. }));
    // Reaped, and no signal goes to whoever has its id next.
    assert!(!support::exists(process.control.id()));
    assert!(process.control.signal("TERM").is_err());
    let unknown = process.control.signal("STOP").unwrap_err();
    assert_eq!(unknown.kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn the_end_of_input_is_passed_on() {
    let (door, account) = (Door::new(), Account::new());
    let Process { mut stdin, mut stdout, control, .. } =
        start(&door, &account.name, "cat; echo end; cat >&2").await;
    stdin.write_all(b"hello\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut out = String::new();
    stdout.read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "hello\nend\n");
    assert_eq!(control.wait().await.unwrap(), code(0));
    assert!(stdin.write_all(b"more").await.is_err());
}

#[tokio::test]
async fn much_passes_unchanged_both_ways() {
    const SIZE: usize = 64 << 20;
    let (door, account) = (Door::new(), Account::new());
    let Process { mut stdin, mut stdout, control, .. } = start(&door, &account.name, "cat").await;
    let pattern: Vec<u8> =
        (0..1_000_003_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let writing = async {
        let mut left = SIZE;
        while left > 0 {
            let take = left.min(pattern.len());
            stdin.write_all(&pattern[..take]).await.unwrap();
            left -= take;
        }
        stdin.shutdown().await.unwrap();
    };
    let reading = async {
        let mut buf = vec![0; pattern.len()];
        let (mut total, mut at) = (0, 0);
        loop {
            let room = pattern.len() - at;
            let read = stdout.read(&mut buf[..room]).await.unwrap();
            if read == 0 {
                return total;
            }
            assert!(buf[..read] == pattern[at..at + read], "differs near {total}");
            total += read;
            at = (at + read) % pattern.len();
        }
    };
    let ((), total) = tokio::join!(writing, reading);
    assert_eq!(total, SIZE);
    assert_eq!(control.wait().await.unwrap(), code(0));
}

#[tokio::test]
async fn what_the_permit_does_not_say_is_not_done() {
    let (door, account) = (Door::new(), Account::new());
    let reach = reach();
    let sftp = ProcessRequest { program: Program::Sftp, ..Default::default() };
    let session = door.session(&account.name).await;
    assert!(matches!(reach.spawn(&session, sftp).await, Err(ReachError::NotPermitted(_))));
    assert!(matches!(reach.dial(&session).await, Err(ReachError::NotPermitted(_))));
    let files = door.permit(Action::SshSftp { login: Login::new(&account.name).unwrap() }).await;
    assert!(matches!(reach.spawn(&files, command("id")).await, Err(ReachError::NotPermitted(_))));
    door.policy.permit_pty.store(false, std::sync::atomic::Ordering::SeqCst);
    let without = door.session(&account.name).await;
    let pty = Pty { term: "xterm".into(), size: Default::default(), modes: vec![] };
    let request = ProcessRequest { pty: Some(pty), ..command("id") };
    let err = reach.spawn(&without, request).await.unwrap_err();
    assert_eq!(err.to_string(), "the permit does not allow a terminal");
}

#[tokio::test]
async fn accounts_that_cannot_be_used_are_named_in_the_error() {
    let door = Door::new();
    let permit = door.session("nobody-of-that-name").await;
    let err = reach().spawn(&permit, command("id")).await.unwrap_err();
    assert_eq!(
        err.to_string(),
        "cannot act as \"nobody-of-that-name\" here: there is no such account on this node"
    );
    if !is_root() {
        let permit = door.session("root").await;
        let err = reach().spawn(&permit, command("id")).await.unwrap_err();
        assert!(err.to_string().contains("does not run as root"), "{err}");
    }
}

#[tokio::test]
async fn a_command_with_a_zero_byte_is_refused() {
    let (door, account) = (Door::new(), Account::new());
    let request =
        ProcessRequest { program: Program::Command(b"echo a\0b".to_vec()), ..Default::default() };
    let permit = door.session(&account.name).await;
    assert!(matches!(reach().spawn(&permit, request).await, Err(ReachError::Io { .. })));
}

#[tokio::test]
async fn shells_are_login_shells() {
    let (door, account) = (Door::new(), Account::new());
    let permit = door.session(&account.name).await;
    let mut process = reach().spawn(&permit, ProcessRequest::default()).await.unwrap();
    process.stdin.write_all(b"shopt login_shell; echo $0\n").await.unwrap();
    let (out, ..) = finish(process).await;
    assert!(out.ends_with("on\n-bash\n"), "{out}");
}
