use access_client::{ClientError, Credentials, KeySet, proto};
use access_core::identity::{AuthorityKind, Service, Subject};
use tonic::Code;

use super::cluster::{Cluster, claims, for_types, message};

async fn join(
    cluster: &Cluster,
    token: &str,
    claims: proto::HostClaims,
) -> Result<Credentials, ClientError> {
    cluster.stranger().join(token, None, claims, KeySet::generate().unwrap()).await
}

async fn release(cluster: &Cluster, node: &str) {
    let request =
        proto::DeleteRequest { kind: "node".into(), name: node.into(), revision: String::new() };
    cluster.admin.resources().delete(request).await.unwrap();
}

fn resources(credentials: &Credentials, cluster: &Cluster) -> Vec<String> {
    let trust = credentials.trust_store().unwrap();
    let who = trust.verify_tls(&credentials.tls_chain, cluster.now()).unwrap();
    assert_eq!(who.authority(), AuthorityKind::Host);
    match &who.identity().subject {
        Subject::Host { resources, .. } => resources.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?} is no host"),
    }
}

#[tokio::test]
async fn a_host_joins_and_renews() {
    let cluster = Cluster::start().await;
    let token = cluster.token(for_types(&["node"])).await;
    let joined = join(&cluster, &token, claims(&["node"], &["web-1"])).await.unwrap();
    let id = joined.host_id.clone().unwrap();
    assert_eq!(resources(&joined, &cluster), ["node/web-1"]);
    let trust = joined.trust_store().unwrap();
    let who = trust.verify_tls(&joined.tls_chain, cluster.now()).unwrap();
    let (host, services) = who.host().unwrap();
    assert_eq!((host, services.len()), (&id, 1));
    assert!(services.contains(&Service::Node));
    assert_eq!(
        joined.ssh_certificate.valid_principals(),
        [id.as_str(), "web-1", "web-1.node.example.com"]
    );

    cluster.advance(12 * 3600);
    let keys = KeySet::generate().unwrap();
    let host = cluster.as_holder(&joined);
    let renewed = host.renew_host(claims(&["node"], &["web-1", "web-2"]), keys).await.unwrap();
    assert_eq!(renewed.host_id.as_ref(), Some(&id));
    assert_eq!(resources(&renewed, &cluster), ["node/web-1", "node/web-2"]);
    assert_eq!(renewed.validity.not_after().since(cluster.now()).as_secs(), 24 * 3600);

    let more = claims(&["node", "proxy"], &["web-1"]);
    let refused = cluster.as_holder(&renewed).renew_host(more, KeySet::generate().unwrap()).await;
    assert!(message(refused).contains("did not join as proxy"));
    let events = cluster.events().await;
    let join = events.iter().find(|event| event["event"] == "instance.join").unwrap();
    assert_eq!((&join["code"], &join["success"]), (&"TJ002I".into(), &true.into()));
    assert!(!join.to_string().contains(token.split('.').nth(1).unwrap()), "{join}");
}

#[tokio::test]
async fn wrong_spent_and_expired_tokens_say_so() {
    let cluster = Cluster::start().await;
    let once = proto::CreateTokenRequest { uses: 1, ..for_types(&["node"]) };
    let token = cluster.token(once.clone()).await;
    join(&cluster, &token, claims(&["node"], &["web-1"])).await.unwrap();
    let spent = message(join(&cluster, &token, claims(&["node"], &["web-2"])).await);
    assert!(spent.contains("is spent"), "{spent}");

    let late = cluster.token(once).await;
    cluster.advance(30 * 60);
    let expired = message(join(&cluster, &late, claims(&["node"], &["web-2"])).await);
    assert!(expired.contains("has expired"), "{expired}");

    // Whoever has only the public half learns nothing of it.
    let id = late.split('.').next().unwrap();
    for wrong in ["", "nonsense", "0123456789abcdef.x", &format!("{id}.AAAA")] {
        let refused = message(join(&cluster, wrong, claims(&["node"], &["web-2"])).await);
        assert!(refused.contains("the join token is not valid"), "{refused}");
    }
    let events = cluster.events().await;
    let codes = |code: &str| events.iter().filter(|event| event["code"] == code).count();
    assert_eq!((codes("TJ002I"), codes("TJ002L"), codes("TJ002E")), (1, 2, 4));
}

#[tokio::test]
async fn a_token_is_used_as_often_as_it_may_be_and_no_more() {
    let cluster = Cluster::start().await;
    let token = cluster.token(proto::CreateTokenRequest { uses: 3, ..for_types(&["node"]) }).await;
    let joins = (0..8).map(|n| {
        let (client, token) = (cluster.stranger(), token.clone());
        async move {
            let claims = claims(&["node"], &[&format!("web-{n}")]);
            client.join(&token, None, claims, KeySet::generate().unwrap()).await
        }
    });
    let joined = futures::future::join_all(joins).await;
    assert_eq!(joined.iter().filter(|result| result.is_ok()).count(), 3);
    for refused in joined.into_iter().filter(Result::is_err) {
        let why = message(refused);
        assert!(why.contains("is spent"), "{why}");
    }
}

