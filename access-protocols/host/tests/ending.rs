//! How processes end that do not end by themselves, and connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use access_core::Login;
use access_core::policy::Action;
use access_core::reach::{ExitStatus, Process, Reach, ReachError};
use access_host::HostReach;
use support::{Account, Door, PATIENCE, exists, reach, resource, start, until};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// Starts a command that prints ids of processes, one a line, and then waits; returns those.
async fn with_ids(door: &Door, login: &str, line: &str, count: usize) -> (Process, Vec<u32>) {
    let process = start(door, login, line).await;
    let Process { stdin, stdout, stderr, control } = process;
    let mut stdout = BufReader::new(stdout);
    let mut ids = Vec::new();
    while ids.len() < count {
        let mut text = String::new();
        let read = tokio::time::timeout(PATIENCE, stdout.read_line(&mut text)).await.unwrap();
        assert!(read.unwrap() > 0);
        ids.push(text.trim().parse().unwrap());
    }
    (Process { stdin, stdout: Box::new(stdout), stderr, control }, ids)
}

#[tokio::test]
async fn a_dropped_process_takes_its_group_along() {
    let (door, account) = (Door::new(), Account::new());
    let (process, ids) =
        with_ids(&door, &account.name, "sleep 1000 & echo $!; echo $$; wait", 2).await;
    assert!(ids.iter().all(|id| exists(*id)));
    drop(process);
    until("both are gone, and reaped", || !ids.iter().any(|id| exists(*id))).await;
}

#[tokio::test]
async fn who_ignores_the_hangup_is_killed() {
    let (door, account) = (Door::new(), Account::new());
    let line = "trap '' HUP TERM; sleep 1000 & echo $!; echo $$; wait";
    let (process, ids) = with_ids(&door, &account.name, line, 2).await;
    drop(process);
    until("both are gone, and reaped", || !ids.iter().any(|id| exists(*id))).await;
}

#[tokio::test]
async fn the_end_of_a_permit_is_the_end_of_the_session() {
    let (door, account) = (Door::new(), Account::new());
    // With job control every job has a group of its own; both ignore the hang-up.
    let line = "trap '' HUP; set -m; sleep 1000 & echo $!; echo $$; wait";
    let (process, ids) = with_ids(&door, &account.name, line, 2).await;
    let Process { stdin: mut input, stdout: mut output, control, .. } = process;
    let began = Instant::now();
    door.policy.withdraw();
    // A reader that waits is woken.
    let refused = output.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(input.write(b"x").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let status = tokio::time::timeout(PATIENCE, control.wait()).await.unwrap().unwrap();
    assert_eq!(status, ExitStatus::Signal { name: "KILL".into(), core_dumped: false });
    until("both are gone, and reaped", || !ids.iter().any(|id| exists(*id))).await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_permit_that_has_ended_starts_nothing() {
    let (door, account) = (Door::new(), Account::new());
    let permit = door.session(&account.name).await;
    door.policy.withdraw();
    let err = reach().spawn(&permit, support::command("id")).await.unwrap_err();
    assert!(err.to_string().contains("access was withdrawn"), "{err}");
}

#[tokio::test]
async fn what_is_left_in_the_background_lives_on() {
    let (door, account) = (Door::new(), Account::new());
    let line = "sleep 1000 > /dev/null 2>&1 < /dev/null & echo $!";
    let (process, ids) = with_ids(&door, &account.name, line, 1).await;
    assert_eq!(process.control.wait().await.unwrap(), ExitStatus::Code(0));
    let leader = process.control.id();
    drop(process);
    until("the leader is reaped", || !exists(leader)).await;
    assert!(exists(ids[0]));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(ids[0]).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn nothing_is_left_as_a_zombie() {
    let (door, account) = (Door::new(), Account::new());
    let mut ids = Vec::new();
    for _ in 0..20 {
        let process = start(&door, &account.name, "exit 0").await;
        ids.push(process.control.id());
        drop(process);
    }
    until("all are reaped", || !ids.iter().any(|id| exists(*id))).await;
}

fn forward(host: &str, port: u16) -> Action {
    Action::SshForward { login: Login::new("root").unwrap(), host: host.into(), port }
}

#[tokio::test]
async fn a_connection_goes_where_the_permit_says_and_ends_with_it() {
    let door = Door::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let permit = door.permit(forward("localhost", port)).await;
    let mut stream = reach().dial(&permit).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut buf = [0; 5];
    peer.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"hello");
    door.policy.withdraw();
    let err = stream.read(&mut buf).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::PermissionDenied);
    // A permit that has ended opens nothing.
    assert!(matches!(reach().dial(&permit).await, Err(ReachError::Io { .. })));
}

#[tokio::test]
async fn resources_are_where_the_routes_say() {
    let door = Door::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reach =
        HostReach::builder().route(resource("db/orders"), address).unwrap().build().unwrap();
    let login = Login::new("app").unwrap();
    let action = Action::Database { user: login, database: "orders".into() };
    let permit = door.permit_on(action.clone(), "db/orders").await;
    let _stream = reach.dial(&permit).await.unwrap();
    listener.accept().await.unwrap();
    let permit = door.permit_on(action, "db/others").await;
    let err = reach.dial(&permit).await.unwrap_err();
    assert!(err.to_string().contains("no address is configured"), "{err}");
    assert!(HostReach::builder().route(resource("db/orders"), "nonsense").is_err());
}
