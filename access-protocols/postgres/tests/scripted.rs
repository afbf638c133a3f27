//! A database that does what the script says: what CockroachDB alone does, as far as its
//! documentation tells, and what no database should. Nothing here has met the real CockroachDB.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use access_core::audit::Event;
use access_core::policy::{Action, Reason};
use common::script::{begin, greet, message, packet, query, scripted, until};
use common::{PATIENCE, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn find<'a>(seen: &'a [u8], mark: &[u8]) -> &'a [u8] {
    let at = seen.windows(mark.len()).position(|w| w == mark).expect("it is not there");
    &seen[at..]
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_the_gateways_own_and_lead_to_the_servers() {
    let (gateway, listener) = scripted().await;
    for (minor, secret_len) in [(0, 4), (2, 32), (99, 32)] {
        let (client, mut server) = {
            let (begun, server) = tokio::join!(begin(&gateway, minor), greet(&listener));
            let (client, seen) = begun;
            assert!(find(&seen, b"crdb_version").starts_with(b"crdb_version\0CockroachDB CCL"));
            assert_eq!(seen.first() == Some(&b'v'), minor == 99, "a newer version is negotiated");
            let key = find(&seen, &[b'K', 0, 0, 0, 8 + secret_len]);
            let (number, secret) = key[5..5 + 4 + usize::from(secret_len)].split_at(4);
            assert!(number[0] < 0x80 && secret != [9, 9, 9, 9], "the server's own key is kept");
            let number = u32::from_be_bytes(number.try_into().unwrap());
            let guess = access_postgres::wire::CancelRequest::new(number, &secret[..3]);
            assert!(!gateway.server.cancel(&guess, None).await);
            let right = access_postgres::wire::CancelRequest::new(number, secret);
            let passed = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert_eq!(packet(&mut stream).await, [4, 210, 22, 46, 0x80, 0, 0, 1, 9, 9, 9, 9]);
            };
            let (done, ()) = tokio::join!(gateway.server.cancel(&right, None), passed);
            assert!(done);
            (client, server)
        };
        drop(client);
        assert_eq!(server.read_u8().await.unwrap(), b'X', "the server is told that it is over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_error_and_a_changefeed_pass_as_they_are() {
    let (gateway, listener) = scripted().await;
    let ((mut client, _), mut server) = tokio::join!(begin(&gateway, 0), greet(&listener));
    client.write_all(&message(b'Q', b"commit\0")).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(query(&mut server).await, "commit");
    let retry = b"SERROR\0C40001\0Mrestart transaction: TransactionRetryWithProtoRefreshError\0\0";
    let retry = [message(b'E', retry), message(b'Z', b"E")].concat();
    server.write_all(&retry).await.unwrap();
    assert_eq!(until(&mut client, b"Z\0\0\0\x05E").await, retry);
    let changefeed = b"create changefeed for table kv\0";
    client.write_all(&message(b'Q', changefeed)).await.unwrap();
    client.flush().await.unwrap();
    query(&mut server).await;
    // Rows without an end, one at a time.
    for n in 0..5u8 {
        let row = message(b'D', &[0, 1, 0, 0, 0, 1, b'0' + n]);
        server.write_all(&row).await.unwrap();
        assert_eq!(until(&mut client, &[b'0' + n]).await, row);
    }
    drop((client, server));
    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let events = gateway.events();
    let retried = events.iter().find(|event| event["error_code"] == "40001").expect("no event");
    assert_eq!(retried["db_query"], "commit");
    assert!(events.iter().any(|event| event["db_query"] == "create changefeed for table kv"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_off_in_mid_row_or_lies_ends_one_session() {
    let (gateway, listener) = scripted().await;
    let half_a_gigabyte = [&b"D\x20\0\0\0"[..], &[7; 5000]].concat();
    for (bytes, reason) in [
        (half_a_gigabyte, "server"),
        (
            b"D\xff\xff\xff\xff".to_vec(),
            "the database: invalid length 4294967295 of a message of type 'D'",
        ),
    ] {
        let ((mut client, _), mut server) = tokio::join!(begin(&gateway, 0), greet(&listener));
        client.write_all(&message(b'Q', b"select\0")).await.unwrap();
        client.flush().await.unwrap();
        query(&mut server).await;
        server.write_all(&bytes).await.unwrap();
        drop(server);
        let mut rest = Vec::new();
        let read = client.read_to_end(&mut rest);
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("it stays open");
        if reason != "server" {
            assert!(text(&rest).contains("08006"), "{}", text(&rest));
        }
        let fits = |event: &Event| match event {
            Event::DbSessionEnd(end) => end.reason.as_ref().is_some_and(|r| r.as_str() == reason),
            _ => false,
        };
        gateway.wait_for(fits).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_statement_is_told_before_its_answer_and_a_lock_cuts_a_stalled_client() {
    let (gateway, listener) = scripted().await;
    let ((mut client, _), mut server) = tokio::join!(begin(&gateway, 0), greet(&listener));
    client.write_all(&message(b'Q', b"select 'slow'\0")).await.unwrap();
    client.flush().await.unwrap();
    query(&mut server).await;
    // Nothing is answered, and yet it is told.
    let sent = Instant::now();
    gateway.wait_for(|event| matches!(event, Event::DbSessionQuery(_))).await;
    assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
    // The client reads nothing any more; the server sends until all between is full.
    let flood = async {
        let row = message(b'D', &[&[0, 1, 0, 0, 0x0f, 0xfa][..], &[b'x'; 4090]].concat());
        while server.write_all(&row).await.is_ok() {}
    };
    let lock = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gateway.rules.deny(|_| Some(Reason::UserLocked));
        // The way to cancel the query is taken, although the permit is over.
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(packet(&mut stream).await[..4], [4, 210, 22, 46]);
    };
    let locked = Instant::now();
    tokio::time::timeout(PATIENCE, async { tokio::join!(flood, lock) }).await.unwrap();
    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    assert!(locked.elapsed() < Duration::from_secs(5), "{:?}", locked.elapsed());
}

/// A row of which the client has the first half when its user is locked; its rest comes after that,
/// and another row, or neither. What the client gets from then on.
async fn locked_in_mid_row(rest: &[u8]) -> Vec<u8> {
    let (gateway, listener) = scripted().await;
    let ((mut client, _), mut server) = tokio::join!(begin(&gateway, 0), greet(&listener));
    client.write_all(&message(b'Q', b"select 'row'\0")).await.unwrap();
    client.flush().await.unwrap();
    query(&mut server).await;
    server.write_all(&long_row()[..10_000]).await.unwrap();
    client.read_exact(&mut [0; 10_000]).await.unwrap();
    gateway.rules.deny(|_| Some(Reason::UserLocked));
    // That it is over shows in the query's being cancelled.
    let (mut stop, _) = listener.accept().await.unwrap();
    assert_eq!(packet(&mut stop).await[..4], [4, 210, 22, 46]);
    server.write_all(rest).await.unwrap();
    let mut seen = Vec::new();
    let read = client.read_to_end(&mut seen);
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("it stays open");
    let end = gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let Event::DbSessionEnd(end) = end.event else { unreachable!() };
    assert_eq!(end.reason.unwrap().as_str(), "locked");
    seen
}

fn long_row() -> Vec<u8> {
    message(b'D', &[&[0, 1, 0, 0, 0x4e, 0x20][..], &[b'x'; 20_000]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_has_begun_is_ended_before_the_client_is_told_why() {
    let row = long_row();
    let rest = &row[10_000..];
    let next = message(b'D', &[&[0, 1, 0, 0, 0, 5][..], b"never"].concat());
    // The session waits a quarter of a second, which a machine with other work can miss.
    let mut tries = 0;
    let told = loop {
        let seen = locked_in_mid_row(&[rest, &next].concat()).await;
        assert!(rest.starts_with(&seen) || seen.starts_with(rest), "{}", text(&seen));
        if let Some(told) = seen.strip_prefix(rest).filter(|told| !told.is_empty()) {
            break told.to_vec();
        }
        tries += 1;
        assert!(tries < 5, "the client is not told why");
    };
    assert!(told.starts_with(b"E") && !text(&told).contains("never"), "{}", text(&told));
    assert!(text(&told).contains("57P01") && text(&told).contains("you are locked out"));
    // What never gets whole is cut, and nothing is put in its place.
    assert_eq!(text(&locked_in_mid_row(&[]).await), "");
    assert_eq!(text(&locked_in_mid_row(&rest[..5000]).await), text(&rest[..5000]));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_nobody_knows_pass_both_ways() {
    let (gateway, listener) = scripted().await;
    let ((mut client, _), mut server) = tokio::join!(begin(&gateway, 0), greet(&listener));
    let unknown = |body: &[u8]| message(b'~', body);
    // A short one, one that spans many reads, and what is known after them.
    let sent = [unknown(b"from a later version"), unknown(&[7; 300_000])].concat();
    let up = async {
        client.write_all(&sent).await.unwrap();
        client.write_all(&message(b'Q', b"select 1\0")).await.unwrap();
        client.flush().await.unwrap();
    };
    let taken = async {
        let mut taken = vec![0; sent.len()];
        server.read_exact(&mut taken).await.unwrap();
        taken
    };
    let both = async { tokio::join!(up, taken) };
    let ((), taken) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(taken == sent, "what was sent is not what came");
    assert_eq!(query(&mut server).await, "select 1");
    let back = [sent, message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    let down = server.write_all(&back);
    let both = async { tokio::join!(down, until(&mut client, b"Z\0\0\0\x05I")) };
    let (down, seen) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    down.unwrap();
    assert!(seen == back, "what was answered is not what came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_reads_nothing_stops_the_client_and_fills_no_memory() {
    const MOST: usize = 48 << 20;
    let (gateway, listener) = scripted().await;
    let ((mut client, _), mut server) = tokio::join!(begin(&gateway, 0), greet(&listener));
    client.write_all(&message(b'Q', b"copy t from stdin\0")).await.unwrap();
    client.flush().await.unwrap();
    query(&mut server).await;
    server.write_all(&message(b'G', &[0, 0, 0])).await.unwrap();
    assert_eq!(until(&mut client, &message(b'G', &[0, 0, 0])).await.len(), 8);
    let before = common::resident();
    let rows = message(b'd', &[b'x'; 64 * 1024]);
    let mut sent = 0;
    // Once nothing moves for a second, all that lies between is full.
    loop {
        let rest = &rows[sent % rows.len()..];
        let written = tokio::time::timeout(Duration::from_secs(1), client.write(rest)).await;
        let Ok(written) = written else { break };
        sent += written.unwrap();
        assert!(sent < MOST, "{sent} bytes were taken from a client, and nobody reads them");
    }
    let grown = common::resident().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB were kept of {sent} bytes");
    // It goes on where it stopped, once the database reads.
    let drain = async {
        let mut gone = 0;
        let mut buf = vec![0; 1 << 20];
        while gone < sent {
            let read = server.read(&mut buf).await.unwrap();
            assert!(read > 0, "after {gone} of {sent} bytes");
            gone += read;
        }
    };
    let flush = async { client.flush().await.unwrap() };
    tokio::time::timeout(PATIENCE, async { tokio::join!(drain, flush) }).await.unwrap();
}

/// All of this runs on one thread.
#[tokio::test]
async fn a_text_of_many_commands_lets_others_have_their_turn() {
    let (gateway, listener) = scripted().await;
    let ((mut client, _), mut server) = tokio::join!(begin(&gateway, 0), greet(&listener));
    // How many turns others have had, as it is seen from each decision.
    let turns = Arc::new(AtomicUsize::new(0));
    let seen: Arc<Mutex<HashSet<usize>>> = Arc::default();
    let (counted, noted) = (Arc::clone(&turns), Arc::clone(&seen));
    gateway.rules.deny(move |action| {
        if matches!(action, Action::DatabaseStatement { .. }) {
            noted.lock().unwrap().insert(counted.load(Ordering::Relaxed));
        }
        None
    });
    let others = tokio::spawn(async move {
        loop {
            turns.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let text: String = (0..10_000).map(|n| format!("word{n};")).collect();
    client.write_all(&message(b'Q', format!("{text}\0").as_bytes())).await.unwrap();
    client.flush().await.unwrap();
    let asked = tokio::time::timeout(PATIENCE, query(&mut server)).await.unwrap();
    assert_eq!(asked, text);
    others.abort();
    let seen = seen.lock().unwrap().len();
    assert!(seen > 50, "others had {seen} turns during ten thousand decisions");
}
