//! Databases that administrators register: whose they are, who may serve them, and what of them is
//! told to whom.

use access_client::types::{DbDocument, DbProtocol, DbSpec, HealthStatus};
use access_client::{AuthClient, ClientError, Credentials, KeySet, TlsKey, proto};
use access_core::Timestamp;
use access_core::identity::Subject;
use proto::watch_event::Event;
use tonic::Code;

use super::cluster::{Cluster, PASSWORD, claims, for_types, message, until};

const PROD: &str = r#"{"labels":{"env":["prod"]}}"#;
const ALL: &str = r#"{"labels":{"*":["*"]}}"#;

/// What an agent claims that serves by these labels, and these databases of its own.
fn serving(matchers: &[&str], own: &[&str]) -> proto::HostClaims {
    let mut wanted = claims(&["db"], &[]);
    wanted.databases = matchers.iter().map(|text| (*text).into()).collect();
    wanted.resources = own.iter().map(|name| format!("db/{name}")).collect();
    wanted
}

async fn join(
    cluster: &Cluster,
    token: proto::CreateTokenRequest,
    wanted: proto::HostClaims,
) -> Result<Credentials, ClientError> {
    let token = cluster.token(token).await;
    cluster.stranger().join(&token, None, wanted, KeySet::generate().unwrap()).await
}

async fn agent(cluster: &Cluster, matchers: &[&str]) -> Credentials {
    join(cluster, for_types(&["db"]), serving(matchers, &[])).await.unwrap()
}

async fn renew(
    cluster: &Cluster,
    held: &Credentials,
    wanted: proto::HostClaims,
) -> Result<Credentials, ClientError> {
    cluster.as_holder(held).renew_host(wanted, KeySet::generate().unwrap()).await
}

fn named(credentials: &Credentials, now: Timestamp) -> Vec<String> {
    let trust = credentials.trust_store().unwrap();
    let who = trust.verify_tls(&credentials.tls_chain, now).unwrap();
    match &who.identity().subject {
        Subject::Host { resources, .. } => resources.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?} is no host"),
    }
}

fn document(name: &str, env: &str) -> DbDocument {
    let spec = DbSpec::dynamic(DbProtocol::Postgres, "db.internal:5432");
    let mut document = DbDocument::new(name, spec);
    document.metadata.labels.insert("env".into(), env.into());
    document
}

async fn put(client: &AuthClient, document: &DbDocument) -> Result<DbDocument, ClientError> {
    let json = document.to_json().unwrap();
    let request = proto::WriteRequest { json, force: false };
    let stored = client.resources().put(request).await?.into_inner();
    Ok(DbDocument::from_json(&stored.json).unwrap())
}

async fn read(client: &AuthClient, name: &str) -> Result<DbDocument, tonic::Status> {
    let request = proto::GetRequest { kind: "db".into(), name: name.into() };
    let found = client.resources().get(request).await?.into_inner();
    Ok(DbDocument::from_json(&found.json).unwrap())
}

async fn remove(client: &AuthClient, name: &str) -> Result<(), tonic::Status> {
    let request =
        proto::DeleteRequest { kind: "db".into(), name: name.into(), ..Default::default() };
    client.resources().delete(request).await.map(drop)
}

/// What an agent tells of a database.
fn report(name: &str, of: &Credentials, status: HealthStatus) -> DbDocument {
    let host = of.host_id.clone().unwrap();
    let mut spec = DbSpec::new(DbProtocol::Postgres, "anything:1", host);
    spec.hostname = "db-agent".into();
    spec.health.status = status;
    DbDocument::new(name, spec)
}

async fn certificate(
    cluster: &Cluster,
    agent: &Credentials,
    user: &Credentials,
) -> Result<proto::DatabaseCertificate, tonic::Status> {
    let request = proto::DatabaseCertificateRequest {
        database: "orders".into(),
        user_chain: user.tls_chain.iter().map(|cert| cert.to_vec()).collect(),
        db_user: "reader".into(),
        db_name: "shop".into(),
        public_key: TlsKey::generate().unwrap().spki().to_vec(),
        ..Default::default()
    };
    let mut client = cluster.as_holder(agent).identity();
    client.issue_database_certificate(request).await.map(tonic::Response::into_inner)
}

