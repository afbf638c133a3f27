//! Looking whether a database answers, at a real one and at what is none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::time::Duration;

use access_postgres::{TargetTls, TlsMode, probe};
use common::{Ca, Postgres};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

async fn look(port: u16, host: &str, tls: Option<&TargetTls>) -> Result<(), String> {
    #[allow(clippy::disallowed_methods)]
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    probe(stream, host, tls, Duration::from_secs(10)).await.map_err(|err| err.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_one_is_healthy_when_its_certificate_is() {
    let pg = Postgres::start();
    let verified = TargetTls::new(TlsMode::VerifyFull, [pg.db_ca.root()]).unwrap();
    assert_eq!(look(pg.port, "localhost", Some(&verified)).await, Ok(()));
    assert_eq!(look(pg.port, "127.0.0.1", None).await, Ok(()));
    let why = look(pg.port, "db.example.com", Some(&verified)).await.unwrap_err();
    assert_eq!(why, "the database's certificate is not for db.example.com");
    let foreign = TargetTls::new(TlsMode::VerifyFull, [Ca::new("another").root()]).unwrap();
    let why = look(pg.port, "localhost", Some(&foreign)).await.unwrap_err();
    assert!(why.contains("not by an authority that is trusted"), "{why}");
    let unverified = TargetTls::new(TlsMode::Require, []).unwrap();
    assert_eq!(look(pg.port, "db.example.com", Some(&unverified)).await, Ok(()));
}

#[tokio::test]
async fn what_is_no_database_or_says_nothing_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let unverified = TargetTls::new(TlsMode::Require, []).unwrap();
    for (says, tls, why) in [
        (&b"HTTP/1.1 400"[..], Some(&unverified), "does not speak PostgreSQL's protocol"),
        (b"HTTP/1.1 400", None, "does not speak PostgreSQL's protocol"),
        (b"N", Some(&unverified), "it does not speak TLS"),
        (b"", None, "end of file"),
    ] {
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(says).await.unwrap();
        };
        let (looked, ()) = tokio::join!(look(port, "127.0.0.1", tls), serve);
        let told = looked.unwrap_err();
        assert!(told.contains(why), "{told}");
    }
    let (silent, _open) = tokio::io::duplex(64);
    let looked = probe(silent, "127.0.0.1", None, Duration::from_millis(50)).await;
    assert_eq!(looked.unwrap_err().to_string(), "no answer in time");
}
