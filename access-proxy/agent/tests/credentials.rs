//! Certificates for databases, from a real Auth Service.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access_agent::{AuthRoute, DatabaseCredentials, HostOptions, JoinToken, Membership};
use access_auth::{AuthService, Options, StoreClock};
use access_backend::{Memory, MemoryOptions};
use access_client::types::{AdminUser, DbDocument, DbProtocol, DbSpec, UserDocument, UserSpec};
use access_client::{AuthClient, AuthEndpoint, Credentials, HostPort, KeySet, proto};
use access_core::audit::MemorySink;
use access_core::credentials::{CredentialsError, TargetCredentials};
use access_core::gate::{Gate, GateOptions, PolicySource};
use access_core::identity::Service;
use access_core::policy::{Action, Context, Decision, Reason, Target};
use access_core::role::CreateDbUserMode;
use access_core::time::ManualClock;
use access_core::tls::ServerTrust;
use access_core::{
    Clock, ClusterName, Login, Permit, Resource, ResourceKind, ResourceName, ResourceRef, RoleName,
    Timestamp, VerifiedIdentity,
};

use tokio::net::TcpListener;
use tokio::sync::watch;

const PASSWORD: &str = "correct horse battery";
const ROLE: &str = r#"{"kind":"role","version":"v1","metadata":{"name":"dba"},"spec":{"allow":{
    "db_labels":{"*":"*"},"db_users":["reader","writer"],"db_names":["*"]}}}"#;

/// A gate's policy that is laxer than Auth's: it allows everything until it is told otherwise.
struct Lax {
    allows: AtomicBool,
    /// Whether it has accounts made.
    makes: AtomicBool,
    changes: watch::Sender<u64>,
}

impl PolicySource for Lax {
    fn decide(
        &self,
        who: &VerifiedIdentity,
        _: &Action,
        _: &Target,
        _: &Context,
        _: Timestamp,
    ) -> Decision {
        if self.allows.load(Ordering::SeqCst) {
            let limits = access_core::policy::SessionLimits::until(who.validity().not_after());
            let mut grant = access_core::policy::Grant::within(limits);
            if self.makes.load(Ordering::SeqCst) {
                grant.database.create_user = CreateDbUserMode::Keep;
            }
            Decision::Allow(grant)
        } else {
            Decision::Deny(Reason::UnknownUser)
        }
    }

