//! A database that does what the script says, within TLS: what it is shown and asked for. What is
//! CockroachDB's alone is after its documentation, and has not met the real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use access_core::audit::Event;
use access_postgres::{
    ALPN_POSTGRESQL, DatabaseProtocol, PostgresOptions, TargetAuth, TargetTls, TlsMode,
};
use common::{Ca, Gateway, PATIENCE, Setup, text};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

struct Script {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    direct: bool,
}

impl Script {
    /// A listener, and a gateway before it that begins TLS one way or the other.
    async fn start(protocol: DatabaseProtocol, direct: bool) -> (Gateway, Self) {
        let (servers, clients) = (Ca::new("databases"), Ca::new("clients"));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(clients.root()).unwrap();
        let provider = common::pki::provider();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let pair = servers.server(&["localhost"]);
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![pair.cert.clone()], pair.key_der())
            .unwrap();
        // Nothing else: whoever offers another protocol is refused.
        tls.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = TargetTls::new(TlsMode::VerifyFull, [servers.root()]).unwrap();
        let setup = Setup {
            auth: TargetAuth::Certificate,
            tls: Some(target.direct(direct)),
            addresses: vec![format!("localhost:{}", listener.local_addr().unwrap().port())],
            options: PostgresOptions::default(),
            admin: None,
            protocol,
        };
        let gateway = Gateway::serving(clients, setup).await;
        (gateway, Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls)), direct })
    }

    async fn accept(&self) -> TlsStream<TcpStream> {
        let (mut tcp, _) = self.listener.accept().await.unwrap();
        if !self.direct {
            let mut asked = [0; 8];
            tcp.read_exact(&mut asked).await.unwrap();
            assert_eq!(asked, [0, 0, 0, 8, 4, 210, 22, 47], "an SSLRequest");
            tcp.write_all(b"S").await.unwrap();
        }
        // What is not TLS from its first byte on fails here.
        self.acceptor.accept(tcp).await.unwrap()
    }

    /// Accepts a session, and gives what it asks for.
    async fn greet(&self) -> (TlsStream<TcpStream>, Vec<(String, String)>) {
        let mut stream = self.accept().await;
        let body = packet(&mut stream).await;
        assert_eq!(body[..4], [0, 3, 0, 0]);
        let mut words = body[4..].split(|byte| *byte == 0).map(text);
        let mut parameters = Vec::new();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            if name.is_empty() {
                break;
            }
            parameters.push((name, value));
        }
        let greeting = [
            message(b'R', &[0; 4]),
            message(b'S', b"server_version\x0013.0.0\0"),
            message(b'S', b"crdb_version\0CockroachDB CCL v25.2.0\0"),
            message(b'S', b"client_encoding\0UTF8\0"),
            message(b'K', &[0x80, 0, 0, 1, 9, 9, 9, 9]),
            message(b'Z', b"I"),
        ];
        stream.write_all(&greeting.concat()).await.unwrap();
        stream.flush().await.unwrap();
        (stream, parameters)
    }
}

async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let len = stream.read_u32().await.unwrap() as usize;
    let mut body = vec![0; len - 4];
    stream.read_exact(&mut body).await.unwrap();
    body
}

/// `psql` over this connection string with one statement, which the script answers.
async fn sits(gateway: &Gateway, script: &Script, more: &str) -> Vec<(String, String)> {
    let conninfo = format!("{} {more}", gateway.conninfo("reader", "defaultdb"));
    let mut psql = tokio::process::Command::new("psql");
    let psql = psql.args(["-XAt", "-c", "select 1"]).arg(conninfo).output();
    let serve = async {
        let (mut stream, parameters) = script.greet().await;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert!(text(&certificate).contains("reader"), "whose certificate is it?");
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            script.direct.then_some(ALPN_POSTGRESQL),
            "a protocol is offered where TLS begins at once"
        );
        assert_eq!(stream.read_u8().await.unwrap(), b'Q');
        assert_eq!(text(&packet(&mut stream).await), "select 1\0");
        let answer = [
            message(b'T', b"\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0"),
            message(b'D', b"\0\x01\0\0\0\x011"),
            message(b'C', b"SELECT 1\0"),
            message(b'Z', b"I"),
        ];
        stream.write_all(&answer.concat()).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'X');
        parameters
    };
    let both = async { tokio::join!(psql, serve) };
    let (output, parameters) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    let output = output.unwrap();
    assert_eq!(text(&output.stdout), "1\n", "{}", text(&output.stderr));
    parameters
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_begins_at_once_where_it_is_said_to() {
    for direct in [true, false] {
        let (gateway, script) = Script::start(DatabaseProtocol::Postgres, direct).await;
        sits(&gateway, &script, "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_cockroachdb_is_asked_for_as_the_client_asks() {
    let (gateway, script) = Script::start(DatabaseProtocol::CockroachDb, false).await;
    let more = "options='--cluster=tenant-7 -c statement_timeout=5s' application_name=ledger";
    let parameters = sits(&gateway, &script, more).await;
    for (name, value) in [
        ("user", "reader"),
        ("database", "defaultdb"),
        ("options", "--cluster=tenant-7 -c statement_timeout=5s"),
        ("application_name", "ledger"),
    ] {
        let said = parameters.iter().filter(|(said, _)| said == name).collect::<Vec<_>>();
        assert!(said.len() == 1 && said[0].1 == value, "{name}: {said:?}");
    }
    let start = gateway.wait_for(|event| matches!(event, Event::DbSessionStart(_))).await;
    let start = serde_json::to_value(start).unwrap();
    assert_eq!(start["application_name"], "ledger", "{start:#}");
    assert_eq!(start["db_protocol"], "cockroachdb", "{start:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_cancelled_within_tls_too() {
    for direct in [true, false] {
        let (gateway, script) = Script::start(DatabaseProtocol::CockroachDb, direct).await;
        let (client, greeted) = tokio::join!(gateway.connect("reader"), script.greet());
        let cancel = client.cancel_token();
        // The client asks within TLS, and so does the gateway.
        let passed = async {
            let mut stream = script.accept().await;
            assert_eq!(packet(&mut stream).await, [4, 210, 22, 46, 0x80, 0, 0, 1, 9, 9, 9, 9]);
        };
        let both = async { tokio::join!(cancel.cancel_query(gateway.connector()), passed) };
        let (cancelled, ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
        cancelled.unwrap();
        drop((client, greeted));
    }
}
