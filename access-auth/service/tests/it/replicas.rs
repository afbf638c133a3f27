//! Two replicas over one store: what counts, counts at both.

use std::sync::Arc;
use std::time::Duration;

use access_auth::{AuthService, Options};
use access_client::{AuthClient, ClientError, KeySet, proto};
use access_core::time::ManualClock;
use tokio::net::TcpListener;

use super::cluster::{Cluster, PASSWORD, claims, for_types, message, options, redeem, until};

/// Another replica of a cluster, by a clock of its own, and a stranger's client of it.
struct Other {
    auth: AuthService,
    clock: Arc<ManualClock>,
    admin: AuthClient,
    address: access_client::HostPort,
}

impl Other {
    async fn start(cluster: &Cluster, ahead: Duration) -> Self {
        let clock = Arc::new(ManualClock::at(cluster.now().plus(ahead)));
        let mut options: Options = options(&cluster.dir, &clock);
        options.cluster_name = None;
        let auth = AuthService::open(cluster.store.clone(), options).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let serving = auth.clone();
        tokio::spawn(async move { serving.serve_tls(listener, std::future::pending()).await });
        let admin = AuthClient::over_stream(auth.local_pipe());
        Self { auth, clock, admin, address }
    }

    fn client(
        &self,
        cluster: &Cluster,
        key: Option<Arc<access_core::tls::SharedKey>>,
    ) -> AuthClient {
        AuthClient::new(access_client::AuthEndpoint {
            addresses: vec![self.address.clone()],
            cluster: self.auth.cluster_name(),
            trust: access_core::tls::ServerTrust::Pins(cluster.pins()),
            key,
            clock: self.clock.clone(),
        })
        .unwrap()
    }
}

async fn pair() -> (Cluster, Other) {
    let cluster = Cluster::start().await;
    let other = Other::start(&cluster, Duration::ZERO).await;
    (cluster, other)
}

#[tokio::test]
async fn an_invitation_is_redeemed_at_one_of_them() {
    let (cluster, other) = pair().await;
    let (here, there) = (cluster.stranger(), other.client(&cluster, None));
    for n in 0..8 {
        let invite = cluster.invite(&format!("user-{n}"), &["access"]).await;
        let redeem = |client: AuthClient, word: &'static str| {
            let token = invite.token.clone();
            async move { redeem(&client, &token, word).await }
        };
        let (a, b) = tokio::join!(
            redeem(here.clone(), "the first password"),
            redeem(there.clone(), "the second password")
        );
        assert!(a.is_ok() != b.is_ok(), "{n}: {a:?} {b:?}");
        let refused = message(if a.is_ok() { b.map(drop) } else { a.map(drop) });
        assert!(refused.contains("was used already"), "{n}: {refused}");
    }
}

