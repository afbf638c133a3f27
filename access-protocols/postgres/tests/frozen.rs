//! A database that stops answering, and is there all the same: its connection stands, and the host
//! acknowledges what it is sent. Nobody can tell it from a statement that takes long, so that it is
//! waited for; but whatever else ends a session ends it at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::time::{Duration, Instant};

use access_core::Clock;
use access_core::audit::Event;
use access_core::policy::Reason;
use access_host::SystemClock;
use access_postgres::wire::CancelRequest;
use common::script::{begin, greet, message, packet, query, scripted, until};
use common::{Gateway, PATIENCE, Postgres, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Waits for the end of the session, which is to come soon, and be for this reason.
async fn ends(gateway: &Gateway, since: Instant, reason: &str) {
    let end = gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let Event::DbSessionEnd(end) = end.event else { unreachable!() };
    assert_eq!(end.reason.unwrap().as_str(), reason);
    assert!(since.elapsed() < Duration::from_secs(5), "{reason}: {:?}", since.elapsed());
}

/// The database is told to stop what it does, on a connection of its own.
async fn stopped(listener: &TcpListener) {
    let (mut stop, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert_eq!(packet(&mut stop).await[..4], [4, 210, 22, 46]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_session_ends_it_in_the_middle_of_a_row() {
    const LIFE: Duration = Duration::from_secs(2);
    for reason in ["locked", "roles", "certificate expired", "client"] {
        let (gateway, listener) = scripted().await;
        if reason == "certificate expired" {
            gateway.rules.grant(|grant| grant.limits.expires = SystemClock.now().plus(LIFE));
        }
        let ((mut client, _), mut server) = tokio::join!(begin(&gateway, 0), greet(&listener));
        client.write_all(&message(b'Q', b"select 'row'\0")).await.unwrap();
        client.flush().await.unwrap();
        query(&mut server).await;
        let row = message(b'D', &[b'x'; 20_000]);
        server.write_all(&row[..10_000]).await.unwrap();
        client.read_exact(&mut [0; 10_000]).await.unwrap();
        // From here on the database neither says nor reads anything.
        let mut since = Instant::now();
        match reason {
            "locked" => gateway.rules.deny(|_| Some(Reason::UserLocked)),
            "roles" => {
                gateway.rules.grant(|grant| grant.database.read_only = true);
                gateway.rules.deny(|_| None);
            }
            "client" => drop(client),
            _ => since += LIFE,
        }
        match reason {
            "client" => {
                ends(&gateway, since, reason).await;
                // It finds that out when it goes on.
                let mut told = Vec::new();
                server.read_to_end(&mut told).await.unwrap();
                assert_eq!(told, message(b'X', b""));
            }
            _ => {
                stopped(&listener).await;
                ends(&gateway, since, if reason == "roles" { "locked" } else { reason }).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_no_more_of_a_copy_is_cancelled_and_left() {
    let (gateway, listener) = scripted().await;
    let ((mut client, seen), mut server) = tokio::join!(begin(&gateway, 0), greet(&listener));
    client.write_all(&message(b'Q', b"copy t from stdin\0")).await.unwrap();
    client.flush().await.unwrap();
    query(&mut server).await;
    let copies = message(b'G', &[0, 0, 0]);
    server.write_all(&copies).await.unwrap();
    until(&mut client, &copies).await;
    let rows = message(b'd', &[b'x'; 64 * 1024]);
    // Once nothing moves for half a second, all that lies between is full.
    let mut sent = 0;
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(500), client.write(&rows[sent % rows.len()..]))
            .await
    {
        sent += written.unwrap();
    }
    // Ctrl-C comes on a connection of its own, and is passed on whatever the session waits for.
    let at = seen.windows(5).position(|head| head == [b'K', 0, 0, 0, 12]).unwrap();
    let (number, secret) = seen[at + 5..at + 13].split_at(4);
    let number = u32::from_be_bytes(number.try_into().unwrap());
    let wish = CancelRequest::new(number, secret);
    let (passed, ()) = tokio::join!(gateway.server.cancel(&wish, None), stopped(&listener));
    assert!(passed);
    let since = Instant::now();
    gateway.rules.deny(|_| Some(Reason::UserLocked));
    stopped(&listener).await;
    ends(&gateway, since, "locked").await;
}

/// A process that was stopped, and goes on when this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: &str) -> Self {
        let pid = Pid::from_raw(pid.parse().unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may be gone.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_database_that_is_stopped_keeps_nobody() {
    const BUSY: &str =
        "select pid from pg_stat_activity where state = 'active' and query like 'select pg_sleep%'";
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let mut before = "0".to_owned();
    for leaves in [true, false] {
        let mut psql = gateway.psql("reader").args(["-c", "select pg_sleep(600)"]).spawn().unwrap();
        let end = Instant::now() + PATIENCE;
        let pid = loop {
            match pg.sql(&format!("{BUSY} and pid <> {before}")) {
                pid if !pid.is_empty() => break pid,
                _ => assert!(Instant::now() < end, "the statement never runs"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let _stopped = Stopped::new(&pid);
        let since = Instant::now();
        if leaves {
            psql.kill().await.unwrap();
            ends(&gateway, since, "client").await;
            before = pid;
            continue;
        }
        gateway.rules.deny(|_| Some(Reason::UserLocked));
        let output = tokio::time::timeout(PATIENCE, psql.wait_with_output()).await.unwrap();
        let told = text(&output.unwrap().stderr);
        assert!(told.contains("session ended: ") && told.contains("you are locked out"), "{told}");
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
}
