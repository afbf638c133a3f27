//! Both ends of a tunnel over an in-memory pipe.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use access_tunnel::{
    CloseCode, CloseReason, Config, Error, Flavour, Handle, Incoming, OpenHeader, RefuseCode,
    ResetCode, Stream, Tunnel,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

struct End {
    handle: Handle,
    incoming: Incoming,
    driver: JoinHandle<CloseReason>,
}

fn pair_with(client: Config, server: Config) -> (End, End) {
    let (a, b) = tokio::io::duplex(64 * 1024);
    let (handle, incoming, driver) = Tunnel::client(a, client);
    let client = End { handle, incoming, driver: tokio::spawn(driver) };
    let (handle, incoming, driver) = Tunnel::server(b, server);
    let server = End { handle, incoming, driver: tokio::spawn(driver) };
    (client, server)
}

fn pair() -> (End, End) {
    pair_with(Config::new(), Config::new())
}

fn header() -> OpenHeader {
    OpenHeader::new("node/web-1", Flavour::Raw)
}

/// One open stream, from both sides.
async fn connect(from: &Handle, to: &mut Incoming) -> (Stream, Stream) {
    let (ours, theirs) =
        tokio::join!(from.open(header()), async { to.next().await.unwrap().accept().unwrap() });
    (ours.unwrap(), theirs)
}

#[tokio::test(start_paused = true)]
async fn header_arrives_and_bytes_flow_both_ways() {
    let (client, mut server) = pair();
    let sent = OpenHeader {
        target: "node/web-1".into(),
        client_addr: Some("192.0.2.7:1234".parse().unwrap()),
        trace_id: [7; 16],
        flavour: Flavour::Tls,
        session: Some(7),
    };
    let open = tokio::spawn({
        let (handle, sent) = (client.handle.clone(), sent.clone());
        async move { handle.open(sent).await.unwrap() }
    });
    let pending = server.incoming.next().await.unwrap();
    assert_eq!(pending.header(), &sent);
    let mut theirs = pending.accept().unwrap();
    let mut ours = open.await.unwrap();
    ours.write_all(b"ping").await.unwrap();
    let mut buf = [0; 4];
    theirs.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"ping");
    theirs.write_all(b"pong").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut all = Vec::new();
    ours.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"pong");
    // Half-closed: our direction still works.
    ours.write_all(b"more").await.unwrap();
    ours.shutdown().await.unwrap();
    all.clear();
    theirs.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"more");
    assert!(ours.write_all(b"x").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn refusals_carry_code_and_words() {
    let (client, mut server) = pair();
    let (refused, ()) = tokio::join!(client.handle.open(header()), async {
        server.incoming.next().await.unwrap().refuse(RefuseCode::UNKNOWN_TARGET, "no such node");
    });
    assert_eq!(
        refused.unwrap_err(),
        Error::Refused { code: RefuseCode::UNKNOWN_TARGET, reason: "no such node".into() }
    );
    let (dropped, ()) = tokio::join!(client.handle.open(header()), async {
        drop(server.incoming.next().await.unwrap());
    });
    assert!(matches!(dropped, Err(Error::Refused { code: RefuseCode::REFUSED, .. })));
    drop(server.incoming);
    let late = client.handle.open(header()).await;
    assert!(matches!(late, Err(Error::Refused { code: RefuseCode::NOT_ACCEPTING, .. })));
}

#[tokio::test(start_paused = true)]
async fn go_away_drains_then_closes() {
    let (mut client, mut server) = pair();
    let (mut ours, mut theirs) = connect(&client.handle, &mut server.incoming).await;
    server.handle.go_away();
    client.handle.peer_going_away().await;
    assert_eq!(client.handle.open(header()).await.unwrap_err(), Error::GoingAway);
    assert_eq!(server.handle.open(header()).await.unwrap_err(), Error::GoingAway);
    assert!(server.incoming.next().await.is_none());
    ours.write_all(&[1; 100_000]).await.unwrap();
    ours.shutdown().await.unwrap();
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [1; 100_000]);
    theirs.shutdown().await.unwrap();
    drop((ours, theirs));
    assert_eq!(server.handle.closed().await, CloseReason::Drained);
    assert_eq!(server.driver.await.unwrap(), CloseReason::Drained);
    assert!(matches!(
        client.handle.closed().await,
        CloseReason::Remote { code: CloseCode::NORMAL, .. }
    ));
    assert!(client.incoming.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn reset_reaches_the_other_side_with_its_code() {
    let (client, mut server) = pair();
    let (ours, mut theirs) = connect(&client.handle, &mut server.incoming).await;
    ours.reset(ResetCode::ENDED);
    assert_eq!(theirs.read_chunk().await, Err(Error::Reset(ResetCode::ENDED)));
    assert_eq!(theirs.write_chunk("x".into()).await, Err(Error::Reset(ResetCode::ENDED)));
    let (ours, mut theirs) = connect(&client.handle, &mut server.incoming).await;
    drop(ours);
    assert_eq!(theirs.read_chunk().await, Err(Error::Reset(ResetCode::CANCELLED)));
}

#[tokio::test(start_paused = true)]
async fn one_read_brings_all_frames_that_are_there() {
    let (client, mut server) = pair();
    let (mut ours, mut theirs) = connect(&client.handle, &mut server.incoming).await;
    let sent: Vec<u8> = (0..40_000_u32).map(|i| (i % 251) as u8).collect();
    ours.write_all(&sent).await.unwrap();
    // The clock moves on only when nothing else can.
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let mut got = vec![0; 64 * 1024];
    let n = theirs.read(&mut got).await.unwrap();
    assert_eq!(got[..n], sent);
    // Less room takes its part, and the rest stays in order.
    ours.write_all(&sent).await.unwrap();
    ours.shutdown().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let n = theirs.read(&mut got[..20_000]).await.unwrap();
    assert_eq!(got[..n], sent[..20_000]);
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, sent[20_000..]);
}

#[tokio::test(start_paused = true)]
async fn dropping_after_shutdown_delivers_and_stops_the_peer() {
    let (client, mut server) = pair();
    let (mut ours, mut theirs) = connect(&client.handle, &mut server.incoming).await;
    ours.write_all(&[5; 200_000]).await.unwrap();
    ours.shutdown().await.unwrap();
    drop(ours);
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [5; 200_000]);
    assert_eq!(theirs.write_chunk("x".into()).await, Err(Error::Stopped(ResetCode::STOPPED)));
    drop(theirs);
    assert_eq!(server.handle.stats().streams, 0);
    assert_eq!(client.handle.stats().streams, 0);
}

