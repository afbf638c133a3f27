#![allow(clippy::print_stderr, reason = "the figures are what it is for")]

use std::sync::atomic::{AtomicU64, Ordering};

use access_backend::{
    Capabilities, Cursor, Health, KeyRange, Memory, MemoryOptions, Page, Position, Prefix,
    UnixMillis, Watch,
};
use access_ca::{HostDraft, IssuingPolicy, KeyAlgorithm, PublicKey};
use access_client::proto;
use access_core::identity::{Identity, Service, Subject};
use access_core::time::ManualClock;
use access_core::{Clock, ClusterName, ResourceKind, ResourceName, ResourceRef};
use async_trait::async_trait;
use futures::StreamExt;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::*;
use crate::caller::{Call, Peer};
use crate::hosts::{HostRecord, host_key, owner_key};
use crate::options::{Options, Storage};
use crate::resources::Mode;
use crate::service::AuthService;
use crate::store::{self, StoreClock};

const AGENTS: usize = 10_000;
/// How long they are looked at.
const MINUTES: usize = 18;
/// How often each is heard of, in seconds.
const BEAT: usize = 60;
/// How long its document lives, as agents ask for it.
const TTL: Duration = Duration::from_secs(720);

/// Counts what is written.
#[derive(Debug)]
struct Counted {
    inner: Memory,
    writes: AtomicU64,
    rows: AtomicU64,
    reads: AtomicU64,
}

impl Counted {
    fn wrote(&self, rows: usize) {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(rows as u64, Ordering::SeqCst);
    }
}

#[async_trait]
impl Backend for Counted {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.get(key).await
    }
    async fn range(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.range(range, limit, after).await
    }
    async fn create(&self, item: NewItem) -> Result<Revision, Error> {
        self.wrote(1);
        self.inner.create(item).await
    }
    async fn put(&self, item: NewItem) -> Result<Revision, Error> {
        self.wrote(1);
        self.inner.put(item).await
    }
    async fn update(&self, item: NewItem, expected: Revision) -> Result<Revision, Error> {
        self.wrote(1);
        self.inner.update(item, expected).await
    }
    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.wrote(1);
        self.inner.delete(key).await
    }
    async fn delete_if(&self, key: &Key, expected: Revision) -> Result<(), Error> {
        self.wrote(1);
        self.inner.delete_if(key, expected).await
    }
    async fn delete_range(&self, range: &KeyRange) -> Result<u64, Error> {
        self.wrote(1);
        self.inner.delete_range(range).await
    }
    async fn keep_alive(
        &self,
        key: &Key,
        expected: Option<Revision>,
        expires: UnixMillis,
    ) -> Result<Revision, Error> {
        self.wrote(1);
        self.inner.keep_alive(key, expected, expires).await
    }
    async fn batch(&self, batch: Batch) -> Result<Revision, Error> {
        self.wrote(batch.operations.len());
        self.inner.batch(batch).await
    }
    async fn watch(&self, prefixes: &[Prefix], from: Option<Position>) -> Result<Watch, Error> {
        self.inner.watch(prefixes, from).await
    }
    async fn sweep(&self, limit: usize) -> Result<usize, Error> {
        self.inner.sweep(limit).await
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn health(&self) -> Result<Health, Error> {
        self.inner.health().await
    }
    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

/// An Auth Service on the store.
async fn replica(
    store: &Arc<Counted>,
    time: &Arc<dyn Clock>,
    dir: &tempfile::TempDir,
) -> AuthService {
    let mut options = Options::new(dir.path().join("data"), Arc::clone(time));
    options.cluster_name = Some(ClusterName::new("example.com").unwrap());
    options.upkeep = None;
    let storage = Storage { backend: store.clone(), events: Arc::new(Memory::default()) };
    AuthService::open(storage, options).await.unwrap()
}

struct World {
    auth: AuthService,
    store: Arc<Counted>,
    clock: Arc<ManualClock>,
    spki: Vec<u8>,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_767_323_045)));
        let time: Arc<dyn Clock> = clock.clone();
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryOptions {
            clock: Arc::new(StoreClock(Arc::clone(&time))),
            ..MemoryOptions::default()
        };
        let store = Arc::new(Counted {
            inner: Memory::new(memory),
            writes: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        });
        let auth = replica(&store, &time, &dir).await;
        let random = ring::rand::SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random);
        let raw = pair.unwrap().public_key().as_ref().to_vec();
        let spki = PublicKey::from_raw(KeyAlgorithm::EcdsaP256, &raw).unwrap().spki_der().to_vec();
        Self { auth, store, clock, spki, dir }
    }

    /// An agent that has joined with the node of its number, as it calls.
    async fn agent(&self, number: usize) -> Agent {
        let id = HostId::new(format!("host-{number}")).unwrap();
        let name = ResourceName::new(format!("node-{number}")).unwrap();
        let node = ResourceRef { kind: ResourceKind::Node, name };
        let record = HostRecord {
            id: id.clone(),
            services: [Service::Node].into(),
            bound: Vec::new(),
            labels: [("env".into(), "prod".into())].into(),
            databases: Vec::new(),
            generation: 1,
            keys: String::new(),
            joined_at: self.clock.now(),
        };
        let memory = &self.store.inner;
        memory.put(store::new_row(host_key(&id).unwrap(), &record).unwrap()).await.unwrap();
        let owner = serde_json::json!({ "host": id });
        memory.put(store::new_row(owner_key(&node).unwrap(), &owner).unwrap()).await.unwrap();
        let subject = Subject::Host {
            id: id.clone(),
            services: record.services.clone(),
            resources: vec![node],
        };
        let now = self.clock.now();
        let identity = Identity::new(self.auth.cluster_name(), subject, now);
        let ttl = Duration::from_secs(24 * 3600);
        let mut draft = HostDraft::new(identity, ttl).unwrap();
        draft.tls_public_key = Some(self.spki.clone());
        let authority = self.auth.inner.live.authorities();
        let signed =
            draft.vet(&IssuingPolicy::new(now, ttl)).unwrap().sign(&authority.host).unwrap();
        let trust = self.auth.inner.live.trust();
        let limits = &self.auth.inner.limits;
        let peer = Peer::tls(None, signed.tls_chain(), trust, now, limits).unwrap();
        let caller = peer.caller(trust, now).unwrap();
        Agent { call: Call { caller, peer }, number }
    }

    fn counts(&self) -> (u64, u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        (of(&self.store.writes), of(&self.store.rows), of(&self.store.reads))
    }
}

