//! Whose word counts for where a client comes from, and what a client reads that is refused.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

#[path = "it/cluster.rs"]
mod cluster;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access_ca::{
    Authority, HostDraft, IssuingPolicy, NewAuthority, SealingKey, SoftwareKeyStore, UserDraft,
};
use access_client::{AuthClient, AuthEndpoint, HostPort, KeySet};
use access_core::identity::{AuthorityKind, Identity, Service, Subject};
use access_core::tls::{
    ALPN_H2, Ends, MAX_CLOCK_DIFFERENCE, Origin, OriginError, ServerTrust, SharedKey,
    client_config, hello_digest, write_origin,
};
use access_core::{ClusterName, HostId, Login, Timestamp, TrustStore, UserName};
use cluster::{Cluster, PASSWORD, START, claims, for_types};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CLIENT: &str = "198.51.100.7:4242";

fn ends() -> Ends {
    Ends { client: CLIENT.parse().unwrap(), proxy: "203.0.113.1:443".parse().unwrap() }
}

fn name() -> ClusterName {
    ClusterName::new("example.com").unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_secs(START)
}

/// A ClientHello for Auth.
fn hello() -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    let name = "auth.example.com".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

/// Authorities of a cluster, without the cluster.
struct Authorities {
    host: Authority,
    user: Authority,
}

impl Authorities {
    fn new() -> Self {
        let store = SoftwareKeyStore::new(SealingKey::generate().unwrap());
        let make =
            |kind| Authority::create(&store, &NewAuthority::new(name(), kind), now()).unwrap();
        Self { host: make(AuthorityKind::Host), user: make(AuthorityKind::User) }
    }

    fn trust(&self) -> TrustStore {
        let both = [&self.host, &self.user].map(|authority| authority.trusted().clone());
        TrustStore::new(name(), both).unwrap()
    }

    fn host(&self, services: &[Service]) -> SharedKey {
        let keys = KeySet::generate().unwrap();
        let subject = Subject::Host {
            id: HostId::new("a-host").unwrap(),
            services: services.iter().copied().collect::<BTreeSet<_>>(),
            resources: Vec::new(),
        };
        let hour = Duration::from_secs(3600);
        let mut draft = HostDraft::new(Identity::new(name(), subject, now()), hour).unwrap();
        draft.tls_public_key = Some(keys.public().unwrap().tls);
        let policy = IssuingPolicy::new(now(), hour);
        let signed = draft.vet(&policy).unwrap().sign(&self.host).unwrap();
        shared(signed.tls_chain(), &keys)
    }

    fn user(&self) -> SharedKey {
        let keys = KeySet::generate().unwrap();
        let subject = Subject::User { name: UserName::new("mallory").unwrap() };
        let mut identity = Identity::new(name(), subject, now());
        identity.logins = vec![Login::new("root").unwrap()];
        let hour = Duration::from_secs(3600);
        let mut draft = UserDraft::new(identity, hour);
        draft.tls_public_key = Some(keys.public().unwrap().tls);
        let policy = IssuingPolicy::new(now(), hour);
        let signed = draft.vet(&policy).unwrap().sign(&self.user).unwrap();
        shared(signed.tls_chain(), &keys)
    }
}

fn shared(chain: Vec<rustls_pki_types::CertificateDer<'static>>, keys: &KeySet) -> SharedKey {
    SharedKey::new(chain, PrivateKeyDer::Pkcs8(keys.tls.pkcs8().to_vec().into())).unwrap()
}

