//! What ends a session, and what is recorded of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::time::Duration;

use access_core::audit::Event;
use access_core::policy::{Action, Reason};
use access_core::recording::{Ending, MemoryRecorder, RecordingReader, What};
use access_core::role::RecordMode;
use access_ssh::SshOptions;
use common::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn withdraw(node: &Node) {
    node.rules.deny(|action, _| {
        matches!(action, Action::SshSession { .. }).then_some(Reason::UserLocked)
    });
}

/// The output that each recording holds.
fn recorded(recorder: &MemoryRecorder) -> Vec<(String, Ending)> {
    recorded_both(recorder).into_iter().map(|(_, shown, ending)| (shown, ending)).collect()
}

/// The input and the output that each recording holds.
fn recorded_both(recorder: &MemoryRecorder) -> Vec<(String, String, Ending)> {
    recorder
        .recordings()
        .into_iter()
        .map(|recording| {
            let mut reader = RecordingReader::trusting_nobody();
            reader.push(&recording.bytes);
            let (mut typed, mut shown) = (String::new(), String::new());
            while let Some(event) = reader.next_event() {
                match event.what {
                    What::Input(text) => typed.push_str(&text),
                    What::Output(text) => shown.push_str(&text),
                    _ => {}
                }
            }
            (typed, shown, reader.finish())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_permission_ends_a_session_within_a_second() {
    let node = Node::start().await;
    for terminal in [&["-T"][..], &["-tt"]] {
        let mut child = spawn(node.ssh(terminal, &["echo ready; sleep 1000"]));
        let mut stdout = child.stdout.take().unwrap();
        let mut ready = [0; 5];
        tokio::time::timeout(PATIENCE, stdout.read_exact(&mut ready)).await.unwrap().unwrap();
        let before = std::time::Instant::now();
        withdraw(&node);
        let mut rest = Vec::new();
        let _ = stdout.read_to_end(&mut rest).await;
        let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
        let said = text(&rest) + &text(&done.stderr);
        assert!(said.contains("session ended: access was withdrawn: you are locked out"), "{said}");
        assert_eq!(done.status.code(), Some(255));
        let end = node.named("session.end").await;
        assert_eq!(end["reason"], "access withdrawn");
        node.named("client.disconnect").await;
        node.rules.deny(|_, _| None);
    }
}

/// The client has stopped taking anything: it can't be told, and is cut off all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_ended_in_time_too() {
    let node = Node::start().await;
    let mut child = spawn(node.ssh(&[], &["cat /dev/zero"]));
    let mut stdout = child.stdout.take().unwrap();
    let mut some = vec![0; 1 << 20];
    stdout.read_exact(&mut some).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = std::time::Instant::now();
    withdraw(&node);
    let end = node.named("session.end").await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!(end["reason"], "access withdrawn");
    assert!(end["tx"].as_u64().unwrap() < 64 * 1024 * 1024, "what nobody reads is not produced");
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_end_and_busy_ones_do_not() {
    let node = Node::start().await;
    node.rules.limit(|limits| limits.idle = Some(Duration::from_millis(900)));
    let before = std::time::Instant::now();
    let done =
        node.run(&[], &["for i in 1 2 3 4 5 6; do sleep 0.3; echo $i; done; sleep 100"]).await;
    assert!(before.elapsed() > Duration::from_secs(2));
    assert_eq!(text(&done.stdout), "1\n2\n3\n4\n5\n6\n");
    assert!(text(&done.stderr).contains("nothing was sent for too long"), "{}", text(&done.stderr));
    assert_eq!(node.named("session.end").await["reason"], "idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_are_recorded_as_they_looked() {
    let node = Node::start().await;
    node.rules.limit(|limits| limits.record = RecordMode::Strict);
    let mut child = spawn(node.ssh(&["-tt"], &[]));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"echo $((6*7))-recorded; exit\n").await.unwrap();
    let done = child.wait_with_output().await.unwrap();
    let end = node.named("session.end").await;
    assert_eq!(end["session_recording"], "node");
    let recordings = recorded(&node.recorder);
    let (shown, ending) = &recordings[0];
    assert!(shown.contains("42-recorded"), "{shown}");
    assert_eq!(*shown, text(&done.stdout), "what was seen is what is kept");
    assert!(matches!(ending, Ending::Unsigned { .. }), "{ending:?}");
    let meta = &node.recorder.recordings()[0].meta;
    assert_eq!(meta.session_id.as_str(), end["sid"].as_str().unwrap());
    assert!(meta.size.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_commands_as_much_is_recorded_as_the_role_demands() {
    let node = Node::start().await;
    let command = &["head -c 3000000 /dev/zero | tr '\\0' x; echo >&2 to-stderr"];
    for (mode, least, most) in
        [(RecordMode::BestEffort, 1_000_000, 1_200_000), (RecordMode::Strict, 3_000_000, 3_001_000)]
    {
        node.rules.limit(|limits| limits.record = mode);
        let done = node.run(&[], command).await;
        assert_eq!(done.stdout.len(), 3_000_000);
        let (shown, _) = recorded(&node.recorder).pop().unwrap();
        assert!((least..most).contains(&shown.len()), "{mode:?}: {}", shown.len());
    }
}

/// What a shell is told to do by its input alone is seen nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn the_input_of_commands_without_a_terminal_is_recorded() {
    let node = Node::start().await;
    for mode in [RecordMode::BestEffort, RecordMode::Strict] {
        node.rules.limit(|limits| limits.record = mode);
        let mut child = spawn(node.ssh(&[], &["bash"]));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"true from-the-script; exit 3\n").await.unwrap();
        drop(stdin);
        let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        assert_eq!(done.status.code(), Some(3));
        let (typed, ..) = recorded_both(&node.recorder).pop().unwrap();
        assert_eq!(typed, "true from-the-script; exit 3\n", "{mode:?}");
    }
}

/// Much input is written away as it comes, so that a strict recording bears it.
#[tokio::test(flavor = "multi_thread")]
async fn large_input_is_recorded_whole_where_all_must_be() {
    let node = Node::start().await;
    node.rules.limit(|limits| limits.record = RecordMode::Strict);
    let mut child = spawn(node.ssh(&[], &["cat > /dev/null; echo done"]));
    let mut stdin = child.stdin.take().unwrap();
    let piece: Vec<u8> = (0..1 << 20).map(|_| rand::random_range(b' '..=b'~')).collect();
    let size = 24 * piece.len();
    for _ in 0..24 {
        stdin.write_all(&piece).await.unwrap();
    }
    drop(stdin);
    let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(text(&done.stdout), "done\n", "{}", text(&done.stderr));
    let (typed, ..) = recorded_both(&node.recorder).pop().unwrap();
    assert_eq!(typed.len(), size);
}

/// A flood must not hide what comes behind it.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_flood_is_recorded_and_the_gap_is_noted() {
    let node = Node::start().await;
    node.rules.limit(|limits| limits.record = RecordMode::BestEffort);
    let command = "head -c 3000000 /dev/zero | tr '\\0' x; sleep 1; echo behind-the-flood";
    let done = node.run(&[], &[command]).await;
    assert_eq!(done.stdout.len(), 3_000_000 + 17);
    let (shown, _) = recorded(&node.recorder).pop().unwrap();
    let end = &shown[shown.len() - 100..];
    assert!(end.contains("bytes are not recorded here]\r\nbehind-the-flood\n"), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_recorded_and_cannot_be_does_not_start() {
    let recorder = MemoryRecorder::new(None).with_room(0);
    let node = Node::with(SshOptions::default(), recorder).await;
    node.rules.limit(|limits| limits.record = RecordMode::Strict);
    let done = node.run(&["-tt"], &["echo in"]).await;
    assert_eq!(done.status.code(), Some(255));
    let said = text(&done.stdout);
    assert!(said.contains("this session must be recorded"), "{said}");
    assert!(!said.contains("in\r\n"));
    assert!(!node.sink.names().contains(&"session.start".to_owned()));
    node.named("session.rejected").await;

    node.rules.limit(|limits| limits.record = RecordMode::BestEffort);
    let done = node.run(&["-tt"], &["echo in"]).await;
    assert!(text(&done.stdout).contains("in\r\n"), "it goes on without");
    assert_eq!(node.named("session.start").await["session_recording"], "off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_ends_what_must_be_recorded() {
    let recorder = MemoryRecorder::new(None).with_room(20_000);
    let node = Node::with(SshOptions::default(), recorder).await;
    node.rules.limit(|limits| limits.record = RecordMode::Strict);
    let done = node.run(&["-tt"], &["while :; do head -c 2000 /dev/urandom | base64; done"]).await;
    assert_eq!(done.status.code(), Some(255));
    let said = text(&done.stdout);
    assert!(said.contains("must be recorded, which is not possible any more"));
    let end = node.named("session.end").await;
    assert_eq!(end["reason"], "recording failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_server_s_future_ends_the_session_with_an_event() {
    let node = Node::start().await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let place = std::sync::Arc::new(());
    let serving = {
        let held = std::sync::Arc::clone(&place);
        let server = std::sync::Arc::clone(&node.server);
        let resource = node.resource.id.clone();
        tokio::spawn(async move {
            use access_core::protocol::{Admission, Incoming, Protocol};
            let connection = Incoming {
                stream: Box::new(far),
                peer: None,
                resource,
                client_addr: Some("192.0.2.1:7".parse().unwrap()),
                trace_id: access_core::ids::TraceId::new("t-1").unwrap(),
                session: None,
                admission: Admission::holding(held),
            };
            server.serve(connection).await;
        })
    };
    // The stock client over the pipe: `ssh` with a proxy command that is a socket of ours.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut near = near;
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut near).await;
    });
    let identity = node.identity("id", node.wish());
    let mut command = tokio::process::Command::new("ssh");
    command
        .args(node.options(&identity))
        .args(["-p", &port.to_string(), &format!("{}@127.0.0.1", node.login), "cat"])
        .kill_on_drop(true);
    assert_eq!(std::sync::Arc::strong_count(&place), 2, "nobody has authenticated");
    let mut child = spawn(command);
    let start = node.named("session.start").await;
    assert_eq!(std::sync::Arc::strong_count(&place), 1, "the place of a stranger is free");
    assert_eq!(start["addr.remote"], "192.0.2.1:7");
    assert_eq!(start["trace_id"], "t-1");
    serving.abort();
    let end = node.named("session.end").await;
    assert_eq!(end["reason"], "agent stopped");
    let _ = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_gone_is_noticed_and_a_quiet_one_is_not() {
    let mut options = SshOptions::default();
    options.keepalive_interval = Duration::from_millis(200);
    options.keepalive_max = 2;
    let node = Node::with(options, MemoryRecorder::new(None)).await;
    let done = node.run(&[], &["sleep 1.5; echo quiet"]).await;
    assert_eq!(text(&done.stdout), "quiet\n", "it answered the probes: {}", text(&done.stderr));
    assert_eq!(node.named("session.end").await["reason"], "exit");

    let mut child = spawn(node.ssh(&[], &["echo ready; sleep 1000"]));
    let mut ready = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    node.event(|event| matches!(event, Event::SessionEnd(end) if end.reason == "client is gone"))
        .await;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    child.kill().await.unwrap();
}

/// What is typed is small: however much is held back for whoever does not read, is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_does_not_read_takes_little_memory() {
    let node = Node::start().await;
    let mut child = spawn(node.ssh(&[], &["sleep 1000"]));
    let mut stdin = child.stdin.take().unwrap();
    node.event(|event| event.name() == "session.start").await;
    let before = resident();
    let piece = vec![1u8; 1 << 16];
    let (mut sent, mut last) = (0usize, tokio::time::Instant::now());
    // Until it is not taken any more.
    while last.elapsed() < Duration::from_millis(500) {
        let write = stdin.write(&piece);
        if let Ok(n) = tokio::time::timeout(Duration::from_millis(100), write).await {
            sent += n.unwrap();
            last = tokio::time::Instant::now();
        }
        if sent > 200 << 20 {
            break;
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 60 << 20, "{grown} bytes for {sent}");
    child.kill().await.unwrap();
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}
