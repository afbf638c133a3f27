//! A database that does what a test says.

use access_postgres::{DatabaseProtocol, PostgresOptions, TargetAuth};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Ca, Gateway, PATIENCE, Setup, text};

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// What CockroachDB greets with.
pub fn greeting() -> Vec<u8> {
    [
        message(b'R', &[0; 4]),
        message(b'S', b"server_version\x0013.0.0\0"),
        message(b'S', b"crdb_version\0CockroachDB CCL v25.2.0\0"),
        message(b'S', b"client_encoding\0UTF8\0"),
        message(b'K', &[0x80, 0, 0, 1, 9, 9, 9, 9]),
        message(b'Z', b"I"),
    ]
    .concat()
}

pub async fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let len = stream.read_u32().await.unwrap() as usize;
    let mut body = vec![0; len - 4];
    stream.read_exact(&mut body).await.unwrap();
    body
}

pub async fn query(stream: &mut TcpStream) -> String {
    assert_eq!(stream.read_u8().await.unwrap(), b'Q');
    text(&packet(stream).await).trim_end_matches('\0').to_owned()
}

/// A gateway before a script.
pub async fn scripted() -> (Gateway, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = Setup {
        auth: TargetAuth::Nothing,
        tls: None,
        addresses: vec![listener.local_addr().unwrap().to_string()],
        options: PostgresOptions::default(),
        admin: None,
        protocol: DatabaseProtocol::CockroachDb,
    };
    (Gateway::serving(Ca::new("clients"), setup).await, listener)
}

/// Accepts a session and greets.
pub async fn greet(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let startup = packet(&mut stream).await;
    assert!(startup.starts_with(&[0, 3, 0, 0]), "{startup:?}");
    stream.write_all(&greeting()).await.unwrap();
    stream
}

/// A client that asks for a session by these bytes, and what it is told until it may begin.
pub async fn begin(
    gateway: &Gateway,
    minor: u8,
) -> (tokio_rustls::client::TlsStream<TcpStream>, Vec<u8>) {
    let mut raw = gateway.raw().await;
    let body = [&[0, 3, 0, minor][..], b"user\0reader\0database\0defaultdb\0\0"].concat();
    raw.write_all(&(body.len() as u32 + 4).to_be_bytes()).await.unwrap();
    raw.write_all(&body).await.unwrap();
    raw.flush().await.unwrap();
    let seen = until(&mut raw, b"Z\0\0\0\x05I").await;
    (raw, seen)
}

pub async fn until(stream: &mut (impl AsyncRead + Unpin), end: &[u8]) -> Vec<u8> {
    let mut seen = Vec::new();
    while !seen.ends_with(end) {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut seen)).await;
        assert!(read.unwrap().unwrap() > 0, "{}", text(&seen));
    }
    seen
}
