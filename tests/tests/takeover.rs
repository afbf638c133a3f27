//! A proxy that is replaced while it finishes: what is open goes on, and the next one waits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, reason = "a client that is none")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, Process, bin};
use nix::sys::signal::Signal;

/// A client of the jump host that has said its first words.
fn jumping(cluster: &Cluster) -> TcpStream {
    let mut client = TcpStream::connect(&cluster.proxy_addr).unwrap();
    client.write_all(b"SSH-2.0-test\r\n").unwrap();
    client.read_exact(&mut [0; 8]).unwrap();
    client
}

/// The proxy once more, at the address that it has.
fn again(cluster: &Cluster) -> Process {
    let config = fs::read_to_string(cluster.path("proxy.yaml")).unwrap();
    let config = config.replace("127.0.0.1:0", &cluster.proxy_addr);
    let config = cluster.write("proxy-again.yaml", &config);
    let mut command = Command::new(bin("proxy"));
    command.arg("--config").arg(config);
    Process::start("the next proxy", command)
}

fn says(process: &Process, text: &str) {
    process.wait_for(text, |line| line.contains(text).then_some(()));
}

/// Stops the proxy, and waits until nobody new gets in.
fn stop(cluster: &mut Cluster) -> Process {
    let old = cluster.proxy.take().unwrap();
    old.signal(Signal::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(&cluster.proxy_addr).is_ok() {
        assert!(Instant::now() < deadline, "the port stays open");
    }
    old
}

#[test]
fn the_next_proxy_takes_over_when_the_last_client_has_gone() {
    let mut cluster = Cluster::without_agent();
    cluster.add_user("alice", &["--roles=access", "--logins=root"]);
    let client = jumping(&cluster);
    let old = stop(&mut cluster);
    let next = again(&cluster);
    says(&next, "is in use by another process: waiting");
    assert!(!next.output().contains("the proxy is up"));
    // Until it serves, it lets nobody wait.
    assert!(TcpStream::connect(&cluster.proxy_addr).is_err());
    drop(client);
    assert_eq!(old.wait(), Some(0));
    says(&next, "the other process has ended");
    says(&next, "the proxy is up");
    cluster.proxy = Some(next);
    cluster.login("alice").ok();
}

#[test]
fn a_proxy_that_waits_can_be_stopped() {
    let mut cluster = Cluster::without_agent();
    let client = jumping(&cluster);
    let _old = stop(&mut cluster);
    let next = again(&cluster);
    says(&next, "is in use by another process: waiting");
    next.signal(Signal::SIGTERM);
    assert_eq!(next.wait(), Some(0));
    drop(client);
}
