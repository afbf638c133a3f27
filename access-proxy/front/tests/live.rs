//! A front door with a real socket, an Auth that only listens, and an agent without a node.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access_ca::{Authority, HostDraft, IssuingPolicy, NewAuthority, SealingKey, SoftwareKeyStore};
use access_client::KeySet;
use access_core::audit::MemorySink;
use access_core::identity::{AuthorityKind, Identity, Service, SharedTrust, Subject};
use access_core::time::{Clock, ManualClock};
use access_core::tls::{
    ALPN_TUNNEL, HEADER_START, Origin, ServerTrust, SharedKey, client_config, hello_digest,
    origin_length,
};
use access_core::{ClusterName, HostId, Timestamp, TrustStore};
use access_proxy::{
    AuthUpstream, ClientStream, Front, FrontOptions, FrontParts, Limits, Outcome, PingInfo,
    Prelude, Recognised, Tunnels, WebPages,
};
use access_tunnel::{Config, Tunnel};
use async_trait::async_trait;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What none of these tests should need.
const LONG: Duration = Duration::from_secs(20);
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Says its name and repeats what it hears, until the client ends.
struct Parrot;

#[async_trait]
impl Prelude for Parrot {
    fn name(&self) -> &'static str {
        "parrot"
    }

    fn recognise(&self, first: &[u8]) -> Recognised {
        Recognised::by_mark(first, b"PARROT")
    }

    async fn serve(&self, stream: ClientStream, _: SocketAddr) -> Outcome {
        let (mut read, mut write) = tokio::io::split(stream);
        drop(tokio::io::copy(&mut read, &mut write).await);
        drop(write.shutdown().await);
        Outcome::Done
    }
}

/// Lets in who asks for TLS, and refuses all others.
struct Usher;

#[async_trait]
impl Prelude for Usher {
    fn name(&self) -> &'static str {
        "usher"
    }

    fn recognise(&self, first: &[u8]) -> Recognised {
        Recognised::by_mark(first, b"USHER")
    }

    async fn serve(&self, mut stream: ClientStream, _: SocketAddr) -> Outcome {
        let mut asked = [0; 6];
        stream.read_exact(&mut asked).await.unwrap();
        match asked[5] {
            b'+' => Outcome::Tls(stream),
            _ => Outcome::Refused("there is no such seat".into()),
        }
    }
}

struct Site {
    addr: SocketAddr,
    auth: TcpListener,
    clock: Arc<ManualClock>,
    trust: Arc<SharedTrust>,
    authority: Authority,
    tunnels: Arc<Tunnels>,
    sink: MemorySink,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

fn cluster() -> ClusterName {
    ClusterName::new("example.com").unwrap()
}

impl Site {
    async fn start(options: FrontOptions) -> Self {
        Self::start_with(options, LONG).await
    }

    async fn start_with(options: FrontOptions, drain: Duration) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_767_323_045)));
        let store = SoftwareKeyStore::new(SealingKey::generate().unwrap());
        let new = NewAuthority::new(cluster(), AuthorityKind::Host);
        let authority = Authority::create(&store, &new, clock.now()).unwrap();
        let trust = TrustStore::new(cluster(), [authority.trusted().clone()]).unwrap();
        let trust = Arc::new(SharedTrust::new(trust));
        let host_key = host_key(&authority, clock.now(), Service::Proxy, &[]);
        let auth = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tunnels = Arc::new(Tunnels::new());
        let parts = FrontParts {
            cluster: cluster(),
            trust: Arc::clone(&trust),
            web_key: Arc::clone(&host_key) as _,
            host_key,
            auth: AuthUpstream::new(vec![("127.0.0.1".into(), auth.local_addr().unwrap().port())]),
            tunnels: Arc::clone(&tunnels),
            preludes: vec![Arc::new(Parrot), Arc::new(Usher)],
            pages: WebPages::new(&PingInfo::new("example.com", Vec::new())).unwrap(),
            clock: clock.clone(),
        };
        let sink = MemorySink::new(1000);
        let front = Front::new(parts, options).unwrap().audit(Arc::new(sink.clone()));
        let front = Arc::new(front);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(front.serve(listener, stop.clone(), drain));
        Self { addr, auth, clock, trust, authority, tunnels, sink, stop, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Says something and gives the answer, up to its end.
    async fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        answer(&mut stream).await
    }

    /// The connection that came to Auth, and who is said to be its client, on a proxy's word.
    async fn at_auth(&self, first: &[u8]) -> (TcpStream, SocketAddr) {
        let (mut stream, _) = within(self.auth.accept()).await.unwrap();
        let mut start = [0; HEADER_START];
        stream.read_exact(&mut start).await.unwrap();
        let mut header = start.to_vec();
        header.resize(origin_length(start).unwrap(), 0);
        stream.read_exact(&mut header[HEADER_START..]).await.unwrap();
        let mut copied = vec![0; first.len()];
        stream.read_exact(&mut copied).await.unwrap();
        assert_eq!(copied, first, "the client's bytes are untouched");
        let digest = hello_digest(first).unwrap().unwrap();
        let origin = Origin::read(&header).unwrap();
        let said = origin.verify(&self.trust.load(), self.clock.now(), &digest).unwrap();
        (stream, said.client)
    }
}

