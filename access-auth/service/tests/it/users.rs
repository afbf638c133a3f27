use access_client::types::{RoleDocument, UserDocument};
use access_client::{ClientError, KeySet, proto};
use access_core::identity::{AuthorityKind, TrustStore};

use super::cluster::{Cluster, PASSWORD, create_user, message, redeem};

fn get(kind: &str, name: &str) -> proto::GetRequest {
    proto::GetRequest { kind: kind.into(), name: name.into() }
}

#[tokio::test]
async fn an_invited_user_sets_a_password_and_gets_certificates() {
    let cluster = Cluster::start().await;
    let invite = cluster.invite("alice", &["access"]).await;
    assert_eq!(invite.ca_pins, [cluster.pins()[0].to_string()]);
    assert_eq!(invite.expires, cluster.now().as_millis() + 3_600_000);
    let stranger = cluster.stranger();
    assert_eq!(redeem(&stranger, &invite.token, PASSWORD).await.unwrap(), "alice");

    let credentials = cluster.login("alice").await;
    assert_eq!(credentials.ssh_certificate.valid_principals(), ["deploy"]);
    let trust =
        TrustStore::new(credentials.cluster.clone(), credentials.authorities.clone()).unwrap();
    let who = trust.verify_tls(&credentials.tls_chain, cluster.now()).unwrap();
    assert_eq!((who.name(), who.authority()), ("alice", AuthorityKind::User));
    assert_eq!(who.identity().roles[0].as_str(), "access");
    // Twelve hours, although the role would allow thirty.
    assert_eq!(who.validity().not_after().since(cluster.now()).as_secs(), 12 * 3600);
    let ssh = trust.of_kind(AuthorityKind::User).next().unwrap();
    assert!(ssh.ssh.contains(credentials.ssh_certificate.signature_key()));

    let me = cluster.as_holder(&credentials);
    let answer = me.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap().into_inner();
    assert!(String::from_utf8(answer.identity).unwrap().contains("alice"));

    let names: Vec<String> = cluster
        .events()
        .await
        .iter()
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "user.create",
            "reset_password_token.create",
            "user.password_change",
            "cert.create",
            "user.login"
        ]
    );
}

#[tokio::test]
async fn wrong_passwords_and_unknown_users_are_told_the_same() {
    let cluster = Cluster::start().await;
    cluster.add_user("alice", &["access"]).await;
    cluster.invite("invited", &["access"]).await;
    let long = "x".repeat(5000);
    for (user, password) in [
        ("alice", "wrong password"),
        ("alice", ""),
        ("alice", &long),
        ("nobody", PASSWORD),
        ("invited", PASSWORD),
        ("../etc", PASSWORD),
        ("", ""),
    ] {
        let keys = KeySet::generate().unwrap();
        let refused = cluster.stranger().login(user, password, keys, None).await;
        assert!(matches!(refused, Err(ClientError::Unauthenticated(_))), "{user}");
        assert_eq!(message(refused), "not logged in: invalid user name or password");
    }
    let failed = cluster.events().await.into_iter().filter(|e| e["code"] == "T1000W").count();
    assert_eq!(failed, 7);
}

#[tokio::test]
async fn failures_lock_nobody_out() {
    let cluster = Cluster::start().await;
    cluster.add_user("alice", &["access"]).await;
    let login = async |password: &str| {
        let keys = KeySet::generate().unwrap();
        cluster.stranger().login("alice", password, keys, None).await
    };
    for _ in 0..12 {
        assert!(matches!(login("wrong").await, Err(ClientError::Unauthenticated(_))));
    }
    // It may wait for its turn, and the clock stands still meanwhile.
    login(PASSWORD).await.unwrap();
}