#[test]
fn a_proxy_is_believed_for_the_connection_that_it_signed_and_nobody_else_is() {
    let (ours, others) = (Authorities::new(), Authorities::new());
    let (trust, first) = (ours.trust(), hello());
    let digest = hello_digest(&first).unwrap().unwrap();
    let judge = |key: &SharedKey, cluster: &ClusterName, at: Timestamp| {
        let header = write_origin(key, cluster, ends(), at, &first).unwrap();
        Origin::read(&header).unwrap().verify(&trust, now(), &digest)
    };
    let proxy = ours.host(&[Service::Proxy]);
    let said = judge(&proxy, &name(), now()).unwrap();
    assert_eq!(said.client, ends().client);
    assert_eq!(said.proxy.name(), "a-host");

    let refused = judge(&others.host(&[Service::Proxy]), &name(), now()).unwrap_err();
    assert!(matches!(refused, OriginError::Certificate(_)), "{refused}");
    for services in [&[Service::Node][..], &[Service::Auth], &[]] {
        let refused = judge(&ours.host(services), &name(), now()).unwrap_err();
        assert!(matches!(refused, OriginError::NotAProxy(_)), "{services:?}: {refused}");
    }
    let refused = judge(&ours.user(), &name(), now()).unwrap_err();
    assert!(matches!(refused, OriginError::NotAProxy(_)), "{refused}");
    let elsewhere = ClusterName::new("example.org").unwrap();
    let refused = judge(&proxy, &elsewhere, now()).unwrap_err();
    assert!(matches!(refused, OriginError::Signature), "{refused}");
    assert!(judge(&proxy, &name(), now().minus(MAX_CLOCK_DIFFERENCE)).is_ok());
    let millisecond = Duration::from_millis(1);
    for at in [
        now().minus(MAX_CLOCK_DIFFERENCE + millisecond),
        now().plus(MAX_CLOCK_DIFFERENCE + millisecond),
    ] {
        let refused = judge(&proxy, &name(), at).unwrap_err();
        assert!(matches!(refused, OriginError::Time(_)), "{refused}");
    }
}

#[test]
fn a_header_is_good_for_no_other_connection_and_cannot_be_altered() {
    let ours = Authorities::new();
    let (trust, first, another) = (ours.trust(), hello(), hello());
    let proxy = ours.host(&[Service::Proxy]);
    let header = write_origin(&proxy, &name(), ends(), now(), &first).unwrap();
    let digest = hello_digest(&first).unwrap().unwrap();
    let replayed = hello_digest(&another).unwrap().unwrap();
    let refused = Origin::read(&header).unwrap().verify(&trust, now(), &replayed).unwrap_err();
    assert!(matches!(refused, OriginError::Signature), "{refused}");
    // Whatever byte is another one: no panic, and nobody believes it.
    for at in 0..header.len() {
        let mut altered = header.clone();
        altered[at] ^= 1;
        if let Ok(origin) = Origin::read(&altered) {
            assert!(origin.verify(&trust, now(), &digest).is_err(), "byte {at}");
        }
    }
}

/// What a proxy does with a connection, as far as Auth sees it.
type Header = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A proxy before a cluster's Auth, with a header of its own making.
async fn lead(cluster: &Cluster, header: Header) -> AuthClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at: HostPort = listener.local_addr().unwrap().to_string().parse().unwrap();
    let to = cluster.address().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (to, header) = (to.clone(), Arc::clone(&header));
            tokio::spawn(async move {
                let mut first = Vec::new();
                while hello_digest(&first).unwrap().is_none() {
                    assert!(client.read_buf(&mut first).await.unwrap() > 0);
                }
                let mut auth = TcpStream::connect(to).await.unwrap();
                // In two pieces, as a network may deliver it.
                let before = header(&first);
                let (one, two) = before.split_at(before.len() / 2);
                for piece in [one, two, &first] {
                    if auth.write_all(piece).await.and(auth.flush().await).is_err() {
                        return;
                    }
                }
                drop(tokio::io::copy_bidirectional(&mut client, &mut auth).await);
            });
        }
    });
    AuthClient::new(AuthEndpoint {
        addresses: vec![at],
        cluster: cluster.auth.cluster_name(),
        trust: ServerTrust::Pins(cluster.pins()),
        key: None,
        clock: cluster.clock.clone(),
    })
    .unwrap()
}

/// The key of a host that joined.
async fn joined(cluster: &Cluster, service: &str) -> Arc<SharedKey> {
    let token = cluster.token(for_types(&[service])).await;
    let nodes: &[&str] = if service == "node" { &["web-1"] } else { &[] };
    let keys = KeySet::generate().unwrap();
    let joined = cluster.stranger().join(&token, None, claims(&[service], nodes), keys).await;
    joined.unwrap().shared_key().unwrap()
}

fn signed(key: Arc<SharedKey>, at: Timestamp) -> Header {
    Arc::new(move |first| write_origin(&key, &name(), ends(), at, first).unwrap())
}