fn host_key(
    authority: &Authority,
    now: Timestamp,
    service: Service,
    resources: &[&str],
) -> Arc<SharedKey> {
    let keys = KeySet::generate().unwrap();
    let subject = Subject::Host {
        id: HostId::new(format!("{service}-1")).unwrap(),
        services: BTreeSet::from([service]),
        resources: resources.iter().map(|text| text.parse().unwrap()).collect(),
    };
    let hour = Duration::from_secs(3600);
    let mut draft = HostDraft::new(Identity::new(cluster(), subject, now), hour).unwrap();
    draft.tls_public_key = Some(keys.public().unwrap().tls);
    let signed = draft.vet(&IssuingPolicy::new(now, hour)).unwrap().sign(authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(keys.tls.pkcs8().to_vec().into());
    Arc::new(SharedKey::new(signed.tls_chain(), key).unwrap())
}

async fn within<T>(doing: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, doing).await.expect("it takes too long")
}

async fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    within(stream.read_to_end(&mut said)).await.expect("closed, and not reset");
    said
}

fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n";

#[tokio::test]
async fn plain_http_is_redirected_and_unknown_names_get_the_alert() {
    let site = Site::start(FrontOptions::default()).await;
    let redirected = String::from_utf8(site.ask(REQUEST).await).unwrap();
    assert!(redirected.starts_with("HTTP/1.1 308 "), "{redirected}");
    assert!(redirected.contains("location: https://example.com/x\r\n"), "{redirected}");
    // What the client sent beyond its ClientHello does not cost it the alert.
    for more in [0, 100_000] {
        let mut bytes = hello("nobody.node.example.com");
        bytes.extend(vec![0; more]);
        assert_eq!(site.ask(&bytes).await, UNRECOGNIZED_NAME, "{more}");
    }
    assert_eq!(site.ask(b"\0what is this").await, b"");
}

#[tokio::test]
async fn who_asks_for_what_nobody_serves_is_written_down() {
    let site = Site::start(FrontOptions::default()).await;
    for _ in 0..15 {
        assert_eq!(site.ask(&hello("ordres.db.example.com")).await, UNRECOGNIZED_NAME);
    }
    let events = site.sink.envelopes();
    // One source fills no log.
    assert_eq!(events.len(), 10);
    let event = serde_json::to_value(&events[0]).unwrap();
    for (field, value) in
        [("event", "auth"), ("user", "unknown"), ("server_hostname", "ordres"), ("proto", "db")]
    {
        assert_eq!(event[field], value, "{event:#}");
    }
    assert!(event["success"] == false && event["addr.remote"].is_string(), "{event:#}");
    assert!(event["error"].as_str().unwrap().contains("there is no db/ordres"), "{event:#}");
    assert!(events[0].event.is_by_stranger());
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(site.ask(&hello("nobody.node.example.com")).await, UNRECOGNIZED_NAME);
    let event = serde_json::to_value(site.sink.envelopes().last().unwrap()).unwrap();
    assert!(event["server_hostname"] == "nobody" && event["proto"] == "ssh", "{event:#}");
}

