//! A small cluster in this process: an Auth that joins, renews, stores and takes events, and a
//! real front door before it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use access_agent::{AuthRoute, HostOptions, JoinToken};
use access_ca::{
    Authority, HostDraft, IssuingPolicy, NewAuthority, SealingKey, SoftwareKeyStore, UserDraft,
    parse_ssh_key,
};
use access_client::proto;
use access_client::proto::audit_server::{Audit, AuditServer};
use access_client::proto::entry_server::{Entry, EntryServer};
use access_client::proto::identity_server::{Identity as IdentityApi, IdentityServer};
use access_client::proto::recordings_server::{Recordings, RecordingsServer};
use access_client::proto::resources_server::{Resources, ResourcesServer};
use access_client::{HostPort, KeySet};
use access_core::audit::Envelope;
use access_core::identity::{
    AuthorityKind, Identity, Service, SharedTrust, Subject, TrustStore, VerifiedIdentity,
};
use access_core::time::{Clock, Timestamp};
use access_core::tls::{
    ALPN_H2, ClientAuth, HEADER_START, SharedKey, origin_length, server_config, starts_origin,
};
use access_core::{ClusterName, HostId, ResourceRef};
use access_proxy::{AuthUpstream, Front, FrontOptions, FrontParts, PingInfo, Tunnels, WebPages};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use rustls_pki_types::CertificateDer;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

pub const CLUSTER: &str = "example.com";

/// The system's clock, and how far it is off.
#[derive(Clone, Default)]
pub struct RealClock(pub i64);

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        Timestamp::from_millis(now + self.0)
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let left = deadline.since(self.now());
        Box::pin(tokio::time::sleep(left))
    }
}