#[tokio::test]
async fn a_token_binds_types_names_and_labels() {
    let cluster = Cluster::start().await;
    let token = cluster
        .token(proto::CreateTokenRequest {
            names: vec!["node/web-1".into()],
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            ..for_types(&["node"])
        })
        .await;
    let other_name = join(&cluster, &token, claims(&["node"], &["web-2"])).await;
    assert!(message(other_name).contains("bound to other names"));
    let other_type = join(&cluster, &token, claims(&["proxy"], &[])).await;
    assert!(message(other_type).contains("is for node, not for proxy"));
    let joined = join(&cluster, &token, claims(&["node"], &["web-1"])).await.unwrap();
    let renewal = cluster
        .as_holder(&joined)
        .renew_host(claims(&["node"], &["web-1", "web-2"]), KeySet::generate().unwrap())
        .await;
    assert!(message(renewal).contains("bound to other names"));
}

#[tokio::test]
async fn a_name_stays_with_its_owner_until_it_is_released() {
    let cluster = Cluster::start().await;
    let token = cluster.token(for_types(&["node"])).await;
    let first = join(&cluster, &token, claims(&["node"], &["web-1"])).await.unwrap();
    let taken = message(join(&cluster, &token, claims(&["node"], &["web-1"])).await);
    assert!(taken.contains("node/web-1 belongs to another host"), "{taken}");
    assert!(taken.contains("accessctl rm node/web-1"), "{taken}");
    let dbs = cluster.token(for_types(&["db"])).await;
    let mut wanted = claims(&["db"], &[]);
    wanted.resources = vec!["db/roach".into()];
    join(&cluster, &dbs, wanted.clone()).await.unwrap();
    let taken = message(join(&cluster, &dbs, wanted).await);
    assert!(taken.contains("db/roach belongs to another host"), "{taken}");
    assert!(taken.contains("accessctl rm db/roach"), "{taken}");
    // A refused join claims nothing, the other names of it neither.
    assert!(join(&cluster, &token, claims(&["node"], &["web-2", "web-1"])).await.is_err());
    join(&cluster, &token, claims(&["node"], &["web-2"])).await.unwrap();

    release(&cluster, "web-1").await;
    join(&cluster, &token, claims(&["node"], &["web-1"])).await.unwrap();
    let lost = cluster
        .as_holder(&first)
        .renew_host(claims(&["node"], &["web-1"]), KeySet::generate().unwrap())
        .await;
    assert!(message(lost).contains("belongs to another host"));
    let released = cluster.events().await.into_iter().any(|e| e["event"] == "resource.release");
    assert!(released);
}

#[tokio::test]
async fn a_proxy_is_known_by_its_public_names() {
    let cluster = Cluster::start().await;
    let token = cluster.token(for_types(&["proxy"])).await;
    let names = ["gw.example.org", "203.0.113.7", "auth.example.com"];
    let mut wanted = claims(&["proxy"], &[]);
    wanted.public_names = names.map(str::to_owned).to_vec();
    let refused = join(&cluster, &token, wanted.clone()).await;
    assert!(message(refused).contains("auth.example.com"));
    wanted.public_names.pop();
    let joined = join(&cluster, &token, wanted).await.unwrap();
    let principals = joined.ssh_certificate.valid_principals();
    for name in ["proxy.example.com", "gw.example.org", "203.0.113.7"] {
        assert!(principals.iter().any(|principal| principal == name), "{principals:?}");
    }
}

#[tokio::test]
async fn a_proxys_public_name_is_no_other_hosts_resource() {
    let cluster = Cluster::start().await;
    cluster.node("db.internal.example.org").await;
    let token = cluster.token(for_types(&["proxy"])).await;
    let mut wanted = claims(&["proxy"], &[]);
    wanted.public_names = vec!["gw.example.org".into()];
    let joined = join(&cluster, &token, wanted.clone()).await.unwrap();

    wanted.public_names = vec!["db.internal.example.org".into()];
    let refused = message(join(&cluster, &token, wanted.clone()).await);
    assert!(refused.contains("node/db.internal.example.org"), "{refused}");
    let keys = KeySet::generate().unwrap();
    let refused = message(cluster.as_holder(&joined).renew_host(wanted.clone(), keys).await);
    assert!(refused.contains("node/db.internal.example.org"), "{refused}");

    // A host that is both is one host under either name.
    let token = cluster.token(for_types(&["proxy", "node"])).await;
    let mut both = claims(&["proxy", "node"], &["both.example.org"]);
    both.public_names = vec!["both.example.org".into()];
    let joined = join(&cluster, &token, both.clone()).await.unwrap();
    let keys = KeySet::generate().unwrap();
    cluster.as_holder(&joined).renew_host(both, keys).await.unwrap();
}