#[tokio::test]
async fn first_words_that_come_to_nothing_are_written_down() {
    let limits = Limits { handshake: Duration::from_millis(100), ..Limits::default() };
    let site = Site::start(FrontOptions { limits, ..FrontOptions::default() }).await;
    let unknown = "the first words are of no protocol that is served here";
    for (said, why, proto) in [
        ("USHER-", "there is no such seat", Some("usher")),
        ("USHER+", "TLS was asked for, and not begun", Some("usher")),
        ("*1\r\n$4\r\nPING\r\n", unknown, None),
        // Too few words, and then none.
        ("USH", unknown, None),
    ] {
        assert_eq!(site.ask(said.as_bytes()).await, b"");
        let wait = site.sink.wait_for(|event| match event {
            access_core::audit::Event::Auth(auth) => {
                auth.outcome.error.as_ref().is_some_and(|error| error.as_str() == why)
            }
            _ => false,
        });
        let event = within(wait).await;
        assert!(event.event.is_by_stranger());
        let event = serde_json::to_value(&event).unwrap();
        assert_eq!(event["proto"].as_str(), proto, "{event:#}");
        assert_eq!(event["user"], "unknown", "{event:#}");
        assert!(event["success"] == false && event["addr.remote"].is_string(), "{event:#}");
    }
    // Who says nothing at all has said nothing that could be written down.
    assert_eq!(site.ask(b"").await, b"");
    for _ in 0..15 {
        assert_eq!(site.ask(b"USHER-").await, b"");
    }
    let mut seen = 0;
    let tenth = site.sink.wait_for(|_| {
        seen += 1;
        seen == 10
    });
    within(tenth).await;
    assert_eq!(site.sink.envelopes().len(), 10, "one source fills no log");
}

#[tokio::test]
async fn silence_has_a_deadline_and_a_source_its_limit() {
    let limits =
        Limits { handshake: Duration::from_millis(300), per_source: 2, ..Limits::default() };
    let site = Site::start(FrontOptions { limits, ..FrontOptions::default() }).await;
    let began = Instant::now();
    let (mut silent, mut slow) = (site.connect().await, site.connect().await);
    slow.write_all(&hello("auth.example.com")[..50]).await.unwrap();
    // The third of one source is closed at once, before it is looked at.
    let mut third = site.connect().await;
    assert_eq!(within(third.read(&mut [0; 8])).await.unwrap_or(0), 0);
    assert!(began.elapsed() < Duration::from_millis(300));
    assert_eq!(answer(&mut silent).await, b"");
    assert_eq!(answer(&mut slow).await, b"");
    assert!(began.elapsed() >= Duration::from_millis(300));
    // Their places are free again, as soon as the proxy has put them away.
    let end = Instant::now() + LONG;
    while !site.connect_and_ask().await {
        assert!(Instant::now() < end, "the places were not given back");
    }
}

impl Site {
    async fn connect_and_ask(&self) -> bool {
        let mut stream = self.connect().await;
        let mut said = Vec::new();
        let asked = async {
            stream.write_all(REQUEST).await?;
            stream.read_to_end(&mut said).await
        };
        within(asked).await.is_ok() && said.starts_with(b"HTTP/1.1 308 ")
    }
}

#[tokio::test]
async fn a_balancer_tells_the_address_where_one_is_configured_and_nowhere_else() {
    let on = FrontOptions { proxy_protocol: true, ..FrontOptions::default() };
    let site = Site::start(on).await;
    let first = hello("auth.example.com");
    let mut client = site.connect().await;
    client.write_all(b"PROXY TCP4 192.0.2.7 203.0.113.1 4242 443\r\n").await.unwrap();
    client.write_all(&first).await.unwrap();
    let (_auth, told) = site.at_auth(&first).await;
    assert_eq!(told.to_string(), "192.0.2.7:4242");
    for bytes in [REQUEST, &first, b"PROXY garbage\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x00"] {
        let mut stream = site.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        // Nobody is owed an answer, so that a reset will do.
        drop(within(stream.read_to_end(&mut said)).await);
        assert!(said.is_empty(), "{bytes:?}");
    }

    let site = Site::start(FrontOptions::default()).await;
    let mut bytes = b"PROXY TCP4 192.0.2.7 203.0.113.1 4242 443\r\n".to_vec();
    bytes.extend(REQUEST);
    let mut stream = site.connect().await;
    stream.write_all(&bytes).await.unwrap();
    let mut said = Vec::new();
    drop(within(stream.read_to_end(&mut said)).await);
    assert!(said.is_empty());
}