/// Waits for something to become true.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !check() {
        assert!(tokio::time::Instant::now() < end, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Takes the header that a proxy puts before a client's bytes, unread.
async fn past_origin(mut stream: TcpStream) -> TcpStream {
    let mut start = [0; HEADER_START];
    if stream.peek(&mut start[..1]).await.is_ok_and(|n| n == 1) && starts_origin(start[0]) {
        stream.read_exact(&mut start).await.unwrap();
        let mut rest = vec![0; origin_length(start).unwrap() - HEADER_START];
        stream.read_exact(&mut rest).await.unwrap();
    }
    stream
}

#[derive(Clone)]
pub struct FakeAuth {
    pub inner: Arc<Inner>,
}

pub struct Inner {
    pub clock: Arc<dyn Clock>,
    pub cluster: ClusterName,
    pub host_ca: Authority,
    pub user_ca: Authority,
    pub trust: Arc<SharedTrust>,
    pub ttl: Duration,
    pub tokens: Mutex<HashMap<String, u32>>,
    pub hosts: Mutex<HashMap<HostId, (u64, Vec<u8>)>>,
    pub documents: Mutex<BTreeMap<(String, String), Vec<u8>>>,
    pub events: Mutex<BTreeMap<(String, u64), Envelope>>,
    pub emitted_twice: AtomicU64,
    pub recordings: Mutex<HashMap<String, Vec<u8>>>,
    pub renewals: AtomicU64,
    /// The answer to the next renewal or join is lost after it was done.
    pub lose_answers: AtomicUsize,
    /// Events and recordings are refused.
    pub refuse: AtomicBool,
    /// Events in which this text stands are refused for good.
    pub poison: Mutex<Option<String>>,
    /// Events of this writer are refused: it is another host's.
    pub foreign: Mutex<Option<String>>,
}

impl FakeAuth {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let cluster = ClusterName::new(CLUSTER).unwrap();
        let store = SoftwareKeyStore::new(SealingKey::generate().unwrap());
        let make = |kind| {
            let new = NewAuthority::new(cluster.clone(), kind);
            Authority::create(&store, &new, clock.now()).unwrap()
        };
        let (host_ca, user_ca) = (make(AuthorityKind::Host), make(AuthorityKind::User));
        let authorities = [host_ca.trusted().clone(), user_ca.trusted().clone()];
        let trust = TrustStore::new(cluster.clone(), authorities).unwrap();
        Self {
            inner: Arc::new(Inner {
                clock,
                cluster,
                host_ca,
                user_ca,
                trust: Arc::new(SharedTrust::new(trust)),
                ttl: Duration::from_secs(24 * 3600),
                tokens: Mutex::new(HashMap::from([("t.secret".to_owned(), 100)])),
                hosts: Mutex::default(),
                documents: Mutex::default(),
                events: Mutex::default(),
                emitted_twice: AtomicU64::new(0),
                recordings: Mutex::default(),
                renewals: AtomicU64::new(0),
                lose_answers: AtomicUsize::new(0),
                refuse: AtomicBool::new(false),
                poison: Mutex::default(),
                foreign: Mutex::default(),
            }),
        }
    }

    pub async fn serve(&self) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = self.issue_shared(Service::Auth, &[]);
        let tls = server_config(
            ClientAuth::Optional(Arc::clone(&self.inner.trust)),
            key,
            Arc::clone(&self.inner.clock),
            &[ALPN_H2],
        )
        .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        let accept = async move {
            let mut handshakes = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                handshakes.spawn(async move {
                    let stream = past_origin(stream).await;
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = sender.send(Ok::<_, std::io::Error>(Conn(stream))).await;
                    }
                });
            }
        };
        let server = tonic::transport::Server::builder()
            .add_service(EntryServer::new(self.clone()))
            .add_service(IdentityServer::new(self.clone()))
            .add_service(ResourcesServer::new(self.clone()))
            .add_service(AuditServer::new(self.clone()))
            .add_service(RecordingsServer::new(self.clone()))
            .serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(receiver));
        let task = tokio::spawn(async move {
            tokio::select! {
                () = accept => {}
                served = server => served.unwrap(),
            }
        });
        (address, task)
    }

    #[allow(clippy::too_many_arguments)]
    fn sign(
        &self,
        id: &HostId,
        services: BTreeSet<Service>,
        resources: Vec<ResourceRef>,
        names: &[&str],
        generation: u64,
        keys: proto::PublicKeys,
        ttl: Duration,
    ) -> proto::Credentials {
        let inner = &self.inner;
        let subject = Subject::Host { id: id.clone(), services, resources };
        let now = inner.clock.now();
        let mut identity = Identity::new(inner.cluster.clone(), subject, now);
        identity.generation = generation;
        let mut draft = HostDraft::new(identity, ttl).unwrap();
        for name in names {
            draft.add_name(name.parse().unwrap());
        }
        draft.ssh_public_key = Some(parse_ssh_key(&keys.ssh).unwrap());
        draft.tls_public_key = Some(keys.tls);
        let policy = IssuingPolicy::new(now, ttl);
        let signed = draft.vet(&policy).unwrap().sign(&inner.host_ca).unwrap();
        let authorities = [&inner.host_ca, &inner.user_ca]
            .map(|ca| proto::Authority::try_from(ca.trusted()).unwrap());
        proto::Credentials {
            ssh_certificate: signed.ssh_openssh().unwrap().unwrap(),
            tls_chain: signed.tls_chain().iter().map(|cert| cert.to_vec()).collect(),
            authorities: authorities.to_vec(),
            cluster_name: CLUSTER.into(),
            not_before: signed.validity().not_before().as_millis(),
            not_after: signed.validity().not_after().as_millis(),
            host_id: id.to_string(),
        }
    }

    /// A certificate for something in this process.
    pub fn issue_shared(&self, service: Service, names: &[&str]) -> Arc<SharedKey> {
        let keys = KeySet::generate().unwrap();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let id = HostId::new(format!("fake-{service}-{number}")).unwrap();
        let public = keys.public().unwrap();
        // The cluster's own outlive whoever joins.
        let ttl = self.inner.ttl * 10;
        let answer = self.sign(&id, BTreeSet::from([service]), Vec::new(), names, 1, public, ttl);
        let credentials = access_client::Credentials::from_answer(keys, answer).unwrap();
        credentials.shared_key().unwrap()
    }

    /// A certificate of a user, good for an hour from `from` on.
    pub fn issue_user(
        &self,
        name: &str,
        from: Timestamp,
    ) -> (Vec<CertificateDer<'static>>, KeySet) {
        let subject = Subject::User { name: name.parse().unwrap() };
        let identity = Identity::new(self.inner.cluster.clone(), subject, from);
        let (hour, keys) = (Duration::from_secs(3600), KeySet::generate().unwrap());
        let mut draft = UserDraft::new(identity, hour);
        draft.tls_public_key = Some(keys.public().unwrap().tls);
        let vetted = draft.vet(&IssuingPolicy::new(from, hour)).unwrap();
        (vetted.sign(&self.inner.user_ca).unwrap().tls_chain(), keys)
    }

    fn certify(
        &self,
        id: &HostId,
        claims: proto::HostClaims,
        generation: u64,
        keys: proto::PublicKeys,
    ) -> Result<Response<proto::Credentials>, Status> {
        let services = claims
            .services
            .iter()
            .map(|name| *Service::ALL.iter().find(|s| s.as_str() == name.as_str()).unwrap())
            .collect();
        let resources = claims.resources.iter().map(|text| text.parse().unwrap()).collect();
        let names: Vec<&str> = claims.public_names.iter().map(String::as_str).collect();
        let digest = [keys.ssh.as_bytes(), &keys.tls].concat();
        self.inner.hosts.lock().unwrap().insert(id.clone(), (generation, digest));
        let ttl = self.inner.ttl;
        let answer = self.sign(id, services, resources, &names, generation, keys, ttl);
        if self
            .inner
            .lose_answers
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok()
        {
            return Err(Status::unavailable("the answer was lost"));
        }
        Ok(Response::new(answer))
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<VerifiedIdentity, Status> {
        let Certificates(certs) = request.extensions().get::<Certificates>().unwrap();
        self.inner
            .trust
            .load()
            .verify_tls(certs, self.inner.clock.now())
            .map_err(|err| Status::unauthenticated(err.to_string()))
    }

    pub fn pin(&self) -> access_core::identity::SpkiPin {
        self.inner.host_ca.pin()
    }

    pub fn names(&self) -> Vec<String> {
        let events = self.inner.events.lock().unwrap();
        events.values().map(|envelope| envelope.event.name().to_owned()).collect()
    }

    /// The options of an agent that serves `node/web-1`.
    pub fn agent_options(&self, dir: &std::path::Path, proxy: SocketAddr) -> HostOptions {
        let route = AuthRoute::Proxies(vec![HostPort::parse(&proxy.to_string(), 443).unwrap()]);
        let mut options = HostOptions::new(dir, route, "web-1");
        options.services = BTreeSet::from([Service::Node]);
        options.resources = vec!["node/web-1".parse().unwrap()];
        options.token = Some(JoinToken::new("t.secret"));
        options.pins = vec![self.pin()];
        options
    }
}

