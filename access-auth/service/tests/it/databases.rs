//! Certificates for databases.

use access_client::types::{AdminUser, DbDocument, DbProtocol, DbSpec, HealthStatus};
use access_client::{ClientError, Credentials, KeySet, TlsKey, proto};
use access_core::document::Document;
use access_core::identity::{AuthorityKind, TrustedAuthority, VerifyError};
use access_core::role::RoleDocument;
use tonic::Code;

use super::cluster::{Cluster, claims, for_types, message};

const ROLE: &str = r#"{"kind":"role","version":"v1","metadata":{"name":"dba"},"spec":{"allow":{
    "db_labels":{"env":"prod"},"db_users":["reader","*"],"db_names":["orders"]}}}"#;

/// A cluster in which `alice` may use every account but `root` of the databases in production.
async fn start() -> Cluster {
    let cluster = Cluster::start().await;
    RoleDocument::from_json(ROLE.as_bytes()).unwrap();
    put(&cluster.admin, ROLE.as_bytes().to_vec()).await.unwrap();
    cluster.add_user("alice", &["access", "dba"]).await;
    cluster
}

async fn put(client: &access_client::AuthClient, json: Vec<u8>) -> Result<Vec<u8>, ClientError> {
    Ok(client.resources().put(proto::WriteRequest { json, force: false }).await?.into_inner().json)
}

fn document(name: &str, host: &Credentials, env: &str) -> DbDocument {
    let host = host.host_id.clone().unwrap();
    let mut db = DbDocument::new(name, DbSpec::new(DbProtocol::Postgres, "10.0.0.5:5432", host));
    db.metadata.labels.insert("env".into(), env.into());
    db
}

/// An agent with a database in production.
async fn agent(cluster: &Cluster, name: &str) -> Credentials {
    agent_with(cluster, name, None).await
}

async fn agent_with(cluster: &Cluster, name: &str, admin: Option<&str>) -> Credentials {
    let token = cluster.token(for_types(&["db"])).await;
    let mut wanted = claims(&["db"], &[]);
    wanted.resources = vec![format!("db/{name}")];
    let keys = KeySet::generate().unwrap();
    let joined = cluster.stranger().join(&token, None, wanted, keys).await.unwrap();
    register(cluster, &joined, name, admin).await.unwrap();
    joined
}

async fn register(
    cluster: &Cluster,
    agent: &Credentials,
    name: &str,
    admin: Option<&str>,
) -> Result<(), ClientError> {
    let mut document = document(name, agent, "prod");
    document.spec.admin_user =
        admin.map(|name| AdminUser::new(access_core::Login::new(name).unwrap()));
    put(&cluster.as_holder(agent), document.to_json().unwrap()).await.map(drop)
}

fn request(user: &Credentials, account: &str) -> proto::DatabaseCertificateRequest {
    proto::DatabaseCertificateRequest {
        database: "orders".into(),
        user_chain: user.tls_chain.iter().map(|cert| cert.to_vec()).collect(),
        db_user: account.into(),
        db_name: "orders".into(),
        public_key: TlsKey::generate().unwrap().spki().to_vec(),
        client_address: "203.0.113.9".into(),
        trace_id: String::new(),
        admin_user: false,
    }
}

