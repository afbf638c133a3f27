//! Sessions as the stock OpenSSH client has them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_and_is_accounted_for() {
    let node = Node::start().await;
    let done = node.run(&[], &["echo out; echo err >&2; exit 7"]).await;
    assert_eq!(
        (text(&done.stdout), text(&done.stderr), done.status.code()),
        ("out\n".into(), "err\n".into(), Some(7))
    );
    let exec = node.named("exec").await;
    assert_eq!(exec["exitCode"], 7);
    assert_eq!(exec["command"], "echo out; echo err >&2; exit 7");
    let end = node.named("session.end").await;
    assert_eq!((&end["reason"], &end["tx"]), (&"exit".into(), &8.into()));
    assert_eq!(end["user"], "alice");
    assert_eq!(end["login"], node.login.as_str());
    assert_eq!(end["sid"], exec["sid"]);
    let names = node.sink.names();
    assert_eq!(names, ["access.decision", "session.start", "exec", "session.end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_knows_where_it_comes_from() {
    let node = Node::start().await;
    let done = node.run(&[], &["echo $SSH_CLIENT; echo $SSH_CONNECTION"]).await;
    let shown = text(&done.stdout);
    let words: Vec<Vec<&str>> = shown.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(words[0].len(), 3, "{shown:?}");
    assert_eq!((words[0][0], words[0][2]), ("127.0.0.1", "65535"));
    assert_eq!(words[1], ["127.0.0.1", words[0][1], "UNKNOWN", "65535"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_come_through_as_signals() {
    let node = Node::start().await;
    let done = node.run(&["-v"], &["kill -TERM $$"]).await;
    assert_eq!(done.status.code(), Some(255));
    assert!(text(&done.stderr).contains("exit-signal"), "{}", text(&done.stderr));
    assert_eq!(node.named("session.end").await["exit_signal"], "TERM");
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_ends_where_the_client_ends_it() {
    let node = Node::start().await;
    let mut child = spawn(node.ssh(&[], &["cat; echo done"]));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"some lines\n").await.unwrap();
    drop(stdin);
    let done = child.wait_with_output().await.unwrap();
    assert_eq!(text(&done.stdout), "some lines\ndone\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_its_size_and_its_type() {
    let node = Node::start().await;
    let mut command = node.ssh(&["-tt"], &["stty size; echo $TERM; tty; exit 3"]);
    command.env("TERM", "xterm-256color");
    let done = output(command).await;
    let shown = text(&done.stdout);
    assert!(shown.contains("xterm-256color\r\n/dev/pts/"), "{shown:?}");
    assert_eq!(done.status.code(), Some(3));
    let start = node.named("session.start").await;
    assert_eq!(start["interactive"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interactive_shell_answers() {
    let node = Node::start().await;
    let mut child = spawn(node.ssh(&["-tt"], &[]));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"echo $((40+2))x; exit 5\n").await.unwrap();
    let done = child.wait_with_output().await.unwrap();
    assert!(text(&done.stdout).contains("42x"), "{}", text(&done.stdout));
    assert_eq!(done.status.code(), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_harmless_variables_are_taken() {
    let node = Node::start().await;
    let mut command = node.ssh(
        &["-o", "SendEnv=LC_ACCESS LD_PRELOAD EVIL"],
        &["echo \"$LC_ACCESS|$EVIL|$LD_PRELOAD|\""],
    );
    command.env("LC_ACCESS", "yes").env("EVIL", "no");
    let done = output(command).await;
    assert_eq!(text(&done.stdout), "yes|||\n");
}

/// Sixty-four megabytes through `cat`, both ways at once: neither side may wait for the other.
#[tokio::test(flavor = "multi_thread")]
async fn much_goes_both_ways_at_once() {
    let node = Node::start().await;
    let size = 64 * 1024 * 1024usize;
    let block: [u8; 65_521] = rand::random();
    let data = block.repeat(size / block.len() + 1).split_off(block.len() - size % block.len());
    let mut child = spawn(node.ssh(&[], &["cat"]));
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let sent = data.clone();
    let sending = tokio::spawn(async move { stdin.write_all(&sent).await.unwrap() });
    let mut got = Vec::with_capacity(size);
    tokio::time::timeout(PATIENCE * 2, stdout.read_to_end(&mut got)).await.unwrap().unwrap();
    sending.await.unwrap();
    assert!(got == data, "{} bytes came back", got.len());
    assert!(child.wait().await.unwrap().success());
}

/// A program that writes a lot and never reads must not be kept from writing by what nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn unread_input_does_not_hold_output_up() {
    let node = Node::start().await;
    let mut child = spawn(node.ssh(&[], &["head -c 50000000 /dev/zero"]));
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let sending = tokio::spawn(async move {
        let piece = vec![1u8; 1 << 20];
        while stdin.write_all(&piece).await.is_ok() {}
    });
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, stdout.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got.len(), 50_000_000);
    assert!(child.wait().await.unwrap().success());
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sessions_share_a_connection() {
    let node = Node::start().await;
    let socket = node.dir.path().join("mux");
    let path = format!("ControlPath={}", socket.display());
    let mut master = spawn(node.ssh(&["-o", "ControlMaster=yes", "-o", &path, "-N"], &[]));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !socket.exists() {
        assert!(tokio::time::Instant::now() < deadline, "the master comes up");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let runs = (0..8).map(|n| {
        let command = node.ssh(&["-o", &path], &[&format!("sleep 0.2; echo {n}")]);
        output(command)
    });
    for (n, done) in futures::future::join_all(runs).await.into_iter().enumerate() {
        assert_eq!(text(&done.stdout), format!("{n}\n"), "{}", text(&done.stderr));
    }
    let decisions = node.sink.names().iter().filter(|name| *name == "access.decision").count();
    assert_eq!(decisions, 1, "one connection, one decision");
    // One session more than the role allows.
    master.kill().await.unwrap();
}