#[tokio::test]
async fn an_invitation_is_good_once_whoever_comes_first() {
    let cluster = Cluster::start().await;
    let invite = cluster.invite("alice", &["access"]).await;
    let (one, other) = (cluster.stranger(), cluster.stranger());
    let (a, b) = tokio::join!(
        redeem(&one, &invite.token, "the first password"),
        redeem(&other, &invite.token, "the second password"),
    );
    assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1, "{a:?} {b:?}");
    let winner = if a.is_ok() { "the first password" } else { "the second password" };
    let lost = if a.is_ok() { b } else { a };
    assert!(message(lost).contains("used already"));
    let keys = KeySet::generate().unwrap();
    cluster.stranger().login("alice", winner, keys, None).await.unwrap();
}

#[tokio::test]
async fn invitations_say_what_is_wrong_with_them_to_their_holders_only() {
    let cluster = Cluster::start().await;
    let invite = cluster.invite("alice", &["access"]).await;
    let stranger = cluster.stranger();
    let mut forged = invite.token.clone();
    forged.replace_range(forged.len() - 1.., if forged.ends_with('A') { "B" } else { "A" });
    for wrong in ["", "x", "a.b", &forged] {
        assert!(message(redeem(&stranger, wrong, PASSWORD).await).contains("is not valid"));
    }
    let short = message(redeem(&stranger, &invite.token, "short").await);
    assert!(short.contains("8 characters or more"), "{short}");
    cluster.advance(3600);
    let late = message(redeem(&stranger, &invite.token, PASSWORD).await);
    assert!(late.contains("has expired"), "{late}");
}

