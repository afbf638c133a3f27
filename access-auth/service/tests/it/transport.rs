use std::time::Duration;

use access_auth::Rate;
use access_client::{AuthClient, AuthEndpoint, ClientError, proto};
use access_core::identity::SpkiPin;
use access_core::tls::ServerTrust;
use tokio::io::AsyncReadExt;
use tonic::Code;

use super::cluster::{Cluster, create_user, for_types};

fn status() -> proto::StatusRequest {
    proto::StatusRequest {}
}

#[tokio::test]
async fn strangers_get_the_entry_and_nothing_else() {
    let cluster = Cluster::start().await;
    let stranger = cluster.stranger();
    let ping = stranger.ping(cluster.now()).await.unwrap();
    assert_eq!(ping.cluster_name, "example.com");
    let refusals = [
        stranger.admin().status(status()).await.unwrap_err(),
        stranger.admin().create_token(for_types(&["node"])).await.unwrap_err(),
        stranger.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap_err(),
        stranger
            .resources()
            .list(proto::ListRequest { kind: "user".into(), ..Default::default() })
            .await
            .unwrap_err(),
        stranger
            .resources()
            .watch(proto::WatchRequest { kinds: vec!["role".into()], position: Vec::new() })
            .await
            .unwrap_err(),
        stranger.audit().search(proto::SearchRequest::default()).await.unwrap_err(),
        stranger.audit().emit(proto::EmitRequest::default()).await.unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.code(), Code::Unauthenticated, "{refusal}");
    }
}

#[tokio::test]
async fn users_and_hosts_get_what_the_policy_says() {
    let cluster = Cluster::start().await;
    let alice = cluster.user("alice", &["access"]).await;
    let editor = cluster.user("ed", &["editor"]).await;
    let node = cluster.as_holder(&cluster.node("web-1").await);
    for client in [&alice, &node] {
        let denied = client.admin().create_user(create_user("eve", &["editor"])).await;
        assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied);
        let denied = client.admin().create_token(for_types(&["node"])).await;
        assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied);
    }
    let denied = node.identity().logout(proto::LogoutRequest {}).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let denied = alice.identity().renew_host(proto::RenewHostRequest::default()).await;
    assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied);
    let denied = alice.audit().emit(proto::EmitRequest::default()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    editor.admin().create_user(create_user("eve", &["access"])).await.unwrap();
    let detail = editor.admin().status(status()).await.unwrap().into_inner().detail;
    let detail: serde_json::Value = serde_json::from_slice(&detail).unwrap();
    assert_eq!(detail["counts"]["user"], 3, "{detail}");
    // Denials are written down.
    let denials = cluster.events().await.into_iter().filter(|e| e["code"] == "ACD00W").count();
    assert_eq!(denials, 4);
}

