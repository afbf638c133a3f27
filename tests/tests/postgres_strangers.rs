//! A thousand who want a database and say no more than that: their connections have an end, take
//! little, and keep nobody out, be it at the proxy or at a port of the agent's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr, reason = "what was measured is worth a line")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access_e2e::{DbSite, Process, resident_kib, run, without};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

const CROWD: usize = 1000;
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Somebody from an address that is not the users'.
fn connect(addr: SocketAddr) -> TcpStream {
    let made = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    made.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 2], 0)))).unwrap();
    made.connect(&SockAddr::from(addr)).unwrap();
    let stream = TcpStream::from(made);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// What a client without a certificate has: the roots that a connection string names, which are no
/// secret.
fn without_certificate(conninfo: &str) -> Arc<ClientConfig> {
    let named = conninfo.split(' ').find_map(|word| word.strip_prefix("sslrootcert="));
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(named.unwrap()).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// What a stranger does before falling silent.
#[derive(Clone, Copy, Debug)]
enum Stall {
    AsksForTls,
    HalfAStartupMessage,
    EndsTlsAndSaysNothing,
}

fn stall(addr: SocketAddr, how: Stall, tls: &Arc<ClientConfig>) -> TcpStream {
    let mut stream = connect(addr);
    // One that is refused at once is no crowd, but no failure either.
    drop(say(&mut stream, how, tls));
    stream
}

fn say(stream: &mut TcpStream, how: Stall, tls: &Arc<ClientConfig>) -> io::Result<()> {
    if matches!(how, Stall::HalfAStartupMessage) {
        return stream.write_all(&[0, 0, 0, 80, 0, 3, 0, 0, b'u']);
    }
    stream.write_all(&SSL_REQUEST)?;
    if matches!(how, Stall::EndsTlsAndSaysNothing) {
        stream.read_exact(&mut [0])?;
        let name = ServerName::try_from("orders.db.example.com").unwrap();
        let mut client = ClientConnection::new(Arc::clone(tls), name).unwrap();
        while client.is_handshaking() {
            client.complete_io(stream)?;
        }
    }
    Ok(())
}

fn closed(stream: &mut TcpStream) {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(err) => assert!(
            matches!(err.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "not closed: {err}"
        ),
    }
}

#[test]
fn a_crowd_that_says_nothing_keeps_nobody_from_a_database() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start_with(|pg| {
        let door = "    listen_addr: 127.0.0.1:0\n";
        format!("db_service:\n  databases:\n{}", pg.entry("orders", door))
    });
    site.add_user("alice", "reader");
    let agent: &Process = site.cluster.agent.as_ref().unwrap();
    let door: SocketAddr = agent.wait_for("where its door is", |line| {
        let said: Value = serde_json::from_str(line).ok()?;
        let door = said["message"] == "a database has a port of its own here";
        door.then(|| said["addr"].as_str().unwrap().parse().unwrap())
    });
    let proxy: SocketAddr = site.cluster.proxy_addr.parse().unwrap();
    let way = site.straight("alice", "reader");
    let at_door = way
        .conninfo()
        .split(' ')
        .map(|word| match word.split_once('=') {
            Some(("port", _)) => format!("port={}", door.port()),
            _ => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ");
    let tls = without_certificate(way.conninfo());
    let processes = [site.cluster.proxy.as_ref().unwrap().id(), agent.id()];

    for (place, addr, conninfo) in [("proxy", proxy, way.conninfo()), ("door", door, &at_door)] {
        for how in [Stall::AsksForTls, Stall::HalfAStartupMessage, Stall::EndsTlsAndSaysNothing] {
            let before = processes.map(resident_kib);
            let began = Instant::now();
            let first = stall(addr, how, &tls);
            let mut crowd: Vec<_> = (1..CROWD).map(|_| stall(addr, how, &tls)).collect();
            let came = Instant::now();
            let mut psql = Command::new("psql");
            let done = run(psql.arg(conninfo).args(["-XAt", "-c", "select current_user"]), "");
            assert_eq!(done.ok().out, "reader\n", "{place}, {how:?}");
            let served = came.elapsed();
            let grown: Vec<_> = processes
                .map(resident_kib)
                .iter()
                .zip(before)
                .map(|(now, before)| now.saturating_sub(before))
                .collect();
            eprintln!(
                "{CROWD} at the {place}, {how:?}: there after {:?}, served in {served:?}, \
                 {grown:?} KiB more",
                came - began
            );
            assert!(served < Duration::from_secs(10), "{place}, {how:?}: {served:?}");
            assert!(grown.iter().all(|kib| *kib < 100 * 1024), "{place}, {how:?}: {grown:?}");
            // The handshake has ten seconds, and what comes after it as many again.
            crowd.push(first);
            crowd.iter_mut().for_each(closed);
            let over = came.elapsed();
            assert!(over < Duration::from_secs(30), "{place}, {how:?}: over after {over:?}");
        }
    }
    // Half a StartupMessage is malformed: some of them are written down, and not all.
    let refused = site.cluster.wait_for_event("auth", |event| {
        event["user"] == "unknown"
            && event["addr.remote"].as_str().unwrap().starts_with("127.0.0.2")
    });
    assert_eq!(refused["success"], false, "{refused:#?}");
}
