//! The same against the real Auth Service: what the small cluster of the other tests assumes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use access_agent::{
    Agent, AgentError, AuthRoute, DynamicDatabases, Host, HostOptions, JoinToken, Membership,
};
use access_auth::{AuthService, Options};
use access_backend::Memory;
use access_client::types::{
    DbDocument, DbProtocol, DbSpec, NodeDocument, NodeSpec, ResourceMatcher, ServerDocument,
    ServerSpec,
};
use access_client::{AuthClient, Cache, HostPort, proto};
use access_core::audit::events::{AccessDecision, AccessDecisionCode};
use access_core::audit::{AuditSink, Durability, List};
use access_core::identity::{Service, SpkiPin};
use access_core::protocol::{Incoming, Protocol};
use access_core::recording::{RecordingEnd, RecordingKind, RecordingMeta};
use access_core::resource::DnsResource;
use access_core::{Clock, ClusterName, ResourceKind, ResourceRef, SessionId, UserName};
use access_proxy::{AuthUpstream, Front, FrontOptions, FrontParts, PingInfo, Tunnels, WebPages};
use access_tunnel::Flavour;
use support::{RealClock, eventually};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Silent;

#[async_trait::async_trait]
impl Protocol for Silent {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Node
    }

    async fn serve(&self, _: Incoming) {}
}

struct Cluster {
    auth: Arc<AuthService>,
    admin: AuthClient,
    auth_address: HostPort,
    clock: Arc<dyn Clock>,
    dir: tempfile::TempDir,
}

impl Cluster {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(RealClock::default());
        let mut options = Options::new(dir.path().join("auth"), Arc::clone(&clock));
        options.cluster_name = Some(ClusterName::new("example.com").unwrap());
        let auth = AuthService::open(Arc::new(Memory::default()), options).await.unwrap();
        let admin = AuthClient::over_stream(auth.local_pipe());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let auth = Arc::new(auth);
        let serving = Arc::clone(&auth);
        tokio::spawn(async move { serving.serve_tls(listener, std::future::pending()).await });
        let auth_address = HostPort::parse(&address, 3025).unwrap();
        Self { auth, admin, auth_address, clock, dir }
    }

    async fn token(&self, service: Service, labels: &[(&str, &str)]) -> JoinToken {
        let request = proto::CreateTokenRequest {
            types: vec![service.as_str().into()],
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            uses: 1,
            ..Default::default()
        };
        let token = self.admin.admin().create_token(request).await.unwrap().into_inner();
        JoinToken::new(token.token)
    }

    fn pins(&self) -> Vec<SpkiPin> {
        self.auth.ca_pins().unwrap()
    }

    async fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let request = proto::SearchRequest {
            from: 0,
            to: self.clock.now().as_millis() + 60_000,
            types: vec![kind.into()],
            page_size: 100,
            ..Default::default()
        };
        let answer = self.admin.audit().search(request).await.unwrap().into_inner();
        answer.events.iter().map(|json| serde_json::from_slice(json).unwrap()).collect()
    }

    async fn names(&self, kind: &str) -> Vec<String> {
        let request = proto::ListRequest { kind: kind.into(), ..Default::default() };
        let answer = self.admin.resources().list(request).await.unwrap().into_inner();
        answer.documents.into_iter().map(|document| document.name).collect()
    }
}

/// A proxy as its program puts it together: a host that joined, and a front door.
async fn proxy(cluster: &Cluster) -> (Host, Arc<Tunnels>, HostPort) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let route = AuthRoute::Direct(vec![cluster.auth_address.clone()]);
    let mut options = HostOptions::new(cluster.dir.path().join("proxy"), route, "proxy-1");
    options.services = BTreeSet::from([Service::Proxy]);
    options.public_names = vec!["127.0.0.1".into()];
    options.token = Some(cluster.token(Service::Proxy, &[]).await);
    options.pins = cluster.pins();
    options.follow = Cache::PROXY_KINDS;
    let host = Host::open(options, Arc::clone(&cluster.clock)).await.unwrap();
    let member = host.membership();
    host.advertise(ServerDocument::new(
        member.host_id().as_str(),
        ServerSpec {
            service: Service::Proxy,
            host: member.host_id().clone(),
            hostname: "proxy-1".into(),
            version: String::new(),
            public_addrs: vec![address.to_string()],
            peer_addr: None,
            role_schema: access_core::role::ROLE_SCHEMA,
        },
    ));
    let tunnels = Arc::new(Tunnels::new());
    let parts = FrontParts {
        cluster: member.cluster().clone(),
        trust: member.trust(),
        host_key: member.key(),
        web_key: member.key(),
        auth: AuthUpstream::new(vec![(
            cluster.auth_address.host().into(),
            cluster.auth_address.port(),
        )]),
        tunnels: Arc::clone(&tunnels),
        preludes: Vec::new(),
        pages: WebPages::new(&PingInfo::new("example.com", Vec::new())).unwrap(),
        clock: Arc::clone(&cluster.clock),
    };
    let front = Arc::new(Front::new(parts, FrontOptions::default()).unwrap());
    tokio::spawn(front.serve(listener, CancellationToken::new(), Duration::ZERO));
    let running = host.clone();
    tokio::spawn(async move { running.run(CancellationToken::new()).await });
    (host, tunnels, HostPort::parse(&address.to_string(), 443).unwrap())
}

