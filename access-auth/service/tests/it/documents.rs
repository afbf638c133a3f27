use access_client::types::{DbDocument, DbProtocol, DbSpec, NodeDocument, NodeSpec, RoleDocument};
use access_client::{AuthClient, Credentials, KeySet, proto};
use tonic::{Code, Status};

use super::cluster::{Cluster, claims, for_types};

fn role(name: &str, env: &str) -> RoleDocument {
    let json = format!(
        r#"{{"kind":"role","version":"v1","metadata":{{"name":"{name}"}},
            "spec":{{"allow":{{"logins":["deploy"],"node_labels":{{"env":"{env}"}}}}}}}}"#
    );
    RoleDocument::from_json(json.as_bytes()).unwrap()
}

fn write(document: &RoleDocument) -> proto::WriteRequest {
    proto::WriteRequest { json: document.to_json().unwrap(), force: false }
}

async fn get(client: &AuthClient, kind: &str, name: &str) -> Result<proto::Document, Status> {
    let request = proto::GetRequest { kind: kind.into(), name: name.into() };
    Ok(client.resources().get(request).await?.into_inner())
}

async fn list(client: &AuthClient, kind: &str) -> Result<Vec<String>, Status> {
    let request = proto::ListRequest { kind: kind.into(), ..Default::default() };
    let documents = client.resources().list(request).await?.into_inner().documents;
    Ok(documents.into_iter().map(|document| document.name).collect())
}

async fn delete(client: &AuthClient, kind: &str, name: &str) -> Result<(), Status> {
    let request =
        proto::DeleteRequest { kind: kind.into(), name: name.into(), revision: String::new() };
    client.resources().delete(request).await.map(drop)
}

fn node(name: &str, credentials: &Credentials, env: &str) -> proto::WriteRequest {
    let spec = NodeSpec::new(credentials.host_id.clone().unwrap());
    let mut document = NodeDocument::new(name, spec);
    document.metadata.labels.insert("env".into(), env.into());
    proto::WriteRequest { json: document.to_json().unwrap(), force: false }
}

