//! Processes on a terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use access_core::reach::{ExitStatus, Process, ProcessRequest, Program, Pty, PtySize, Reach};
use support::{Account, Door, PATIENCE, command, finish, is_root, reach};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

const VINTR: u8 = 1;
const ICRNL: u8 = 36;
const ISIG: u8 = 50;
const ECHO: u8 = 53;
const OPOST: u8 = 70;
const ONLCR: u8 = 72;
const OSPEED: u8 = 129;

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { columns, rows, ..Default::default() }
}

fn on_terminal(program: ProcessRequest, modes: &[(u8, u32)]) -> ProcessRequest {
    let pty = Pty { term: "xterm-256color".into(), size: size(101, 37), modes: modes.to_vec() };
    ProcessRequest { pty: Some(pty), ..program }
}

async fn start(door: &Door, login: &str, line: &str, modes: &[(u8, u32)]) -> Process {
    let permit = door.session(login).await;
    reach().spawn(&permit, on_terminal(command(line), modes)).await.unwrap()
}

/// Reads until a text has come.
async fn expect(out: &mut (impl AsyncRead + Unpin), text: &str) -> String {
    let mut seen = String::new();
    let reading = async {
        while !seen.contains(text) {
            let mut buf = [0; 4096];
            let read = out.read(&mut buf).await.unwrap();
            assert!(read > 0, "ended without {text:?}: {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&buf[..read]));
        }
    };
    let done = tokio::time::timeout(PATIENCE, reading).await;
    done.unwrap_or_else(|_| panic!("no {text:?}: {seen:?}"));
    seen
}

#[tokio::test]
async fn a_terminal_is_the_logins_own() {
    let (door, account) = (Door::new(), Account::new());
    let line = "tty; echo $SSH_TTY; echo $TERM; stat -c '%U %G %a' $(tty); \
                echo to-the-terminal > /dev/tty; stty size";
    let (out, _, status) = finish(start(&door, &account.name, line, &[]).await).await;
    let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{out}");
    assert_eq!(lines[1], lines[0]);
    assert_eq!(lines[2], "xterm-256color");
    if is_root() {
        assert_eq!(lines[3], format!("{} tty 620", account.name));
    }
    assert_eq!(lines[4], "to-the-terminal");
    assert_eq!(lines[5], "37 101");
    assert_eq!(status, ExitStatus::Code(0));
}

#[tokio::test]
async fn its_size_follows_the_clients() {
    let (door, account) = (Door::new(), Account::new());
    let line = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut process = start(&door, &account.name, line, &[]).await;
    expect(&mut process.stdout, "ready").await;
    process.control.resize(size(120, 50)).unwrap();
    expect(&mut process.stdout, "50 120").await;
    assert_eq!(process.control.wait().await.unwrap(), ExitStatus::Code(0));
}

/// The words of a text, with one space on each side.
fn spaced(text: &str) -> String {
    format!(" {} ", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn modes_are_the_clients() {
    let (door, account) = (Door::new(), Account::new());
    let modes = [(ECHO, 0), (ICRNL, 0), (ONLCR, 0), (ISIG, 1), (VINTR, 7), (OSPEED, 9600)];
    let (out, ..) = finish(start(&door, &account.name, "stty -a", &modes).await).await;
    for part in [" -echo ", " -icrnl ", " -onlcr ", " intr = ^G;", " isig ", " speed 9600 "] {
        assert!(spaced(&out).contains(part), "{part:?} is not in {out}");
    }
    assert!(!out.contains('\r'), "{out:?}");
    let (out, ..) = finish(start(&door, &account.name, "stty -a", &[(OPOST, 1)]).await).await;
    for part in [" echo ", " icrnl ", " intr = ^C;"] {
        assert!(spaced(&out).contains(part), "{part:?} is not in {out}");
    }
    assert!(out.contains("\r\n"), "{out:?}");
}

#[tokio::test]
async fn an_interactive_shell_works() {
    let (door, account) = (Door::new(), Account::new());
    let permit = door.session(&account.name).await;
    let request = ProcessRequest { program: Program::Shell, ..Default::default() };
    let mut process = reach().spawn(&permit, on_terminal(request, &[])).await.unwrap();
    // Ctrl-C ends the job and not the shell: the terminal controls the session.
    process.stdin.write_all(b"sleep 1000 || echo interrupted-$((40 + 2))\n").await.unwrap();
    expect(&mut process.stdout, "sleep").await;
    let shell = process.control.id();
    support::until("the job runs", || {
        let children = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(children).unwrap_or_default();
        children.split_whitespace().any(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default() == "sleep\n"
        })
    })
    .await;
    process.stdin.write_all(b"\x03").await.unwrap();
    process.stdin.write_all(b"echo after-$((40 + 2))\n").await.unwrap();
    expect(&mut process.stdout, "after-42").await;
    process.stdin.shutdown().await.unwrap();
    process.stdin.write_all(b"exit 5\n").await.unwrap();
    assert_eq!(process.control.wait().await.unwrap(), ExitStatus::Code(5));
}

#[tokio::test]
async fn a_job_in_the_background_does_not_hold_the_session() {
    let (door, account) = (Door::new(), Account::new());
    // It ignores the hang-up and keeps the terminal open.
    let line = "trap '' HUP; sleep 30 & echo $!; seq 1 20000";
    let (out, _, status) = finish(start(&door, &account.name, line, &[]).await).await;
    assert_eq!(status, ExitStatus::Code(0));
    // And nothing that was written before the end is lost.
    assert!(out.ends_with("19999\r\n20000\r\n"));
    let pid: i32 = out.lines().next().unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
}

#[tokio::test]
async fn signals_go_to_the_job_in_front() {
    let (door, account) = (Door::new(), Account::new());
    let permit = door.session(&account.name).await;
    let request = on_terminal(ProcessRequest::default(), &[]);
    let mut process = reach().spawn(&permit, request).await.unwrap();
    let line = b"bash -c 'trap \"echo got-$((40 + 2)); exit\" USR1; echo rea\"\"dy; \
                 while :; do sleep 0.05; done'; exit 3\n";
    process.stdin.write_all(line).await.unwrap();
    expect(&mut process.stdout, "ready").await;
    process.control.signal("USR1").unwrap();
    expect(&mut process.stdout, "got-42").await;
    assert_eq!(process.control.wait().await.unwrap(), ExitStatus::Code(3));
}