#[tokio::test]
async fn auth_is_told_where_the_client_is_and_its_absence_is_told_to_the_client() {
    let site = Site::start(FrontOptions::default()).await;
    let first = hello("auth.example.com");
    let mut client = site.connect().await;
    client.write_all(&first).await.unwrap();
    let (mut auth, told) = site.at_auth(&first).await;
    assert_eq!(told, client.local_addr().unwrap());
    auth.write_all(b"hello, client").await.unwrap();
    drop(auth);
    assert_eq!(answer(&mut client).await, b"hello, client");

    let Site { addr, auth, .. } = site;
    drop(auth);
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(&first).await.unwrap();
    assert_eq!(answer(&mut client).await, UNRECOGNIZED_NAME);
}

#[tokio::test]
async fn a_drain_waits_for_what_is_on_its_way_to_auth_and_for_preludes() {
    let site = Site::start(FrontOptions::default()).await;
    let first = hello("auth.example.com");
    let mut login = site.connect().await;
    login.write_all(&first).await.unwrap();
    let (mut auth, _) = site.at_auth(&first).await;
    let mut parrot = site.connect().await;
    parrot.write_all(b"PARROT 1").await.unwrap();
    let mut heard = [0; 8];
    within(parrot.read_exact(&mut heard)).await.unwrap();

    let began = Instant::now();
    site.stop.cancel();
    // Nobody new; whoever was there goes on.
    let end = Instant::now() + LONG;
    while TcpStream::connect(site.addr).await.is_ok() {
        assert!(Instant::now() < end, "the port stays open");
        tokio::task::yield_now().await;
    }
    auth.write_all(b"certificates").await.unwrap();
    drop(auth);
    assert_eq!(answer(&mut login).await, b"certificates");
    drop(login);
    parrot.write_all(b" and two").await.unwrap();
    within(parrot.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b" and two");
    assert!(!site.serving.is_finished(), "the prelude is still served");
    drop(parrot);
    within(site.serving).await.unwrap();
    assert!(began.elapsed() < LONG, "it was not the end of the drain that ended it");
}

#[tokio::test]
async fn a_drain_waits_for_streams_and_is_bounded() {
    let site = Site::start_with(FrontOptions::default(), Duration::from_millis(500)).await;
    let key = host_key(&site.authority, site.clock.now(), Service::Node, &["node/web-1"]);
    // The proxy's certificate here is for no name but its own.
    let config = client_config(
        ServerTrust::HostAuthority(Arc::clone(&site.trust)),
        Some(key),
        site.clock.clone(),
        &[ALPN_TUNNEL],
    )
    .unwrap();
    let name = "proxy.example.com".try_into().unwrap();
    let tcp = site.connect().await;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let (_handle, mut incoming, driver) = Tunnel::client(tls, Config::default());
    let driver = tokio::spawn(driver);
    let end = Instant::now() + LONG;
    while site.tunnels.list().is_empty() {
        assert!(Instant::now() < end, "the tunnel is not registered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = hello("web-1.node.example.com");
    let mut client = site.connect().await;
    client.write_all(&first).await.unwrap();
    let mut stream = within(incoming.next()).await.unwrap().accept().unwrap();
    let mut copied = vec![0; first.len()];
    within(stream.read_exact(&mut copied)).await.unwrap();
    assert_eq!(copied, first);

    let began = Instant::now();
    site.stop.cancel();
    within(site.serving).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(500), "a stream was open");
    // It was cut: the client's end is there, of whatever kind.
    drop(within(client.read(&mut [0; 8])).await);
    drop(driver);
}
