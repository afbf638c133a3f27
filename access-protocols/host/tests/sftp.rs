//! The SFTP server, with OpenSSH's own clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use access_core::Login;
use access_core::policy::Action;
use access_core::reach::{ExitStatus, Process, ProcessRequest, Program, Reach, ReachError};
use access_host::HostReach;
use access_host::sftp::serve;
use support::{Account, Door, is_root};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SERVER: &str = env!("CARGO_BIN_EXE_access-sftp-server");

/// Runs stock `sftp` over a pipe to the server; returns what it printed.
fn sftp(directory: &Path, batch: &str) -> (bool, String) {
    let mut client = Command::new("sftp")
        .args(["-q", "-b", "-", "-D", SERVER])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
    let done = client.wait_with_output().unwrap();
    let text =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.success(), text)
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend(state.to_le_bytes());
    }
    out.truncate(size);
    out
}

#[test]
fn stock_sftp_does_everything_that_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a"), "content").unwrap();
    let (done, text) = sftp(
        dir.path(),
        "pwd\nmkdir d\nput a d/b\nchmod 640 d/b\nln d/b d/hard\nln -s b d/soft\nrename d/hard d/h2\n\
         ls -l d\ndf\ncp d/b d/copy\nget d/soft fetched\nrm d/h2\nmkdir e\nrmdir e\nls -la .\n",
    );
    assert!(done, "{text}");
    assert!(text.contains(dir.path().canonicalize().unwrap().to_str().unwrap()), "{text}");
    assert!(text.contains("-rw-r-----"), "{text}");
    assert!(text.contains("d/soft"), "{text}");
    assert_eq!(fs::read(at("fetched")).unwrap(), b"content");
    assert_eq!(fs::read(at("d/copy")).unwrap(), b"content");
    assert_eq!(fs::read_link(at("d/soft")).unwrap(), Path::new("b"));
    assert!(!at("d/h2").exists() && !at("e").exists());
    for (batch, message) in [
        ("get nothing\n", "not found"),
        ("rmdir d\n", "Failure"),
        ("mkdir d\n", "Failure"),
        ("cd a/b\n", "No such file"),
    ] {
        let (done, text) = sftp(dir.path(), batch);
        assert!(!done && text.contains(message), "{batch}: {text}");
    }
}

#[test]
fn stock_scp_keeps_trees_times_and_modes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // Takes the place of `ssh`, whatever its arguments are.
    fs::write(at("ssh"), format!("#!/bin/sh\ncd '{}'\nexec {SERVER}\n", dir.path().display()))
        .unwrap();
    fs::set_permissions(at("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let big = noise(20 << 20);
    fs::create_dir_all(at("tree/deep/er")).unwrap();
    fs::write(at("tree/deep/er/big"), &big).unwrap();
    fs::write(at("tree/empty"), "").unwrap();
    // A name that is no UTF-8.
    let odd = OsStr::from_bytes(b"odd \xff name");
    fs::write(at("tree").join(odd), "odd").unwrap();
    fs::set_permissions(at("tree/empty"), fs::Permissions::from_mode(0o751)).unwrap();
    let when = std::time::UNIX_EPOCH + std::time::Duration::from_secs(981_173_106);
    fs::File::open(at("tree/empty")).unwrap().set_modified(when).unwrap();
    for (from, to, result) in [("tree", "host:up", "up"), ("host:up", "down", "down")] {
        let done = Command::new("scp")
            .args(["-q", "-p", "-r", "-S"])
            .arg(at("ssh"))
            .args([from, to])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let result = at(result);
        assert!(fs::read(result.join("deep/er/big")).unwrap() == big, "the big file differs");
        assert_eq!(fs::read(result.join(odd)).unwrap(), b"odd");
        let empty = fs::metadata(result.join("empty")).unwrap();
        assert_eq!(empty.mode() & 0o7777, 0o751);
        assert_eq!(empty.mtime(), 981_173_106);
    }
}

/// A request without its length.
fn request(kind: u8, id: u32, fields: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(id.to_be_bytes());
    for field in fields {
        body.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
        body.extend(*field);
    }
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn hello() -> Vec<u8> {
    framed(&[1, 0, 0, 0, 3])
}

/// Type and number of each reply, and the code of those that are a status.
fn replies(mut bytes: &[u8]) -> Vec<(u8, u32, Option<u32>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
        let body = &bytes[4..4 + length];
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        found.push((body[0], number(1), (body[0] == 101).then(|| number(5))));
        bytes = &bytes[4 + length..];
    }
    found
}

#[test]
fn hostile_packets_end_the_session_or_are_refused() {
    // A length beyond the bound, none at all, a request before the greeting, an empty body.
    for input in
        [vec![0xff; 64], framed(&[]), request(17, 1, &[b"/"]), [hello(), framed(&[17])].concat()]
    {
        let mut output = Vec::new();
        let err = serve(&input[..], &mut output).unwrap_err();
        assert_eq!(err.kind(), std::io::ErrorKind::InvalidData);
    }
    let mut reading = request(5, 7, &[&[0; 8]]);
    reading.extend([0; 12]);
    let len = u32::try_from(reading.len() - 4).unwrap();
    reading[..4].copy_from_slice(&len.to_be_bytes());
    let input = [
        hello(),
        // A field that is longer than the packet, an unknown type, an unknown extension, a
        // handle that is none, one of the wrong size, a path with a zero byte.
        framed(&[17, 0, 0, 0, 2, 0, 0, 0, 9, b'x']),
        request(99, 3, &[]),
        request(200, 4, &[b"nonsense@example.com"]),
        request(4, 5, &[&[0; 8]]),
        request(4, 6, &[b"abc"]),
        reading,
        request(17, 8, &[b"a\0b"]),
        // Cut off: the session just ends.
        vec![0, 0, 0, 9, 1],
    ]
    .concat();
    let mut output = Vec::new();
    serve(&input[..], &mut output).unwrap();
    let expected = [(2, 5), (3, 8), (4, 8), (5, 4), (6, 5), (7, 4), (8, 5)];
    let expected: Vec<_> = expected.into_iter().map(|(id, code)| (101, id, Some(code))).collect();
    assert_eq!(replies(&output)[1..], expected);
}

#[test]
fn handles_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().as_os_str().as_bytes();
    let mut input = hello();
    for id in 0..1000 {
        input.extend(request(11, id, &[path]));
    }
    let mut output = Vec::new();
    serve(&input[..], &mut output).unwrap();
    let opened = replies(&output).iter().filter(|(kind, ..)| *kind == 102).count();
    assert_eq!(opened, 900);
}