fn options(cluster: &Cluster, route: AuthRoute) -> HostOptions {
    let mut options = HostOptions::new(cluster.dir.path().join("agent"), route, "web-1");
    options.services = BTreeSet::from([Service::Node]);
    options.resources = vec!["node/web-1".parse().unwrap()];
    options.pins = cluster.pins();
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_lives_in_a_real_cluster() {
    let cluster = Cluster::new().await;
    let (proxy, tunnels, proxy_address) = proxy(&cluster).await;
    tokio::time::timeout(Duration::from_secs(20), proxy.ready()).await.unwrap();

    let mut options = options(&cluster, AuthRoute::Proxies(vec![proxy_address]));
    options.token = Some(cluster.token(Service::Node, &[("env", "prod")]).await);
    let host = Host::open(options.clone(), Arc::clone(&cluster.clock)).await.unwrap();
    let id = host.membership().host_id().clone();

    // Twice in a row: each renewal must show the certificates of the one before.
    host.membership().renew().await.unwrap();
    host.membership().renew().await.unwrap();

    let node = NodeDocument::new("web-1", NodeSpec::new(id.clone()));
    let agent = Agent::builder(host)
        .protocol(Arc::new(Silent))
        .resource(node)
        .drain(Duration::ZERO)
        .build()
        .unwrap();
    let (agent, stop) = (Arc::new(agent), CancellationToken::new());
    let task = tokio::spawn({
        let (agent, stop) = (Arc::clone(&agent), stop.clone());
        async move { agent.run(stop).await }
    });
    eventually("the tunnel", || tunnels.list().iter().any(|tunnel| tunnel.host == id)).await;
    eventually("the agent knows of it", || agent.status().ready() == Ok(())).await;
    let host = agent.host();
    let stored = host.resource(&"node/web-1".parse().unwrap()).unwrap();
    assert_eq!(stored.labels, BTreeMap::from([("env".into(), "prod".into())]));
    assert_eq!(cluster.names("node").await, ["web-1"]);
    // What changes is told long before the next beat.
    let mut changed = NodeDocument::new("web-1", NodeSpec::new(id.clone()));
    changed.metadata.labels.insert("tier".into(), "web".into());
    host.advertise(changed);
    let told = || {
        let stored = host.resource(&"node/web-1".parse().unwrap());
        stored.is_some_and(|stored| stored.labels.contains_key("tier"))
    };
    eventually("the change is told", told).await;
    assert!(host.status().cache_fresh_at.is_some());

    // Events and recordings.
    let event = AccessDecision {
        code: AccessDecisionCode::Allowed,
        user: "alice".into(),
        action: "ssh.shell".into(),
        target_kind: "node".into(),
        target: "web-1".into(),
        login: None,
        reason: "role access".into(),
        user_roles: List::default(),
        sid: None,
        addr_remote: None,
        trace_id: None,
    };
    host.spool().accept(event.into(), Durability::Synced).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), host.spool().delivered()).await.unwrap();
    let events = cluster.events("access.decision").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["writer"], host.spool().writer().as_str());
    let sid = SessionId::new("s-1").unwrap();
    let now = cluster.clock.now();
    let user = UserName::new("alice").unwrap();
    let meta = RecordingMeta::new(sid, RecordingKind::Ssh, user, "node/web-1", now);
    let mut recording = host.recorder().start(meta).await.unwrap();
    recording.output(now, b"hello").unwrap();
    recording.finish(RecordingEnd::new(now, "exit")).await.unwrap();
    eventually("the upload", || host.status().recordings == 0).await;
    let uploads = cluster.events("session.upload").await;
    assert_eq!((uploads.len(), uploads[0]["state"].as_str()), (1, Some("complete")));

    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(cluster.names("node").await, Vec::<String>::new(), "withdrawn");
    drop(agent);

    // The token was good for one host, and is not needed again. The name stays this host's.
    let again = Membership::open(options.clone(), Arc::clone(&cluster.clock)).await.unwrap();
    assert_eq!(*again.host_id(), id);
    drop(again);
    let mut other = options;
    other.data_dir = cluster.dir.path().join("other");
    let err = Membership::open(other.clone(), Arc::clone(&cluster.clock)).await.unwrap_err();
    assert!(matches!(err, AgentError::TokenRefused(_)), "{err}");
    other.token = Some(cluster.token(Service::Node, &[]).await);
    let err = Membership::open(other, Arc::clone(&cluster.clock)).await.unwrap_err();
    assert!(err.to_string().contains("belongs to another host"), "{err}");
}

