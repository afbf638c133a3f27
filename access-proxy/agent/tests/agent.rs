//! An agent in a small cluster: joining, serving through the proxy, coming back, stopping.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use access_agent::{Agent, AgentBuilder, AgentError, AuthRoute, Host, JoinToken, Membership};
use access_client::types::{NodeDocument, NodeSpec, ServerDocument, ServerSpec};
use access_client::{HostPort, KeySet, TlsDialer};
use access_core::audit::Durability;
use access_core::audit::events::UserLogout;
use access_core::protocol::{Incoming, Protocol};
use access_core::time::ManualClock;
use access_core::tls::{ALPN_SSH, ServerTrust, SharedKey};
use access_core::{Clock, ResourceKind, Timestamp};
use access_tunnel::Flavour;
use support::{FakeAuth, Proxy, RealClock, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Echoes; panics when it reads `panic`, and takes who says `enter` for authenticated.
#[derive(Default)]
struct Echo {
    served: AtomicUsize,
}

#[async_trait::async_trait]
impl Protocol for Echo {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Node
    }

    async fn serve(&self, mut connection: Incoming) {
        assert!(connection.client_addr.is_some());
        self.served.fetch_add(1, Ordering::SeqCst);
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = connection.stream.read(&mut buffer).await {
            assert!(&buffer[..n] != b"panic", "as asked");
            if &buffer[..n] == b"enter" {
                drop(std::mem::take(&mut connection.admission));
            }
            if connection.stream.write_all(&buffer[..n]).await.is_err() {
                return;
            }
            connection.stream.flush().await.unwrap();
        }
    }
}

struct Running {
    agent: Arc<Agent>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), AgentError>>,
}

async fn start(auth: &FakeAuth, dir: &std::path::Path, proxy: &Proxy) -> Running {
    start_with(auth, dir, proxy, |builder| builder.max_streams(3)).await
}

async fn start_with(
    auth: &FakeAuth,
    dir: &std::path::Path,
    proxy: &Proxy,
    change: impl FnOnce(AgentBuilder) -> AgentBuilder,
) -> Running {
    let clock = Arc::clone(&auth.inner.clock);
    let host = Host::open(auth.agent_options(dir, proxy.address), clock).await.unwrap();
    let node = NodeDocument::new("web-1", NodeSpec::new(host.membership().host_id().clone()));
    let builder = Agent::builder(host)
        .protocol(Arc::new(Echo::default()))
        .resource(node)
        .drain(Duration::from_secs(5));
    let agent = change(builder).build().unwrap();
    run(agent, std::future::ready(()))
}

fn run(agent: Agent, others: impl Future<Output = ()> + Send + 'static) -> Running {
    let (agent, stop) = (Arc::new(agent), CancellationToken::new());
    let task = tokio::spawn({
        let (agent, stop) = (Arc::clone(&agent), stop.clone());
        async move { agent.run_beside(stop, others).await }
    });
    Running { agent, stop, task }
}

type Client = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;

async fn connect(auth: &FakeAuth, proxy: &Proxy, name: &str) -> std::io::Result<Client> {
    connect_as(auth, proxy, name, None).await
}

async fn connect_as(
    auth: &FakeAuth,
    proxy: &Proxy,
    name: &str,
    key: Option<Arc<SharedKey>>,
) -> std::io::Result<Client> {
    let dialer = TlsDialer::new(
        ServerTrust::HostAuthority(Arc::clone(&auth.inner.trust)),
        key,
        Arc::clone(&auth.inner.clock),
        &[ALPN_SSH],
    )
    .unwrap();
    let address = HostPort::parse(&proxy.address.to_string(), 443).unwrap();
    let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
    dialer.connect(&address, name).await.map_err(std::io::Error::other)
}

async fn echo(client: &mut Client, text: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(text).await?;
    client.flush().await?;
    let mut back = vec![0; text.len()];
    tokio::time::timeout(Duration::from_secs(10), client.read_exact(&mut back)).await??;
    Ok(back)
}