    fn fresh_at(&self) -> Option<Timestamp> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

struct Setup {
    clock: Arc<ManualClock>,
    admin: AuthClient,
    auth: AuthService,
    member: Arc<Membership>,
    credentials: DatabaseCredentials,
    /// Where the credentials ask instead of at Auth.
    away: Arc<Mutex<Option<AuthClient>>>,
    policy: Arc<Lax>,
    gate: Gate,
    _dir: tempfile::TempDir,
}

impl Setup {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_767_323_045)));
        let shared: Arc<dyn Clock> = clock.clone();
        let mut options = Options::new(dir.path().join("auth"), Arc::clone(&shared));
        options.cluster_name = Some(ClusterName::new("example.com").unwrap());
        options.limits.password_hashes = 1;
        let store = MemoryOptions {
            clock: Arc::new(StoreClock(Arc::clone(&shared))),
            ..MemoryOptions::default()
        };
        let auth = AuthService::open(Arc::new(Memory::new(store)), options).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: HostPort = listener.local_addr().unwrap().to_string().parse().unwrap();
        let serving = auth.clone();
        tokio::spawn(async move { serving.serve_tls(listener, std::future::pending()).await });
        let admin = AuthClient::over_stream(auth.local_pipe());
        put(&admin, ROLE.into()).await;

        let request = proto::CreateTokenRequest { types: vec!["db".into()], ..Default::default() };
        let token = admin.admin().create_token(request).await.unwrap().into_inner().token;
        let route = AuthRoute::Direct(vec![address.clone()]);
        let mut options = HostOptions::new(dir.path().join("agent"), route, "db-1");
        options.services = BTreeSet::from([Service::Db]);
        options.resources = vec!["db/orders".parse().unwrap()];
        options.pins = auth.ca_pins().unwrap();
        options.token = Some(JoinToken::new(token));
        let member = Arc::new(Membership::open(options, Arc::clone(&shared)).await.unwrap());
        register(&member).await;

        let away = Arc::new(Mutex::new(None));
        let clients = {
            let (member, away) = (Arc::clone(&member), Arc::clone(&away));
            Arc::new(move || {
                let away: Option<AuthClient> = away.lock().unwrap().clone();
                away.unwrap_or_else(|| member.client())
            })
        };
        let policy = Arc::new(Lax {
            allows: AtomicBool::new(true),
            makes: AtomicBool::new(false),
            changes: watch::Sender::new(0),
        });
        let gate = Gate::new(
            policy.clone(),
            Arc::new(MemorySink::new(1000)),
            Arc::clone(&shared),
            GateOptions::default(),
        );
        let credentials = DatabaseCredentials::new(clients, shared);
        Self { clock, admin, auth, member, credentials, away, policy, gate, _dir: dir }
    }

    async fn user(&self, name: &str) -> VerifiedIdentity {
        let spec = UserSpec::with_roles([RoleName::new("dba").unwrap()]);
        let user = UserDocument::new(name, spec).to_json().unwrap();
        let request = proto::CreateUserRequest { user, invite_ttl_seconds: 0 };
        let invite = self.admin.admin().create_user(request).await.unwrap().into_inner();
        let redeem = proto::RedeemInviteRequest { token: invite.token, password: PASSWORD.into() };
        self.admin.entry().redeem_invite(redeem).await.unwrap();
        self.verify(&self.login(name).await)
    }

    async fn login(&self, name: &str) -> Credentials {
        let keys = KeySet::generate().unwrap();
        self.admin.login(name, PASSWORD, keys, None).await.unwrap()
    }

    fn verify(&self, held: &Credentials) -> VerifiedIdentity {
        self.member.trust().load().verify_tls(&held.tls_chain, self.clock.now()).unwrap()
    }

    async fn permit(&self, who: &VerifiedIdentity, account: &str) -> Permit {
        self.permit_on(who, account, None).await
    }

    async fn permit_on(
        &self,
        who: &VerifiedIdentity,
        account: &str,
        admin: Option<&str>,
    ) -> Permit {
        let name = ResourceName::new("orders").unwrap();
        let mut resource = Resource::new(
            ResourceRef { kind: ResourceKind::Database, name },
            Default::default(),
            self.member.host_id().clone(),
        );
        resource.admin_user = admin.map(|name| Login::new(name).unwrap());
        let action =
            Action::Database { user: Login::new(account).unwrap(), database: "orders".into() };
        let target = Target::Resource(resource);
        self.gate.authorize(who, action, target, Context::default()).await.unwrap()
    }

    /// How many certificates Auth has made for accounts.
    async fn minted(&self) -> usize {
        let request = proto::SearchRequest {
            types: vec!["cert.create".into()],
            page_size: 1000,
            ..Default::default()
        };
        let found = self.admin.audit().search(request).await.unwrap().into_inner().events;
        let is_account = |json: &Vec<u8>| String::from_utf8_lossy(json).contains("\"db_client\"");
        found.iter().filter(|json| is_account(json)).count()
    }

    fn go_away(&self) {
        let nowhere = AuthEndpoint {
            addresses: vec!["127.0.0.1:1".parse().unwrap()],
            cluster: self.auth.cluster_name(),
            trust: ServerTrust::HostAuthority(self.member.trust()),
            key: None,
            clock: self.clock.clone(),
        };
        *self.away.lock().unwrap() = Some(AuthClient::new(nowhere).unwrap());
    }

    fn come_back(&self) {
        *self.away.lock().unwrap() = None;
    }
}

/// What the agent's heart-beat does.
async fn register(member: &Membership) {
    let mut spec = DbSpec::new(DbProtocol::Postgres, "127.0.0.1:5432", member.host_id().clone());
    spec.admin_user = Some(AdminUser::new(Login::new("access-admin").unwrap()));
    put(&member.client(), DbDocument::new("orders", spec).to_json().unwrap()).await;
}

async fn put(client: &AuthClient, json: Vec<u8>) {
    client.resources().put(proto::WriteRequest { json, force: false }).await.unwrap();
}

