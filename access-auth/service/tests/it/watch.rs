use std::time::Duration;

use access_client::types::RoleDocument;
use access_client::{AuthClient, proto};
use proto::watch_event::Event;
use tonic::{Code, Status, Streaming};

use super::cluster::{Cluster, create_user};

async fn watch(
    client: &AuthClient,
    kinds: &[&str],
    position: Vec<u8>,
) -> Result<Streaming<proto::WatchEvent>, Status> {
    let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
    let request = proto::WatchRequest { kinds, position };
    Ok(client.resources().watch(request).await?.into_inner())
}

async fn next(stream: &mut Streaming<proto::WatchEvent>) -> Result<Event, Status> {
    let event = tokio::time::timeout(Duration::from_secs(20), stream.message())
        .await
        .expect("an event in time")?;
    Ok(event.and_then(|event| event.event).expect("the stream goes on"))
}

/// Names up to the next mark, and the mark's position.
async fn until_ready(stream: &mut Streaming<proto::WatchEvent>) -> (Vec<String>, Vec<u8>) {
    let mut names = Vec::new();
    loop {
        match next(stream).await.unwrap() {
            Event::Put(document) => names.push(format!("{}/{}", document.kind, document.name)),
            Event::Ready(ready) => return (names, ready.position),
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// The next event that is no sign of life.
async fn change(stream: &mut Streaming<proto::WatchEvent>) -> Event {
    loop {
        match next(stream).await.unwrap() {
            Event::Ready(_) => {}
            other => return other,
        }
    }
}

fn role(name: &str) -> proto::WriteRequest {
    let json =
        format!(r#"{{"kind":"role","version":"v1","metadata":{{"name":"{name}"}},"spec":{{}}}}"#);
    proto::WriteRequest { json: json.into_bytes(), force: false }
}

#[tokio::test]
async fn a_watch_is_a_snapshot_a_mark_and_changes() {
    let cluster = Cluster::start().await;
    let mut stream =
        watch(&cluster.admin, &["role", "authority", "user"], Vec::new()).await.unwrap();
    let (names, _) = until_ready(&mut stream).await;
    assert_eq!(
        names,
        [
            "authority/db",
            "authority/db_client",
            "authority/host",
            "authority/user",
            "role/access",
            "role/auditor",
            "role/editor",
            "role/requester",
            "role/reviewer"
        ]
    );
    cluster.admin.resources().create(role("dev")).await.unwrap();
    let Event::Put(document) = change(&mut stream).await else { panic!("no put") };
    let document = RoleDocument::from_json(&document.json).unwrap();
    assert_eq!(document.metadata.name, "dev");
    assert!(document.metadata.revision.is_some());
    let gone =
        proto::DeleteRequest { kind: "role".into(), name: "dev".into(), revision: String::new() };
    cluster.admin.resources().delete(gone).await.unwrap();
    let Event::Deleted(deleted) = change(&mut stream).await else { panic!("no delete") };
    assert_eq!((deleted.kind.as_str(), deleted.name.as_str()), ("role", "dev"));
}

#[tokio::test]
async fn a_watch_resumes_and_says_when_it_cannot() {
    let cluster = Cluster::start().await;
    let mut stream = watch(&cluster.admin, &["role"], Vec::new()).await.unwrap();
    let (_, position) = until_ready(&mut stream).await;
    drop(stream);
    cluster.admin.resources().create(role("dev")).await.unwrap();
    let mut stream = watch(&cluster.admin, &["role"], position).await.unwrap();
    let (names, _) = until_ready(&mut stream).await;
    assert_eq!(names, ["role/dev"], "what came in between and nothing else");

    let mut stream = watch(&cluster.admin, &["role"], b"ffffffffffffffff".to_vec()).await.unwrap();
    assert!(matches!(next(&mut stream).await.unwrap(), Event::Reset(_)));
    let (names, _) = until_ready(&mut stream).await;
    assert_eq!(names.len(), 6, "a snapshot follows");
    let nonsense = watch(&cluster.admin, &["role"], b"\xff".to_vec()).await.unwrap_err();
    assert_eq!(nonsense.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_watch_shows_signs_of_life() {
    let cluster = Cluster::start().await;
    let mut stream = watch(&cluster.admin, &["lock"], Vec::new()).await.unwrap();
    until_ready(&mut stream).await;
    let (names, _) = until_ready(&mut stream).await;
    assert!(names.is_empty());
}

#[tokio::test]
async fn hosts_watch_what_enforcing_takes_and_nothing_else() {
    let cluster = Cluster::start().await;
    cluster.invite("alice", &["access"]).await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    let kinds = ["role", "user", "lock", "authority", "cluster_config", "server"];
    let mut stream = watch(&host, &kinds, Vec::new()).await.unwrap();
    let (names, _) = until_ready(&mut stream).await;
    assert!(names.contains(&"user/alice".to_owned()), "{names:?}");
    for kind in ["token", "invite", "session"] {
        let denied = watch(&host, &["role", kind], Vec::new()).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{kind}");
    }
}

#[tokio::test]
async fn a_watch_ends_with_the_right_to_it() {
    let cluster = Cluster::start().await;
    let editor = cluster.user("ed", &["editor"]).await;
    let mut stream = watch(&editor, &["role"], Vec::new()).await.unwrap();
    until_ready(&mut stream).await;
    let gone =
        proto::DeleteRequest { kind: "user".into(), name: "ed".into(), revision: String::new() };
    cluster.admin.resources().delete(gone).await.unwrap();
    let ended = loop {
        match next(&mut stream).await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended}");
    cluster.admin.admin().create_user(create_user("ed", &["editor"])).await.unwrap();
}

#[tokio::test]
async fn a_host_that_is_locked_hears_of_the_lock_before_its_watch_ends() {
    let cluster = Cluster::start().await;
    for number in 0..20 {
        let name = format!("web-{number}");
        let host = cluster.as_holder(&cluster.node(&name).await);
        let mut stream = watch(&host, &["lock"], Vec::new()).await.unwrap();
        until_ready(&mut stream).await;
        let json = format!(
            r#"{{"kind":"lock","version":"v1","metadata":{{"name":"lock-{number}"}},
                "spec":{{"target":{{"node":"{name}"}}}}}}"#
        );
        let request = proto::WriteRequest { json: json.into_bytes(), force: false };
        cluster.admin.resources().create(request).await.unwrap();
        let mut heard = false;
        let ended = loop {
            match next(&mut stream).await {
                Ok(Event::Put(document)) => heard |= document.name == format!("lock-{number}"),
                Ok(_) => {}
                Err(status) => break status,
            }
        };
        assert!(heard, "{name}: {ended}");
    }
}