async fn start(reach: &HostReach, account: &Account) -> Process {
    let door = Door::new();
    let login = Login::new(&account.name).unwrap();
    let permit = door.permit(Action::SshSftp { login }).await;
    let request = ProcessRequest { program: Program::Sftp, ..Default::default() };
    reach.spawn(&permit, request).await.unwrap()
}

/// The home directory that a server tells of, and that it ends when its input does.
async fn speaks_from_home(mut process: Process, account: &Account) {
    process.stdin.write_all(&[hello(), request(16, 1, &[b"."])].concat()).await.unwrap();
    process.stdin.shutdown().await.unwrap();
    let mut output = Vec::new();
    process.stdout.read_to_end(&mut output).await.unwrap();
    let home = account.home.canonicalize().unwrap();
    let home = home.as_os_str().as_bytes();
    assert!(output.windows(home.len()).any(|part| part == home));
    assert_eq!(process.control.wait().await.unwrap(), ExitStatus::Code(0));
}

#[tokio::test]
async fn it_runs_as_the_login_from_where_the_login_cannot_go() {
    let account = Account::new();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("program");
    fs::copy(SERVER, &copy).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let reach = HostReach::builder().sftp_executable(&copy).build().unwrap();
    // Replaced on disk, as an upgrade does; what was opened stays.
    fs::remove_file(&copy).unwrap();
    let process = start(&reach, &account).await;
    let status = fs::read_to_string(format!("/proc/{}/status", process.control.id())).unwrap();
    if is_root() {
        let uid = nix::unistd::User::from_name(&account.name).unwrap().unwrap().uid;
        assert!(status.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}")), "{status}");
    }
    speaks_from_home(process, &account).await;
}

/// Their shell would let them do little or nothing, and SFTP does not pass through it.
#[tokio::test]
async fn accounts_whose_shell_holds_them_back_get_no_files() {
    if !is_root() {
        return; // Accounts with other shells can't be made.
    }
    let reach = HostReach::builder().sftp_executable(SERVER).build().unwrap();
    for shell in ["/usr/sbin/nologin", "/bin/rbash", "/opt/nowhere/menu"] {
        let (door, account) = (Door::new(), Account::with_shell(shell));
        let login = Login::new(&account.name).unwrap();
        let permit = door.permit(Action::SshSftp { login }).await;
        let request = ProcessRequest { program: Program::Sftp, ..Default::default() };
        let err = reach.spawn(&permit, request).await.unwrap_err();
        assert!(matches!(err, ReachError::Account { .. }), "{err:?}");
        assert!(err.to_string().contains(shell), "{err}");
    }
}

#[tokio::test]
async fn a_program_of_the_host_serves_too() {
    let account = Account::new();
    let reach = HostReach::builder().sftp_server("/bin/sh", ["-c".into(), SERVER.into()]);
    let reach = reach.build().unwrap();
    if is_root() {
        // What is built here may lie where a login of its own cannot go.
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = dir.path().join("program");
        fs::copy(SERVER, &copy).unwrap();
        let reach = HostReach::builder().sftp_server(&copy, []).build().unwrap();
        return speaks_from_home(start(&reach, &account).await, &account).await;
    }
    speaks_from_home(start(&reach, &account).await, &account).await;
}
