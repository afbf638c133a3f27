//! What is accepted is delivered: through crashes, torn lines, full disks and absent services.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use access_agent::{ClientSource, Membership, SpoolOptions, SpoolSink};
use access_core::audit::events::{
    AccessDecision, AccessDecisionCode, Outcome, SessionContext, SessionEnd, SessionStart,
    UserLogin, UserLoginCode, UserLogout,
};
use access_core::audit::{AuditError, AuditSink, Durability, Event, List};
use access_core::{ClusterName, HostId, SessionId, Timestamp, UserName};
use support::{FakeAuth, Proxy, RealClock, eventually};

fn open(dir: &Path, options: SpoolOptions) -> SpoolSink {
    let cluster = ClusterName::new(support::CLUSTER).unwrap();
    SpoolSink::open(dir, cluster, options, Arc::new(RealClock::default())).unwrap()
}

fn logout(number: usize) -> Event {
    UserLogout { user: format!("user-{number}").as_str().into(), addr_remote: None }.into()
}

fn stranger(number: usize) -> Event {
    UserLogin {
        code: UserLoginCode::LocalFailed,
        user: format!("stranger-{number}").as_str().into(),
        method: "local".into(),
        addr_remote: None,
        outcome: Outcome::failed("wrong password"),
    }
    .into()
}

fn context(session: &str) -> SessionContext {
    SessionContext {
        user: UserName::new("alice").unwrap(),
        login: None,
        sid: SessionId::new(session).unwrap(),
        server_id: HostId::new("h-1").unwrap(),
        server_hostname: None,
        proto: "ssh".into(),
        addr_remote: None,
        addr_local: None,
        user_roles: List::default(),
        trace_id: None,
    }
}

fn session_start(session: &str) -> Event {
    SessionStart {
        session: context(session),
        interactive: true,
        size: None,
        initial_command: List::default(),
        session_recording: None,
    }
    .into()
}

fn session_end(session: &str) -> Event {
    SessionEnd {
        session: context(session),
        interactive: true,
        session_start: Timestamp::EPOCH,
        session_stop: Timestamp::EPOCH,
        participants: List::default(),
        reason: "exit".into(),
        exit_code: Some(0),
        exit_signal: None,
        tx: 0,
        rx: 0,
        session_recording: None,
    }
    .into()
}

/// An Auth, and clients that are hosts of its cluster.
struct Uplink {
    auth: FakeAuth,
    clients: ClientSource,
    _proxy: Proxy,
    _dir: tempfile::TempDir,
}

async fn uplink() -> Uplink {
    let auth = FakeAuth::new(Arc::new(RealClock::default()));
    let (address, _) = auth.serve().await;
    let proxy = Proxy::start(&auth, address).await;
    let dir = tempfile::tempdir().unwrap();
    let options = auth.agent_options(dir.path(), proxy.address);
    let member = Membership::open(options, Arc::clone(&auth.inner.clock)).await.unwrap();
    let clients: ClientSource = Arc::new(move || member.client());
    Uplink { auth, clients, _proxy: proxy, _dir: dir }
}

impl Uplink {
    fn deliver(&self, sink: &SpoolSink) -> Delivery {
        let (sink, clients) = (sink.clone(), Arc::clone(&self.clients));
        Delivery(tokio::spawn(async move { sink.deliver(clients).await }))
    }

    /// Numbers have no hole and no event came twice under two numbers.
    fn check_whole(&self, writer: &str) -> Vec<String> {
        let events = self.auth.inner.events.lock().unwrap();
        let mut users = Vec::new();
        for (at, ((of, seq), envelope)) in events.iter().enumerate() {
            assert_eq!((of.as_str(), *seq), (writer, at as u64 + 1));
            let json = serde_json::to_value(envelope).unwrap();
            users.push(json["user"].as_str().unwrap_or_default().to_owned());
        }
        users
    }
}

struct Delivery(tokio::task::JoinHandle<()>);