/// A front door that can be cut off and opened again at its address.
pub struct Proxy {
    pub address: SocketAddr,
    pub tunnels: Arc<Tunnels>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(auth: &FakeAuth, auth_address: SocketAddr) -> Self {
        Self::start_at(auth, auth_address, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(auth: &FakeAuth, auth_address: SocketAddr, at: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(at).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let tunnels = Arc::new(Tunnels::new());
        let host_key = auth.issue_shared(Service::Proxy, &["127.0.0.1"]);
        let parts = FrontParts {
            cluster: auth.inner.cluster.clone(),
            trust: Arc::clone(&auth.inner.trust),
            web_key: Arc::clone(&host_key) as _,
            host_key,
            auth: AuthUpstream::new(vec![("127.0.0.1".into(), auth_address.port())]),
            tunnels: Arc::clone(&tunnels),
            preludes: Vec::new(),
            pages: WebPages::new(&PingInfo::new(CLUSTER, vec![address.to_string()])).unwrap(),
            clock: Arc::clone(&auth.inner.clock),
        };
        let front = Arc::new(Front::new(parts, FrontOptions::default()).unwrap());
        let stop = CancellationToken::new();
        let task = tokio::spawn(front.serve(listener, stop.clone(), Duration::from_secs(20)));
        Self { address, tunnels, stop, task }
    }

    /// As a crash does it.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// In peace.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

#[tonic::async_trait]
impl Entry for FakeAuth {
    async fn ping(
        &self,
        _: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingResponse>, Status> {
        Ok(Response::new(proto::PingResponse {
            cluster_name: CLUSTER.into(),
            version: "test".into(),
            time: self.inner.clock.now().as_millis(),
        }))
    }

    async fn login(
        &self,
        _: Request<proto::LoginRequest>,
    ) -> Result<Response<proto::Credentials>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn redeem_invite(
        &self,
        _: Request<proto::RedeemInviteRequest>,
    ) -> Result<Response<proto::RedeemInviteResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn join(
        &self,
        request: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::Credentials>, Status> {
        let request = request.into_inner();
        match self.inner.tokens.lock().unwrap().get_mut(&request.token) {
            None => return Err(Status::unauthenticated("the join token is wrong or expired")),
            Some(0) => return Err(Status::failed_precondition("the join token is spent")),
            Some(uses) => *uses -= 1,
        }
        let id = HostId::new(&request.host_id).unwrap();
        let keys = request.keys.unwrap();
        let digest = [keys.ssh.as_bytes(), &keys.tls].concat();
        let known = self.inner.hosts.lock().unwrap().get(&id).cloned();
        let generation = match known {
            Some((_, held)) if held != digest => {
                return Err(Status::failed_precondition("the host id is taken"));
            }
            Some((generation, _)) => generation + 1,
            None => 1,
        };
        self.certify(&id, request.claims.unwrap(), generation, keys)
    }
}

#[tonic::async_trait]
impl IdentityApi for FakeAuth {
    async fn who_am_i(
        &self,
        _: Request<proto::WhoAmIRequest>,
    ) -> Result<Response<proto::WhoAmIResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn logout(
        &self,
        _: Request<proto::LogoutRequest>,
    ) -> Result<Response<proto::LogoutResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn issue_database_certificate(
        &self,
        _: Request<proto::DatabaseCertificateRequest>,
    ) -> Result<Response<proto::DatabaseCertificate>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn renew_host(
        &self,
        request: Request<proto::RenewHostRequest>,
    ) -> Result<Response<proto::Credentials>, Status> {
        let caller = self.caller(&request)?;
        let held = caller.identity().generation;
        let (id, _) = caller.host().unwrap();
        let request = request.into_inner();
        let keys = request.keys.unwrap();
        let digest = [keys.ssh.as_bytes(), &keys.tls].concat();
        let (known, last) = self.inner.hosts.lock().unwrap().get(id).cloned().unwrap();
        let repeats = held + 1 == known && last == digest;
        if held != known && !repeats {
            return Err(Status::permission_denied(format!("renewal {known} is known, not {held}")));
        }
        self.inner.renewals.fetch_add(1, Ordering::SeqCst);
        let generation = if repeats { held + 1 } else { known + 1 };
        self.certify(id, request.claims.unwrap(), generation, keys)
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<proto::WatchEvent, Status>> + Send>>;

#[tonic::async_trait]
impl Resources for FakeAuth {
    type WatchStream = Events;

    async fn get(
        &self,
        _: Request<proto::GetRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        self.caller(&request)?;
        let kind = request.into_inner().kind;
        let documents = self.inner.documents.lock().unwrap();
        let documents = documents
            .iter()
            .filter(|((of, _), _)| *of == kind)
            .map(|((kind, name), json)| proto::Document {
                kind: kind.clone(),
                name: name.clone(),
                json: json.clone(),
                revision: "1".into(),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(proto::ListResponse { documents, next_page_token: String::new() }))
    }

    async fn create(
        &self,
        request: Request<proto::WriteRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        self.put(request).await
    }

    async fn update(
        &self,
        request: Request<proto::WriteRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        self.put(request).await
    }

    async fn put(
        &self,
        request: Request<proto::WriteRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        self.caller(&request)?;
        let mut json: serde_json::Value =
            serde_json::from_slice(&request.into_inner().json).unwrap();
        assert!(json["metadata"]["expires"].is_string(), "a heart-beat expires");
        // Labels of the token count, whatever the host says.
        json["metadata"]["labels"]["from"] = "token".into();
        let kind = json["kind"].as_str().unwrap().to_owned();
        let name = json["metadata"]["name"].as_str().unwrap().to_owned();
        let bytes = serde_json::to_vec(&json).unwrap();
        let mut documents = self.inner.documents.lock().unwrap();
        documents.insert((kind.clone(), name.clone()), bytes.clone());
        Ok(Response::new(proto::Document {
            kind,
            name,
            json: bytes,
            revision: "1".into(),
            ..Default::default()
        }))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteRequest>,
    ) -> Result<Response<proto::DeleteResponse>, Status> {
        self.caller(&request)?;
        let request = request.into_inner();
        self.inner.documents.lock().unwrap().remove(&(request.kind, request.name));
        Ok(Response::new(proto::DeleteResponse {}))
    }

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Events>, Status> {
        self.caller(&request)?;
        let ready = proto::WatchEvent {
            event: Some(proto::watch_event::Event::Ready(proto::Ready { position: Vec::new() })),
        };
        let first = futures::stream::once(async move { Ok(ready) });
        Ok(Response::new(Box::pin(first.chain(futures::stream::pending()))))
    }
}

#[tonic::async_trait]
impl Audit for FakeAuth {
    async fn emit(
        &self,
        request: Request<proto::EmitRequest>,
    ) -> Result<Response<proto::EmitResponse>, Status> {
        self.caller(&request)?;
        if self.inner.refuse.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        let request = request.into_inner();
        if self.inner.foreign.lock().unwrap().as_ref() == Some(&request.writer) {
            return Err(Status::already_exists("this audit writer belongs to another host"));
        }
        let writer = request.writer.clone();
        let received = request.into_events(1000).unwrap();
        if let Some(poison) = &*self.inner.poison.lock().unwrap() {
            let poisoned = |json: &bytes::Bytes| String::from_utf8_lossy(json).contains(poison);
            if received.iter().any(poisoned) {
                return Err(Status::invalid_argument("not an audit event"));
            }
        }
        let mut events = self.inner.events.lock().unwrap();
        let mut last = 0;
        for json in &received {
            let envelope = Envelope::from_json(json).unwrap();
            assert_eq!(envelope.writer.as_str(), writer);
            assert!(envelope.seq > last, "in order");
            last = envelope.seq;
            if events.insert((writer.clone(), last), envelope.clone()).is_some_and(|old| {
                assert_eq!(old, envelope, "a number is used once");
                true
            }) {
                self.inner.emitted_twice.fetch_add(1, Ordering::SeqCst);
            }
        }
        Ok(Response::new(proto::EmitResponse { stored_up_to: last }))
    }

    async fn search(
        &self,
        _: Request<proto::SearchRequest>,
    ) -> Result<Response<proto::SearchResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[tonic::async_trait]
impl Recordings for FakeAuth {
    type DownloadStream = Pin<Box<dyn Stream<Item = Result<proto::RecordingPart, Status>> + Send>>;

    async fn upload(
        &self,
        request: Request<Streaming<proto::RecordingPart>>,
    ) -> Result<Response<proto::UploadResponse>, Status> {
        self.caller(&request)?;
        if self.inner.refuse.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        let mut parts = request.into_inner();
        let (mut session, mut data) = (String::new(), Vec::new());
        while let Some(part) = parts.message().await? {
            if session.is_empty() {
                session = part.session_id;
            }
            data.extend(part.data);
        }
        let size = data.len() as u64;
        self.inner.recordings.lock().unwrap().insert(session, data);
        Ok(Response::new(proto::UploadResponse { size }))
    }

    async fn list(
        &self,
        _: Request<proto::ListRecordingsRequest>,
    ) -> Result<Response<proto::ListRecordingsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn download(
        &self,
        _: Request<proto::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// An accepted connection, as tonic takes it.
struct Conn(TlsStream<TcpStream>);

/// What a client showed.
#[derive(Clone)]
struct Certificates(Vec<CertificateDer<'static>>);

impl Connected for Conn {
    type ConnectInfo = Certificates;

    fn connect_info(&self) -> Certificates {
        let (_, connection) = self.0.get_ref();
        Certificates(connection.peer_certificates().unwrap_or_default().to_vec())
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
