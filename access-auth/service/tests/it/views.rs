//! What hosts get to see of others, and what they may not read at all.

use std::time::Duration;

use access_client::types::{
    NodeDocument, NodeSpec, RoleDocument, ServerDocument, ServerSpec, UserDocument, UserSpec,
};
use access_client::{AuthClient, KeySet, proto};
use access_core::RoleName;
use access_core::identity::{Service, Traits};
use proto::watch_event::Event;
use tonic::{Code, Streaming};

use super::cluster::{Cluster, claims, for_types};

async fn list(client: &AuthClient, kind: &str) -> Result<Vec<proto::Document>, tonic::Status> {
    let request = proto::ListRequest { kind: kind.into(), ..Default::default() };
    Ok(client.resources().list(request).await?.into_inner().documents)
}

async fn make_alice(cluster: &Cluster) {
    let mut user =
        UserDocument::new("alice", UserSpec::with_roles([RoleName::new("access").unwrap()]));
    user.metadata.description = Some("alice@example.com, on leave".into());
    user.metadata.labels.insert("manager".into(), "bob".into());
    for (name, value) in [("logins", "deploy"), ("email", "alice@example.com"), ("team", "blue")] {
        user.spec.traits.entry(name.into()).or_default().insert(value.into());
    }
    let json = user.to_json().unwrap();
    cluster.admin.resources().create(proto::WriteRequest { json, force: false }).await.unwrap();
}

fn traits(json: &[u8]) -> Traits {
    UserDocument::from_json(json).unwrap().spec.traits
}

async fn next(stream: &mut Streaming<proto::WatchEvent>) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
    event.expect("an event in time").unwrap().and_then(|event| event.event).expect("an event")
}

