//! A target whose host is gone: nothing comes any more, and nobody says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing
)]

mod support;

use std::time::{Duration, Instant};

use access_core::Login;
use access_core::policy::Action;
use access_core::reach::Reach;
use access_host::HostReach;
use nix::sched::{CloneFlags, unshare};
use support::{Door, PATIENCE, is_root, resource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Within it a target is given up; the kernel counts in seconds.
const SILENCE: Duration = Duration::from_secs(6);

/// Runs in a network of this thread's own, which can be cut without harm to anybody.
async fn a_connection_in_a_network_that_breaks() {
    let lo = |state: &str| {
        let done = std::process::Command::new("ip").args(["link", "set", "lo", state]).status();
        assert!(done.expect("ip is needed: apt-get install iproute2").success());
    };
    lo("up");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reach = HostReach::builder().silence(SILENCE).build().unwrap();
    reach.set_route(&resource("db/orders"), [address]).unwrap();
    let action =
        Action::Database { user: Login::new("reader").unwrap(), database: "orders".to_owned() };
    let permit = Door::new().permit_on(action, "db/orders").await;
    let (dialled, accepted) = tokio::join!(reach.dial(&permit), listener.accept());
    let (mut here, (mut there, _)) = (dialled.unwrap(), accepted.unwrap());
    there.write_all(b"half a row").await.unwrap();
    let mut row = [0; 10];
    here.read_exact(&mut row).await.unwrap();

    // Nobody is told: neither end gets as much as a reset.
    lo("down");
    let cut = Instant::now();
    let err = tokio::time::timeout(PATIENCE, here.read(&mut row)).await.expect("not noticed");
    let err = err.expect_err("the end of a connection that nobody has ended");
    assert!(cut.elapsed() <= SILENCE + Duration::from_secs(3), "{:?}: {err}", cut.elapsed());
    drop(there);
}

#[test]
fn a_target_that_vanishes_is_noticed() {
    if !is_root() {
        eprintln!("SKIPPED: only root can make a network that breaks");
        return;
    }
    let alone = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(a_connection_in_a_network_that_breaks());
    });
    alone.join().unwrap();
}
