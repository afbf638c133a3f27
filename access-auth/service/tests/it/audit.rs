use std::os::unix::fs::PermissionsExt;

use access_client::{AuthClient, proto};
use access_core::audit::events::{Auth, Outcome, SessionUpload, UserLogout};
use access_core::audit::{Event, Stamper};
use access_core::{SessionId, WriterId};
use tonic::{Code, Status};

use super::cluster::{Cluster, name};

fn stamper(cluster: &Cluster, writer: &str) -> Stamper {
    let writer = WriterId::new(writer).unwrap();
    Stamper::new(cluster.auth.cluster_name(), writer, 1, cluster.clock.clone())
}

fn logout(user: &str) -> Event {
    UserLogout { user: user.into(), addr_remote: None }.into()
}

/// Somebody could not authenticate with a host: what hosts may tell.
fn refusal(user: &str) -> Event {
    let event = Auth {
        outcome: Outcome::failed("no certificate"),
        user: user.into(),
        login: None,
        addr_remote: None,
        server_hostname: None,
        proto: None,
    };
    event.into()
}

fn stamp(stamper: &mut Stamper, event: Event) -> Vec<u8> {
    let envelope = stamper.stamp(event);
    stamper.commit(&envelope);
    envelope.to_json().unwrap()
}

async fn emit(client: &AuthClient, writer: &str, events: &[Vec<u8>]) -> Result<u64, Status> {
    let events = events.iter().cloned().map(Into::into).collect();
    let request = proto::EmitRequest::of(writer, events);
    Ok(client.audit().emit(request).await?.into_inner().stored_up_to)
}

async fn search(client: &AuthClient, request: proto::SearchRequest) -> Vec<serde_json::Value> {
    let found = client.audit().search(request).await.unwrap().into_inner();
    found.events.iter().map(|json| serde_json::from_slice(json).unwrap()).collect()
}

