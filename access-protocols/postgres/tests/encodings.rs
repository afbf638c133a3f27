//! Encodings in which a backslash can be part of a character: what is read as one statement here is
//! two at the server. No way to choose one may have a statement pass unseen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use access_core::policy::{Action, Reason};
use common::{Gateway, PATIENCE, Postgres, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DATABASE: &str = "unicode";
/// What the client is told whose session ends.
const WHY: &str =
    "client encodings in which a backslash can be part of a character are not allowed";

fn query(sql: &[u8]) -> Vec<u8> {
    let length = u32::try_from(sql.len()).unwrap() + 5;
    [&b"Q"[..], &length.to_be_bytes(), sql, b"\0"].concat()
}

async fn run(gateway: &Gateway, sql: &str) -> String {
    let mut psql = tokio::process::Command::new("psql");
    psql.args(["-XAt", &gateway.conninfo("reader", DATABASE), "-c", sql]);
    let output = tokio::time::timeout(PATIENCE, psql.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_encoding_would_hide_is_not_run() {
    let pg = Postgres::start();
    pg.sql(&format!(
        "create database {DATABASE} owner reader encoding 'UTF8' locale 'C' template template0"
    ));
    let gateway = Gateway::before(&pg).await;
    run(&gateway, "create table t(i int)").await;
    gateway.rules.deny(|action| match action {
        Action::DatabaseStatement { command, .. } if command == "DROP TABLE" => {
            Some(Reason::Other("not that".into()))
        }
        _ => None,
    });
    for chosen in [
        "set client_encoding to 'SJIS'",
        "set names 'SJIS'",
        "set session names 'SJIS'",
        "select set_config('client_encoding', 'SJIS', false)",
        "update pg_settings set setting = 'SJIS' where name like 'client_enc%'",
    ] {
        let mut client = gateway.raw().await;
        let asked = format!("user\0reader\0database\0{DATABASE}\0\0");
        let length = u32::try_from(asked.len()).unwrap() + 8;
        let startup = [&length.to_be_bytes()[..], &[0, 3, 0, 0], asked.as_bytes()].concat();
        // Both at once: the second is here before the server has told of the first. To the server
        // the string ends behind the two bytes of one character.
        let hidden = b"select E'\x95\x5c'; drop table t; --'";
        client
            .write_all(&[startup, query(chosen.as_bytes()), query(hidden)].concat())
            .await
            .unwrap();
        client.flush().await.unwrap();
        let mut told = Vec::new();
        let read = client.read_to_end(&mut told);
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("it stays open");
        assert!(text(&told).contains(WHY), "{chosen}: {}", text(&told));
        assert_eq!(run(&gateway, "select count(*) from t").await, "0\n", "{chosen}");
    }
}
