//! A cluster in one process, whose clock stands still until it is moved.

use std::sync::Arc;
use std::time::Duration;

use access_auth::{AuthService, Options, StoreClock};
use access_backend::{Memory, MemoryOptions};
use access_client::proto;
use access_client::types::{UserDocument, UserSpec};
use access_client::{AuthClient, AuthEndpoint, ClientError, Credentials, HostPort, KeySet};
use access_core::identity::SpkiPin;
use access_core::time::ManualClock;
use access_core::tls::{ServerTrust, SharedKey};
use access_core::{Clock, ClusterName, RoleName, Timestamp};
use tempfile::TempDir;
use tokio::net::TcpListener;

pub(crate) const PASSWORD: &str = "correct horse battery";

/// 2026-01-02T03:04:05Z.
pub(crate) const START: i64 = 1_767_323_045;

pub(crate) struct Cluster {
    pub(crate) auth: AuthService,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: TempDir,
    pub(crate) admin: AuthClient,
    pub(crate) store: Arc<Memory>,
    address: HostPort,
}

pub(crate) fn name(text: &str) -> ClusterName {
    ClusterName::new(text).unwrap()
}

pub(crate) fn store(clock: &Arc<ManualClock>) -> Arc<Memory> {
    let clock = StoreClock(clock.clone());
    Arc::new(Memory::new(MemoryOptions { clock: Arc::new(clock), ..MemoryOptions::default() }))
}

pub(crate) fn options(dir: &TempDir, clock: &Arc<ManualClock>) -> Options {
    let mut options = Options::new(dir.path().join("data"), clock.clone());
    options.cluster_name = Some(name("example.com"));
    options.limits.password_hashes = 2;
    options
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(START)));
        let dir = tempfile::tempdir().unwrap();
        let store = store(&clock);
        let mut options = options(&dir, &clock);
        change(&mut options);
        let auth = AuthService::open(store.clone(), options).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let serving = auth.clone();
        tokio::spawn(async move { serving.serve_tls(listener, std::future::pending()).await });
        let admin = AuthClient::over_stream(auth.local_pipe());
        Self { auth, clock, dir, admin, store, address }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    pub(crate) fn address(&self) -> HostPort {
        self.address.clone()
    }

    pub(crate) fn pins(&self) -> Vec<SpkiPin> {
        self.auth.ca_pins().unwrap()
    }

    /// A client over TLS, a stranger without a key.
    pub(crate) fn client(&self, key: Option<Arc<SharedKey>>) -> AuthClient {
        AuthClient::new(AuthEndpoint {
            addresses: vec![self.address.clone()],
            cluster: self.auth.cluster_name(),
            trust: ServerTrust::Pins(self.pins()),
            key,
            clock: self.clock.clone(),
        })
        .unwrap()
    }

    pub(crate) fn stranger(&self) -> AuthClient {
        self.client(None)
    }

    pub(crate) fn as_holder(&self, credentials: &Credentials) -> AuthClient {
        self.client(Some(credentials.shared_key().unwrap()))
    }

    pub(crate) async fn invite(&self, user: &str, roles: &[&str]) -> proto::Invitation {
        self.admin.admin().create_user(create_user(user, roles)).await.unwrap().into_inner()
    }

    /// Makes a user with the login `deploy` and a password.
    pub(crate) async fn add_user(&self, user: &str, roles: &[&str]) {
        let invite = self.invite(user, roles).await;
        redeem(&self.stranger(), &invite.token, PASSWORD).await.unwrap();
    }

    pub(crate) async fn login(&self, user: &str) -> Credentials {
        self.stranger().login(user, PASSWORD, KeySet::generate().unwrap(), None).await.unwrap()
    }

    /// Makes a user and logs them in.
    pub(crate) async fn user(&self, user: &str, roles: &[&str]) -> AuthClient {
        self.add_user(user, roles).await;
        self.as_holder(&self.login(user).await)
    }

    pub(crate) async fn token(&self, request: proto::CreateTokenRequest) -> String {
        self.admin.admin().create_token(request).await.unwrap().into_inner().token
    }

    /// Joins a node.
    pub(crate) async fn node(&self, node: &str) -> Credentials {
        let token = self.token(for_types(&["node"])).await;
        let keys = KeySet::generate().unwrap();
        self.stranger().join(&token, None, claims(&["node"], &[node]), keys).await.unwrap()
    }

    /// The names of all events in the store.
    pub(crate) async fn events(&self) -> Vec<serde_json::Value> {
        let request = proto::SearchRequest { page_size: 1000, ..Default::default() };
        let found = self.admin.audit().search(request).await.unwrap().into_inner();
        found.events.iter().map(|json| serde_json::from_slice(json).unwrap()).collect()
    }
}

pub(crate) fn create_user(user: &str, roles: &[&str]) -> proto::CreateUserRequest {
    let mut spec = UserSpec::with_roles(roles.iter().map(|role| RoleName::new(role).unwrap()));
    spec.traits.entry("logins".into()).or_default().insert("deploy".into());
    proto::CreateUserRequest {
        user: UserDocument::new(user, spec).to_json().unwrap(),
        invite_ttl_seconds: 0,
    }
}

pub(crate) async fn redeem(
    client: &AuthClient,
    token: &str,
    password: &str,
) -> Result<String, ClientError> {
    let request = proto::RedeemInviteRequest { token: token.into(), password: password.into() };
    Ok(client.entry().redeem_invite(request).await?.into_inner().user)
}

pub(crate) fn for_types(types: &[&str]) -> proto::CreateTokenRequest {
    proto::CreateTokenRequest {
        types: types.iter().map(|text| (*text).into()).collect(),
        ..Default::default()
    }
}

pub(crate) fn claims(services: &[&str], nodes: &[&str]) -> proto::HostClaims {
    proto::HostClaims {
        nodename: nodes.first().copied().unwrap_or("gw").into(),
        services: services.iter().map(|text| (*text).into()).collect(),
        resources: nodes.iter().map(|node| format!("node/{node}")).collect(),
        public_names: Vec::new(),
        databases: Vec::new(),
    }
}

pub(crate) fn message(result: Result<impl Sized, ClientError>) -> String {
    result.err().expect("it should have failed").to_string()
}

/// Polls a condition until it holds.
pub(crate) async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "it never came to hold");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