/// The same for databases: it listens, and says nothing.
struct SilentDatabases;

#[async_trait::async_trait]
impl Protocol for SilentDatabases {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Database
    }

    async fn serve(&self, mut connection: Incoming) {
        let _ = tokio::io::copy(&mut connection.stream, &mut tokio::io::sink()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_follows_what_administrators_register_for_it() {
    let cluster = Cluster::new().await;
    let (_proxy, tunnels, proxy_address) = proxy(&cluster).await;
    let write = async |env: &str| {
        let mut orders =
            DbDocument::new("orders", DbSpec::dynamic(DbProtocol::Postgres, "db.internal:5432"));
        orders.metadata.labels.insert("env".into(), env.into());
        let json = orders.to_json().unwrap();
        let request = proto::WriteRequest { json, force: false };
        cluster.admin.resources().put(request).await.unwrap();
    };
    let mut options = options(&cluster, AuthRoute::Proxies(vec![proxy_address]));
    options.services = BTreeSet::from([Service::Db]);
    options.resources = Vec::new();
    let matcher = ResourceMatcher::from_json(r#"{"labels":{"env":"prod"}}"#).unwrap();
    options.databases = vec![matcher];
    options.token = Some(cluster.token(Service::Db, &[]).await);

    let host = Host::open(options.clone(), Arc::clone(&cluster.clock)).await.unwrap();
    let err = Agent::builder(host.clone()).build().unwrap_err();
    assert!(err.to_string().contains("no protocol is registered for databases"), "{err}");
    let agent = Agent::builder(host.clone()).protocol(Arc::new(SilentDatabases)).build().unwrap();
    let (agent, stop) = (Arc::new(agent), CancellationToken::new());
    let task = tokio::spawn({
        let (agent, stop) = (Arc::clone(&agent), stop.clone());
        async move { agent.run(stop).await }
    });
    let known = Arc::new(tokio::sync::watch::Sender::new(None));
    let following = tokio::spawn({
        let (host, known) = (host.clone(), Arc::clone(&known));
        async move { host.follow_databases(&known).await }
    });
    let names = || {
        let known: Option<DynamicDatabases> = known.borrow().clone();
        known.map(|known| known.keys().cloned().collect::<Vec<_>>())
    };
    eventually("none is known", || names() == Some(vec![])).await;
    assert!(host.membership().certified().unwrap().is_empty());
    write("prod").await;
    eventually("it is known", || names() == Some(vec!["orders".into()])).await;
    host.membership().renew().await.unwrap();
    let orders: ResourceRef = "db/orders".parse().unwrap();
    assert_eq!(host.membership().certified().unwrap(), std::slice::from_ref(&orders));
    let led = || tunnels.list().iter().any(|tunnel| tunnel.resources.contains(&orders));
    eventually("the proxy leads there", led).await;

    // A stream comes in when the agent has taken it on, and not before.
    let target = DnsResource { kind: ResourceKind::Database, label: "orders".into() };
    let client = "203.0.113.9:7".parse().unwrap();
    assert!(tunnels.open(&target, Flavour::Raw, client, [1; 16]).await.is_none());
    agent.serve_more([orders.clone()]);
    assert!(tunnels.open(&target, Flavour::Raw, client, [1; 16]).await.is_some());
    agent.serve_more([]);
    assert!(tunnels.open(&target, Flavour::Raw, client, [1; 16]).await.is_none());

    // What it tells of it is told no more once it is retracted.
    let spec = DbSpec::new(DbProtocol::Postgres, "x:1", host.membership().host_id().clone());
    host.advertise(DbDocument::new("orders", spec));
    eventually("it is told", || host.resource(&orders).is_some()).await;
    assert_eq!(host.resource(&orders).unwrap().labels["env"], "prod");
    host.retract(&orders);
    assert!(host.resource(&orders).is_none());

    // It matches no more, here and in the next certificates.
    write("dev").await;
    eventually("it is not its any more", || names() == Some(vec![])).await;
    host.membership().renew().await.unwrap();
    assert!(host.membership().certified().unwrap().is_empty());
    following.abort();
    stop.cancel();
    task.await.unwrap().unwrap();
    drop((agent, host));

    // Other labels take another token.
    let everything = ResourceMatcher::from_json(r#"{"labels":{"*":"*"}}"#).unwrap();
    options.databases = vec![everything];
    options.token = None;
    let err = Membership::open(options.clone(), Arc::clone(&cluster.clock)).await.unwrap_err();
    assert!(err.to_string().contains("did not join to serve databases by"), "{err}");
    options.token = Some(cluster.token(Service::Db, &[]).await);
    let again = Membership::open(options, Arc::clone(&cluster.clock)).await.unwrap();
    assert_eq!(again.certified().unwrap(), [orders]);
}
