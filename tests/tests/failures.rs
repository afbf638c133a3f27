//! Programs that are killed, and programs that are told to stop: what goes on, what comes back,
//! and what is kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

use access_e2e::{Cluster, Process, daemon_command, run};
use nix::sys::signal::Signal;

/// How long a node may take to be back after its proxy is: two seconds are promised, and a
/// machine that runs other tests beside this one gets some more.
const BACK: Duration = Duration::from_secs(4);

struct Site {
    cluster: Cluster,
    config: PathBuf,
    target: String,
}

impl Site {
    fn start() -> Self {
        let cluster = Cluster::start();
        let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        cluster.add_user("alice", &["--roles=access,auditor", &format!("--logins={me}")]);
        cluster.login("alice").ok();
        let config = cluster.ssh_config("alice");
        Self { cluster, config, target: format!("{me}@web-1.node.example.com") }
    }

    fn ssh(&self, flags: &[&str], command: &str) -> Command {
        let mut args = vec!["-o", "BatchMode=yes"];
        args.extend(flags);
        args.extend([self.target.as_str(), command]);
        self.cluster.ssh(&self.config, &args)
    }

    /// A session that answers each line that it is sent.
    fn session(&self) -> Session {
        let command = "while read line; do echo \"heard $line\"; done; echo the end; exit 6";
        let mut process = Process::start("ssh", self.ssh(&[], command));
        let stdin = process.stdin();
        let mut session = Session { process, stdin };
        session.answers("the first line");
        session
    }

    fn reaches_the_node(&self) -> bool {
        run(&mut self.ssh(&[], "echo reached"), "").out == "reached\n"
    }

    /// Tries until the node can be reached, and tells how long that took.
    fn until_reached(&self, since: Instant) -> Duration {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.reaches_the_node() {
            assert!(Instant::now() < deadline, "the node does not come back");
        }
        since.elapsed()
    }
}

struct Session {
    process: Process,
    stdin: ChildStdin,
}

impl Session {
    fn answers(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
        let answer = format!("heard {line}");
        self.process.wait_for(&answer, |said| (said == answer).then_some(()));
    }

    /// Lets it end by itself.
    fn ends_well(self) {
        let Self { process, stdin } = self;
        drop(stdin);
        process.wait_for("its end", |said| (said == "the end").then_some(()));
        assert_eq!(process.wait(), Some(6));
    }
}

#[test]
fn a_killed_proxy_has_its_node_back_within_two_seconds() {
    let mut site = Site::start();
    assert!(site.reaches_the_node());
    let mut took = Vec::new();
    for _ in 0..3 {
        let session = site.session();
        site.cluster.proxy.take().unwrap().kill9();
        // Who was connected learns it; nothing hangs.
        assert_eq!(session.process.wait(), Some(255));
        let done = site.cluster.access("alice", &["ls"], "");
        assert_eq!(done.code, 5, "{done:?}");
        site.cluster.start_proxy();
        took.push(site.until_reached(Instant::now()));
    }

    assert!(took.iter().all(|took| *took < BACK), "{took:?}");
    // The agent never ended, and its sessions that broke are audited.
    let ends = || site.cluster.events(&["session.end"]).len();
    let deadline = Instant::now() + Duration::from_secs(20);
    while ends() < 7 {
        assert!(Instant::now() < deadline, "{} sessions ended", ends());
    }
}

#[test]
fn a_killed_agent_leaves_a_recording_and_an_audited_end() {
    let mut site = Site::start();
    let ticks = "for i in $(seq 1000); do echo \"tick-$i.\"; sleep 0.1; done";
    let process = Process::start("ssh", site.ssh(&["-tt"], ticks));
    let tick = |n: u32| format!("tick-{n}.");
    // What is shown a second before the end has been written by then: ten ticks or more.
    process.wait_for("its ticks", |line| line.contains(&tick(25)).then_some(()));
    let start = site.cluster.wait_for_event("session.start", |event| event["interactive"] == true);
    let sid = start["sid"].as_str().unwrap().to_owned();
    site.cluster.agent.take().unwrap().kill9();
    assert_eq!(process.wait(), Some(255));
    let gone = run(&mut site.ssh(&[], "true"), "");
    assert_eq!(gone.code, 255, "{gone:?}");

    site.cluster.start_agent();
    site.cluster.wait_for_node("web-1");
    let end = site.cluster.wait_for_event("session.end", |event| event["sid"] == sid.as_str());
    assert_eq!(end["user"], "alice", "{end:#}");
    assert!(end["seq"].as_u64() > start["seq"].as_u64(), "{end:#}");
    assert_eq!(end["writer"], start["writer"], "{end:#}");
    let ended = site.cluster.events(&["session.end"]);
    assert_eq!(ended.iter().filter(|event| event["sid"] == sid.as_str()).count(), 1);
    site.cluster.wait_for_event("session.upload", |event| event["sid"] == sid.as_str());
    let done = site.cluster.access("alice", &["play", &sid, "--format=text"], "").ok();
    for n in 1..=15 {
        assert!(done.out.contains(&tick(n)), "no {}: {done:?}", tick(n));
    }
    // It is not passed off as whole.
    assert!(done.err.contains("not complete"), "{done:?}");
    site.until_reached(Instant::now());
}

