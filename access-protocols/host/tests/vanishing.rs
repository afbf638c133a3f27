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
use access_core::reach::{BoxedStream, Reach};
use access_host::HostReach;
use nix::sched::{CloneFlags, unshare};
use support::{Door, PATIENCE, is_root, resource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Within it a target is given up; the kernel counts in seconds.
const SILENCE: Duration = Duration::from_secs(6);

/// What the kernel takes at least to give up what is not acknowledged: it repeats it fifteen times,
/// the last twelve a second apart.
const REPEATS: Duration = Duration::from_secs(15);

fn lo(state: &str) {
    let done = std::process::Command::new("ip").args(["link", "set", "lo", state]).status();
    assert!(done.expect("ip is needed: apt-get install iproute2").success());
}

/// A connection to a target, from both ends, in a network of this thread's own, which can be cut
/// without harm to anybody.
async fn connection() -> (BoxedStream, TcpStream) {
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
    (Box::new(here), there)
}

/// Waits for the end of a connection whose other end is gone: nobody is told, and neither end gets
/// as much as a reset.
async fn noticed(mut here: BoxedStream, within: Duration) {
    let cut = Instant::now();
    let noticed = tokio::time::timeout(within + PATIENCE, here.read(&mut [0; 10])).await;
    let err = noticed.expect("not noticed");
    let err = err.expect_err("the end of a connection that nobody has ended");
    assert!(cut.elapsed() <= within + Duration::from_secs(3), "{:?}: {err}", cut.elapsed());
}

fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !is_root() {
        eprintln!("SKIPPED: only root can make a network that breaks");
        return;
    }
    let alone = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    alone.join().unwrap();
}

/// Whether the kernel can be told how long to wait before it repeats what is not acknowledged.
fn repeats_as_told() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

#[test]
fn a_target_that_vanishes_is_noticed() {
    alone(|| async {
        let (here, _there) = connection().await;
        lo("down");
        noticed(here, SILENCE).await;
    });
}

#[test]
fn a_target_that_vanishes_is_noticed_while_something_is_on_its_way_there() {
    if !repeats_as_told() {
        eprintln!("SKIPPED: Linux 6.15 is needed");
        return;
    }
    alone(|| async {
        let (mut here, _there) = connection().await;
        lo("down");
        here.write_all(b"select 1").await.unwrap();
        here.flush().await.unwrap();
        noticed(here, REPEATS).await;
    });
}

/// One that answers and reads nothing is there, for as long as it takes.
#[test]
fn a_target_that_takes_its_time_to_read_is_not_given_up() {
    alone(|| async {
        let (mut here, mut there) = connection().await;
        let sent = async {
            let mut sent = 0;
            // Nothing moves any more once all between is full.
            while let Ok(count) =
                tokio::time::timeout(Duration::from_secs(1), here.write(&[7; 65_536])).await
            {
                sent += count.unwrap();
            }
            sent
        };
        let sent = sent.await;
        // Longer than it would have if it were gone.
        let waits = tokio::time::timeout(REPEATS + Duration::from_secs(5), here.read_u8()).await;
        assert!(waits.is_err(), "{waits:?}");
        let mut taken = vec![0; sent];
        tokio::time::timeout(PATIENCE, there.read_exact(&mut taken)).await.unwrap().unwrap();
    });
}