#[tokio::test]
async fn events_are_stored_once_however_often_they_come() {
    let cluster = Cluster::start().await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    let mut stamper = stamper(&cluster, "w-1");
    let events: Vec<_> =
        ["a", "b", "c"].into_iter().map(|user| stamp(&mut stamper, refusal(user))).collect();
    assert_eq!(emit(&host, "w-1", &events[..2]).await.unwrap(), 2);
    assert_eq!(emit(&host, "w-1", &events).await.unwrap(), 3);
    assert_eq!(emit(&host, "w-1", &events[..1]).await.unwrap(), 3);
    assert_eq!(emit(&host, "w-1", &[]).await.unwrap(), 3);
    let request = proto::SearchRequest { types: vec!["auth".into()], ..Default::default() };
    let found = search(&cluster.admin, request).await;
    let users: Vec<_> = found.iter().map(|event| event["user"].as_str().unwrap()).collect();
    assert_eq!(users, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_writer_belongs_to_one_host() {
    let cluster = Cluster::start().await;
    let one = cluster.as_holder(&cluster.node("web-1").await);
    let other = cluster.as_holder(&cluster.node("web-2").await);
    let event = stamp(&mut stamper(&cluster, "w-1"), refusal("a"));
    emit(&one, "w-1", std::slice::from_ref(&event)).await.unwrap();
    let refused = emit(&other, "w-1", std::slice::from_ref(&event)).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    // What the envelope says must be what the call says.
    let refused = emit(&other, "w-2", &[event]).await.unwrap_err();
    assert!(refused.message().contains("of another writer"), "{refused}");
}

#[tokio::test]
async fn the_services_own_writer_and_those_with_events_are_no_hosts() {
    let cluster = Cluster::start().await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    let own = cluster.events().await.remove(0)["writer"].as_str().unwrap().to_owned();
    let mut stamper = stamper(&cluster, &own);
    let ahead: Vec<_> = (0..20).map(|_| stamp(&mut stamper, refusal("a"))).collect();
    let refused = emit(&host, &own, &ahead).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    cluster.add_user("bob", &["access"]).await;
    let told = cluster.events().await.into_iter().filter(|e| e["event"] == "user.create").count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn what_only_the_service_tells_is_refused_without_stopping_the_rest() {
    let cluster = Cluster::start().await;
    let joined = cluster.node("web-1").await;
    let id = joined.host_id.as_ref().unwrap().as_str();
    let host = cluster.as_holder(&joined);
    let mut stamper = stamper(&cluster, "w-1");
    let unknown = br#"{"event":"lunar.landing","code":"TZZ00I","time":"2026-01-02T03:04:05Z",
        "uid":"u1","cluster_name":"example.com","writer":"w-1","seq":4,"emitter":"me"}"#;
    let mut events: Vec<_> = [refusal("a"), logout("alice"), refusal("b")]
        .map(|event| stamp(&mut stamper, event))
        .into();
    events.push(unknown.to_vec());
    for _ in 0..2 {
        assert_eq!(emit(&host, "w-1", &events).await.unwrap(), 4);
    }
    let stored: Vec<_> =
        cluster.events().await.into_iter().filter(|event| event["writer"] == "w-1").collect();
    let kinds: Vec<_> = stored.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["auth", "access.decision", "auth", "access.decision"]);
    for (refused, kind) in [(&stored[1], "user.logout"), (&stored[3], "lunar.landing")] {
        assert_eq!((&refused["code"], &refused["user"]), (&"ACD00W".into(), &id.into()));
        assert_eq!((&refused["target"], &refused["emitter"]), (&kind.into(), &id.into()));
    }
    assert!(!cluster.events().await.iter().any(|event| event["event"] == "audit.gap"));
}

#[tokio::test]
async fn an_event_says_which_host_handed_it_over() {
    let cluster = Cluster::start().await;
    let joined = cluster.node("web-1").await;
    let event = stamp(&mut stamper(&cluster, "w-1"), refusal("a"));
    let mut forged: serde_json::Value = serde_json::from_slice(&event).unwrap();
    let uid = std::mem::replace(&mut forged["uid"], "another's".into());
    forged["emitter"] = "another".into();
    emit(&cluster.as_holder(&joined), "w-1", &[forged.to_string().into_bytes()]).await.unwrap();
    let stored = cluster.events().await;
    let stored = stored.iter().find(|event| event["writer"] == "w-1").unwrap();
    assert_eq!(stored["emitter"], joined.host_id.unwrap().as_str());
    assert_eq!(stored["uid"], uid);
    // The service's own have no such field.
    assert!(cluster.events().await.iter().any(|event| event.get("emitter").is_none()));
}

#[tokio::test]
async fn hostile_events_are_refused() {
    let cluster = Cluster::start().await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    let mut own = stamper(&cluster, "w-1");
    let (first, second) = (stamp(&mut own, refusal("a")), stamp(&mut own, refusal("b")));
    let writer = WriterId::new("w-1").unwrap();
    let mut foreign = Stamper::new(name("example.org"), writer, 3, cluster.clock.clone());
    let foreign = stamp(&mut foreign, refusal("c"));
    let zero = String::from_utf8(first.clone()).unwrap().replace("\"seq\":1", "\"seq\":0");
    for (events, part) in [
        (vec![b"{}".to_vec()], "not an audit event"),
        (vec![b"\xff".to_vec()], "not an audit event"),
        (vec![second.clone(), first.clone()], "not in the order"),
        (vec![foreign], "of another cluster"),
        (vec![zero.into_bytes()], "out of range"),
        (vec![vec![b' '; 300 * 1024]], "bytes, more than"),
        (vec![b"{}".to_vec(); 2000], "more than 1000 events in one call"),
    ] {
        let refused = emit(&host, "w-1", &events).await.unwrap_err();
        assert!(refused.message().contains(part), "{refused}");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let packed = b"not compressed".as_slice().into();
    let request = proto::EmitRequest { writer: "w-1".into(), packed, ..Default::default() };
    let refused = host.audit().emit(request).await.unwrap_err();
    assert!(refused.message().contains("cannot be unpacked"), "{refused}");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(emit(&host, "../x", &[]).await.is_err());
    assert_eq!(emit(&host, "w-1", &[first, second]).await.unwrap(), 2, "nothing of it was stored");
}

#[tokio::test]
async fn a_hole_in_the_numbers_is_told() {
    let cluster = Cluster::start().await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    let mut stamper = stamper(&cluster, "w-1");
    let events: Vec<_> = (0..5).map(|_| stamp(&mut stamper, refusal("a"))).collect();
    emit(&host, "w-1", &[events[0].clone(), events[4].clone()]).await.unwrap();
    let request = proto::SearchRequest { types: vec!["audit.gap".into()], ..Default::default() };
    let found = search(&cluster.admin, request).await;
    assert_eq!((&found[0]["first"], &found[0]["last"]), (&2.into(), &4.into()));
}

#[tokio::test]
async fn a_search_is_narrowed_and_comes_in_pages() {
    let cluster = Cluster::start().await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    let mut stamper = stamper(&cluster, "w-1");
    let start = cluster.now();
    let mut events = Vec::new();
    for n in 0..6 {
        cluster.advance(60);
        let upload = SessionUpload {
            sid: SessionId::new(format!("s-{n}")).unwrap(),
            url: None,
            size: None,
            state: None,
        };
        let event = if n % 2 == 0 { upload.into() } else { refusal(&format!("u{n}")) };
        events.push(stamp(&mut stamper, event));
    }
    emit(&host, "w-1", &events).await.unwrap();
    let auditor = cluster.user("audrey", &["auditor"]).await;
    let mine = proto::SearchRequest { user: "u3".into(), ..Default::default() };
    assert_eq!(search(&auditor, mine).await.len(), 1);
    let between = proto::SearchRequest {
        from: start.as_millis() + 120_000,
        to: start.as_millis() + 240_000,
        ..Default::default()
    };
    assert_eq!(search(&auditor, between).await.len(), 2);
    let mut request = proto::SearchRequest {
        types: vec!["session.upload".into(), "auth".into()],
        page_size: 4,
        newest_first: true,
        ..Default::default()
    };
    let first = auditor.audit().search(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.events.len(), 4);
    assert!(String::from_utf8_lossy(&first.events[0]).contains("u5"));
    request.page_token = first.next_page_token;
    let second = auditor.audit().search(request).await.unwrap().into_inner();
    assert_eq!((second.events.len(), second.next_page_token.as_str()), (2, ""));
    let query = async |query: &str| {
        let request = proto::SearchRequest { query: query.into(), ..Default::default() };
        search(&auditor, request).await.len()
    };
    assert_eq!(query("S-4").await, 1, "the case of letters does not count");
    assert_eq!(query("\"u3\"").await, 0, "a quote is a quote of the value");
    assert_eq!(query("no such text").await, 0);
    let mut request =
        proto::SearchRequest { query: "s-0".into(), page_size: 1, ..Default::default() };
    let (mut found, mut pages) = (0, 0);
    loop {
        let page = auditor.audit().search(request.clone()).await.unwrap().into_inner();
        (found, pages) = (found + page.events.len(), pages + 1);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert!(found == 1 && pages > 3, "{found} on {pages} pages");
    let alice = cluster.user("alice", &["access"]).await;
    let denied = alice.audit().search(proto::SearchRequest::default()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn the_log_is_in_a_file_a_day_too() {
    let cluster = Cluster::start().await;
    cluster.invite("alice", &["access"]).await;
    cluster.advance(24 * 3600);
    cluster.invite("bob", &["access"]).await;
    let read = |day: &str| {
        let path = cluster.dir.path().join(format!("data/log/events-{day}.jsonl"));
        let mode = std::fs::metadata(&path).ok()?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        Some(std::fs::read_to_string(path).unwrap())
    };
    super::cluster::until(async || {
        read("2026-01-03").is_some_and(|text| text.lines().count() == 2)
    })
    .await;
    let (first, second) = (read("2026-01-02").unwrap(), read("2026-01-03").unwrap());
    assert!(first.contains("alice") && !first.contains("bob"));
    assert!(second.contains("bob") && !second.contains("alice"));
    for line in first.lines().chain(second.lines()) {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[tokio::test]
async fn strangers_cannot_fill_the_log() {
    let cluster = Cluster::with(|options| {
        let many = access_auth::Rate::new(100_000, 1000.0);
        (options.limits.entry, options.limits.entry_per_connection) = (many, many);
    })
    .await;
    let stranger = cluster.stranger();
    for _ in 0..600 {
        let request = proto::JoinRequest { token: "x".into(), ..Default::default() };
        stranger.entry().join(request).await.unwrap_err();
    }
    let request = proto::SearchRequest {
        types: vec!["instance.join".into()],
        page_size: 1000,
        ..Default::default()
    };
    assert_eq!(search(&cluster.admin, request).await.len(), 500);
    cluster.advance(1);
    let request = proto::JoinRequest { token: "x".into(), ..Default::default() };
    stranger.entry().join(request).await.unwrap_err();
    let request =
        proto::SearchRequest { types: vec!["audit.dropped".into()], ..Default::default() };
    let told = search(&cluster.admin, request).await;
    assert_eq!(told[0]["dropped"], 100);
}