#[tokio::test(start_paused = true)]
async fn closing_fails_streams_on_both_sides() {
    let (client, mut server) = pair();
    let (mut ours, mut theirs) = connect(&client.handle, &mut server.incoming).await;
    client.handle.close(CloseCode(0x123));
    assert_eq!(ours.read_chunk().await, Err(Error::Closed(CloseReason::Local(CloseCode(0x123)))));
    let remote = CloseReason::Remote { code: CloseCode(0x123), reason: String::new() };
    assert_eq!(theirs.read_chunk().await, Err(Error::Closed(remote.clone())));
    assert_eq!(client.driver.await.unwrap(), CloseReason::Local(CloseCode(0x123)));
    assert_eq!(server.driver.await.unwrap(), remote);
    assert!(client.handle.open(header()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn dropping_everything_closes_after_delivery() {
    let (client, mut server) = pair();
    let (mut ours, mut theirs) = connect(&client.handle, &mut server.incoming).await;
    ours.write_all(&[9; 250_000]).await.unwrap();
    ours.shutdown().await.unwrap();
    drop((ours, client.handle, client.incoming));
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 250_000);
    assert_eq!(client.driver.await.unwrap(), CloseReason::Drained);
}

#[tokio::test(start_paused = true)]
async fn dropped_driver_is_a_lost_connection_to_the_peer() {
    let (client, mut server) = pair();
    let (mut ours, mut theirs) = connect(&client.handle, &mut server.incoming).await;
    client.driver.abort();
    assert_eq!(theirs.read_chunk().await, Err(Error::Closed(CloseReason::Lost)));
    assert_eq!(ours.read_chunk().await, Err(Error::Closed(CloseReason::Dropped)));
    assert_eq!(client.handle.closed().await, CloseReason::Dropped);
    assert_eq!(server.handle.closed().await, CloseReason::Lost);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_holds_up_nobody_else() {
    let (client, mut server) = pair();
    let (mut stuck, mut stuck_there) = connect(&client.handle, &mut server.incoming).await;
    let (mut ours, mut theirs) = connect(&client.handle, &mut server.incoming).await;
    let writer = tokio::spawn(async move {
        stuck.write_all(&vec![1; 3_000_000]).await.unwrap();
        stuck.shutdown().await.unwrap();
    });
    let other = tokio::spawn(async move {
        ours.write_all(&vec![2; 3_000_000]).await.unwrap();
        ours.shutdown().await.unwrap();
    });
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 3_000_000);
    other.await.unwrap();
    assert!(!writer.is_finished());
    // No more than its window is held for the stalled one.
    let stats = server.handle.stats();
    assert!(stats.unread as u32 <= Config::new().initial_window, "{stats:?}");
    all.clear();
    stuck_there.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 3_000_000);
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_small_round_trip_overtakes_bulk() {
    // A slow transport: 64 KiB at a time, a millisecond apart.
    let (a, a_far) = tokio::io::duplex(64 * 1024);
    let (b, b_far) = tokio::io::duplex(64 * 1024);
    let (mut from_a, mut to_a) = tokio::io::split(a_far);
    let (mut from_b, mut to_b) = tokio::io::split(b_far);
    tokio::spawn(async move {
        let mut buf = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_a.read(&mut buf).await {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            if to_b.write_all(&buf[..n]).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move { tokio::io::copy(&mut from_b, &mut to_a).await });
    let (client, _incoming, driver) = Tunnel::client(a, Config::new());
    tokio::spawn(driver);
    let (_server, mut incoming, driver) = Tunnel::server(b, Config::new());
    tokio::spawn(driver);
    for _ in 0..8 {
        let (mut bulk, mut sink) = connect(&client, &mut incoming).await;
        tokio::spawn(async move { while bulk.write_all(&[0; 65536]).await.is_ok() {} });
        tokio::spawn(async move { while matches!(sink.read_chunk().await, Ok(Some(_))) {} });
    }
    let (mut ours, mut theirs) = connect(&client, &mut incoming).await;
    tokio::spawn(async move {
        let mut buf = [0; 64];
        while theirs.read_exact(&mut buf).await.is_ok() {
            theirs.write_all(&buf).await.unwrap();
        }
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    for _ in 0..50 {
        let start = tokio::time::Instant::now();
        let mut buf = [7; 64];
        ours.write_all(&buf).await.unwrap();
        ours.read_exact(&mut buf).await.unwrap();
        // A batch being written and what is in the pipes stand ahead; more than a megabyte is
        // queued behind.
        assert!(start.elapsed() <= std::time::Duration::from_millis(10), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_noticed() {
    let (a, mut silent) = tokio::io::duplex(64 * 1024);
    // The peer says hello and nothing else, but its end stays open.
    let (b, mut other) = tokio::io::duplex(64 * 1024);
    let (_h, _i, driver) = Tunnel::server(b, Config::new());
    let driver = tokio::spawn(driver);
    let mut hello = [0; 22];
    other.read_exact(&mut hello).await.unwrap();
    driver.abort();
    silent.write_all(&hello).await.unwrap();
    let (client, _incoming, driver) = Tunnel::client(a, Config::new());
    let start = tokio::time::Instant::now();
    let driver = tokio::spawn(driver);
    client.established().await.unwrap();
    assert_eq!(client.closed().await, CloseReason::DeadPeer);
    assert_eq!(driver.await.unwrap(), CloseReason::DeadPeer);
    let idle = Config::new().idle_timeout;
    assert!(start.elapsed() >= idle && start.elapsed() < idle * 2, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_tunnel_stays_up() {
    let (client, mut server) = pair();
    let (mut ours, mut theirs) = connect(&client.handle, &mut server.incoming).await;
    tokio::time::sleep(Config::new().idle_timeout * 20).await;
    ours.write_all(b"still here").await.unwrap();
    let mut buf = [0; 10];
    theirs.read_exact(&mut buf).await.unwrap();
    assert!(client.handle.stats().rtt.is_some());
}

#[tokio::test(start_paused = true)]
async fn giving_up_an_open_frees_it_on_both_sides() {
    let (client, mut server) = pair();
    let open = client.handle.open(header());
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), open).await.is_err());
    assert_eq!(client.handle.stats().streams, 0);
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    // The peer finds nothing to accept.
    let next = server.incoming.next();
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), next).await.is_err());
    assert_eq!(server.handle.stats().streams, 0);
}

#[tokio::test(start_paused = true)]
async fn thousands_of_idle_streams_fit_and_leave_nothing() {
    let (client, mut server) = pair();
    let mut streams = Vec::new();
    for _ in 0..4000 {
        streams.push(connect(&client.handle, &mut server.incoming).await);
    }
    let stats = server.handle.stats();
    assert_eq!(stats.streams, 4000);
    assert!(stats.windows <= Config::new().max_receive_memory);
    let (ours, theirs) = streams.last_mut().unwrap();
    let (bytes, mut buf) = (vec![3; 500_000], vec![0; 500_000]);
    let (sent, got) = tokio::join!(ours.write_all(&bytes), theirs.read_exact(&mut buf));
    sent.unwrap();
    got.unwrap();
    drop(streams);
    // The resets cross the tunnel before the answer to this does.
    let (_ours, _theirs) = connect(&client.handle, &mut server.incoming).await;
    assert_eq!((client.handle.stats().streams, server.handle.stats().streams), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn open_limits_are_errors_not_waits() {
    let mut few = Config::new();
    few.max_incoming = 2;
    let (client, mut server) = pair_with(Config::new(), few);
    let first = connect(&client.handle, &mut server.incoming).await;
    let _second = connect(&client.handle, &mut server.incoming).await;
    assert_eq!(client.handle.open(header()).await.unwrap_err(), Error::TooManyStreams);
    drop(first);
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    connect(&client.handle, &mut server.incoming).await;
}

/// Real threads race where the simulations take turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_between_threads() {
    let mut config = Config::new();
    config.initial_window = 16 * 1024;
    config.send_buffer = 8 * 1024;
    config.transmit_batch = 4 * 1024;
    let (a, b) = tokio::io::duplex(3000);
    let (client, _incoming, driver) = Tunnel::client(a, config.clone());
    tokio::spawn(driver);
    let (_server, mut incoming, driver) = Tunnel::server(b, config);
    tokio::spawn(driver);
    let mut talks = tokio::task::JoinSet::new();
    for n in 0..6usize {
        let (ours, theirs) = connect(&client, &mut incoming).await;
        let (mut ours_in, mut ours_out) = tokio::io::split(ours);
        let (mut theirs_in, mut theirs_out) = tokio::io::split(theirs);
        talks.spawn(async move {
            let (echoed, _) = tokio::join!(
                tokio::spawn(async move {
                    tokio::io::copy(&mut theirs_in, &mut theirs_out).await.unwrap();
                    theirs_out.shutdown().await.unwrap();
                }),
                tokio::spawn(async move {
                    for round in 0..1500 {
                        ours_out.write_all(&vec![n as u8; 1 + (round * 37) % 900]).await.unwrap();
                        if n % 2 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                    ours_out.shutdown().await.unwrap();
                })
            );
            echoed.unwrap();
        });
        talks.spawn(async move {
            let mut all = Vec::new();
            ours_in.read_to_end(&mut all).await.unwrap();
            let expected: usize = (0..1500).map(|round| 1 + (round * 37) % 900).sum();
            assert_eq!(all.len(), expected);
            assert!(all.iter().all(|b| *b == n as u8));
        });
    }
    let all = async {
        while let Some(talk) = talks.join_next().await {
            talk.unwrap()
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("stuck");
}