#[tokio::test]
async fn a_reset_voids_the_password_the_certificates_and_older_invitations() {
    let cluster = Cluster::start().await;
    let alice = cluster.user("alice", &["access"]).await;
    alice.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap();
    let reset = |user: &str| proto::ResetUserRequest { user: user.into(), invite_ttl_seconds: 60 };
    let admin = cluster.admin.admin();
    let first = admin.clone().reset_user(reset("alice")).await.unwrap().into_inner();
    let second = admin.clone().reset_user(reset("alice")).await.unwrap().into_inner();

    let refused = alice.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
    let keys = KeySet::generate().unwrap();
    assert!(cluster.stranger().login("alice", PASSWORD, keys, None).await.is_err());
    assert!(redeem(&cluster.stranger(), &first.token, PASSWORD).await.is_err());
    redeem(&cluster.stranger(), &second.token, PASSWORD).await.unwrap();
    cluster.advance(1);
    cluster.login("alice").await;
    let unknown = admin.clone().reset_user(reset("bob")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn logging_out_ends_every_certificate_so_far() {
    let cluster = Cluster::start().await;
    let alice = cluster.user("alice", &["access"]).await;
    let other = cluster.as_holder(&cluster.login("alice").await);
    alice.identity().logout(proto::LogoutRequest {}).await.unwrap();
    for client in [&alice, &other] {
        let refused = client.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        assert!(refused.message().contains("log in again"), "{refused}");
    }
    cluster.advance(1);
    let again = cluster.as_holder(&cluster.login("alice").await);
    again.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap();
}

#[tokio::test]
async fn changes_that_meet_are_all_in_force_at_once() {
    let cluster = Cluster::start().await;
    let alice = cluster.user("alice", &["access"]).await;
    let started = std::time::Instant::now();
    let logouts = (0..20).map(|_| {
        let mut identity = alice.identity();
        async move { identity.logout(proto::LogoutRequest {}).await.is_ok() }
    });
    let done = futures::future::join_all(logouts).await;
    assert!(done.contains(&true));
    assert!(alice.identity().who_am_i(proto::WhoAmIRequest {}).await.is_err());
    // None of them has waited for a revision that had been replaced when it looked.
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn certificates_expire_on_open_connections_too() {
    let cluster = Cluster::start().await;
    let alice = cluster.user("alice", &["access"]).await;
    alice.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap();
    cluster.advance(12 * 3600);
    let refused = alice.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    assert!(refused.message().contains("expired"), "{refused}");
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_named_with_the_nearest() {
    let cluster = Cluster::start().await;
    let refused =
        cluster.admin.admin().create_user(create_user("alice", &["acces"])).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert_eq!(
        refused.message(),
        "spec.roles: role \"acces\" does not exist, did you mean \"access\"?"
    );
    let mut role = RoleDocument::from_json(
        br#"{"kind":"role","version":"v1","metadata":{"name":"dev"},"spec":
            {"allow":{"request":{"roles":["editr","*-admin"]}}}}"#,
    )
    .unwrap();
    let write =
        |role: &RoleDocument| proto::WriteRequest { json: role.to_json().unwrap(), force: false };
    let refused = cluster.admin.resources().create(write(&role)).await.unwrap_err();
    assert!(refused.message().contains("did you mean \"editor\""), "{refused}");
    role.spec.allow.request.roles = ["editor"].into();
    cluster.admin.resources().create(write(&role)).await.unwrap();
}

#[tokio::test]
async fn a_removed_user_is_nobody_and_a_new_one_of_the_name_is_another() {
    let cluster = Cluster::start().await;
    let alice = cluster.user("alice", &["access"]).await;
    let pending = cluster.invite("bob", &["access"]).await;
    for user in ["alice", "bob"] {
        let request = proto::DeleteRequest {
            kind: "user".into(),
            name: user.into(),
            revision: String::new(),
        };
        cluster.admin.resources().delete(request).await.unwrap();
    }
    let refused = alice.identity().who_am_i(proto::WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    cluster.advance(1);
    cluster.invite("alice", &["access"]).await;
    cluster.invite("bob", &["access"]).await;
    // Neither the old certificate, nor the old password, nor the old invitation.
    assert!(alice.identity().who_am_i(proto::WhoAmIRequest {}).await.is_err());
    let keys = KeySet::generate().unwrap();
    assert!(cluster.stranger().login("alice", PASSWORD, keys, None).await.is_err());
    assert!(redeem(&cluster.stranger(), &pending.token, PASSWORD).await.is_err());
}

#[tokio::test]
async fn administrators_sign_for_others_and_users_do_not() {
    let cluster = Cluster::start().await;
    let alice = cluster.user("alice", &["access", "auditor"]).await;
    let keys = KeySet::generate().unwrap();
    let request = proto::SignUserRequest {
        user: "alice".into(),
        keys: Some(keys.public().unwrap()),
        ttl_seconds: 7 * 24 * 3600,
    };
    let refused = alice.admin().sign_user(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let answer = cluster.admin.admin().sign_user(request).await.unwrap().into_inner();
    // As long as the role allows: thirty hours.
    assert_eq!(answer.not_after - cluster.now().as_millis(), 30 * 3_600_000);
}

#[tokio::test]
async fn a_user_without_logins_gets_certificates_that_are_good_for_no_account() {
    let cluster = Cluster::start().await;
    cluster.add_user("audrey", &["auditor"]).await;
    let credentials = cluster.login("audrey").await;
    let principals = credentials.ssh_certificate.valid_principals();
    assert!(matches!(principals, [one] if one.starts_with("no-login-")), "{principals:?}");
}

#[tokio::test]
async fn nothing_secret_is_in_documents() {
    let cluster = Cluster::start().await;
    cluster.add_user("alice", &["access"]).await;
    cluster.token(super::cluster::for_types(&["node"])).await;
    let user = cluster.admin.resources().get(get("user", "alice")).await.unwrap().into_inner();
    let document = UserDocument::from_json(&user.json).unwrap();
    assert_eq!(document.metadata.revision.as_deref(), Some(user.revision.as_str()));
    for kind in ["user", "token", "invite", "authority", "cluster_config"] {
        let request = proto::ListRequest { kind: kind.into(), ..Default::default() };
        let list = cluster.admin.resources().list(request).await.unwrap().into_inner();
        for document in list.documents {
            let text = String::from_utf8(document.json).unwrap();
            for secret in ["argon2", "hash", "sealed", "private"] {
                assert!(!text.contains(secret), "{kind}: {text}");
            }
        }
    }
}