async fn ask(
    cluster: &Cluster,
    caller: &Credentials,
    request: proto::DatabaseCertificateRequest,
) -> Result<proto::DatabaseCertificate, tonic::Status> {
    let mut client = cluster.as_holder(caller).identity();
    client.issue_database_certificate(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn an_agent_gets_a_certificate_for_what_its_user_may_do() {
    let cluster = start().await;
    let (agent, alice) = (agent(&cluster, "orders").await, cluster.login("alice").await);
    let wanted = request(&alice, "reader");
    let issued = ask(&cluster, &agent, wanted.clone()).await.unwrap();
    assert_eq!(issued.not_after, cluster.now().as_millis() + 600_000);
    let (_, leaf) = x509_parser::parse_x509_certificate(&issued.tls_chain[0]).unwrap();
    assert_eq!(leaf.subject().to_string(), "CN=reader");
    assert_eq!(leaf.public_key().raw, wanted.public_key);
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    let db = TrustedAuthority::try_from(issued.db_authority.unwrap()).unwrap();
    assert_eq!((db.kind, db.tls.len(), db.ssh.len()), (AuthorityKind::Db, 1, 0));

    // It is nobody in the cluster.
    let chain: Vec<_> = issued.tls_chain.into_iter().map(Into::into).collect();
    let verdict = cluster.auth.trust().load().verify_tls(&chain, cluster.now());
    assert_eq!(verdict.unwrap_err(), VerifyError::Untrusted);

    let events = cluster.events().await;
    let event = events.iter().find(|event| event["cert_type"] == "db_client").unwrap();
    let about = &event["identity"];
    assert_eq!((&about["user"], &about["db_user"]), (&"alice".into(), &"reader".into()));
    let host = agent.host_id.as_ref().unwrap().as_str();
    assert_eq!((&about["db_service"], &about["requester"]), (&"orders".into(), &host.into()));

    // Never longer than the user's own.
    let short = cluster.stranger();
    let ttl = Some(std::time::Duration::from_secs(120));
    let keys = KeySet::generate().unwrap();
    let short = short.login("alice", super::cluster::PASSWORD, keys, ttl).await.unwrap();
    let issued = ask(&cluster, &agent, request(&short, "reader")).await.unwrap();
    assert_eq!(issued.not_after, short.validity.not_after().as_millis());
}

#[tokio::test]
async fn what_the_user_may_not_do_is_denied_again_here() {
    let cluster = start().await;
    let (agent, alice) = (agent(&cluster, "orders").await, cluster.login("alice").await);
    let denied = async |wanted: proto::DatabaseCertificateRequest, why: &str| {
        let refused = ask(&cluster, &agent, wanted).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains(why), "{refused}");
        refused.message().to_owned()
    };
    // A pattern allows no superuser.
    for account in ["root", "node", "ROOT"] {
        denied(request(&alice, account), "").await;
    }
    let other = proto::DatabaseCertificateRequest {
        db_name: "salaries".into(),
        ..request(&alice, "reader")
    };
    denied(other, "").await;

    // Certificates that prove no user: none, as of whoever came by SSH; a host's; a stranger's.
    let none =
        proto::DatabaseCertificateRequest { user_chain: vec![], ..request(&alice, "reader") };
    denied(none, "no certificate").await;
    denied(request(&agent, "reader"), "it is a host's").await;
    let elsewhere = Cluster::start().await;
    elsewhere.add_user("alice", &["access"]).await;
    let foreign = elsewhere.login("alice").await;
    denied(request(&foreign, "reader"), "not signed by an authority of this cluster").await;
    // One for an account proves nobody either.
    let issued = ask(&cluster, &agent, request(&alice, "reader")).await.unwrap();
    let account = proto::DatabaseCertificateRequest {
        user_chain: issued.tls_chain,
        ..request(&alice, "reader")
    };
    denied(account, "not signed by an authority of this cluster").await;

    // A lock, at once.
    let lock = r#"{"kind":"lock","version":"v1","metadata":{"name":"stolen"},
        "spec":{"target":{"user":"alice"}}}"#;
    put(&cluster.admin, lock.into()).await.unwrap();
    denied(request(&alice, "reader"), "").await;
    let unlock =
        proto::DeleteRequest { kind: "lock".into(), name: "stolen".into(), ..Default::default() };
    cluster.admin.resources().delete(unlock).await.unwrap();
    ask(&cluster, &agent, request(&alice, "reader")).await.unwrap();

    // A certificate that is void, or has expired.
    cluster.advance(5);
    let mut logout = cluster.as_holder(&alice).identity();
    logout.logout(proto::LogoutRequest {}).await.unwrap();
    denied(request(&alice, "reader"), "").await;
    cluster.advance(13 * 3600);
    denied(request(&alice, "reader"), "expired").await;
    let denials = cluster.events().await;
    assert!(denials.iter().any(|event| event["code"] == "ACD00W" && event["login"] == "root"));
}