#[tokio::test]
async fn another_clusters_certificate_and_a_wrong_pin_are_refused() {
    let (cluster, other) = (Cluster::start().await, Cluster::start().await);
    other.add_user("mallory", &["editor"]).await;
    let foreign = other.login("mallory").await;
    let refused = cluster.as_holder(&foreign).admin().status(status()).await.unwrap_err();
    // The handshake is refused, so that the answer is the transport's.
    assert!(format!("{refused:?}").contains("UnknownCA"), "{refused:?}");

    let address = cluster.address();
    let wrong = AuthClient::new(AuthEndpoint {
        addresses: vec![address],
        cluster: cluster.auth.cluster_name(),
        trust: ServerTrust::Pins(vec![SpkiPin::of_spki(b"another")]),
        key: None,
        clock: cluster.clock.clone(),
    })
    .unwrap();
    let refused = wrong.ping(cluster.now()).await.unwrap_err();
    assert!(matches!(refused, ClientError::WrongPeer { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_clock_that_is_off_by_an_hour_is_told() {
    let cluster = Cluster::start().await;
    let now = cluster.now().plus(Duration::from_secs(3600));
    let refused = cluster.stranger().ping(now).await.unwrap_err();
    assert!(matches!(refused, ClientError::Clock(3600)), "{refused:?}");
}

#[tokio::test]
async fn strangers_are_limited_by_their_source() {
    let cluster = Cluster::with(|options| options.limits.ping = Rate::new(3, 1.0)).await;
    let stranger = cluster.stranger();
    for _ in 0..3 {
        stranger.ping(cluster.now()).await.unwrap();
    }
    let limited = stranger.ping(cluster.now()).await.unwrap_err();
    assert!(matches!(limited, ClientError::Limited(_)), "{limited:?}");
    // A connection of their own helps no one; waiting does, and admins on the host are exempt.
    assert!(cluster.stranger().ping(cluster.now()).await.is_err());
    cluster.admin.ping(cluster.now()).await.unwrap();
    cluster.advance(1);
    stranger.ping(cluster.now()).await.unwrap();
}

#[tokio::test]
async fn pings_take_nobodys_turn() {
    let cluster = Cluster::with(|options| {
        (options.limits.ping, options.limits.entry) = (Rate::new(3, 0.1), Rate::new(3, 0.1));
    })
    .await;
    cluster.add_user("alice", &["access"]).await;
    while cluster.stranger().ping(cluster.now()).await.is_ok() {}
    cluster.login("alice").await;
}

#[tokio::test]
async fn strangers_of_one_source_are_told_apart_by_their_connections() {
    let few = Rate::new(3, 1.0);
    let cluster = Cluster::with(|options| options.limits.entry_per_connection = few).await;
    let (busy, other) = (cluster.stranger(), cluster.stranger());
    for _ in 0..3 {
        busy.ping(cluster.now()).await.unwrap();
    }
    let request = || proto::RedeemInviteRequest { token: "a.b".into(), password: "x".into() };
    let limited = busy.entry().redeem_invite(request()).await.unwrap_err();
    assert_eq!(limited.code(), Code::ResourceExhausted);
    let heard = other.entry().redeem_invite(request()).await.unwrap_err();
    assert_ne!(heard.code(), Code::ResourceExhausted);
    cluster.advance(1);
    busy.ping(cluster.now()).await.unwrap();
}

#[tokio::test]
async fn strangers_who_do_not_call_are_sent_away() {
    let cluster = Cluster::with(|options| {
        options.limits.connections_per_source = 1;
        options.limits.stranger_quiet = Duration::from_millis(300);
    })
    .await;
    let first = cluster.stranger();
    first.ping(cluster.now()).await.unwrap();
    assert!(cluster.stranger().entry().ping(proto::PingRequest {}).await.is_err());
    super::cluster::until(async || cluster.stranger().ping(cluster.now()).await.is_ok()).await;
    // Whoever comes back is let in again.
    super::cluster::until(async || first.ping(cluster.now()).await.is_ok()).await;
}

#[tokio::test]
async fn messages_of_strangers_are_small() {
    let cluster = Cluster::start().await;
    let request =
        proto::RedeemInviteRequest { token: "a.b".into(), password: "x".repeat(100 * 1024) };
    let refused = cluster.stranger().entry().redeem_invite(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}

#[tokio::test]
async fn calls_of_strangers_are_limited_in_number() {
    let cluster = Cluster::with(|options| options.limits.strangers = 0).await;
    let refused = cluster.stranger().ping(cluster.now()).await.unwrap_err();
    assert!(matches!(refused, ClientError::Limited(_)), "{refused:?}");
    cluster.admin.ping(cluster.now()).await.unwrap();
}

#[tokio::test]
async fn connections_of_one_source_are_limited() {
    let cluster = Cluster::with(|options| options.limits.connections_per_source = 1).await;
    let first = cluster.stranger();
    first.ping(cluster.now()).await.unwrap();
    assert!(cluster.stranger().ping(cluster.now()).await.is_err());
    drop(first);
    super::cluster::until(async || cluster.stranger().ping(cluster.now()).await.is_ok()).await;
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a client that is none")]
async fn a_handshake_has_a_deadline() {
    let cluster =
        Cluster::with(|options| options.limits.handshake = Duration::from_millis(50)).await;
    let address = cluster.address().to_string();
    let silent = std::net::TcpStream::connect(address).unwrap();
    silent.set_nonblocking(true).unwrap();
    let mut silent = tokio::net::TcpStream::from_std(silent).unwrap();
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut byte)).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
}

#[tokio::test]
async fn a_local_socket_is_the_administrators() {
    let cluster = Cluster::start().await;
    let path = cluster.dir.path().join("auth.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let auth = cluster.auth.clone();
    let serving =
        tokio::spawn(async move { auth.serve_unix(listener, async { drop(stopped.await) }).await });
    let admin = AuthClient::local_socket(path);
    admin.admin().create_user(create_user("alice", &["access"])).await.unwrap();
    let nobody = admin.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap_err();
    assert!(nobody.message().contains("no identity"), "{nobody}");
    let created = cluster.events().await;
    assert_eq!(created[0]["event"], "user.create");
    assert_eq!(created[0]["user"], "local admin");
    drop(admin);
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_services_own_certificate_is_renewed() {
    let cluster = Cluster::start().await;
    for _ in 0..4 {
        cluster.advance(12 * 3600);
        super::cluster::until(async || cluster.stranger().ping(cluster.now()).await.is_ok()).await;
    }
}
