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
