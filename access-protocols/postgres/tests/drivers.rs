//! A driver, unchanged: prepared statements, pipelines, COPY, cancels, notifications, errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::pin::pin;
use std::time::Duration;

use access_core::audit::Event;
use access_core::policy::{Action, Reason};
use bytes::Bytes;
use common::{Gateway, PATIENCE, Postgres};
use futures::{SinkExt, StreamExt, TryStreamExt};
use tokio_postgres::AsyncMessage;
use tokio_postgres::error::SqlState;

#[tokio::test(flavor = "multi_thread")]
async fn prepared_pipelined_copied_and_cancelled() {
    let pg = Postgres::start();
    pg.sql("create table t(i int, x text); grant all on t to reader");
    let gateway = Gateway::before(&pg).await;
    let client = gateway.connect("reader").await;

    let statement = client.prepare("select $1::int + $2::int").await.unwrap();
    let sums = (0..200).map(|i: i32| {
        let (client, statement) = (&client, &statement);
        async move { client.query_one(statement, &[&i, &1]).await.unwrap().get::<_, i32>(0) }
    });
    let sums = futures::future::join_all(sums).await;
    assert_eq!(sums, (1..=200).collect::<Vec<i32>>());

    // An error in a pipeline is that of its own statement.
    let (good, bad, after) = futures::join!(
        client.query("select 1", &[]),
        client.query("select 1/$1::int", &[&0]),
        client.query("select 2", &[])
    );
    assert_eq!((good.unwrap().len(), after.unwrap().len()), (1, 1));
    assert_eq!(bad.unwrap_err().code(), Some(&SqlState::DIVISION_BY_ZERO));

    let mut sink = Box::pin(client.copy_in("copy t from stdin").await.unwrap());
    for i in 0..1000 {
        sink.send(Bytes::from(format!("{i}\t{}\n", "x".repeat(i)))).await.unwrap();
    }
    assert_eq!(sink.as_mut().finish().await.unwrap(), 1000);
    let rows = client.copy_out("copy t to stdout").await.unwrap();
    let copied: Vec<Bytes> = rows.try_collect().await.unwrap();
    assert_eq!(copied.len(), 1000);
    assert_eq!(copied.iter().map(Bytes::len).sum::<usize>(), 499_500 + 2890 + 2000);

    // A portal that is run in parts.
    let mut client = client;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("select i from t order by i", &[]).await.unwrap();
    for part in 0..3 {
        let rows = transaction.query_portal(&portal, 300).await.unwrap();
        assert_eq!(rows[0].get::<_, i32>(0), part * 300);
    }
    transaction.commit().await.unwrap();

    let token = client.cancel_token();
    let connector = gateway.connector();
    let sleeping = client.simple_query("select pg_sleep(600)");
    let cancelling = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            token.cancel_query(connector.clone()).await.unwrap();
        }
    };
    let err = tokio::select! {
        done = sleeping => done.unwrap_err(),
        () = cancelling => unreachable!(),
        () = tokio::time::sleep(PATIENCE) => panic!("not cancelled"),
    };
    assert_eq!(err.code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(client.query_one("select 3", &[]).await.unwrap().get::<_, i32>(0), 3);
    drop(client);

    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let events = gateway.events();
    let numbers: Vec<_> = events
        .iter()
        .filter(|event| {
            event["event"] != "db.session.result" && event["event"] != "db.session.cancel"
        })
        .filter_map(|event| event["statement"].as_u64())
        .collect();
    let sorted: Vec<_> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, sorted, "every statement once, in order");
    let binds = events
        .iter()
        .filter(|event| event["parameters"] == serde_json::json!(["\\x00000005", "\\x00000001"]));
    assert_eq!(binds.count(), 1);
    let rows: Vec<_> = events
        .iter()
        .filter(|event| event["command"] == "COPY")
        .map(|event| event["rows"].as_u64())
        .collect();
    assert_eq!(rows, [Some(1000), Some(1000)]);
    assert!(events.iter().any(|event| event["error_code"] == "57014"));
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_arrive_unasked() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let (client, mut connection) = gateway.try_connect("reader").await.unwrap();
    let (send, receive) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut messages = pin!(futures::stream::poll_fn(move |cx| connection.poll_message(cx)));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = send.send(notification.payload().to_owned());
                break;
            }
        }
    });
    client.batch_execute("listen news").await.unwrap();
    pg.sql("notify news, 'hello'");
    let payload = tokio::time::timeout(PATIENCE, receive).await.unwrap().unwrap();
    assert_eq!(payload, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_a_pipeline_hits_one_statement() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    gateway.rules.deny(|action| match action {
        Action::DatabaseStatement { command, .. } if command == "CREATE TABLE" => {
            Some(Reason::Other("no".into()))
        }
        _ => None,
    });
    let client = gateway.connect("reader").await;
    let (one, refused, two) = futures::join!(
        client.query_one("select 1", &[]),
        client.execute("create table x(i int)", &[]),
        client.query_one("select 2", &[])
    );
    assert_eq!((one.unwrap().get::<_, i32>(0), two.unwrap().get::<_, i32>(0)), (1, 2));
    let refused = refused.unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!(refused.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert!(refused.message().starts_with("CREATE TABLE is not allowed here"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_up_the_database_and_not_the_memory() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let client = gateway.connect("reader").await;
    let rows = client
        .copy_out("copy (select repeat('x', 1000000) from generate_series(1, 300)) to stdout")
        .await
        .unwrap();
    let mut rows = pin!(rows);
    let before = common::resident();
    let mut first = rows.next().await.unwrap().unwrap().len();
    // Nothing is read for a while; the server fills what there is between, and waits.
    let stuck = "select count(*) from pg_stat_activity where wait_event = 'ClientWrite'";
    let end = std::time::Instant::now() + PATIENCE;
    while pg.sql(stuck) != "1" {
        assert!(std::time::Instant::now() < end, "the server never waits");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let grown = common::resident().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
    while let Some(row) = rows.next().await {
        first += row.unwrap().len();
    }
    assert_eq!(first, 300 * 1_000_001);
}
