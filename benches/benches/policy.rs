//! Decisions, and listings of what somebody may see.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark: it prints its result, and has nobody to hand an error to"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use access_ca::{
    Authority, IssuingPolicy, KeyAlgorithm, KeyPurpose, KeyStore, NewAuthority, SealingKey,
    SoftwareKeyStore, UserDraft,
};
use access_core::identity::{AuthorityKind, Identity, Subject, TrustStore, VerifiedIdentity};
use access_core::policy::{Action, Context, PolicySnapshot, Target, UserState, decide, visible};
use access_core::resource::Labels;
use access_core::role::RoleDocument;
use access_core::{
    ClusterName, HostId, Login, Resource, ResourceKind, ResourceName, ResourceRef, RoleName,
    Timestamp, UserName,
};
use criterion::Criterion;

const NODES: usize = 50_000;
const DECIDE: Duration = Duration::from_micros(1);
const LISTING: Duration = Duration::from_millis(50);

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn role(i: usize) -> RoleDocument {
    let json = format!(
        r#"{{"kind": "role", "version": "v1", "metadata": {{"name": "role-{i}"}}, "spec": {{
           "options": {{"client_idle_timeout": "30m", "max_sessions": 10}},
           "allow": {{"logins": ["{{{{internal.logins}}}}", "ubuntu"],
                     "node_labels": {{"env": ["dev", "e{}"], "team": "*"}}}},
           "deny": {{"node_labels": {{"secret": "yes"}}}}}}}}"#,
        i % 10
    );
    RoleDocument::from_json(json.as_bytes()).unwrap()
}

/// Ten of the hundred.
fn held() -> Vec<RoleName> {
    (0..10).map(|i| RoleName::new(format!("role-{}", i * 7)).unwrap()).collect()
}

fn snapshot() -> PolicySnapshot {
    (0..100)
        .fold(PolicySnapshot::builder(), |builder, i| builder.role(&role(i)))
        .user(UserName::new("alice").unwrap(), UserState::with_roles(held()))
        .build()
}

/// Alice, as a certificate proves her.
fn alice() -> VerifiedIdentity {
    let cluster = ClusterName::new("example.com").unwrap();
    let store = SoftwareKeyStore::new(SealingKey::generate().unwrap());
    let new = NewAuthority::new(cluster.clone(), AuthorityKind::User);
    let authority = Authority::create(&store, &new, now()).unwrap();
    let subject = Subject::User { name: UserName::new("alice").unwrap() };
    let mut identity = Identity::new(cluster.clone(), subject, now());
    identity.roles = held();
    identity.logins = ["alice", "root", "ubuntu"].map(|name| Login::new(name).unwrap()).into();
    identity.traits = [("logins".to_owned(), ["alice".to_owned()].into())].into_iter().collect();
    let mut draft = UserDraft::new(identity, Duration::from_secs(3600));
    let key = store.create(KeyAlgorithm::EcdsaP256, &KeyPurpose::new("subject")).unwrap().1;
    draft.tls_public_key = Some(key.public_key().spki_der().to_vec());
    let policy = IssuingPolicy::new(now(), Duration::from_secs(12 * 3600));
    let signed = draft.vet(&policy).unwrap().sign(&authority).unwrap();
    let trust = TrustStore::new(cluster, [authority.trusted().clone()]).unwrap();
    trust.verify_tls(&signed.tls_chain(), now()).unwrap()
}

fn node(name: &str, env: &str) -> Resource {
    let labels = [("env", env), ("team", "web"), ("os", "linux")];
    Resource::new(
        ResourceRef { kind: ResourceKind::Node, name: ResourceName::new(name).unwrap() },
        labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Labels>(),
        HostId::new("host-1").unwrap(),
    )
}

/// The median over rounds of one call's time.
fn median(rounds: usize, count: u32, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            (0..count).for_each(|_| work());
            start.elapsed() / count
        })
        .collect();
    times.sort();
    times.get(rounds / 2).copied().unwrap_or_default()
}

fn main() {
    let (snapshot, who) = (snapshot(), alice());
    let target = Target::Resource(node("web-1", "e0"));
    let elsewhere = Target::Resource(node("web-2", "e5"));
    let action = Action::SshSession { login: Login::new("alice").unwrap() };
    let nodes: Vec<_> =
        (0..NODES).map(|i| node(&format!("n{i}"), &format!("e{}", i % 12))).collect();
    let context = Context::default();
    let ask = |target: &Target| {
        decide(&snapshot, black_box(&who), &action, black_box(target), &context, now())
    };
    let list = || visible(&snapshot, &who, &context, now(), &nodes).count();
    assert!(ask(&target).is_allow());
    let seen = list();
    assert!(seen > 0 && seen < NODES);

    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("decide, 10 of 100 roles, allowed", |b| b.iter(|| ask(&target)));
    criterion.bench_function("decide, 10 of 100 roles, another", |b| b.iter(|| ask(&elsewhere)));
    criterion.bench_function("list 50,000 nodes", |b| b.iter(list));
    criterion.final_summary();

    let each = median(501, 1000, || assert!(ask(&target).is_allow()));
    let listing = median(21, 1, || assert_eq!(list(), seen));
    let verdict = |reached| if reached { "reached" } else { "MISSED" };
    println!("decide, 10 of 100 roles: {each:?} (target {DECIDE:?} {})", verdict(each <= DECIDE));
    println!(
        "listing, {seen} of {NODES} nodes: {listing:?} (target {LISTING:?} {})",
        verdict(listing <= LISTING)
    );
}