#[tokio::test]
async fn events_and_limits_go_by_the_clients_address() {
    let cluster = Cluster::with(|options| options.limits.connections_per_source = 1).await;
    let proxy = joined(&cluster, "proxy").await;
    cluster.add_user("alice", &["access"]).await;
    let led = lead(&cluster, signed(proxy.clone(), cluster.now())).await;
    let keys = KeySet::generate().unwrap();
    led.login("alice", PASSWORD, keys, None).await.unwrap();
    let events = cluster.events().await;
    let login = events.iter().find(|event| event["event"] == "user.login").unwrap();
    assert_eq!(login["addr.remote"], CLIENT, "{login:#}");
    // The client has its one connection, also when it comes by another way; others have theirs.
    let again = lead(&cluster, signed(proxy, cluster.now())).await;
    assert!(again.ping(cluster.now()).await.is_err());
    cluster.stranger().ping(cluster.now()).await.unwrap();
    drop(led);
    cluster::until(async || again.ping(cluster.now()).await.is_ok()).await;
}

#[tokio::test]
async fn connections_with_a_bad_header_are_closed() {
    let cluster = Cluster::start().await;
    let (proxy, node) = (joined(&cluster, "proxy").await, joined(&cluster, "node").await);
    let good = signed(proxy.clone(), cluster.now());
    lead(&cluster, good.clone()).await.ping(cluster.now()).await.unwrap();
    let cut: Header = {
        let good = good.clone();
        Arc::new(move |first| {
            let mut header = good(first);
            header.truncate(header.len() - 9);
            header
        })
    };
    let replayed: Header = {
        let once = Arc::new(Mutex::new(None));
        let good = good.clone();
        Arc::new(move |_| once.lock().unwrap().get_or_insert_with(|| good(&hello())).clone())
    };
    let v1: Header = Arc::new(|_| b"PROXY TCP4 198.51.100.7 203.0.113.1 4242 443\r\n".to_vec());
    let huge: Header = Arc::new(|_| b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".repeat(4000));
    for (what, header) in [
        ("a node's", signed(node, cluster.now())),
        ("an old one", signed(proxy, cluster.now().minus(Duration::from_secs(600)))),
        ("one that is cut", cut),
        ("one of another connection", replayed),
        ("version 1", v1),
        ("a huge one", huge),
    ] {
        let refused = lead(&cluster, header).await.ping(cluster.now()).await;
        assert!(refused.is_err(), "{what}");
    }
    // Whoever comes without one is where they are.
    cluster.stranger().ping(cluster.now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_certificate_is_refused_reads_why_however_much_it_has_sent() {
    let cluster = Cluster::start().await;
    let foreign = Authorities::new().host(&[Service::Node]);
    let config = client_config(
        ServerTrust::HostAuthority(cluster.auth.trust()),
        Some(Arc::new(foreign)),
        cluster.clock.clone(),
        &[ALPN_H2],
    )
    .unwrap();
    let (config, address) = (Arc::new(config), cluster.address().to_string());
    let clients = tokio::task::spawn_blocking(move || {
        for round in 0..200 {
            let name = "auth.example.com".try_into().unwrap();
            let mut session = rustls::ClientConnection::new(config.clone(), name).unwrap();
            let mut tcp = std::net::TcpStream::connect(&address).unwrap();
            tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            while session.is_handshaking() {
                session.complete_io(&mut tcp).unwrap();
            }
            // On its way before the refusal can be: some of it is there, some of it comes late.
            session.set_buffer_limit(None);
            session.writer().write_all(&[7; 100 * 1024][..1024 * (round % 100)]).unwrap();
            while session.wants_write() {
                session.write_tls(&mut tcp).unwrap_or_else(|err| panic!("round {round}: {err}"));
            }
            let mut stream = rustls::Stream::new(&mut session, &mut tcp);
            let err = stream.read(&mut [0; 16]).expect_err("it is refused");
            assert_eq!(err.kind(), ErrorKind::InvalidData, "round {round}: {err:?}");
            assert!(err.to_string().contains("alert"), "round {round}: {err:?}");
        }
    });
    clients.await.unwrap();
}