#[tokio::test]
async fn one_certificate_serves_all_who_ask_for_the_same() {
    let setup = Setup::start().await;
    let alice = setup.user("alice").await;
    let permit = setup.permit(&alice, "reader").await;
    let asked = (0..32).map(|_| setup.credentials.client_certificate(&permit));
    let all = futures::future::join_all(asked).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|one| Arc::ptr_eq(&one.as_ref().unwrap().key, &first.key)));
    assert_eq!(setup.minted().await, 1);
    assert_eq!(first.not_after, setup.clock.now().plus(Duration::from_secs(600)));

    // What differs in what was decided over has one of its own: the account, the user, and the
    // user's certificate.
    let writer = setup.permit(&alice, "writer").await;
    let bob = setup.permit(&setup.user("bob").await, "reader").await;
    let again = setup.permit(&setup.verify(&setup.login("alice").await), "reader").await;
    for (count, permit) in [(2, &writer), (3, &bob), (4, &again)] {
        let other = setup.credentials.client_certificate(permit).await.unwrap();
        assert!(!Arc::ptr_eq(&other.key, &first.key));
        assert_eq!(setup.minted().await, count);
    }
    assert_eq!(setup.credentials.server_roots().await.unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_asked_first_may_go_away() {
    let setup = Setup::start().await;
    let permit = setup.permit(&setup.user("alice").await, "reader").await;
    {
        let mut first = Box::pin(setup.credentials.client_certificate(&permit));
        assert!(futures::poll!(&mut first).is_pending());
    }
    setup.credentials.client_certificate(&permit).await.unwrap();
    assert_eq!(setup.minted().await, 1);
}

#[tokio::test]
async fn what_is_kept_is_renewed_before_its_end_and_outlasts_auths_absence() {
    let setup = Setup::start().await;
    let permit = setup.permit(&setup.user("alice").await, "reader").await;
    let get = async || setup.credentials.client_certificate(&permit).await;
    let first = get().await.unwrap();

    setup.go_away();
    setup.clock.advance(Duration::from_secs(550));
    let kept = get().await.unwrap();
    assert!(Arc::ptr_eq(&kept.key, &first.key));
    setup.clock.advance(Duration::from_secs(46));
    let gone = get().await.unwrap_err();
    assert!(matches!(gone, CredentialsError::Unavailable(_)), "{gone}");

    setup.come_back();
    let second = get().await.unwrap();
    assert!(!Arc::ptr_eq(&second.key, &first.key));
    // In the last minute, the successor is fetched while the old one is still handed out.
    setup.clock.advance(Duration::from_secs(545));
    register(&setup.member).await;
    assert!(Arc::ptr_eq(&get().await.unwrap().key, &second.key));
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while Arc::ptr_eq(&get().await.unwrap().key, &second.key) {
        assert!(std::time::Instant::now() < deadline, "it is not renewed");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn auth_decides_again_and_a_permit_that_ended_gets_nothing_kept() {
    let setup = Setup::start().await;
    let alice = setup.user("alice").await;
    // The gate here allows what Auth does not.
    let owner = setup.permit(&alice, "owner").await;
    let denied = setup.credentials.client_certificate(&owner).await.unwrap_err();
    assert!(matches!(denied, CredentialsError::Denied(_)), "{denied}");
    assert_eq!(setup.minted().await, 0);

    let reader = setup.permit(&alice, "reader").await;
    setup.credentials.client_certificate(&reader).await.unwrap();
    setup.policy.allows.store(false, Ordering::SeqCst);
    let ended = setup.credentials.client_certificate(&reader).await.unwrap_err();
    assert!(matches!(ended, CredentialsError::Denied(_)), "{ended}");
    assert_eq!(setup.minted().await, 1);
}

#[tokio::test]
async fn an_identity_proven_by_ssh_alone_gets_none() {
    let setup = Setup::start().await;
    setup.user("alice").await;
    let held = setup.login("alice").await;
    let trust = setup.member.trust().load();
    let alice = trust.verify_ssh_any_login(&held.ssh_certificate, None, setup.clock.now()).unwrap();
    assert!(alice.certificate_chain().is_empty());
    let permit = setup.permit(&alice, "reader").await;
    let refused = setup.credentials.client_certificate(&permit).await.unwrap_err();
    assert!(matches!(refused, CredentialsError::NotForThis(_)), "{refused}");
}

#[tokio::test]
async fn without_auth_and_without_anything_kept_there_is_none() {
    let setup = Setup::start().await;
    let permit = setup.permit(&setup.user("alice").await, "reader").await;
    setup.go_away();
    let gone = setup.credentials.client_certificate(&permit).await.unwrap_err();
    assert!(matches!(gone, CredentialsError::Unavailable(_)), "{gone}");
    assert!(setup.credentials.server_roots().await.is_err());
    setup.come_back();
    setup.credentials.client_certificate(&permit).await.unwrap();
}

#[tokio::test]
async fn admin_users_certificates_are_kept_apart_and_made_where_auth_has_accounts_made() {
    let setup = Setup::start().await;
    let alice = setup.user("alice").await;
    let admin = Some("access-admin");
    // Not for a permit without an account that is made, nor for a database without an admin user.
    let permit = setup.permit_on(&alice, "alice", admin).await;
    let refused = setup.credentials.admin_certificate(&permit).await.unwrap_err();
    assert!(matches!(refused, CredentialsError::NotForThis(_)), "{refused}");
    setup.policy.makes.store(true, Ordering::SeqCst);
    let permit = setup.permit(&alice, "alice").await;
    let refused = setup.credentials.admin_certificate(&permit).await.unwrap_err();
    assert!(matches!(refused, CredentialsError::NotForThis(_)), "{refused}");
    // The gate here has accounts made where Auth has none made.
    let permit = setup.permit_on(&alice, "alice", admin).await;
    let denied = setup.credentials.admin_certificate(&permit).await.unwrap_err();
    assert!(matches!(denied, CredentialsError::Denied(_)), "{denied}");
    assert_eq!(setup.minted().await, 0);

    let making =
        ROLE.replace(r#""spec":{"#, r#""spec":{"options":{"create_db_user_mode":"keep"},"#);
    put(&setup.admin, making.into()).await;
    let made = setup.credentials.admin_certificate(&permit).await.unwrap();
    let own = setup.credentials.client_certificate(&permit).await.unwrap();
    assert!(!Arc::ptr_eq(&made.key, &own.key));
    let again = setup.credentials.admin_certificate(&permit).await.unwrap();
    assert!(Arc::ptr_eq(&made.key, &again.key));
    assert_eq!(setup.minted().await, 2);
}