async fn cluster() -> (FakeAuth, std::net::SocketAddr, Proxy) {
    let auth = FakeAuth::new(Arc::new(RealClock::default()));
    let (address, _) = auth.serve().await;
    let proxy = Proxy::start(&auth, address).await;
    (auth, address, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_serves_and_stops_in_peace() {
    let (auth, _, proxy) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let running = start(&auth, dir.path(), &proxy).await;
    eventually("a tunnel", || proxy.tunnels.list().len() == 1).await;
    eventually("the agent knows of it", || running.agent.status().ready() == Ok(())).await;
    let node = running.agent.host().resource(&"node/web-1".parse().unwrap()).unwrap();
    assert_eq!(node.labels["from"], "token", "the labels that count are Auth's");

    let mut client = connect(&auth, &proxy, "web-1.node.example.com").await.unwrap();
    assert_eq!(echo(&mut client, b"hello").await.unwrap(), b"hello");

    // A panic ends one connection and no more.
    let mut other = connect(&auth, &proxy, "web-1.node.example.com").await.unwrap();
    assert!(echo(&mut other, b"panic").await.is_err());
    assert_eq!(echo(&mut client, b"still").await.unwrap(), b"still");

    // What is open may end by itself; nothing new is taken.
    running.stop.cancel();
    eventually("the tunnel is left", || running.agent.status().tunnels == 0).await;
    assert_eq!(echo(&mut client, b"last words").await.unwrap(), b"last words");
    assert!(connect(&auth, &proxy, "web-1.node.example.com").await.is_err());
    client.shutdown().await.unwrap();
    drop(client);
    tokio::time::timeout(Duration::from_secs(10), running.task).await.unwrap().unwrap().unwrap();
    assert!(auth.inner.documents.lock().unwrap().is_empty(), "the node is withdrawn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_beside_it_ends_before_it_ceases_to_hand_over() {
    let (auth, _, proxy) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(auth.agent_options(dir.path(), proxy.address), auth.inner.clock.clone());
    let builder = Agent::builder(host.await.unwrap()).protocol(Arc::new(Echo::default()));
    let agent = builder.drain(Duration::ZERO).build().unwrap();
    let closed = CancellationToken::new();
    let running = run(agent, closed.clone().cancelled_owned());
    eventually("a tunnel", || proxy.tunnels.list().len() == 1).await;
    running.stop.cancel();
    eventually("the tunnel is left", || running.agent.status().tunnels == 0).await;
    // A session at a port of the program's own, which is not over yet.
    let event = UserLogout { user: "alice".into(), addr_remote: None };
    let audit = running.agent.host().audit();
    audit.accept(event.into(), Durability::Soon).await.unwrap();
    eventually("its event is handed over", || {
        let events = auth.inner.events.lock().unwrap();
        events.values().any(|envelope| envelope.event.name() == "user.logout")
    })
    .await;
    assert!(!running.task.is_finished());
    closed.cancel();
    tokio::time::timeout(Duration::from_secs(10), running.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_none_of_its_business_are_refused() {
    let (auth, _, proxy) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let running = start(&auth, dir.path(), &proxy).await;
    eventually("a tunnel", || proxy.tunnels.list().len() == 1).await;

    // A client that asks the agent for another name than the proxy led it by.
    let target =
        access_core::resource::DnsResource { kind: ResourceKind::Node, label: "web-1".into() };
    let from = "192.0.2.1:5".parse().unwrap();
    let stream = proxy.tunnels.open(&target, Flavour::Tls, from, [7; 16]).await.unwrap();
    let config = access_core::tls::client_config(
        ServerTrust::HostAuthority(Arc::clone(&auth.inner.trust)),
        None,
        Arc::clone(&auth.inner.clock),
        &[],
    )
    .unwrap();
    let agent_name = format!("{}.agent.example.com", running.agent.host().membership().host_id());
    let name = rustls_pki_types::ServerName::try_from(agent_name).unwrap();
    let refused = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    assert!(refused.is_err(), "the certificate has that name, but it was not led here by it");

    // Three at once is what this agent takes.
    let mut open = Vec::new();
    eventually("the refused one is gone", || running.agent.status().streams == 0).await;
    for _ in 0..3 {
        let raw = proxy.tunnels.open(&target, Flavour::Raw, from, [7; 16]).await;
        open.push(raw.expect("there is room"));
    }
    assert!(proxy.tunnels.open(&target, Flavour::Raw, from, [7; 16]).await.is_none());
    open.pop();
    eventually("room again", || running.agent.status().streams == 2).await;
    assert!(proxy.tunnels.open(&target, Flavour::Raw, from, [7; 16]).await.is_some());
    running.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_good_leaves_an_event_and_garbage_does_not() {
    let (auth, _, proxy) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let running = start(&auth, dir.path(), &proxy).await;
    eventually("a tunnel", || proxy.tunnels.list().len() == 1).await;
    let now = auth.inner.clock.now();
    let show = async |(chain, keys): (Vec<_>, KeySet)| {
        let key = SharedKey::new(chain, keys.tls.to_rustls()).unwrap();
        let name = "web-1.node.example.com";
        let mut client = connect_as(&auth, &proxy, name, Some(Arc::new(key))).await?;
        echo(&mut client, b"hello").await
    };
    assert_eq!(show(auth.issue_user("good", now)).await.unwrap(), b"hello");
    // A client that goes, and one that speaks no TLS.
    let target =
        access_core::resource::DnsResource { kind: ResourceKind::Node, label: "web-1".into() };
    let from = "192.0.2.1:5".parse().unwrap();
    for bytes in [&b""[..], b"\x16\x03\x01\x00\x05hello", b"SSH-2.0-x\r\n"] {
        let open = proxy.tunnels.open(&target, Flavour::Tls, from, [7; 16]).await;
        let mut stream = open.expect("there is room");
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    eventually("they are gone", || running.agent.status().streams == 0).await;

    let before = Timestamp::from_millis(now.as_millis() - 2 * 3_600_000);
    show(auth.issue_user("late", before)).await.unwrap_err();
    let other = FakeAuth::new(Arc::clone(&auth.inner.clock));
    show(other.issue_user("mallory", now)).await.unwrap_err();

    let refused = || -> Vec<serde_json::Value> {
        let events = auth.inner.events.lock().unwrap();
        let json = events.values().map(|event| serde_json::to_value(event).unwrap());
        json.filter(|event| event["event"] == "auth").collect()
    };
    eventually("both are told of", || refused().len() >= 2).await;
    let mut told = refused();
    told.sort_by_key(|event| event["user"].to_string());
    let [late, mallory] = &told[..] else { panic!("{told:#?}") };
    for (event, user, why) in [(late, "late", "expired"), (mallory, "mallory", "not signed by")] {
        assert_eq!(event["user"], user);
        assert!(event["error"].as_str().unwrap().contains(why), "{event:#}");
        assert_eq!(event["code"], "T3007W");
        assert_eq!(event["server_hostname"], "web-1");
        assert_eq!(event["proto"], "ssh");
        assert!(event["addr.remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{event:#}");
    }
    running.stop.cancel();
}

/// Who says nothing takes no room from those who have authenticated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_take_no_more_than_their_share() {
    let (auth, _, proxy) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let running =
        start_with(&auth, dir.path(), &proxy, |builder| builder.max_unauthenticated(3, 2)).await;
    eventually("a tunnel", || proxy.tunnels.list().len() == 1).await;
    let target =
        access_core::resource::DnsResource { kind: ResourceKind::Node, label: "web-1".into() };
    let open = async |from: &str| {
        proxy.tunnels.open(&target, Flavour::Raw, from.parse().unwrap(), [7; 16]).await
    };
    let mut first = open("192.0.2.1:5").await.expect("there is room");
    let second = open("192.0.2.1:6").await.expect("there is room");
    assert!(open("192.0.2.1:7").await.is_none(), "two from one address");
    let _third = open("192.0.2.2:5").await.expect("there is room for another address");
    assert!(open("192.0.2.3:5").await.is_none(), "three in all");
    // One authenticates, and counts no more.
    first.write_all(b"enter").await.unwrap();
    first.flush().await.unwrap();
    let mut back = [0; 5];
    tokio::time::timeout(Duration::from_secs(10), first.read_exact(&mut back))
        .await
        .unwrap()
        .unwrap();
    let _fourth = open("192.0.2.1:8").await.expect("it has made room");
    assert!(open("192.0.2.3:5").await.is_none(), "three in all again");
    // One leaves.
    drop(second);
    eventually("it is gone", || running.agent.status().streams == 3).await;
    assert!(open("192.0.2.3:5").await.is_some());
    running.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_a_certificate_is_no_stranger() {
    let (auth, _, proxy) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let running =
        start_with(&auth, dir.path(), &proxy, |builder| builder.max_unauthenticated(2, 1)).await;
    eventually("a tunnel", || proxy.tunnels.list().len() == 1).await;
    let (chain, keys) = auth.issue_user("good", auth.inner.clock.now());
    let key = Arc::new(SharedKey::new(chain, keys.tls.to_rustls()).unwrap());
    // Their sessions stay open, all from one address.
    let mut open = Vec::new();
    for _ in 0..5 {
        let name = "web-1.node.example.com";
        let mut client =
            connect_as(&auth, &proxy, name, Some(Arc::clone(&key))).await.expect("there is room");
        assert_eq!(echo(&mut client, b"hello").await.unwrap(), b"hello");
        open.push(client);
    }
    running.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_back_within_two_seconds_of_a_killed_proxy() {
    let (auth, auth_address, proxy) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let running = start(&auth, dir.path(), &proxy).await;
    eventually("a tunnel", || proxy.tunnels.list().len() == 1).await;
    let address = proxy.address;
    proxy.kill().await;
    eventually("the loss is noticed", || running.agent.status().tunnels == 0).await;
    // Long enough down that the pauses have grown as far as they do at first.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let proxy = Proxy::start_at(&auth, auth_address, address).await;
    let start = Instant::now();
    eventually("the tunnel is back", || proxy.tunnels.list().len() == 1).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let mut client = connect(&auth, &proxy, "web-1.node.example.com").await.unwrap();
    assert_eq!(echo(&mut client, b"again").await.unwrap(), b"again");
    running.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renews_in_place_without_cutting_sessions() {
    let start_at = RealClock::default().now();
    let clock = ManualClock::at(start_at);
    let auth = FakeAuth::new(Arc::new(clock.clone()));
    let (auth_address, _) = auth.serve().await;
    let proxy = Proxy::start(&auth, auth_address).await;
    let dir = tempfile::tempdir().unwrap();
    let running = start(&auth, dir.path(), &proxy).await;
    eventually("a tunnel", || proxy.tunnels.list().len() == 1).await;
    let membership = Arc::clone(running.agent.host().membership());
    let before = membership.credentials().borrow().clone();
    let mut client = connect(&auth, &proxy, "web-1.node.example.com").await.unwrap();
    assert_eq!(echo(&mut client, b"one").await.unwrap(), b"one");
    let since = proxy.tunnels.list()[0].since;

    // The answer to the first attempt is lost; the second must still find its way.
    auth.inner.lose_answers.store(1, Ordering::SeqCst);
    clock.advance(Duration::from_secs(17 * 3600));
    eventually("a renewal was tried", || auth.inner.renewals.load(Ordering::SeqCst) >= 1).await;
    eventually("renewed", || {
        clock.advance(Duration::from_secs(1));
        membership.credentials().borrow().validity != before.validity
    })
    .await;
    let after = membership.credentials().borrow().clone();
    assert_ne!(after.keys.tls.spki(), before.keys.tls.spki(), "new keys each time");
    assert_ne!(after.ssh_certificate.public_key(), before.ssh_certificate.public_key());
    eventually("a new tunnel took over", || {
        proxy.tunnels.list().iter().any(|tunnel| tunnel.since > since)
    })
    .await;
    assert_eq!(echo(&mut client, b"two").await.unwrap(), b"two", "over the old tunnel");
    let mut fresh = connect(&auth, &proxy, "web-1.node.example.com").await.unwrap();
    assert_eq!(echo(&mut fresh, b"three").await.unwrap(), b"three");
    running.stop.cancel();
    drop((client, fresh));
    running.task.await.unwrap().unwrap();

    // A second renewal, after a restart, with what is on the disk.
    drop(running.agent);
    let clock: Arc<dyn Clock> = Arc::new(clock);
    drop(membership);
    let options = auth.agent_options(dir.path(), proxy.address);
    let again = Membership::open(options, clock).await.unwrap();
    let held = again.credentials().borrow().clone();
    assert_eq!(held.validity, after.validity);
    again.renew().await.unwrap();
    again.renew().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_starts_are_told_apart() {
    let (auth, auth_address, proxy) = cluster().await;
    let clock = Arc::clone(&auth.inner.clock);
    let open = async |change: &dyn Fn(&mut access_agent::HostOptions)| {
        let dir = tempfile::tempdir().unwrap();
        let mut options = auth.agent_options(dir.path(), proxy.address);
        change(&mut options);
        let err = Membership::open(options, Arc::clone(&clock)).await.unwrap_err();
        assert!(!dir.path().join("host/identity").exists());
        err.to_string()
    };
    let text = open(&|options| options.token = None).await;
    assert!(text.contains("join token"), "{text}");
    let text = open(&|options| options.pins.clear()).await;
    assert!(text.contains("pin"), "{text}");
    let text = open(&|options| options.token = Some(JoinToken::new("t.wrong"))).await;
    assert_eq!(text, "the join token was refused: the join token is wrong or expired");
    let other = FakeAuth::new(Arc::clone(&clock));
    let text = open(&|options| options.pins = vec![other.pin()]).await;
    assert!(text.contains("CA pin") && text.contains("somebody may be in between"), "{text}");
    let text = open(&|options| options.route = AuthRoute::Direct(Vec::new())).await;
    assert!(text.contains("no address"), "{text}");
    auth.inner.tokens.lock().unwrap().insert("t.spent".into(), 0);
    let text = open(&|options| options.token = Some(JoinToken::new("t.spent"))).await;
    assert!(text.contains("spent"), "{text}");

    for off in [-3_600_000, 3_600_000] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = auth.agent_options(dir.path(), proxy.address);
        options.route =
            AuthRoute::Direct(vec![HostPort::parse(&auth_address.to_string(), 443).unwrap()]);
        let err = Membership::open(options, Arc::new(RealClock(off))).await.unwrap_err();
        assert!(err.to_string().contains("clock here"), "{off}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn straight_to_auth_the_name_comes_from_the_pinned_certificate() {
    let (auth, auth_address, proxy) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let options = || {
        let mut options = auth.agent_options(dir.path(), proxy.address);
        let address = HostPort::parse(&auth_address.to_string(), 443).unwrap();
        options.route = AuthRoute::Direct(vec![address]);
        options
    };
    // Answers are lost: the same keys and the same id are sent again, by this start and the next.
    auth.inner.lose_answers.store(1_000, Ordering::SeqCst);
    let clock = Arc::clone(&auth.inner.clock);
    let lost = Membership::open(options(), Arc::clone(&clock)).await;
    assert!(lost.is_err());
    assert!(auth.inner.lose_answers.swap(1, Ordering::SeqCst) < 999, "it was tried once");
    let membership = Membership::open(options(), Arc::clone(&clock)).await.unwrap();
    assert_eq!(membership.cluster().as_str(), "example.com");
    assert_eq!(auth.inner.hosts.lock().unwrap().len(), 1);
    let id = membership.host_id().clone();
    drop(membership);

    // Without a token it starts again; expired, it needs one, and stays who it was.
    let mut later = options();
    later.token = None;
    let again = Membership::open(later.clone(), Arc::clone(&clock)).await.unwrap();
    assert_eq!(*again.host_id(), id);
    drop(again);
    let expired = Arc::new(ManualClock::at(clock.now().plus(Duration::from_secs(25 * 3600))));
    let err = Membership::open(later, expired).await.unwrap_err();
    assert!(matches!(err, AgentError::Expired(at) if at > Timestamp::EPOCH), "{err}");
}

/// Has Auth know of a proxy.
fn list_proxy(auth: &FakeAuth, public_addrs: Vec<String>) {
    let server = ServerSpec {
        service: access_core::identity::Service::Proxy,
        host: access_core::HostId::new("p-2").unwrap(),
        hostname: String::new(),
        version: String::new(),
        public_addrs,
        peer_addr: None,
        role_schema: access_core::role::ROLE_SCHEMA,
    };
    let json = ServerDocument::new("p-2", server).to_json().unwrap();
    auth.inner.documents.lock().unwrap().insert(("server".into(), "p-2".into()), json);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_and_serves_though_nobody_is_at_the_first_address_of_auth() {
    let (auth, auth_address, proxy) = cluster().await;
    list_proxy(&auth, vec![proxy.address.to_string()]);
    // Held, so that nobody else comes to listen there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addresses = [held.local_addr().unwrap(), auth_address];
    let addresses = addresses.map(|address| HostPort::parse(&address.to_string(), 443).unwrap());
    // Which one is asked first is drawn: several hosts, so that the first one is by some.
    for number in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let mut options = auth.agent_options(dir.path(), proxy.address);
        options.route = AuthRoute::Direct(addresses.to_vec());
        let host = Host::open(options, Arc::clone(&auth.inner.clock)).await.unwrap();
        let node = NodeDocument::new("web-1", NodeSpec::new(host.membership().host_id().clone()));
        let echo_server = Arc::new(Echo::default());
        let agent = Agent::builder(host).protocol(echo_server).resource(node).build().unwrap();
        let running = run(agent, std::future::ready(()));
        eventually("a tunnel", || running.agent.status().tunnels == 1).await;
        eventually("it is well", || running.agent.status().ready() == Ok(())).await;
        let mut client = connect(&auth, &proxy, "web-1.node.example.com").await.unwrap();
        assert_eq!(echo(&mut client, b"hello").await.unwrap(), b"hello", "{number}");
        drop(client);
        running.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), running.task).await;
        ended.unwrap().unwrap().unwrap();
        eventually("the proxy knows", || proxy.tunnels.list().is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_a_tunnel_to_every_proxy_and_leaves_one_that_goes_away() {
    let (auth, auth_address, first) = cluster().await;
    let second = Proxy::start(&auth, auth_address).await;
    // One proxy under two addresses gets one tunnel.
    let (address, port) = (second.address.to_string(), second.address.port());
    list_proxy(&auth, vec![address, format!("localhost:{port}")]);
    let dir = tempfile::tempdir().unwrap();
    let running = start(&auth, dir.path(), &first).await;
    eventually("both are held", || running.agent.status().tunnels == 2).await;
    eventually("both know", || {
        first.tunnels.list().len() == 1 && !second.tunnels.list().is_empty()
    })
    .await;
    let mut client = connect(&auth, &first, "web-1.node.example.com").await.unwrap();
    assert_eq!(echo(&mut client, b"one").await.unwrap(), b"one");
    first.stop();
    eventually("the first is left", || running.agent.status().tunnels == 1).await;
    assert_eq!(echo(&mut client, b"two").await.unwrap(), b"two", "what is open goes on");
    let mut other = connect(&auth, &second, "web-1.node.example.com").await.unwrap();
    assert_eq!(echo(&mut other, b"three").await.unwrap(), b"three");
    running.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comes_back_as_itself_after_its_certificates_expired() {
    let clock = ManualClock::at(RealClock::default().now());
    let auth = FakeAuth::new(Arc::new(clock.clone()));
    let (auth_address, _) = auth.serve().await;
    let proxy = Proxy::start(&auth, auth_address).await;
    let dir = tempfile::tempdir().unwrap();
    let options = auth.agent_options(dir.path(), proxy.address);
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let member = Membership::open(options.clone(), Arc::clone(&shared)).await.unwrap();
    let id = member.host_id().clone();
    // The answer to its last renewal was lost, so that Auth knows keys that it has not used yet.
    auth.inner.lose_answers.store(1, Ordering::SeqCst);
    assert!(member.renew().await.is_err());
    drop(member);
    clock.advance(Duration::from_secs(25 * 3600));
    let mut without = options.clone();
    without.token = None;
    let err = Membership::open(without, Arc::clone(&shared)).await.unwrap_err();
    assert!(matches!(err, AgentError::Expired(_)), "{err}");
    let member = Membership::open(options, shared).await.unwrap();
    assert_eq!(*member.host_id(), id);
    assert_eq!(auth.inner.hosts.lock().unwrap().len(), 1);
    member.renew().await.unwrap();
}
