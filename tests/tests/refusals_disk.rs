//! The disk of an agent is full: sessions that must be recorded end with a message, others go on
//! and say so in the audit log; nothing is half there, and space is all that it takes to go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, Process, Volume, run};
use nix::sys::signal::Signal;

/// What the agent needs with its reserve and its strangers' ring, and some more.
const ROOM_KIB: u64 = 12 * 1024;
const TARGET: &str = "root@web-1.node.example.com";

struct Site {
    cluster: Cluster,
    config: PathBuf,
    volume: Volume,
}

struct Session {
    process: Process,
    stdin: ChildStdin,
    sid: String,
}

impl Site {
    fn start(mode: &str) -> Self {
        let volume = Volume::of_kib(ROOM_KIB);
        let mut cluster = Cluster::without_agent();
        let volume = volume.at(&cluster.path("agent"));
        let role = format!(
            "kind: role\nversion: v1\nmetadata: {{ name: recorded }}\nspec:\n  options: {{ \
             record_session: {{ ssh: {mode} }} }}\n  allow: {{ logins: [root], node_labels: {{ \
             \"*\": \"*\" }} }}\n"
        );
        cluster.ctl(&["create", "-f", "-"], &role).ok();
        cluster.add_user("alice", &["--roles=recorded"]);
        cluster.login("alice").ok();
        let token = cluster.token("node");
        cluster.write_agent_config(&token, "", "");
        cluster.start_agent();
        cluster.wait_for_node("web-1");
        let config = cluster.ssh_config("alice");
        Self { cluster, config, volume }
    }

    /// A session on a terminal that runs each line that it is sent.
    fn session(&self) -> Session {
        let mut command = self.cluster.ssh(&self.config, &["-tt", TARGET]);
        command.arg("stty -echo; echo it runs; while read line; do eval \"$line\"; done");
        let mut process = Process::start("ssh", command);
        let stdin = process.stdin();
        process.wait_for("that it runs", |line| line.contains("it runs").then_some(()));
        let start = self.cluster.wait_for_event("session.start", |_| true);
        Session { process, stdin, sid: start["sid"].as_str().unwrap().to_owned() }
    }

    fn end_of(&self, sid: &str) -> serde_json::Value {
        self.cluster.wait_for_event("session.end", |event| event["sid"] == sid)
    }

    /// With space again, sessions come and go, and the agent is the process that it was.
    fn recovers(mut self, filler: PathBuf) {
        fs::remove_file(filler).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let done = run(&mut self.cluster.ssh(&self.config, &[TARGET, "echo again"]), "");
            if done.out == "again\n" {
                break;
            }
            assert!(Instant::now() < deadline, "there is space, and yet: {done:?}");
        }
        let exec = self.cluster.wait_for_event("exec", |event| event["command"] == "echo again");
        let sid = exec["sid"].as_str().unwrap().to_owned();
        self.cluster.wait_for_event("session.upload", |event| event["sid"] == sid.as_str());
        let agent = self.cluster.agent.take().unwrap();
        assert!(!agent.output().contains("panicked"), "{}", agent.output());
        agent.signal(Signal::SIGTERM);
        assert_eq!(agent.wait(), Some(0));
        // What waits to be uploaded, or was half written, would be here.
        let left: Vec<_> = fs::read_dir(self.volume.path().join("recordings"))
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Session {
    /// More than fits into what the last pages of files have left, and cannot be compressed.
    fn shows_much(&mut self) {
        let line = "head -c 30000 /dev/urandom | base64; echo shown-$((20 + 3))";
        writeln!(self.stdin, "{line}").unwrap();
    }
}

#[test]
fn a_session_that_must_be_recorded_ends() {
    let site = Site::start("strict");
    let mut session = site.session();
    let filler = site.volume.fill();
    session.shows_much();
    let told = "session ended: it must be recorded, which is not possible any more";
    session.process.wait_for("why it ends", |line| line.contains(told).then_some(()));
    assert_ne!(session.process.wait(), Some(0));
    let end = site.end_of(&session.sid);
    assert_eq!(end["reason"], "recording failed", "{end:#}");

    // The spool gave its reserve up for that end, and what was recorded is gone: filled again,
    // no session begins, because either its permit or its recording has no place.
    assert_eq!(site.volume.fill(), filler);
    let done = run(&mut site.cluster.ssh(&site.config, &["-tt", TARGET, "echo in"]), "");
    assert!(done.code != 0 && !done.out.contains("in\r\n"), "{done:?}");
    assert!(
        done.err.contains("audit log cannot be written")
            || done.err.contains("must be recorded")
            || done.out.contains("must be recorded"),
        "{done:?}"
    );
    site.recovers(filler);
}

#[test]
fn a_session_that_should_be_recorded_goes_on() {
    let site = Site::start("best_effort");
    let mut session = site.session();
    let filler = site.volume.fill();
    session.shows_much();
    session.process.wait_for("all of it", |line| line.contains("shown-23").then_some(()));
    let agent = site.cluster.agent.as_ref().unwrap();
    agent.wait_for("that it is not recorded", |line| {
        line.contains("goes on without its recording").then_some(())
    });
    writeln!(session.stdin, "echo still here; exit 5").unwrap();
    session.process.wait_for("an answer", |line| line.contains("still here").then_some(()));
    assert_eq!(session.process.wait(), Some(5));
    let end = site.end_of(&session.sid);
    assert_eq!(end["session_recording"], "node (incomplete)", "{end:#}");
    site.recovers(filler);
}