#[test]
fn sessions_outlive_a_killed_auth_service() {
    let mut site = Site::start();
    let mut session = site.session();
    site.cluster.auth.take().unwrap().kill9();
    session.answers("while auth is away");
    // What the agent knows is fresh enough to let in who has a certificate.
    let done = run(&mut site.ssh(&[], "echo unseen; exit 8"), "");
    assert_eq!((done.code, done.out.as_str()), (8, "unseen\n"), "{done:?}");
    let done = site.cluster.login("alice");
    assert_eq!(done.code, 5, "{done:?}");

    site.cluster.start_auth();
    // What happened meanwhile is told, once.
    let exec =
        site.cluster.wait_for_event("exec", |event| event["command"] == "echo unseen; exit 8");
    let sid = exec["sid"].clone();
    site.cluster.wait_for_event("session.end", |event| event["sid"] == sid);
    site.cluster.wait_for_event("session.upload", |event| event["sid"] == sid);
    for kind in ["session.start", "exec", "session.end"] {
        let events = site.cluster.events(&[kind]);
        let count = events.iter().filter(|event| event["sid"] == sid).count();
        assert_eq!(count, 1, "{kind}: {events:#?}");
    }
    let sid = sid.as_str().unwrap().to_owned();
    session.answers("after auth is back");
    session.ends_well();
    // New logins, new sessions, and users who are made now.
    site.until_reached(Instant::now());
    let deadline = Instant::now() + Duration::from_secs(20);
    while site.cluster.login("alice").code != 0 {
        assert!(Instant::now() < deadline, "{:?}", site.cluster.login("alice"));
    }
    let done = site.cluster.access("alice", &["play", &sid, "--format=text"], "").ok();
    assert!(done.out.contains("unseen"), "{done:?}");
    site.cluster.add_user("bob", &["--roles=access", "--logins=bob"]);
    site.cluster.login("bob").ok();
    assert!(site.cluster.access("bob", &["ls"], "").ok().out.contains("web-1"));
}

#[test]
fn an_agent_that_is_told_to_stop_lets_a_session_finish() {
    let mut site = Site::start();
    let mut session = site.session();
    let agent = site.cluster.agent.take().unwrap();
    agent.signal(Signal::SIGTERM);
    agent.wait_for("that it stops", |line| line.contains("stopping").then_some(()));
    session.answers("while the agent drains");
    // Nobody new comes in. That the tunnel is given up takes a moment.
    let deadline = Instant::now() + Duration::from_secs(10);
    while site.reaches_the_node() {
        assert!(Instant::now() < deadline, "the agent takes new sessions while it drains");
    }
    session.answers("still while the agent drains");
    session.ends_well();
    assert_eq!(agent.wait(), Some(0));
    // Its end was handed over before.
    let ends = site.cluster.events(&["session.end"]);
    assert!(ends.iter().any(|end| end["exitCode"].to_string().contains('6')), "{ends:#?}");
}

#[test]
fn a_proxy_that_is_told_to_stop_lets_a_session_finish() {
    let mut site = Site::start();
    let mut session = site.session();
    let proxy = site.cluster.proxy.take().unwrap();
    proxy.signal(Signal::SIGTERM);
    proxy.wait_for("that it stops", |line| line.contains("stopping").then_some(()));
    session.answers("while the proxy drains");
    let deadline = Instant::now() + Duration::from_secs(10);
    while site.reaches_the_node() {
        assert!(Instant::now() < deadline, "the proxy takes connections while it drains");
    }
    session.answers("still while the proxy drains");
    session.ends_well();
    assert_eq!(proxy.wait(), Some(0));
    site.cluster.start_proxy();
    site.until_reached(Instant::now());
    // Auth stops as well, leaves no socket behind, and does not wait for watches, which have no
    // end of their own.
    let auth = site.cluster.auth.take().unwrap();
    assert!(fs::exists(site.cluster.path("auth/auth.sock")).unwrap());
    let since = Instant::now();
    auth.signal(Signal::SIGTERM);
    assert_eq!(auth.wait(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert!(!fs::exists(site.cluster.path("auth/auth.sock")).unwrap());
}

#[test]
fn an_agent_that_is_told_to_stop_before_it_has_joined_stops() {
    let cluster = Cluster::without_agent();
    // It lets the agent connect, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let token = cluster.token("node");
    let config = cluster.write(
        "agent.yaml",
        &format!(
            "access:\n  nodename: web-1\n  data_dir: {data}\n  proxy_server: {silent}\n  \
             ca_pin: {pin}\n  join_params: {{ method: token, token_name: {token} }}\n\
             ssh_service:\n  enabled: yes\n",
            data = cluster.path("agent").display(),
            silent = silent.local_addr().unwrap(),
            pin = cluster.pin,
        ),
    );
    let agent = Process::start("agent", daemon_command("agent", &config));
    let held = silent.accept().unwrap();
    let since = Instant::now();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    drop(held);
}