struct Agent {
    call: Call,
    number: usize,
}

impl Agent {
    async fn beat(&self, world: &World, address: &str) -> serde_json::Value {
        self.beat_at(&world.auth, world, address).await
    }

    async fn beat_at(&self, auth: &AuthService, world: &World, address: &str) -> serde_json::Value {
        let json = serde_json::json!({
            "kind": "node",
            "version": "v1",
            "metadata": {
                "name": format!("node-{}", self.number),
                "labels": { "role": "web" },
                "expires": world.clock.now().plus(TTL),
            },
            "spec": {
                "host": format!("host-{}", self.number),
                "hostname": address,
                "version": "1.0.0",
            },
        });
        let request = proto::WriteRequest { json: json.to_string().into_bytes(), force: false };
        let document = auth.write(&self.call, request, Mode::Put).await.unwrap();
        serde_json::from_slice(&document.json).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_agents_cost_a_write_a_second() {
    let world = World::new().await;
    let mut agents = Vec::with_capacity(AGENTS);
    for number in 0..AGENTS {
        agents.push(world.agent(number).await);
    }
    let (mut most, mut began) = ((0, 0), world.counts());
    let mut under_way = futures::stream::FuturesUnordered::new();
    for second in 0..MINUTES * BEAT {
        let before = world.counts();
        under_way
            .extend(agents.iter().skip(second % BEAT).step_by(BEAT).map(|a| a.beat(&world, "web")));
        let until = tokio::time::Instant::now() + Duration::from_secs(1);
        loop {
            tokio::select! {
                biased;
                Some(_) = under_way.next() => {}
                () = tokio::time::sleep_until(until) => break,
            }
        }
        if second == BEAT {
            // All of them are new once.
            began = world.counts();
        } else if second > BEAT {
            let after = world.counts();
            most = (most.0.max(after.0 - before.0), most.1.max(after.1 - before.1));
        }
        world.clock.advance(Duration::from_secs(1));
    }
    while under_way.next().await.is_some() {}
    drop(under_way);
    let per = |now: u64, before: u64| (now - before) as f64 / ((MINUTES - 1) * BEAT) as f64;
    let (writes, rows, reads) = world.counts();
    let (writes, rows) = (per(writes, began.0), per(rows, began.1));
    let reads = per(reads, began.2);
    eprintln!("{writes:.2} writes, {rows:.1} rows and {reads:.0} reads a second");
    eprintln!("{} writes and {} rows in the worst second", most.0, most.1);
    assert!(writes <= 1.0 && most.0 <= 2, "{writes} {most:?}");
    assert!(rows <= 20.0 && most.1 <= 20, "{rows} {most:?}");
    assert!(rows > 5.0, "nothing keeps them alive");
    // All of them are there all the same.
    let nodes = KeyRange::from(Prefix::from_segments(["nodes"]).unwrap());
    let all = access_backend::read_all(&world.store.inner, &nodes, 20_000).await.unwrap();
    assert_eq!(all.len(), AGENTS);
    let left = |item: &Item| item.expires.unwrap().0 - world.clock.now().as_millis();
    let least = all.iter().map(left).min().unwrap();
    assert!(least > 30_000, "{least} ms are left");
    let fresh: HashMap<&str, bool> =
        all.iter().map(|item| (item.key.name(), left(item) > 300_000)).collect();
    let fresh = |agent: &Agent| fresh[format!("node-{}", agent.number).as_str()];
    // What a beat costs of which nothing is written: by a replica that has just started too.
    let time: Arc<dyn Clock> = world.clock.clone();
    let other = replica(&world.store, &time, &world.dir).await;
    let before = world.counts();
    for auth in [&other, &world.auth] {
        let begun = std::time::Instant::now();
        for agent in agents.iter().filter(|agent| fresh(agent)).take(200) {
            agent.beat_at(auth, &world, "web").await;
        }
        eprintln!("{:?} for each beat, in this build", begun.elapsed() / 200);
    }
    assert_eq!(world.counts().1, before.1, "nothing is new");
    other.close().await;
    world.auth.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_written_at_once_and_what_is_gone_stays_gone() {
    let world = World::new().await;
    let agent = world.agent(1).await;
    let first = agent.beat(&world, "web-1").await;
    assert_eq!(first["metadata"]["labels"]["env"], "prod");
    // However soon or late its first renewal is drawn, this is it, and from then on none is drawn.
    world.clock.advance(Duration::from_secs(600));
    let renewed = agent.beat(&world, "web-1").await;
    assert_ne!(renewed, first);
    let before = world.counts().1;
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(agent.beat(&world, "web-1").await, renewed);
    assert_eq!(world.counts().1, before, "nothing new is nothing to write");
    let second = agent.beat(&world, "web-2").await;
    assert_eq!(second["spec"]["hostname"], "web-2");
    assert_eq!(world.counts().1, before + 1);

    // What an administrator changed is not taken for what the agent said.
    let key = Key::parse("/nodes/node-1").unwrap();
    let held = world.store.inner.get(&key).await.unwrap().unwrap();
    let text = String::from_utf8(held.value.to_vec()).unwrap().replace("web-2", "web-9");
    let changed = NewItem::new(key.clone(), access_backend::Value::new(text).unwrap());
    let expires = held.expires.unwrap();
    world.store.inner.put(changed.expires_at(expires)).await.unwrap();
    assert_eq!(agent.beat(&world, "web-2").await["spec"]["hostname"], "web-2");
    // What was removed comes back, as before.
    world.store.inner.delete(&key).await.unwrap();
    agent.beat(&world, "web-2").await;
    assert!(world.store.inner.get(&key).await.unwrap().is_some());
    // An agent that is heard of seldom is renewed each time that it would else be gone.
    for _ in 0..4 {
        world.clock.advance(Duration::from_secs(400));
        agent.beat(&world, "web-2").await;
        let row = world.store.inner.get(&key).await.unwrap().unwrap();
        assert_eq!(row.expires.unwrap().0, world.clock.now().plus(TTL).as_millis());
    }
    world.auth.close().await;
}

#[tokio::test(start_paused = true)]
async fn of_a_group_only_what_changed_meanwhile_is_refused() {
    let memory = Arc::new(Memory::default());
    let closing = CancellationToken::new();
    let (presence, task) = Presence::start(memory.clone(), closing.clone());
    let task = tokio::spawn(task);
    let item = |name: &str, value: &'static str| {
        let key = Key::from_segments(["nodes", name]).unwrap();
        NewItem::new(key, access_backend::Value::new(value).unwrap())
    };
    let a = memory.put(item("a", "1")).await.unwrap();
    let b = memory.put(item("b", "1")).await.unwrap();
    memory.put(item("b", "2")).await.unwrap();
    let c = memory.put(item("c", "1")).await.unwrap();
    let done = futures::join!(
        presence.renew(item("a", "renewed"), a),
        presence.renew(item("b", "renewed"), b),
        presence.renew(item("c", "renewed"), c),
        presence.renew(item("c", "twice"), c),
    );
    assert!(done.0.is_ok() && done.2.is_ok());
    assert_eq!(done.0, done.2, "one write");
    assert!(matches!(done.1, Err(Error::ConditionFailed { .. })));
    assert!(matches!(done.3, Err(Error::ConditionFailed { .. })));
    let b = memory.get(&item("b", "").key).await.unwrap().unwrap();
    assert_eq!(&b.value[..], b"2");
    closing.cancel();
    task.await.unwrap();
    assert_eq!(presence.renew(item("a", "late"), a).await, Err(Error::Closed));
}