impl Drop for Delivery {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn delivered(sink: &SpoolSink) {
    tokio::time::timeout(Duration::from_secs(20), sink.delivered()).await.expect("delivered");
}

/// The process that is killed: accepts until then, and says what was accepted.
#[tokio::test]
async fn child_that_is_killed() {
    let Some(dir) = std::env::var_os("SPOOL_CHILD") else { return };
    let sink = open(Path::new(&dir), SpoolOptions::default());
    assert!(sink.end_abandoned_sessions(|_| None).unwrap() <= 1);
    let round = std::env::var("SPOOL_ROUND").unwrap();
    sink.accept(session_start(&format!("s-{round}")), Durability::Soon).await.unwrap();
    for number in 0.. {
        let durability = if number % 3 == 0 { Durability::Synced } else { Durability::Soon };
        let name = format!("r{round}-{number}");
        let event = UserLogout { user: name.as_str().into(), addr_remote: None };
        sink.accept(event.into(), durability).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "accepted {name}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut accepted = Vec::new();
    const ROUNDS: usize = 12;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_is_killed", "--nocapture"])
            .env("SPOOL_CHILD", dir.path())
            .env("SPOOL_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut told =
            lines.by_ref().filter_map(|l| l.strip_prefix("accepted ").map(str::to_owned));
        accepted.extend(told.by_ref().take(5 + round * 17));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said between the last look and the kill counts too.
        accepted.extend(told);
    }
    let sink = open(dir.path(), SpoolOptions::default());
    assert_eq!(sink.end_abandoned_sessions(|_| Some(Timestamp::MAX)).unwrap(), 1);
    let uplink = uplink().await;
    let _delivery = uplink.deliver(&sink);
    delivered(&sink).await;
    let users = uplink.check_whole(sink.writer().as_str());
    for name in &accepted {
        assert_eq!(users.iter().filter(|user| *user == name).count(), 1, "{name}");
    }
    let names = uplink.auth.names();
    assert_eq!(names.iter().filter(|name| *name == "session.start").count(), ROUNDS);
    assert_eq!(names.iter().filter(|name| *name == "session.end").count(), ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_lines_are_cut_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let segment = |dir: &Path| {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|e| e == "log")).max().unwrap()
    };
    for tear in 0..40 {
        let sink = open(dir.path(), SpoolOptions::default());
        sink.accept(logout(tear), Durability::Synced).await.unwrap();
        drop(sink);
        let path = segment(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let last =
            whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = &whole[last..];
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&line[..(tear * 5) % (line.len() - 1)]).unwrap();
    }
    let sink = open(dir.path(), SpoolOptions::default());
    let uplink = uplink().await;
    let _delivery = uplink.deliver(&sink);
    delivered(&sink).await;
    let users = uplink.check_whole(sink.writer().as_str());
    let expected: Vec<_> = (0..40).map(|number| format!("user-{number}")).collect();
    assert_eq!(users, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_longer_than_what_is_read_at_once_is_delivered_whole() {
    let dir = tempfile::tempdir().unwrap();
    let uplink = uplink().await;
    {
        let sink = open(dir.path(), SpoolOptions::default());
        for batch in 0..12 {
            let events = (0..1000).map(|number| logout(batch * 1000 + number)).collect();
            sink.accept_all(events, Durability::Soon).await.unwrap();
        }
        assert!(sink.status().bytes > 2 * 1024 * 1024, "{:?}", sink.status());
        let _delivery = uplink.deliver(&sink);
        delivered(&sink).await;
        let state = dir.path().join("state.json");
        let saved = || std::fs::read_to_string(&state).unwrap().contains("\"acked\":12000");
        eventually("the state is saved", saved).await;
    }
    // Another process looks for what is new behind all that.
    let sink = open(dir.path(), SpoolOptions::default());
    sink.accept(logout(12_000), Durability::Soon).await.unwrap();
    let _delivery = uplink.deliver(&sink);
    delivered(&sink).await;
    let users = uplink.check_whole(sink.writer().as_str());
    assert_eq!(users.last().unwrap(), "user-12000");
    assert_eq!(uplink.auth.inner.emitted_twice.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_longer_than_what_is_read_at_once_hides_one_event() {
    let dir = tempfile::tempdir().unwrap();
    let uplink = uplink().await;
    {
        let sink = open(dir.path(), SpoolOptions::default());
        sink.accept_all((0..20).map(logout).collect(), Durability::Synced).await.unwrap();
    }
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let segment = files.filter(|path| path.extension().is_some_and(|name| name == "log"));
    let segment = segment.last().unwrap();
    let mut lines = std::fs::read(&segment).unwrap();
    let ends = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let tenth = ends.map(|(at, _)| at).nth(9).unwrap() + 1;
    lines.splice(tenth..tenth, vec![0; 3 * 1024 * 1024]);
    std::fs::write(&segment, lines).unwrap();
    let sink = open(dir.path(), SpoolOptions::default());
    let _delivery = uplink.deliver(&sink);
    delivered(&sink).await;
    let events = uplink.auth.inner.events.lock().unwrap();
    let numbers: Vec<_> = events.keys().map(|(_, seq)| *seq).collect();
    assert_eq!(numbers, (1..=10).chain(12..=20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_arrive_in_order_and_once_though_auth_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = SpoolOptions::default();
    options.segment_bytes = 4096;
    let uplink = uplink().await;
    uplink.auth.inner.refuse.store(true, Ordering::SeqCst);
    let writer = {
        let sink = open(dir.path(), options.clone());
        let _delivery = uplink.deliver(&sink);
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let sink = sink.clone();
                tokio::spawn(async move {
                    for number in 0..50 {
                        let event = logout(task * 50 + number);
                        sink.accept(event, Durability::Synced).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(sink.status().backlog, 400);
        uplink.auth.inner.refuse.store(false, Ordering::SeqCst);
        delivered(&sink).await;
        sink.writer()
    };
    uplink.check_whole(writer.as_str());
    // Another process on the same folder goes on where that one ended; it may deliver again
    // what that one could not remember, never under another number.
    let sink = open(dir.path(), options);
    assert_eq!(sink.writer(), writer);
    sink.accept(logout(400), Durability::Soon).await.unwrap();
    let delivery = uplink.deliver(&sink);
    delivered(&sink).await;
    let users = uplink.check_whole(writer.as_str());
    assert_eq!(users.len(), 401);
    for task in 0..8 {
        let of_task = |user: &&String| {
            user.strip_prefix("user-").and_then(|n| n.parse::<usize>().ok()).unwrap() / 50 == task
        };
        let order: Vec<_> = users.iter().filter(of_task).collect();
        let expected: Vec<_> =
            (0..order.len()).map(|n| format!("user-{}", task * 50 + n)).collect();
        assert_eq!(order, expected.iter().collect::<Vec<_>>());
    }
    let segments = || {
        let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|e| e == "log")).count()
    };
    eventually("delivered files are gone", || segments() == 1).await;
    drop(delivery);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_fill_no_disk_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = SpoolOptions::default();
    options.stranger_bytes = 64 * 1024;
    options.reserve_bytes = 0;
    const FLOOD: usize = 5000;
    let sink = open(dir.path(), options.clone());
    for number in 0..FLOOD {
        sink.accept(stranger(number), Durability::Soon).await.unwrap();
    }
    sink.accept(logout(0), Durability::Synced).await.unwrap();
    let used: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(used < 128 * 1024, "{used}");
    drop(sink);
    let sink = open(dir.path(), options);
    let uplink = uplink().await;
    let _delivery = uplink.deliver(&sink);
    eventually("all have moved", || sink.status().strangers == 0).await;
    delivered(&sink).await;
    uplink.check_whole(sink.writer().as_str());
    let events = uplink.auth.inner.events.lock().unwrap();
    let (mut arrived, mut dropped) = (0, 0);
    for envelope in events.values() {
        match &envelope.event {
            Event::UserLogin(_) => arrived += 1,
            Event::AuditDropped(event) => dropped += event.dropped as usize,
            Event::UserLogout(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(arrived > 50, "{arrived}");
    assert_eq!(arrived + dropped, FLOOD);
    assert_eq!(sink.status().dropped as usize, dropped);
}

/// Somebody who was removed and whose certificate still holds can be denied as often as they like.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denials_without_end_fill_no_spool() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = SpoolOptions::default();
    (options.max_bytes, options.reserve_bytes) = (256 << 10, 8 << 10);
    (options.stranger_bytes, options.segment_bytes) = (64 << 10, 32 << 10);
    let sink = open(dir.path(), options);
    for _ in 0..5000 {
        let denied = AccessDecision {
            code: AccessDecisionCode::Denied,
            user: "mallory".into(),
            action: "ssh.shell".into(),
            target_kind: "node".into(),
            target: "web-1".into(),
            login: Some("root".into()),
            reason: "there is no such user".into(),
            user_roles: List::default(),
            sid: None,
            addr_remote: None,
            trace_id: None,
        };
        sink.accept(denied.into(), Durability::Soon).await.unwrap();
    }
    sink.accept(session_start("s-1"), Durability::Synced).await.unwrap();
    let status = sink.status();
    assert!(status.backlog >= 60, "the first ones are kept for good: {status:?}");
    assert!(status.strangers > 0, "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spool_takes_the_ends_of_sessions_and_local_admins_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = SpoolOptions::default();
    (options.max_bytes, options.reserve_bytes, options.segment_bytes) =
        (64 << 10, 8 << 10, 8 << 10);
    let sink = open(dir.path(), options);
    sink.accept(session_start("s-1"), Durability::Soon).await.unwrap();
    let full = fill(&sink).await;
    assert_eq!(full, AuditError::Full);
    assert_eq!(sink.accept(session_start("s-2"), Durability::Soon).await, Err(AuditError::Full));
    sink.accept(session_end("s-1"), Durability::Synced).await.unwrap();
    let admin = sink.for_local_admins();
    admin.accept(logout(1), Durability::Synced).await.unwrap();
    // Bounded all the same.
    assert_eq!(fill(&admin).await, AuditError::Full);
    let uplink = uplink().await;
    let _delivery = uplink.deliver(&sink);
    delivered(&sink).await;
    eventually("room again", || sink.status().bytes < 20 << 10).await;
    sink.accept(logout(2), Durability::Synced).await.unwrap();
    delivered(&sink).await;
    uplink.check_whole(sink.writer().as_str());
}

async fn fill(sink: &SpoolSink) -> AuditError {
    for number in 0..1_000_000 {
        if let Err(err) = sink.accept(logout(number), Durability::Soon).await {
            return err;
        }
    }
    panic!("it takes everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_at_once_are_kept_in_order_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = SpoolOptions::default();
    (options.max_bytes, options.reserve_bytes, options.segment_bytes) =
        (64 << 10, 8 << 10, 4 << 10);
    let sink = open(dir.path(), options);
    let group = |from: usize, count: usize| (from..from + count).map(logout).collect::<Vec<_>>();
    // A group that fits in no file of the usual size, and strangers between the others.
    sink.accept_all(group(0, 30), Durability::Soon).await.unwrap();
    let mut mixed = group(30, 5);
    mixed.insert(2, stranger(0));
    sink.accept_all(mixed, Durability::Soon).await.unwrap();
    sink.accept_all(Vec::new(), Durability::Synced).await.unwrap();
    assert_eq!(sink.status().backlog, 35);
    let refused = sink.accept_all(group(35, 1000), Durability::Soon).await;
    assert_eq!(refused, Err(AuditError::Full));
    assert_eq!(sink.status().backlog, 35, "none of a group that does not fit");
    let uplink = uplink().await;
    let _delivery = uplink.deliver(&sink);
    delivered(&sink).await;
    sink.accept_all(group(35, 5), Durability::Soon).await.unwrap();
    delivered(&sink).await;
    let users = uplink.check_whole(sink.writer().as_str());
    let numbered: Vec<_> = (0..40).map(|number| format!("user-{number}")).collect();
    let kept: Vec<_> = users.into_iter().filter(|user| numbered.contains(user)).collect();
    assert_eq!(kept, numbered);
}

/// A file system of its own, unmounted at the end.
struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    fn mount(size: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: mounting a small file system takes root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=700");
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        ) {
            Ok(()) => Some(Self(dir)),
            Err(err) => {
                eprintln!("skipped: no small file system can be mounted here: {err}");
                None
            }
        }
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_whole_and_recovers() {
    let Some(disk) = TinyDisk::mount("512k") else { return };
    let dir = disk.0.path().join("spool");
    let mut options = SpoolOptions::default();
    (options.reserve_bytes, options.segment_bytes) = (64 << 10, 16 << 10);
    options.stranger_bytes = 16 << 10;
    let sink = open(&dir, options.clone());
    sink.accept(session_start("s-1"), Durability::Soon).await.unwrap();
    let mut accepted = 0;
    while sink.accept(logout(accepted), Durability::Soon).await.is_ok() {
        accepted += 1;
    }
    assert!(accepted > 100, "{accepted}");
    assert_eq!(sink.accept(logout(0), Durability::Synced).await, Err(AuditError::Full));
    sink.accept(session_end("s-1"), Durability::Synced).await.unwrap();
    assert!(!dir.join("reserve").exists(), "the reserve was needed");
    // A process that starts on the full disk finds everything.
    let writer = sink.writer();
    drop(sink);
    let sink = open(&dir, options);
    assert_eq!(sink.writer(), writer);
    assert_eq!(sink.end_abandoned_sessions(|_| None).unwrap(), 0);
    let uplink = uplink().await;
    let _delivery = uplink.deliver(&sink);
    delivered(&sink).await;
    eventually("room again", || sink.status().bytes < 64 << 10).await;
    sink.accept(logout(accepted), Durability::Synced).await.unwrap();
    delivered(&sink).await;
    let users = uplink.check_whole(writer.as_str());
    assert_eq!(users.iter().filter(|user| user.starts_with("user-")).count(), accepted + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_refused_for_good_holds_up_nothing() {
    let up = uplink().await;
    *up.auth.inner.poison.lock().unwrap() = Some("user-7\"".into());
    let dir = tempfile::tempdir().unwrap();
    let sink = open(dir.path(), SpoolOptions::default());
    for number in 0..20 {
        sink.accept(logout(number), Durability::Soon).await.unwrap();
    }
    let delivery = up.deliver(&sink);
    tokio::time::timeout(Duration::from_secs(20), sink.delivered()).await.unwrap();
    eventually("the report", || sink.status().backlog == 0).await;
    let (numbers, dropped): (Vec<u64>, Vec<u64>) = {
        let events = up.auth.inner.events.lock().unwrap();
        let named = |name| events.values().filter(move |one| one.event.name() == name);
        (
            named("user.logout").map(|one| one.seq).collect(),
            named("audit.dropped").map(|one| one.seq).collect(),
        )
    };
    let wanted: Vec<u64> = (1..=20).filter(|number| *number != 8).collect();
    assert_eq!(numbers, wanted);
    assert_eq!(dropped, [21], "the log is told");
    let kept = std::fs::read_to_string(dir.path().join("refused")).unwrap();
    assert_eq!(kept.lines().count(), 1);
    assert!(kept.contains("user-7\""), "{kept}");
    drop(delivery);

    // Where everything is refused, reports of reports do not go on for ever.
    *up.auth.inner.poison.lock().unwrap() = Some("{".into());
    sink.accept(logout(1), Durability::Soon).await.unwrap();
    let _delivery = up.deliver(&sink);
    eventually("the rest", || sink.status().backlog == 0).await;
    let kept = std::fs::read_to_string(dir.path().join("refused")).unwrap();
    assert_eq!(kept.lines().count(), 3, "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_joined_anew_delivers_under_a_new_writer() {
    let up = uplink().await;
    let dir = tempfile::tempdir().unwrap();
    let sink = open(dir.path(), SpoolOptions::default());
    let old = sink.writer().to_string();
    for number in 0..3 {
        sink.accept(logout(number), Durability::Synced).await.unwrap();
    }
    let delivery = up.deliver(&sink);
    tokio::time::timeout(Duration::from_secs(20), sink.delivered()).await.unwrap();
    drop(delivery);
    for number in 3..6 {
        sink.accept(logout(number), Durability::Synced).await.unwrap();
    }
    *up.auth.inner.foreign.lock().unwrap() = Some(old.clone());
    let delivery = up.deliver(&sink);
    tokio::time::timeout(Duration::from_secs(20), sink.delivered()).await.unwrap();
    let new = sink.writer().to_string();
    assert_ne!(new, old);
    let numbers = |writer: &str| -> Vec<u64> {
        let events = up.auth.inner.events.lock().unwrap();
        events.keys().filter(|(of, _)| of == writer).map(|(_, seq)| *seq).collect()
    };
    assert_eq!(numbers(&old), [1, 2, 3]);
    assert_eq!(numbers(&new), [1, 2, 3], "a writer's numbers begin with 1");
    drop((delivery, sink));

    let sink = open(dir.path(), SpoolOptions::default());
    assert_eq!(sink.writer().to_string(), new, "it stays");
    sink.accept(logout(6), Durability::Synced).await.unwrap();
    let _delivery = up.deliver(&sink);
    tokio::time::timeout(Duration::from_secs(20), sink.delivered()).await.unwrap();
    assert_eq!(numbers(&new), [1, 2, 3, 4]);
}