#[tokio::test]
async fn an_agent_gets_nothing_for_a_database_of_another() {
    let cluster = start().await;
    let (owner, alice) = (agent(&cluster, "orders").await, cluster.login("alice").await);
    let other = agent(&cluster, "salaries").await;
    let refused = ask(&cluster, &other, request(&alice, "reader")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let absent = proto::DatabaseCertificateRequest {
        database: "nothing".into(),
        ..request(&alice, "reader")
    };
    let unknown = ask(&cluster, &other, absent).await.unwrap_err();
    assert_eq!(unknown.code(), refused.code());
    assert_eq!(unknown.message().replace("nothing", "orders"), refused.message());
    // Users are no agents, and nodes serve no database.
    let user = ask(&cluster, &alice, request(&alice, "reader")).await.unwrap_err();
    assert_eq!(user.code(), Code::PermissionDenied, "{user}");
    let node = cluster.node("web-1").await;
    let node = ask(&cluster, &node, request(&alice, "reader")).await.unwrap_err();
    assert_eq!(node.code(), Code::PermissionDenied, "{node}");
    // Nor does another agent register it as its own.
    let stolen = document("orders", &other, "dev").to_json().unwrap();
    let refused = put(&cluster.as_holder(&other), stolen).await;
    assert!(matches!(refused, Err(ClientError::Denied(_))), "{refused:?}");
    // The labels that stand here decide.
    let dev = document("orders", &owner, "dev").to_json().unwrap();
    put(&cluster.as_holder(&owner), dev).await.unwrap();
    let refused = ask(&cluster, &owner, request(&alice, "reader")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    // One that its agent does not write any more is decided over no longer.
    let prod = document("orders", &owner, "prod").to_json().unwrap();
    put(&cluster.as_holder(&owner), prod).await.unwrap();
    ask(&cluster, &owner, request(&alice, "reader")).await.unwrap();
    cluster.advance(3601);
    let refused = ask(&cluster, &owner, request(&alice, "reader")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test]
async fn an_agent_asks_no_faster_than_it_may() {
    let cluster =
        Cluster::with(|options| options.limits.db_certificates = access_auth::Rate::new(2, 0.1))
            .await;
    put(&cluster.admin, ROLE.as_bytes().to_vec()).await.unwrap();
    cluster.add_user("alice", &["dba"]).await;
    let (agent, alice) = (agent(&cluster, "orders").await, cluster.login("alice").await);
    for _ in 0..2 {
        ask(&cluster, &agent, request(&alice, "reader")).await.unwrap();
    }
    let refused = ask(&cluster, &agent, request(&alice, "reader")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    cluster.advance(10);
    ask(&cluster, &agent, request(&alice, "reader")).await.unwrap();
}

#[tokio::test]
async fn a_database_s_document_tells_of_its_health() {
    let cluster = start().await;
    let agent = agent(&cluster, "orders").await;
    let mut db = document("orders", &agent, "prod");
    db.spec.health.status = HealthStatus::Unhealthy;
    db.spec.health.message = "connection refused".into();
    db.spec.health.checked_at = Some(cluster.now());
    put(&cluster.as_holder(&agent), db.to_json().unwrap()).await.unwrap();
    let request = proto::GetRequest { kind: "db".into(), name: "orders".into() };
    let found = cluster.admin.resources().get(request).await.unwrap().into_inner();
    let found = Document::<DbSpec>::from_json(&found.json).unwrap();
    assert_eq!(found.spec.health, db.spec.health);
    db.spec.health.message = "\u{1b}[2J".into();
    let refused = put(&cluster.as_holder(&agent), db.to_json().unwrap()).await;
    assert!(message(refused).contains("spec.health.message: it has a control character"));
}

#[tokio::test]
async fn servers_of_databases_are_signed_by_an_authority_of_their_own() {
    let cluster = Cluster::start().await;
    let keys = KeySet::generate().unwrap();
    let sign = async |database: &str, name: &str| {
        let request = proto::SignHostRequest {
            allow_wildcard: false,
            names: vec![name.into()],
            keys: Some(keys.public().unwrap()),
            ttl_seconds: 3600,
            database: database.into(),
        };
        cluster.admin.admin().sign_host(request).await.map(tonic::Response::into_inner)
    };
    for (protocol, name) in [("postgres", "CN=db.internal"), ("cockroachdb", "CN=node")] {
        let signed = sign(protocol, "db.internal").await.unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&signed.tls_chain[0]).unwrap();
        assert_eq!(leaf.subject().to_string(), name);
        let kinds: Vec<&str> = signed.authorities.iter().map(|one| one.kind.as_str()).collect();
        assert_eq!((kinds, signed.ssh_certificate.as_str()), (vec!["db", "db_client"], ""));
    }
    let mistyped = sign("postgre", "db.internal").await.unwrap_err();
    assert!(mistyped.message().contains("did you mean \"postgres\""), "{mistyped}");
    assert_eq!(
        sign("postgres", "auth.example.com").await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn hosts_are_told_of_no_authority_that_earlier_versions_cannot_read() {
    let cluster = start().await;
    let agent = agent(&cluster, "orders").await;
    let kinds: Vec<&str> = agent.authorities.iter().map(|one| one.kind.as_str()).collect();
    assert_eq!(kinds, ["user", "host"]);
    let watched = async |client: access_client::AuthClient| {
        let request = proto::WatchRequest { kinds: vec!["authority".into()], position: vec![] };
        let mut events = client.resources().watch(request).await.unwrap().into_inner();
        let mut names = Vec::new();
        loop {
            match events.message().await.unwrap().unwrap().event.unwrap() {
                proto::watch_event::Event::Put(document) => names.push(document.name),
                proto::watch_event::Event::Ready(_) => return names,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(watched(cluster.as_holder(&agent)).await, ["host", "user"]);
    let all = watched(access_client::AuthClient::over_stream(cluster.auth.local_pipe())).await;
    assert_eq!(all, ["db", "db_client", "host", "user"]);
}

/// The same as the admin user, for an account that is to be made.
fn as_admin(user: &Credentials, account: &str) -> proto::DatabaseCertificateRequest {
    proto::DatabaseCertificateRequest { admin_user: true, ..request(user, account) }
}

const MAKER: &str = r#"{"kind":"role","version":"v1","metadata":{"name":"maker"},"spec":{
    "options":{"create_db_user_mode":"keep"},
    "allow":{"db_labels":{"env":"prod"},"db_names":["orders"],"db_roles":["reader"]}}}"#;

#[tokio::test]
async fn an_agent_gets_an_admin_certificate_only_for_a_user_whose_account_is_made() {
    let cluster = start().await;
    put(&cluster.admin, MAKER.as_bytes().to_vec()).await.unwrap();
    cluster.add_user("bob", &["maker"]).await;
    let agent = agent_with(&cluster, "orders", Some("access-admin")).await;
    let (alice, bob) = (cluster.login("alice").await, cluster.login("bob").await);
    let denied = async |wanted: proto::DatabaseCertificateRequest, why: &str| {
        let refused = ask(&cluster, &agent, wanted).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains(why), "{refused}");
    };
    // None that only an administrator may name.
    for name in ["root", "Node"] {
        let refused = register(&cluster, &agent, "orders", Some(name)).await.unwrap_err();
        assert!(refused.to_string().contains("root and node are none"), "{refused}");
    }
    // An agent that is stolen is worth what it was: it names no other account, and no first one.
    for name in [Some("postgres"), None] {
        let refused = register(&cluster, &agent, "orders", name).await.unwrap_err();
        assert!(refused.to_string().contains("accessctl rm db/orders"), "{refused}");
    }
    register(&cluster, &agent, "orders", Some("access-admin")).await.unwrap();
    let plain = self::agent(&cluster, "plain").await;
    let wanted =
        proto::DatabaseCertificateRequest { database: "plain".into(), ..as_admin(&bob, "bob") };
    let refused = ask(&cluster, &plain, wanted).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let refused = register(&cluster, &plain, "plain", Some("postgres")).await.unwrap_err();
    assert!(refused.to_string().contains("registered with none"), "{refused}");
    let issued = ask(&cluster, &agent, as_admin(&bob, "bob")).await.unwrap();
    assert_eq!(issued.not_after, cluster.now().as_millis() + 600_000);
    let (_, leaf) = x509_parser::parse_x509_certificate(&issued.tls_chain[0]).unwrap();
    assert_eq!(leaf.subject().to_string(), "CN=access-admin");
    let issued = ask(&cluster, &agent, request(&bob, "bob")).await.unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&issued.tls_chain[0]).unwrap();
    assert_eq!(leaf.subject().to_string(), "CN=bob");
    let events = cluster.events().await;
    let made = events.iter().find(|event| event["identity"]["db_user_made"] == "bob").unwrap();
    assert_eq!(made["identity"]["db_user"], "access-admin");

    // Nobody whose roles do not say so; as nobody else, not even as the admin user.
    denied(as_admin(&alice, "reader"), "no role of theirs says so").await;
    for account in ["access-admin", "reader", "root"] {
        denied(as_admin(&bob, account), "connect as bob").await;
        denied(request(&bob, account), "connect as bob").await;
    }
    let none = proto::DatabaseCertificateRequest { user_chain: vec![], ..as_admin(&bob, "bob") };
    denied(none, "no certificate").await;
    let other =
        proto::DatabaseCertificateRequest { db_name: "salaries".into(), ..as_admin(&bob, "bob") };
    denied(other, "").await;
    // Whoever has it is told beforehand.
    let listed = async |who: &Credentials| {
        let request = proto::ListRequest { kind: "db".into(), ..Default::default() };
        let answer = cluster.as_holder(who).resources().list(request).await.unwrap();
        answer.into_inner().documents.remove(0).own_account
    };
    assert_eq!((listed(&alice).await, listed(&bob).await), (String::new(), "bob".to_owned()));
    assert_eq!(listed(&agent).await, "");

    // Another agent does not serve it, whoever is connected to it.
    let stranger = self::agent(&cluster, "salaries").await;
    let refused = ask(&cluster, &stranger, as_admin(&bob, "bob")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    // A lock and a void certificate are the end of it.
    let lock = r#"{"kind":"lock","version":"v1","metadata":{"name":"stolen"},
        "spec":{"target":{"user":"bob"}}}"#;
    put(&cluster.admin, lock.into()).await.unwrap();
    denied(as_admin(&bob, "bob"), "locked").await;
    let unlock =
        proto::DeleteRequest { kind: "lock".into(), name: "stolen".into(), ..Default::default() };
    cluster.admin.resources().delete(unlock).await.unwrap();
    cluster.advance(5);
    cluster.as_holder(&bob).identity().logout(proto::LogoutRequest {}).await.unwrap();
    denied(as_admin(&bob, "bob"), "").await;
}
