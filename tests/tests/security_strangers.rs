//! What strangers can start has a limit and a deadline, and keeps nobody else out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr, reason = "what was measured is worth a line")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, resident_kib};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;

const ALICE: &[&str] = &["--roles=access", "--logins=root"];
/// The proxy's deadline for handshakes is 10 s.
const DEADLINE: Duration = Duration::from_secs(15);

fn connect(addr: &str) -> TcpStream {
    #[allow(clippy::disallowed_methods, reason = "a stranger")]
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// The same from an address that is not the users'.
fn connect_from_elsewhere(addr: &str) -> TcpStream {
    use socket2::{Domain, SockAddr, Socket, Type};
    let made = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = std::net::SocketAddr::from(([127, 0, 0, 2], 0));
    let to: std::net::SocketAddr = addr.parse().unwrap();
    made.bind(&SockAddr::from(from)).unwrap();
    made.connect(&SockAddr::from(to)).unwrap();
    made.into()
}

/// Waits until the other side closes; gives what it said.
fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(err) => assert!(
            matches!(err.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "not closed: {err}"
        ),
    }
    said
}

/// A ClientHello for a name.
fn hello(name: &str, alpn: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.into()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// What a stranger says, and then no more.
fn stalls() -> Vec<(&'static str, Vec<u8>)> {
    let part = |mut bytes: Vec<u8>, length: usize| {
        bytes.truncate(length);
        bytes
    };
    vec![
        ("nothing", Vec::new()),
        ("half a ClientHello", part(hello("x.example.com", "h2"), 50)),
        ("a ClientHello for the web", hello("x.example.com", "http/1.1")),
        ("a ClientHello for a tunnel", hello("proxy.example.com", "access-tunnel")),
        ("a ClientHello for auth", hello("auth.example.com", "h2")),
        ("a ClientHello for the node", hello("web-1.node.example.com", "access-ssh")),
        ("half a request", b"GET / HTTP/1.1\r\nHo".to_vec()),
        ("half a method", b"GE".to_vec()),
    ]
}

#[test]
fn silence_ends_at_the_deadline() {
    let cluster = Cluster::start();
    let began = Instant::now();
    let mut open: Vec<_> = stalls()
        .into_iter()
        .map(|(what, bytes)| {
            let mut stream = connect(&cluster.proxy_addr);
            stream.write_all(&bytes).unwrap();
            (what, stream)
        })
        .collect();
    for (what, stream) in &mut open {
        closed(stream);
        let took = began.elapsed();
        assert!(took < DEADLINE, "{what}: closed after {took:?} only");
    }
    // SSH has its own deadline, for the key exchange and the authentication together.
    let mut ssh = connect(&cluster.proxy_addr);
    ssh.write_all(b"SSH-2.0-stranger\r\n").unwrap();
    let began = Instant::now();
    assert!(closed(&mut ssh).starts_with(b"SSH-2.0-Access"));
    assert!(began.elapsed() < Duration::from_secs(35), "{:?}", began.elapsed());
}

#[test]
fn a_crowd_of_strangers_keeps_nobody_out() {
    let cluster = Cluster::start();
    cluster.add_user("alice", ALICE);
    let [auth, proxy, agent] =
        [&cluster.auth, &cluster.proxy, &cluster.agent].map(|one| one.as_ref().unwrap().id());
    for (what, bytes) in stalls() {
        let crowd: Vec<TcpStream> = (0..2000)
            .map(|_| {
                let mut stream = connect_from_elsewhere(&cluster.proxy_addr);
                // One that is refused at once is no crowd, but no failure either.
                drop(stream.write_all(&bytes));
                stream
            })
            .collect();
        let began = Instant::now();
        cluster.login("alice").ok();
        let login = began.elapsed();
        cluster.access("alice", &["ssh", "root@web-1", "true"], "").ok();
        let both = began.elapsed();
        let memory = [auth, proxy, agent].map(resident_kib);
        eprintln!("2000 of {what}: login {login:?}, with ssh {both:?}, KiB {memory:?}");
        assert!(both < Duration::from_secs(20), "{what}: {both:?}");
        assert!(memory.iter().all(|kib| *kib < 400 * 1024), "{what}: {memory:?}");
        drop(crowd);
    }
}

#[test]
fn garbage_is_refused_and_takes_no_memory() {
    let cluster = Cluster::start();
    let proxy = cluster.proxy.as_ref().unwrap().id();
    let before = resident_kib(proxy);

    // No protocol that is known.
    for bytes in [&b"\x00\x01\x02\x03"[..], b"EHLO example.com\r\n", b"\xff\xff\xff\xff\xff"] {
        let mut stream = connect(&cluster.proxy_addr);
        stream.write_all(bytes).unwrap();
        let began = Instant::now();
        closed(&mut stream);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    // TLS records that are none.
    for bytes in [
        [&[22, 3, 1, 0, 5][..], b"hello"].concat(),
        [&[22, 3, 1, 0xff, 0xff][..], &[0; 4096]].concat(),
        [&[22, 3, 1, 0, 4, 1, 0, 0, 0][..], &[22; 100]].concat(),
        vec![22; 100_000],
    ] {
        let mut stream = connect(&cluster.proxy_addr);
        drop(stream.write_all(&bytes));
        let began = Instant::now();
        closed(&mut stream);
        assert!(began.elapsed() < DEADLINE, "{:?}", &bytes[..5]);
    }
    // A ClientHello that announces 16 MiB, in records that fit: it is not waited for.
    let mut stream = connect(&cluster.proxy_addr);
    let mut record = vec![22, 3, 1, 0x40, 0];
    record.extend([1, 0xff, 0xff, 0xff, 3, 3]);
    record.resize(5 + 0x4000, 7);
    let mut sent = 0;
    while sent < 16 << 20 {
        match stream.write(&record) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
        record.drain(5..11);
        record.splice(5..5, [7; 6]);
    }
    closed(&mut stream);
    assert!(sent < 8 << 20, "{sent} bytes of a ClientHello were taken");
    // A banner without an end.
    let mut stream = connect(&cluster.proxy_addr);
    let mut sent = 0;
    drop(stream.write_all(b"SSH-2.0-"));
    while sent < 64 << 20 {
        match stream.write(&[b'A'; 16 * 1024]) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    assert!(sent < 16 << 20, "{sent} bytes of a banner were taken");
    // A key exchange without an end: it has its deadline, whatever is sent meanwhile.
    let mut stream = connect(&cluster.proxy_addr);
    drop(stream.write_all(b"SSH-2.0-x\r\n"));
    let began = Instant::now();
    while stream.write(&[0; 16 * 1024]).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(40), "nobody minds");
    }
    // A head of a request without an end.
    let mut stream = connect(&cluster.proxy_addr);
    drop(stream.write_all(b"GET /"));
    let mut sent = 0;
    while sent < 64 << 20 {
        match stream.write(&[b'a'; 16 * 1024]) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    assert!(sent < 16 << 20, "{sent} bytes of a request were taken");

    let after = resident_kib(proxy);
    assert!(after < before + 32 * 1024, "the proxy grew from {before} to {after} KiB");
    cluster.add_user("alice", ALICE);
    cluster.login("alice").ok();
}

#[test]
fn plain_http_is_led_to_https_and_nowhere_else() {
    let cluster = Cluster::without_agent();
    let ask = |request: &str| {
        let mut stream = connect(&cluster.proxy_addr);
        stream.write_all(request.as_bytes()).unwrap();
        String::from_utf8(closed(&mut stream)).unwrap()
    };
    let answer = ask("GET /web/invite HTTP/1.1\r\nHost: example.com:3080\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(
        answer.to_lowercase().contains("location: https://example.com:3080/web/invite\r\n"),
        "{answer}"
    );
    for request in [
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /\u{7}x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\n\r\n",
    ] {
        let answer = ask(request);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
    }
}
