//! What the proxy carries it cannot read: neither on its port nor in its memory is there a byte of
//! a password or of a session.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use access_e2e::{Capture, Cluster, Memory, Process, contains};

const PASSWORD: &str = "Zq7vKx2mWp9sLt4RbN8cHj5d";
/// Said in the clear to the proxy, to prove that the method finds what is there.
const CONTROL: &str = "control-Jd83hQnT5xYw";
const ALICE: &[&str] = &["--roles=access", "--logins=root"];
const NODE: &str = "root@web-1.node.example.com";

/// Parts of a secret: a buffer may have been used again, but not byte by byte.
fn parts(secret: &str) -> impl Iterator<Item = &str> {
    (0..secret.len()).step_by(8).filter_map(|at| secret.get(at..at + 8))
}

/// A request that the proxy has read and waits for the rest of.
fn control(cluster: &Cluster) -> TcpStream {
    #[allow(clippy::disallowed_methods, reason = "a client of the proxy")]
    let mut stream = TcpStream::connect(&cluster.proxy_addr).unwrap();
    stream.write_all(format!("GET /{CONTROL} HTTP/1.1\r\nHost: a").as_bytes()).unwrap();
    stream
}

fn insist(dumps: &[Memory], seen: &[u8], secrets: &[&str]) {
    for dump in dumps {
        assert!(dump.holds(CONTROL.as_bytes()), "the control is not found: nothing is proved");
        assert!(dump.holds(b"example.com"), "the cluster's name is not found");
    }
    assert!(contains(seen, CONTROL.as_bytes()), "the control is not in the capture");
    for part in secrets.iter().flat_map(|secret| parts(secret)) {
        for (at, dump) in dumps.iter().enumerate() {
            assert!(!dump.holds(part.as_bytes()), "{part} is in the proxy's memory, dump {at}");
        }
        assert!(!contains(seen, part.as_bytes()), "{part} is in the capture");
    }
}

/// Dumps the proxy's memory over and over while `work` goes on.
fn dumps_during<T>(cluster: &Cluster, work: impl FnOnce() -> T) -> (T, Vec<Memory>) {
    let pid = cluster.proxy.as_ref().unwrap().id();
    let (ended, end) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let dumper = scope.spawn(move || {
            let mut dumps = Vec::new();
            // The proxy gets its turn between dumps, of which the memory here bounds the number.
            while end
                .recv_timeout(Duration::from_millis(10))
                .is_err_and(|err| err == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                if dumps.len() < 24 {
                    dumps.push(Memory::of(pid));
                }
            }
            dumps.push(Memory::of(pid));
            dumps
        });
        let done = work();
        drop(ended);
        (done, dumper.join().unwrap())
    })
}

fn invite(cluster: &Cluster, name: &str) -> String {
    let proxy = format!("--proxy={}", cluster.proxy_addr);
    let mut args = vec![proxy.as_str(), "users", "add", name];
    args.extend(ALICE);
    let done = cluster.ctl(&args, "").ok();
    let words = done.out.split_whitespace().map(|word| word.trim_matches('\''));
    words.into_iter().find(|word| word.starts_with("https://")).unwrap().to_owned()
}

#[test]
fn a_password_passes_the_proxy_unread() {
    let cluster = Cluster::start();
    let capture = Capture::start(cluster.dir.path(), &cluster.proxy_addr);
    let _control = control(&cluster);
    let link = invite(&cluster, "alice");
    let token = link.split("token=").nth(1).unwrap().split('&').next().unwrap();
    let typed = format!("{PASSWORD}\n");
    let ((), dumps) = dumps_during(&cluster, || {
        cluster.access("alice", &["invite", "accept", &link], &typed).ok();
        let [proxy, pin] =
            [format!("--proxy={}", cluster.proxy_addr), format!("--ca-pin={}", cluster.pin)];
        cluster.access("alice", &["login", &proxy, &pin, "--user=alice"], &typed).ok();
    });
    assert!(dumps.len() >= 5, "only {} dumps", dumps.len());
    // The name under which Auth is asked for is in the clear: login did go through here.
    capture.until(b"auth.example.com");
    let seen = capture.finish();
    insist(&dumps, &seen, &[PASSWORD, token]);
}

/// Talks to `cat` on the node, and looks into the proxy after each line.
fn talk(cluster: &Cluster, name: &str, args: &[&str]) {
    let config = cluster.ssh_config("alice");
    let capture = Capture::start(cluster.dir.path(), &cluster.proxy_addr);
    let _control = control(cluster);
    let mut ssh = Process::start("ssh", cluster.ssh(&config, args));
    let mut stdin = ssh.stdin();
    let mut dumps = Vec::new();
    let mut markers = Vec::new();
    for round in 0..5 {
        let marker = format!("{round}{name}Tz6WqYb3Vn8KxPd4GmRc{round}");
        let from = ssh.lines();
        stdin.write_all(format!("{marker}\n").as_bytes()).unwrap();
        stdin.flush().unwrap();
        ssh.wait_from(from, "what was typed", |line| line.contains(&marker).then_some(()));
        dumps.push(Memory::of(cluster.proxy.as_ref().unwrap().id()));
        if round == 2 {
            let agent = Memory::of(cluster.agent.as_ref().unwrap().id());
            let client = Memory::of(ssh.id());
            assert!(
                agent.holds(marker.as_bytes()) || client.holds(marker.as_bytes()),
                "the session's text is found at neither of its ends: nothing is proved"
            );
        }
        markers.push(marker);
    }
    drop(stdin);
    assert_eq!(ssh.wait(), Some(0));
    dumps.push(Memory::of(cluster.proxy.as_ref().unwrap().id()));
    capture.until(CONTROL.as_bytes());
    let seen = capture.finish();
    assert!(seen.len() > 10_000, "the session did not go through the captured port");
    let markers: Vec<&str> = markers.iter().map(String::as_str).collect();
    insist(&dumps, &seen, &markers);
}

#[test]
fn sessions_pass_the_proxy_unread() {
    let cluster = Cluster::start();
    cluster.add_user("alice", ALICE);
    cluster.login("alice").ok();
    talk(&cluster, "proxycmd", &[NODE, "cat"]);
    talk(&cluster, "terminal", &["-tt", NODE, "stty raw -echo; head -n 5"]);
    talk(&cluster, "jumphost", &["-J", "root@proxy.example.com", NODE, "cat"]);
}