#[tokio::test]
async fn a_token_is_used_as_often_as_it_may_be_at_both_together() {
    let (cluster, other) = pair().await;
    let token = cluster.token(proto::CreateTokenRequest { uses: 3, ..for_types(&["node"]) }).await;
    let join = |n: usize| {
        let client =
            if n.is_multiple_of(2) { cluster.stranger() } else { other.client(&cluster, None) };
        let token = token.clone();
        async move {
            let node = format!("web-{n}");
            let keys = KeySet::generate().unwrap();
            client.join(&token, None, claims(&["node"], &[&node]), keys).await
        }
    };
    let all = futures::future::join_all((0..10).map(join)).await;
    let (joined, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!(joined.len(), 3);
    for refused in refused {
        let refused = message(refused);
        assert!(refused.contains("is spent"), "{refused}");
    }
}

#[tokio::test]
async fn a_name_goes_to_one_host() {
    let (cluster, other) = pair().await;
    for n in 0..8 {
        let (a, b) =
            (cluster.token(for_types(&["node"])).await, cluster.token(for_types(&["node"])).await);
        let join = |client: AuthClient, token: String| async move {
            let keys = KeySet::generate().unwrap();
            let node = format!("web-{n}");
            client.join(&token, None, claims(&["node"], &[&node]), keys).await
        };
        let (a, b) =
            tokio::join!(join(cluster.stranger(), a), join(other.client(&cluster, None), b));
        assert!(a.is_ok() != b.is_ok(), "{n}: {:?} {:?}", a.is_ok(), b.is_ok());
        let refused = if a.is_ok() { b } else { a };
        assert!(matches!(refused, Err(ClientError::AlreadyExists(_))), "{:?}", refused.err());
    }
}

#[tokio::test]
async fn certificates_are_void_at_both_also_when_their_clocks_are_apart() {
    // The one that issues is ahead of the one that voids.
    let cluster = Cluster::start().await;
    let ahead = Other::start(&cluster, Duration::from_secs(9)).await;
    cluster.add_user("alice", &["access", "editor"]).await;
    let list = proto::ListRequest { kind: "role".into(), ..Default::default() };
    let asks = async |client: AuthClient| client.resources().list(list.clone()).await.is_ok();
    for round in 0..3 {
        let keys = KeySet::generate().unwrap();
        let stranger = ahead.client(&cluster, None);
        let credentials = stranger.login("alice", PASSWORD, keys, None).await.unwrap();
        let key = || Some(credentials.shared_key().unwrap());
        let here = cluster.client(key());
        here.resources().list(list.clone()).await.expect("good here");
        assert!(asks(ahead.client(&cluster, key())).await, "{round}: and there");
        let logout = cluster.client(key());
        logout.identity().logout(proto::LogoutRequest {}).await.unwrap();
        assert!(!asks(cluster.client(key())).await, "{round}: void here");
        until(async || !asks(ahead.client(&cluster, key())).await).await;
        // A login right after that is good at once, wherever it happens.
        let again = cluster.login("alice").await;
        assert!(asks(cluster.as_holder(&again)).await, "{round}: the next is good");
        let there = ahead.client(&cluster, Some(again.shared_key().unwrap()));
        assert!(asks(there).await, "{round}: and good there");
    }
}

#[tokio::test]
async fn a_lock_that_one_writes_holds_at_the_other() {
    let (cluster, other) = pair().await;
    let alice = cluster.user("alice", &["access", "editor"]).await;
    let list = proto::ListRequest { kind: "role".into(), ..Default::default() };
    assert!(alice.resources().list(list.clone()).await.is_ok());
    let lock = br#"{"kind":"lock","version":"v1","metadata":{"name":"l"},"spec":{"target":{"user":"alice"}}}"#;
    let request = proto::WriteRequest { json: lock.to_vec(), force: false };
    other.admin.resources().create(request).await.unwrap();
    until(async || alice.resources().list(list.clone()).await.is_err()).await;
}

#[tokio::test]
async fn wrong_passwords_count_at_both() {
    let (cluster, other) = pair().await;
    cluster.add_user("alice", &["access"]).await;
    let wrong = async |client: AuthClient| {
        let keys = KeySet::generate().unwrap();
        let refused = client.login("alice", "not her password", keys, None).await;
        assert!(matches!(refused, Err(ClientError::Unauthenticated(_))), "{:?}", refused.err());
    };
    for n in 0..6_u32 {
        wrong(if n.is_multiple_of(2) { cluster.stranger() } else { other.client(&cluster, None) })
            .await;
    }
    // What both know is one row, and her own success takes it away.
    let range = access_backend::KeyRange::from(
        access_backend::Prefix::from_segments(["private", "tries"]).unwrap(),
    );
    let rows = async || access_backend::read_all(&*cluster.store, &range, 10).await.unwrap();
    let kept = rows().await;
    assert_eq!(kept.len(), 1);
    let text = String::from_utf8_lossy(&kept[0].value).into_owned();
    assert!(text.contains("\"failures\":6"), "{text}");
    cluster.advance(6);
    other.clock.advance(Duration::from_secs(6));
    cluster.login("alice").await;
    assert!(rows().await.is_empty());
}