#[tokio::test]
async fn documents_are_written_on_their_revision() {
    let cluster = Cluster::start().await;
    let resources = cluster.admin.resources();
    let created = resources.clone().create(write(&role("dev", "dev"))).await.unwrap().into_inner();
    let twice = resources.clone().create(write(&role("dev", "dev"))).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);

    let mut document = RoleDocument::from_json(&created.json).unwrap();
    assert_eq!(document.metadata.revision.as_deref(), Some(created.revision.as_str()));
    document.metadata.description = Some("for development".into());
    let updated = resources.clone().update(write(&document)).await.unwrap().into_inner();
    assert_ne!(updated.revision, created.revision);
    let stale = resources.clone().update(write(&document)).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "{stale}");
    document.metadata.revision = None;
    let blind = resources.clone().update(write(&document)).await.unwrap_err();
    assert_eq!(blind.code(), Code::InvalidArgument, "{blind}");
    resources.clone().put(write(&document)).await.unwrap();

    let stored = get(&cluster.admin, "role", "dev").await.unwrap();
    assert_eq!(
        RoleDocument::from_json(&stored.json).unwrap().metadata.description.as_deref(),
        Some("for development")
    );
    let unseen = resources.clone().update(write(&role("new", "dev"))).await.unwrap_err();
    assert_eq!(unseen.code(), Code::NotFound);
    delete(&cluster.admin, "role", "dev").await.unwrap();
    assert_eq!(get(&cluster.admin, "role", "dev").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(delete(&cluster.admin, "role", "dev").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn mistakes_are_named() {
    let cluster = Cluster::start().await;
    let put = async |json: &str| {
        let request = proto::WriteRequest { json: json.into(), force: false };
        cluster.admin.resources().put(request).await.unwrap_err().message().to_owned()
    };
    for (json, part) in [
        ("{", "not JSON"),
        (r#"{"kind":"rol","metadata":{"name":"x"}}"#, "did you mean \"role\""),
        (r#"{"kind":"role","metadata":{}}"#, "metadata.name: it is missing"),
        (r#"{"kind":"role","metadata":{"name":"a/b"}}"#, "cannot be a name"),
        (
            r#"{"kind":"role","version":"v1","metadata":{"name":"x"},"spec":{"alow":{}}}"#,
            "did you mean \"allow\"",
        ),
        (
            r#"{"kind":"role","version":"v1","metadata":{"name":"x","expires":"2020-01-01T00:00:00Z"},"spec":{}}"#,
            "that moment has passed",
        ),
        (
            r#"{"kind":"token","version":"v1","metadata":{"name":"x"},"spec":{}}"#,
            "accessctl tokens add",
        ),
        (
            r#"{"kind":"lock","version":"v1","metadata":{"name":"x"},"spec":{"target":{"user":"bob"}}}"#,
            "there is no user bob",
        ),
        (
            r#"{"kind":"lock","version":"v1","metadata":{"name":"x"},"spec":{"target":{"role":"edtor"}}}"#,
            "did you mean \"editor\"",
        ),
    ] {
        let message = put(json).await;
        assert!(message.contains(part), "{json}: {message}");
    }
}

#[tokio::test]
async fn a_role_that_is_held_is_not_deleted() {
    let cluster = Cluster::start().await;
    cluster.invite("alice", &["auditor"]).await;
    let refused = delete(&cluster.admin, "role", "auditor").await.unwrap_err();
    assert!(refused.message().contains("is held by user alice"), "{refused}");
    delete(&cluster.admin, "user", "alice").await.unwrap();
    delete(&cluster.admin, "role", "auditor").await.unwrap();
}

#[tokio::test]
async fn lists_come_in_pages() {
    let cluster = Cluster::start().await;
    for n in 0..25 {
        cluster.admin.resources().create(write(&role(&format!("r{n:02}"), "x"))).await.unwrap();
    }
    let mut token = String::new();
    let mut sizes = Vec::new();
    let mut names = Vec::new();
    loop {
        let request = proto::ListRequest {
            kind: "role".into(),
            page_size: 12,
            page_token: token,
            ..Default::default()
        };
        let page = cluster.admin.resources().list(request).await.unwrap().into_inner();
        sizes.push(page.documents.len());
        names.extend(page.documents.into_iter().map(|document| document.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [12, 12, 6]);
    names.dedup();
    assert_eq!(names.len(), 30);
}

#[tokio::test]
async fn users_see_the_nodes_that_their_roles_reach() {
    let cluster = Cluster::start().await;
    for (role_name, env) in [("dev", "dev"), ("ops", "prod")] {
        cluster.admin.resources().create(write(&role(role_name, env))).await.unwrap();
    }
    for (name, env) in [("web-dev", "dev"), ("web-prod", "prod")] {
        let credentials = cluster.node(name).await;
        let host = cluster.as_holder(&credentials);
        host.resources().put(node(name, &credentials, env)).await.unwrap();
    }
    let dev = cluster.user("dana", &["dev"]).await;
    assert_eq!(list(&dev, "node").await.unwrap(), ["web-dev"]);
    assert_eq!(list(&cluster.admin, "node").await.unwrap(), ["web-dev", "web-prod"]);
    get(&dev, "node", "web-dev").await.unwrap();
    // Hidden and absent look alike.
    let hidden = get(&dev, "node", "web-prod").await.unwrap_err();
    let absent = get(&dev, "node", "web-none").await.unwrap_err();
    assert_eq!((hidden.code(), hidden.message()), (absent.code(), absent.message()));
    assert_eq!(list(&dev, "role").await.unwrap_err().code(), Code::PermissionDenied);
    // A lock bites at once.
    let lock = br#"{"kind":"lock","version":"v1","metadata":{"name":"l1"},
        "spec":{"target":{"user":"dana"},"message":"stolen laptop"}}"#;
    cluster
        .admin
        .resources()
        .create(proto::WriteRequest { json: lock.to_vec(), force: false })
        .await
        .unwrap();
    assert!(list(&dev, "node").await.is_err());
    let locked = dev.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap_err();
    assert!(locked.message().contains("locked out"), "{locked}");
    delete(&cluster.admin, "lock", "l1").await.unwrap();
    assert_eq!(list(&dev, "node").await.unwrap(), ["web-dev"]);
}

#[tokio::test]
async fn hosts_write_what_is_theirs() {
    let cluster = Cluster::start().await;
    let token = cluster
        .token(proto::CreateTokenRequest {
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            ..for_types(&["node"])
        })
        .await;
    let one = cluster
        .stranger()
        .join(&token, None, claims(&["node"], &["web-1"]), KeySet::generate().unwrap())
        .await
        .unwrap();
    let other = cluster.node("web-2").await;
    let host = cluster.as_holder(&one);
    let written = host.resources().put(node("web-1", &one, "dev")).await.unwrap().into_inner();
    let document = NodeDocument::from_json(&written.json).unwrap();
    // What the token says of labels counts more.
    assert_eq!(document.metadata.labels["env"], "prod");
    assert!(document.metadata.expires.is_some());

    for (name, of) in [("web-2", &one), ("web-2", &other), ("web-3", &one)] {
        let refused = host.resources().put(node(name, of, "dev")).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{name}");
    }
    let refused = host.resources().put(node("web-1", &other, "dev")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(list(&host, "node").await.unwrap(), ["web-1"], "a node sees itself");
    // Heartbeats stop: the node is gone, its name is not free.
    cluster.advance(700);
    assert!(list(&cluster.admin, "node").await.unwrap().is_empty());
    let taken = cluster
        .stranger()
        .join(&token, None, claims(&["node"], &["web-1"]), KeySet::generate().unwrap())
        .await;
    assert!(taken.is_err());
    delete(&host, "node", "web-1").await.unwrap_err();
    delete(&cluster.admin, "node", "web-1").await.unwrap();
    cluster
        .stranger()
        .join(&token, None, claims(&["node"], &["web-1"]), KeySet::generate().unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn every_kind_of_resource_is_a_document_and_keeps_its_name() {
    let cluster = Cluster::start().await;
    for (kind, service) in [
        ("node", "node"),
        ("db", "db"),
        ("app", "app"),
        ("kube", "kube"),
        ("desktop", "windowsdesktop"),
    ] {
        let token = cluster.token(for_types(&[service])).await;
        let join = async || {
            let mut wanted = claims(&[service], &[]);
            wanted.resources = vec![format!("{kind}/one")];
            cluster.stranger().join(&token, None, wanted, KeySet::generate().unwrap()).await
        };
        let credentials = join().await.unwrap();
        let host = cluster.as_holder(&credentials);
        let put = async |name: &str, more: &str| {
            let id = credentials.host_id.clone().unwrap();
            let json = format!(
                r#"{{"kind":"{kind}","version":"v1","metadata":{{"name":"{name}",
                    "labels":{{"env":"dev"}}}},"spec":{{"host":"{id}"{more}}}}}"#
            );
            host.resources().put(proto::WriteRequest { json: json.into(), force: false }).await
        };
        let more = if kind == "db" { r#","protocol":"postgres","uri":"db:5432""# } else { "" };
        put("one", more).await.unwrap();
        assert_eq!(put("two", "").await.unwrap_err().code(), Code::PermissionDenied, "{kind}");
        assert_eq!(list(&host, kind).await.unwrap(), ["one"], "{kind}");
        assert_eq!(list(&cluster.admin, kind).await.unwrap(), ["one"], "{kind}");
        let stored = get(&cluster.admin, kind, "one").await.unwrap();
        let text = String::from_utf8(stored.json).unwrap();
        assert!(text.contains(r#""env":"dev""#) && text.contains("expires"), "{text}");

        // The host goes, its name stays with it until an administrator releases it.
        delete(&host, kind, "one").await.unwrap();
        assert!(list(&cluster.admin, kind).await.unwrap().is_empty(), "{kind}");
        let taken = join().await.err().unwrap().to_string();
        assert!(taken.contains(&format!("accessctl rm {kind}/one")), "{taken}");
        delete(&cluster.admin, kind, "one").await.unwrap();
        assert_eq!(delete(&cluster.admin, kind, "one").await.unwrap_err().code(), Code::NotFound);
        join().await.unwrap();
    }
}

#[tokio::test]
async fn users_see_the_databases_that_their_roles_reach() {
    let cluster = Cluster::start().await;
    let role = r#"{"kind":"role","version":"v1","metadata":{"name":"dba"},
        "spec":{"allow":{"db_users":["app"],"db_names":["*"],"db_labels":{"env":"dev"}}}}"#;
    let write = proto::WriteRequest { json: role.into(), force: false };
    cluster.admin.resources().create(write).await.unwrap();
    let token = cluster.token(for_types(&["db"])).await;
    let mut wanted = claims(&["db"], &[]);
    wanted.resources = vec!["db/dev".into(), "db/prod".into()];
    let keys = KeySet::generate().unwrap();
    let credentials = cluster.stranger().join(&token, None, wanted, keys).await.unwrap();
    let host = cluster.as_holder(&credentials);
    for env in ["dev", "prod"] {
        let host_id = credentials.host_id.clone().unwrap();
        let spec = DbSpec::new(DbProtocol::Postgres, "db.internal:5432", host_id);
        let mut document = DbDocument::new(env, spec);
        document.metadata.labels.insert("env".into(), env.into());
        let json = document.to_json().unwrap();
        host.resources().put(proto::WriteRequest { json, force: false }).await.unwrap();
    }
    let dana = cluster.user("dana", &["dba"]).await;
    assert_eq!(list(&dana, "db").await.unwrap(), ["dev"]);
    get(&dana, "db", "dev").await.unwrap();
    let hidden = get(&dana, "db", "prod").await.unwrap_err();
    let absent = get(&dana, "db", "none").await.unwrap_err();
    assert_eq!((hidden.code(), hidden.message()), (absent.code(), absent.message()));
    delete(&dana, "db", "dev").await.unwrap_err();
}

#[tokio::test]
async fn the_clusters_name_stays() {
    let cluster = Cluster::start().await;
    let config = get(&cluster.admin, "cluster_config", "cluster").await.unwrap();
    let text = String::from_utf8(config.json).unwrap();
    let put = async |text: String| {
        let request = proto::WriteRequest { json: text.into_bytes(), force: false };
        cluster.admin.resources().put(request).await
    };
    let refused = put(text.replace("example.com", "example.org")).await.unwrap_err();
    assert!(refused.message().contains("cannot change"), "{refused}");
    put(text.replace("\"max_session_ttl\":\"30h\"", "\"max_session_ttl\":\"1h\"")).await.unwrap();
    cluster.add_user("alice", &["access"]).await;
    let login = cluster.login("alice").await;
    assert_eq!(login.validity.not_after().since(cluster.now()).as_secs(), 3600);
    assert!(delete(&cluster.admin, "cluster_config", "cluster").await.is_err());
    assert!(delete(&cluster.admin, "authority", "user").await.is_err());
}

#[tokio::test]
async fn a_role_that_changes_counts_for_certificates_that_are_out() {
    let cluster = Cluster::start().await;
    cluster.admin.resources().create(write(&role("dev", "dev"))).await.unwrap();
    let credentials = cluster.node("web-1").await;
    let host = cluster.as_holder(&credentials);
    host.resources().put(node("web-1", &credentials, "dev")).await.unwrap();
    let dev = cluster.user("dana", &["dev"]).await;
    assert_eq!(list(&dev, "node").await.unwrap(), ["web-1"]);
    cluster.admin.resources().put(write(&role("dev", "other"))).await.unwrap();
    assert!(list(&dev, "node").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lock_that_cannot_be_read_is_on_everybody() {
    use access_backend::{Backend, Batch, Key, NewItem, Operation, Value};

    let cluster = Cluster::start().await;
    let alice = cluster.user("alice", &["access"]).await;
    let node = cluster.as_holder(&cluster.node("web-1").await);
    let served = async |client: &access_client::AuthClient| {
        client.identity().who_am_i(proto::WhoAmIRequest {}).await
    };
    let key = Key::from_segments(["locks", "newer"]).unwrap();
    let value = Value::new(&br#"{"kind":"lock","version":"v9"}"#[..]).unwrap();
    let write = Batch::new().then(Operation::Put(NewItem::new(key, value)));
    cluster.store.batch(write).await.unwrap();
    super::cluster::until(async || served(&alice).await.is_err()).await;
    assert_eq!(served(&alice).await.unwrap_err().code(), Code::Unavailable);
    assert!(served(&node).await.is_err());
    let keys = access_client::KeySet::generate().unwrap();
    let stranger = cluster.stranger();
    assert!(stranger.login("alice", super::cluster::PASSWORD, keys, None).await.is_err());
    stranger.ping(cluster.now()).await.unwrap();
    let why = cluster.auth.health().await.unwrap_err().to_string();
    assert!(why.contains("accessctl rm lock/newer"), "{why}");

    // Its administrator can still remove it.
    let request =
        proto::DeleteRequest { kind: "lock".into(), name: "newer".into(), revision: String::new() };
    cluster.admin.resources().delete(request).await.unwrap();
    served(&alice).await.unwrap();
    cluster.auth.health().await.unwrap();
}