/// Somebody who may use `reader` on databases in production and on stage.
async fn alice(cluster: &Cluster) -> Credentials {
    let role = br#"{"kind":"role","version":"v1","metadata":{"name":"dba"},"spec":{"allow":{
        "db_labels":{"env":["prod","stage"]},"db_users":["reader"],"db_names":["shop"]}}}"#;
    let request = proto::WriteRequest { json: role.to_vec(), force: false };
    cluster.admin.resources().put(request).await.unwrap();
    cluster.add_user("alice", &["dba"]).await;
    cluster.stranger().login("alice", PASSWORD, KeySet::generate().unwrap(), None).await.unwrap()
}

#[tokio::test]
async fn certificates_name_what_matches_at_the_moment() {
    let cluster = Cluster::start().await;
    put(&cluster.admin, &document("orders", "prod")).await.unwrap();
    put(&cluster.admin, &document("sandbox", "dev")).await.unwrap();
    let wanted = serving(&[PROD], &["own"]);
    let one = join(&cluster, for_types(&["db"]), wanted.clone()).await.unwrap();
    assert_eq!(named(&one, cluster.now()), ["db/own", "db/orders"]);
    // Another one serves the same, and what it joined for.
    let all = agent(&cluster, &[ALL]).await;
    assert_eq!(named(&all, cluster.now()), ["db/orders", "db/sandbox"]);

    put(&cluster.admin, &document("sandbox", "prod")).await.unwrap();
    remove(&cluster.admin, "orders").await.unwrap();
    let one = renew(&cluster, &one, wanted.clone()).await.unwrap();
    assert_eq!(named(&one, cluster.now()), ["db/own", "db/sandbox"]);
    // Fewer labels than it joined with, and not more.
    let one = renew(&cluster, &one, serving(&[], &["own"])).await.unwrap();
    assert_eq!(named(&one, cluster.now()), ["db/own"]);
    let refused = message(renew(&cluster, &one, serving(&[PROD, ALL], &["own"])).await);
    assert!(refused.contains(r#"by {"labels":{"*":["*"]}}: join again with a token"#), "{refused}");
    renew(&cluster, &one, wanted).await.unwrap();

    // The service, and the names that a token is bound to, bound it.
    let mut node = claims(&["node"], &["web-1"]);
    node.databases = vec![ALL.into()];
    let refused = message(join(&cluster, for_types(&["node"]), node).await);
    assert!(refused.contains("only by a host with the service db"), "{refused}");
    let refused = message(join(&cluster, for_types(&["db"]), serving(&["{}"], &[])).await);
    assert!(refused.contains("databases: ") && refused.contains("labels"), "{refused}");
    put(&cluster.admin, &document("orders", "prod")).await.unwrap();
    let bound = proto::CreateTokenRequest { names: vec!["db/orders".into()], ..for_types(&["db"]) };
    let bound = join(&cluster, bound, serving(&[ALL], &[])).await.unwrap();
    assert_eq!(named(&bound, cluster.now()), ["db/orders"]);
}

#[tokio::test]
async fn a_name_is_the_administrators_or_a_host_s() {
    let cluster = Cluster::start().await;
    let owner = join(&cluster, for_types(&["db"]), serving(&[], &["own"])).await.unwrap();
    // Whether or not the host tells of it at the moment.
    let refused = message(put(&cluster.admin, &document("own", "prod")).await);
    assert!(refused.contains("db/own belongs to host") && refused.contains("accessctl rm db/own"));
    put(&cluster.as_holder(&owner), &report("own", &owner, HealthStatus::Healthy)).await.unwrap();
    assert!(put(&cluster.admin, &document("own", "prod")).await.is_err());

    put(&cluster.admin, &document("orders", "prod")).await.unwrap();
    let taken = join(&cluster, for_types(&["db"]), serving(&[], &["orders"])).await;
    let taken = message(taken);
    assert!(taken.contains("db/orders was registered by an administrator"), "{taken}");
    let refused = renew(&cluster, &owner, serving(&[], &["own", "orders"])).await;
    assert!(message(refused).contains("was registered by an administrator"));
    let with_host = report("orders", &owner, HealthStatus::Healthy);
    let refused = message(put(&cluster.admin, &with_host).await);
    assert!(refused.contains("spec.host: db/orders was registered"), "{refused}");
    for name in ["auth", "proxy", "x.example.com", "6f1a2b3c-0000-4000-8000-0123456789ab"] {
        let refused = message(put(&cluster.admin, &document(name, "prod")).await);
        assert!(refused.contains("metadata.name"), "{name}: {refused}");
    }
    // Hosts register none.
    let refused = put(&cluster.as_holder(&owner), &document("new", "prod")).await;
    assert!(matches!(refused, Err(ClientError::Denied(_))), "{refused:?}");

    // Removed, or expired, it is free.
    remove(&cluster.admin, "orders").await.unwrap();
    assert_eq!(remove(&cluster.admin, "orders").await.unwrap_err().code(), Code::NotFound);
    let mut brief = document("brief", "prod");
    brief.metadata.expires = Some(cluster.now().plus(std::time::Duration::from_secs(60)));
    put(&cluster.admin, &brief).await.unwrap();
    cluster.advance(61);
    join(&cluster, for_types(&["db"]), serving(&[], &["orders", "brief"])).await.unwrap();
    // And what a host had, once it is released.
    remove(&cluster.admin, "own").await.unwrap();
    put(&cluster.admin, &document("own", "prod")).await.unwrap();
}

#[tokio::test]
async fn an_agent_gets_certificates_for_accounts_while_it_may_serve() {
    let cluster = Cluster::start().await;
    let alice = alice(&cluster).await;
    put(&cluster.admin, &document("orders", "prod")).await.unwrap();
    let (one, two) = (agent(&cluster, &[PROD]).await, agent(&cluster, &[ALL]).await);
    // Labels that do not match, and no labels at all; a node.
    let other = agent(&cluster, &[r#"{"labels":{"env":["dev"]}}"#]).await;
    let none = agent(&cluster, &[]).await;
    certificate(&cluster, &one, &alice).await.unwrap();
    certificate(&cluster, &two, &alice).await.unwrap();
    for outsider in [&other, &none, &cluster.node("web-1").await, &alice] {
        let refused = certificate(&cluster, outsider, &alice).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    // The labels of the document decide over the user, and over the agent, at once.
    put(&cluster.admin, &document("orders", "stage")).await.unwrap();
    certificate(&cluster, &two, &alice).await.unwrap();
    let refused = certificate(&cluster, &one, &alice).await.unwrap_err();
    assert!(refused.message().contains("does not serve db/orders"), "{refused}");
    put(&cluster.admin, &document("orders", "dev")).await.unwrap();
    assert!(certificate(&cluster, &two, &alice).await.is_err());
    // A certificate that does not name it is good for nothing, whatever matches by now.
    let refused = certificate(&cluster, &other, &alice).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");

    // Removed, and then somebody else's.
    remove(&cluster.admin, "orders").await.unwrap();
    assert!(certificate(&cluster, &two, &alice).await.is_err());
    let owner = join(&cluster, for_types(&["db"]), serving(&[], &["orders"])).await.unwrap();
    let mut own = report("orders", &owner, HealthStatus::Healthy);
    own.metadata.labels.insert("env".into(), "prod".into());
    put(&cluster.as_holder(&owner), &own).await.unwrap();
    certificate(&cluster, &owner, &alice).await.unwrap();
    for before in [&one, &two] {
        assert!(certificate(&cluster, before, &alice).await.is_err());
        let stolen = report("orders", before, HealthStatus::Healthy);
        assert!(put(&cluster.as_holder(before), &stolen).await.is_err());
    }
}

#[tokio::test]
async fn what_agents_tell_stands_beside_what_administrators_say() {
    let cluster = Cluster::start().await;
    let mut orders = document("orders", "prod");
    orders.spec.description = "Orders".into();
    // What Auth fills in is not taken from who writes.
    orders.spec.hostname = "liar".into();
    let stored = put(&cluster.admin, &orders).await.unwrap();
    assert_eq!((stored.spec.hostname.as_str(), stored.spec.servers.len()), ("", 0));
    let (one, two) = (agent(&cluster, &[PROD]).await, agent(&cluster, &[PROD]).await);
    let other = agent(&cluster, &[r#"{"labels":{"env":["dev"]}}"#]).await;
    let tell = async |who: &Credentials, about: &Credentials, status| {
        put(&cluster.as_holder(who), &report("orders", about, status)).await
    };
    let answer = tell(&one, &one, HealthStatus::Healthy).await.unwrap();
    assert_eq!(answer.metadata.labels["env"], "prod", "the labels that count");
    tell(&two, &two, HealthStatus::Unhealthy).await.unwrap();
    assert!(tell(&one, &two, HealthStatus::Healthy).await.is_err(), "about another");
    let refused = tell(&other, &other, HealthStatus::Healthy).await;
    assert!(matches!(refused, Err(ClientError::Denied(_))), "{refused:?}");

    let found = read(&cluster.admin, "orders").await.unwrap();
    assert_eq!(found.metadata.revision, stored.metadata.revision, "it has not changed");
    assert_eq!(
        (found.spec.uri.as_str(), found.spec.description.as_str()),
        ("db.internal:5432", "Orders")
    );
    let mut states: Vec<_> = found.spec.servers.iter().map(|one| one.health.status).collect();
    states.sort_by_key(|status| status.as_str());
    assert_eq!(states, [HealthStatus::Healthy, HealthStatus::Unhealthy]);
    let request = proto::ListRequest { kind: "db".into(), ..Default::default() };
    let listed = cluster.admin.resources().list(request).await.unwrap().into_inner();
    let listed = DbDocument::from_json(&listed.documents[0].json).unwrap();
    assert_eq!(listed, found);

    // One that stops takes back what it told, and nothing else.
    remove(&cluster.as_holder(&two), "orders").await.unwrap();
    assert_eq!(read(&cluster.admin, "orders").await.unwrap().spec.servers.len(), 1);
    // What was read can be written, with its revision; agents tell anew.
    let json = read(&cluster.admin, "orders").await.unwrap().to_json().unwrap();
    let update = proto::WriteRequest { json, force: false };
    cluster.admin.resources().update(update).await.unwrap();
    assert!(read(&cluster.admin, "orders").await.unwrap().spec.servers.is_empty());
    tell(&one, &one, HealthStatus::Healthy).await.unwrap();
    // One that is silent is forgotten.
    cluster.advance(601);
    assert!(read(&cluster.admin, "orders").await.unwrap().spec.servers.is_empty());
    // Nothing is left of one that was removed.
    tell(&one, &one, HealthStatus::Healthy).await.unwrap();
    remove(&cluster.admin, "orders").await.unwrap();
    assert!(tell(&one, &one, HealthStatus::Healthy).await.is_err());
    put(&cluster.admin, &document("orders", "prod")).await.unwrap();
    assert!(read(&cluster.admin, "orders").await.unwrap().spec.servers.is_empty());
    // Only what administrators do is a change.
    let events = cluster.events().await;
    let count = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((count("resource.create"), count("resource.delete")), (2, 1));
}

#[tokio::test]
async fn an_agent_watches_what_it_may_serve_and_nothing_else() {
    let cluster = Cluster::start().await;
    for (name, env) in [("orders", "prod"), ("sandbox", "dev")] {
        put(&cluster.admin, &document(name, env)).await.unwrap();
    }
    let owner = join(&cluster, for_types(&["db"]), serving(&[], &["own"])).await.unwrap();
    let mut own = report("own", &owner, HealthStatus::Healthy);
    own.metadata.labels.insert("env".into(), "prod".into());
    put(&cluster.as_holder(&owner), &own).await.unwrap();

    let one = agent(&cluster, &[PROD]).await;
    let client = cluster.as_holder(&one);
    let request = proto::WatchRequest { kinds: vec!["db".into()], position: Vec::new() };
    let mut watch = client.resources().watch(request.clone()).await.unwrap().into_inner();
    let mut next = async || loop {
        match watch.message().await.unwrap().unwrap().event.unwrap() {
            Event::Put(document) => break format!("put {}", document.name),
            Event::Deleted(document) => break format!("deleted {}", document.name),
            Event::Ready(_) => {}
            Event::Reset(_) => panic!("nothing was missed"),
        }
    };
    assert_eq!(next().await, "put orders");
    // What is another's comes and goes unseen.
    remove(&cluster.admin, "sandbox").await.unwrap();
    put(&cluster.admin, &document("sandbox", "prod")).await.unwrap();
    assert_eq!(next().await, "put sandbox");
    put(&cluster.admin, &document("orders", "dev")).await.unwrap();
    assert_eq!(next().await, "deleted orders");
    remove(&cluster.admin, "orders").await.unwrap();
    remove(&cluster.admin, "sandbox").await.unwrap();
    assert_eq!(next().await, "deleted sandbox");

    put(&cluster.admin, &document("orders", "prod")).await.unwrap();
    read(&client, "orders").await.unwrap();
    put(&cluster.admin, &document("sandbox", "dev")).await.unwrap();
    let hidden = read(&client, "sandbox").await.unwrap_err();
    let absent = read(&client, "nothing").await.unwrap_err();
    assert_eq!(hidden.code(), absent.code());
    assert_eq!(hidden.message().replace("sandbox", "nothing"), absent.message());
    // Nodes watch none, and administrators all.
    let node = cluster.as_holder(&cluster.node("web-1").await);
    let refused = node.resources().watch(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let mut all = cluster.admin.resources().watch(request).await.unwrap().into_inner();
    let mut names = Vec::new();
    while let Event::Put(document) = all.message().await.unwrap().unwrap().event.unwrap() {
        names.push(document.name);
    }
    assert_eq!(names, ["orders", "own", "sandbox"]);
}

#[tokio::test]
async fn users_see_those_that_their_roles_reach_and_old_agents_hold_up_new_roles() {
    const NEWEST: u32 = 99;
    const FIELDS: &[access_core::role::RoleField] =
        &[access_core::role::RoleField { path: "allow.db_labels", since: NEWEST }];
    let cluster = Cluster::with(|options| options.role_fields = FIELDS).await;
    put(&cluster.admin, &document("orders", "prod")).await.unwrap();
    put(&cluster.admin, &document("sandbox", "dev")).await.unwrap();
    // Nobody serves them: nobody is too old.
    let holder = alice(&cluster).await;
    let request = proto::ListRequest { kind: "db".into(), ..Default::default() };
    let seen = cluster.as_holder(&holder).resources().list(request).await.unwrap().into_inner();
    let seen: Vec<_> = seen.documents.into_iter().map(|document| document.name).collect();
    assert_eq!(seen, ["orders"]);
    assert!(remove(&cluster.as_holder(&holder), "orders").await.is_err());
    let mallory = document("mallory", "prod");
    let refused = put(&cluster.as_holder(&holder), &mallory).await;
    assert!(matches!(refused, Err(ClientError::Denied(_))), "{refused:?}");

    let one = agent(&cluster, &[PROD]).await;
    let old = report("orders", &one, HealthStatus::Healthy);
    put(&cluster.as_holder(&one), &old).await.unwrap();
    let role = br#"{"kind":"role","version":"v1","metadata":{"name":"new"},"spec":{"allow":{
        "db_labels":{"env":"prod"}}}}"#;
    let write = proto::WriteRequest { json: role.to_vec(), force: false };
    let refused = cluster.admin.resources().put(write.clone()).await.unwrap_err();
    assert!(refused.message().contains("db/orders would not know this field"), "{refused}");
    until(async || remove(&cluster.as_holder(&one), "orders").await.is_ok()).await;
    cluster.admin.resources().put(write).await.unwrap();
}