/// The traits of alice in a snapshot, and whether the role was there.
async fn snapshot(stream: &mut Streaming<proto::WatchEvent>, role: &str) -> (Traits, bool) {
    let (mut found, mut seen) = (Traits::new(), false);
    loop {
        match next(stream).await {
            Event::Put(document) if document.kind == "user" => found = traits(&document.json),
            Event::Put(document) => seen |= document.name == role,
            Event::Ready(_) => return (found, seen),
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn hosts_see_of_users_what_decisions_look_at() {
    let cluster = Cluster::start().await;
    make_alice(&cluster).await;
    let whole = list(&cluster.admin, "user").await.unwrap().remove(0);
    assert!(String::from_utf8_lossy(&whole.json).contains("alice@example.com"));

    let host = cluster.as_holder(&cluster.node("web-1").await);
    let request = proto::GetRequest { kind: "user".into(), name: "alice".into() };
    let got = host.resources().get(request).await.unwrap().into_inner();
    let listed = list(&host, "user").await.unwrap().remove(0);
    for shown in [got, listed] {
        let text = String::from_utf8_lossy(&shown.json).into_owned();
        for hidden in ["example.com", "blue", "bob", "created"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
        let shown = UserDocument::from_json(&shown.json).unwrap();
        let whole = UserDocument::from_json(&whole.json).unwrap();
        assert_eq!(shown.spec.roles, whole.spec.roles);
        assert_eq!(shown.spec.valid_after, whole.spec.valid_after);
        assert_eq!(shown.metadata.revision, whole.metadata.revision);
        assert_eq!(shown.spec.traits.keys().collect::<Vec<_>>(), ["logins"]);
    }
}

#[tokio::test]
async fn a_role_that_draws_on_more_is_never_there_before_the_traits() {
    let cluster = Cluster::start().await;
    make_alice(&cluster).await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    let kinds = vec!["role".into(), "user".into()];
    let request = proto::WatchRequest { kinds, position: Vec::new() };
    let mut stream = host.resources().watch(request).await.unwrap().into_inner();
    let (shown, _) = snapshot(&mut stream, "blue").await;
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["logins"]);

    let role = r#"{"kind":"role","version":"v1","metadata":{"name":"blue"},
        "spec":{"deny":{"node_labels":{"team":"{{external.team}}"}}}}"#;
    let write = proto::WriteRequest { json: role.into(), force: false };
    cluster.admin.resources().create(write).await.unwrap();
    loop {
        match next(&mut stream).await {
            Event::Ready(_) => {}
            Event::Reset(_) => break,
            other => panic!("the role came first: {other:?}"),
        }
    }
    let (shown, seen) = snapshot(&mut stream, "blue").await;
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["logins", "team"]);
    assert!(seen);
}

#[tokio::test]
async fn hosts_read_nothing_that_they_do_not_need() {
    let cluster = Cluster::start().await;
    cluster.invite("bob", &["access"]).await;
    let one = cluster.node("web-1").await;
    let other = cluster.node("web-2").await;
    for (credentials, name) in [(&one, "web-1"), (&other, "web-2")] {
        let node = NodeDocument::new(name, NodeSpec::new(credentials.host_id.clone().unwrap()));
        let write = proto::WriteRequest { json: node.to_json().unwrap(), force: false };
        cluster.as_holder(credentials).resources().put(write).await.unwrap();
    }
    let host = cluster.as_holder(&one);
    for kind in ["invite", "token", "session"] {
        let refused = list(&host, kind).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{kind}");
        let request = proto::WatchRequest { kinds: vec![kind.into()], position: Vec::new() };
        assert!(host.resources().watch(request).await.is_err(), "{kind}");
    }
    let invite = list(&cluster.admin, "invite").await.unwrap().remove(0).name;
    for (kind, name) in [("invite", invite.as_str()), ("node", "web-2")] {
        let request = proto::GetRequest { kind: kind.into(), name: name.into() };
        let refused = host.resources().get(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{kind}");
    }
    let nodes = list(&host, "node").await.unwrap();
    assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["web-1"]);
    for authority in list(&host, "authority").await.unwrap() {
        let value: serde_json::Value = serde_json::from_slice(&authority.json).unwrap();
        let mut fields: Vec<_> = value["spec"].as_object().unwrap().keys().cloned().collect();
        fields.sort();
        assert_eq!(fields, ["ca_pins", "cluster", "kind", "ssh_keys", "tls_roots"]);
    }
}

#[tokio::test]
async fn hosts_see_of_proxies_how_to_reach_them() {
    let cluster = Cluster::start().await;
    let token = cluster.token(for_types(&["proxy"])).await;
    let keys = KeySet::generate().unwrap();
    let proxy = cluster.stranger().join(&token, None, claims(&["proxy"], &[]), keys).await.unwrap();
    let host = proxy.host_id.clone().unwrap();
    let server = ServerSpec {
        service: Service::Proxy,
        host: host.clone(),
        hostname: "gw-7.internal".into(),
        version: "9.9".into(),
        public_addrs: vec!["example.com:443".into()],
        peer_addr: Some("10.0.0.7:3021".into()),
        role_schema: 1,
    };
    let json = ServerDocument::new(host.as_str(), server.clone()).to_json().unwrap();
    let client = cluster.as_holder(&proxy);
    client.resources().put(proto::WriteRequest { json, force: false }).await.unwrap();
    let seen = async |client: &AuthClient| {
        let document = list(client, "server").await.unwrap().remove(0);
        ServerDocument::from_json(&document.json).unwrap().spec
    };
    assert_eq!(seen(&cluster.admin).await, server);
    let node = seen(&cluster.as_holder(&cluster.node("web-1").await)).await;
    assert_eq!(node.public_addrs, server.public_addrs);
    assert_eq!((node.hostname.as_str(), node.version.as_str(), node.peer_addr), ("", "", None));
    assert_eq!(seen(&client).await.peer_addr, server.peer_addr, "proxies have peers");
}

#[tokio::test]
async fn a_role_that_a_connected_host_cannot_read_is_refused() {
    const FIELDS: &[access_core::role::RoleField] =
        &[access_core::role::RoleField { path: "allow.db_roles", since: 2 }];
    let cluster = Cluster::with(|options| options.role_fields = FIELDS).await;
    let credentials = cluster.node("web-1").await;
    let host = cluster.as_holder(&credentials);
    let announce = async |schema: u32| {
        let mut node =
            NodeDocument::new("web-1", NodeSpec::new(credentials.host_id.clone().unwrap()));
        node.spec.role_schema = schema;
        let write = proto::WriteRequest { json: node.to_json().unwrap(), force: false };
        host.resources().put(write).await.unwrap();
    };
    let role = |field: &str| {
        let json = format!(
            r#"{{"kind":"role","version":"v1","metadata":{{"name":"dev"}},
                "spec":{{"allow":{{"{field}":["a"]}}}}}}"#
        );
        RoleDocument::from_json(json.as_bytes()).unwrap().to_json().unwrap()
    };
    let put = async |field: &str, force: bool| {
        let request = proto::WriteRequest { json: role(field), force };
        cluster.admin.resources().put(request).await
    };
    // Nobody is there who could not read it.
    put("db_roles", false).await.unwrap();
    for schema in [0, 1] {
        announce(schema).await;
        let refused = put("db_roles", false).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        for part in ["spec.allow.db_roles", "node/web-1", "--force"] {
            assert!(refused.message().contains(part), "{refused}");
        }
        put("db_users", false).await.unwrap();
        put("db_roles", true).await.unwrap();
    }
    announce(2).await;
    put("db_roles", false).await.unwrap();
    announce(1).await;
    cluster.advance(700);
    put("db_roles", false).await.expect("the host is gone");
}