#[tokio::test]
async fn a_host_id_is_drawn_and_not_chosen() {
    let cluster = Cluster::start().await;
    let token = cluster.token(for_types(&["node"])).await;
    let join = async |id: &str, node: &str| {
        let request = proto::JoinRequest {
            token: token.clone(),
            keys: Some(KeySet::generate().unwrap().public().unwrap()),
            host_id: id.into(),
            claims: Some(claims(&["node"], &[node])),
        };
        cluster.stranger().entry().join(request).await.map(|joined| joined.into_inner().host_id)
    };
    let upper = "6F1A2B3C-0000-4000-8000-0123456789AB";
    for id in ["web-1", "auth", "alice", upper, "6f1a2b3c-0000-4000-8000-0123456789a", "../x"] {
        let refused = join(id, "web-1").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{id}");
        assert!(refused.message().contains(id), "{refused}");
    }
    let drawn = upper.to_lowercase();
    assert_eq!(join(&drawn, "web-1").await.unwrap(), drawn);
    assert_eq!(join("", "web-2").await.unwrap().len(), drawn.len());
}

#[tokio::test]
async fn a_host_shares_no_limit_with_a_user_of_its_name() {
    let few = access_auth::Rate::new(5, 0.001);
    let cluster = Cluster::with(|options| options.limits.calls = few).await;
    let joined = cluster.node("web-1").await;
    let user = cluster.user(joined.host_id.as_ref().unwrap().as_str(), &["access"]).await;
    let who = proto::WhoAmIRequest {};
    for _ in 0..5 {
        user.identity().who_am_i(who).await.unwrap();
    }
    let limited = user.identity().who_am_i(who).await.unwrap_err();
    assert_eq!(limited.code(), Code::ResourceExhausted);
    cluster.as_holder(&joined).identity().who_am_i(who).await.unwrap();
}

#[tokio::test]
async fn a_host_id_is_taken_over_by_nobody_without_its_keys() {
    let cluster = Cluster::start().await;
    let token = cluster.token(for_types(&["node"])).await;
    let joined = join(&cluster, &token, claims(&["node"], &["web-1"])).await.unwrap();
    let id = joined.host_id.clone().unwrap();
    let thief = KeySet::generate().unwrap();
    let refused =
        cluster.stranger().join(&token, Some(&id), claims(&["node"], &["web-1"]), thief).await;
    assert!(message(refused).contains("is taken"));
    // The same machine, after its certificates have expired.
    cluster.advance(25 * 60);
    let keys = joined.keys;
    let again = cluster
        .stranger()
        .join(&token, Some(&id), claims(&["node"], &["web-1"]), keys)
        .await
        .unwrap();
    assert_eq!(again.host_id, Some(id));
}

#[tokio::test]
async fn a_copied_certificate_renews_once_and_is_found_out() {
    let cluster = Cluster::start().await;
    let original = cluster.node("web-1").await;
    let host = cluster.as_holder(&original);
    let renew = async |keys: KeySet| host.renew_host(claims(&["node"], &["web-1"]), keys).await;
    let thief = renew(KeySet::generate().unwrap()).await.unwrap();
    let found_out = message(renew(KeySet::generate().unwrap()).await);
    assert!(found_out.contains("were renewed elsewhere"), "{found_out}");
    // An answer that was lost can be asked for again.
    let lost = thief.keys.public().unwrap();
    let request =
        proto::RenewHostRequest { keys: Some(lost), claims: Some(claims(&["node"], &["web-1"])) };
    host.identity().renew_host(request).await.unwrap();
}

#[tokio::test]
async fn servers_outside_get_certificates_for_names_that_are_not_ours() {
    let cluster = Cluster::start().await;
    let keys = KeySet::generate().unwrap();
    let request = |names: &[&str]| proto::SignHostRequest {
        names: names.iter().map(|name| (*name).into()).collect(),
        keys: Some(keys.public().unwrap()),
        ttl_seconds: 3600,
        database: String::new(),
        allow_wildcard: false,
    };
    let admin = cluster.admin.admin();
    let refused = admin.clone().sign_host(request(&["*.example.org"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let why = refused.message();
    assert!(why.contains("*.example.org") && why.contains("--allow-wildcard"), "{why}");
    let request = |names: &[&str]| {
        let request = request(names);
        proto::SignHostRequest { allow_wildcard: true, ..request }
    };
    admin.clone().sign_host(request(&["*.example.org", "db.example.org"])).await.unwrap();
    for name in ["auth.example.com", "proxy.example.com", "*.example.com", "x.node.example.com"] {
        let refused = admin.clone().sign_host(request(&[name])).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{name}");
    }
    let answer = admin.clone().sign_host(request(&["db.internal", "203.0.113.7"])).await.unwrap();
    let signed = Credentials::from_answer(keys, answer.into_inner()).unwrap();
    assert_eq!(signed.ssh_certificate.valid_principals(), ["db.internal", "203.0.113.7"]);
    // It is a server's certificate: as a client it is nobody.
    let trust = signed.trust_store().unwrap();
    assert!(trust.verify_tls(&signed.tls_chain, cluster.now()).is_err());
}
