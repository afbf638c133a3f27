//! What the tests of this module are made of.

use std::collections::BTreeSet;

use super::{Action, ApiKind, Context, Decision, PolicySnapshot, Target, Verb, decide};
use crate::identity::{Identity, Service, Subject, Traits, VerifiedIdentity};
use crate::ids::{ClusterName, HostId, Login, ResourceName, RoleName, UserName};
use crate::resource::{Labels, Resource, ResourceKind, ResourceRef};
use crate::role::{PRESETS, RoleDocument};
use crate::time::{Timestamp, Validity};

pub(super) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// The moment at which the tests take place.
pub(super) fn now() -> Timestamp {
    at(1000)
}

pub(super) fn role_name(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

pub(super) fn user_name(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

pub(super) fn login(name: &str) -> Login {
    Login::new(name).unwrap()
}

pub(super) fn traits(pairs: &[(&str, &[&str])]) -> Traits {
    pairs
        .iter()
        .map(|(name, values)| {
            (name.to_string(), values.iter().map(|value| value.to_string()).collect())
        })
        .collect()
}

/// A role document from the JSON of its spec.
pub(super) fn role(name: &str, spec: &str) -> RoleDocument {
    let json = format!(
        r#"{{"kind": "role", "version": "v1", "metadata": {{"name": "{name}"}}, "spec": {spec}}}"#
    );
    RoleDocument::from_json(json.as_bytes()).unwrap()
}

/// Alice with roles, issued at 500, with logins `alice`, `root` and `ubuntu`.
pub(super) fn alice(roles: &[&str]) -> Identity {
    let subject = Subject::User { name: user_name("alice") };
    let mut identity = Identity::new(ClusterName::new("example.com").unwrap(), subject, at(500));
    identity.roles = roles.iter().map(|name| role_name(name)).collect();
    identity.logins = ["alice", "root", "ubuntu"].map(login).to_vec();
    identity.traits = traits(&[("logins", &["alice"])]);
    identity
}

pub(super) fn host(id: &str, services: &[Service]) -> Identity {
    let subject = Subject::Host {
        id: HostId::new(id).unwrap(),
        services: services.iter().copied().collect::<BTreeSet<_>>(),
        resources: Vec::new(),
    };
    Identity::new(ClusterName::new("example.com").unwrap(), subject, at(500))
}

/// Verified, with a certificate that ends at 5000.
pub(super) fn verified(identity: Identity) -> VerifiedIdentity {
    VerifiedIdentity::for_tests(identity, Validity::between(at(0), at(5000)).unwrap())
}

pub(super) fn resource(kind: ResourceKind, name: &str, labels: &[(&str, &str)]) -> Resource {
    Resource::new(
        ResourceRef { kind, name: ResourceName::new(name).unwrap() },
        labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Labels>(),
        HostId::new("host-1").unwrap(),
    )
}

pub(super) fn node(labels: &[(&str, &str)]) -> Resource {
    resource(ResourceKind::Node, "web-1", labels)
}

pub(super) fn ssh(as_whom: &str) -> Action {
    Action::SshSession { login: login(as_whom) }
}

/// One action of every sort. The match makes a new action break the build here until it is
/// listed, and the count makes it break the test until it is in the list too.
pub(super) fn every_action() -> Vec<Action> {
    let user = login("alice");
    let mut actions = vec![
        Action::See,
        Action::SshSession { login: user.clone() },
        Action::SshSftp { login: user.clone() },
        Action::SshForward { login: user.clone(), host: "db".into(), port: 5432 },
        Action::SshListen { login: user.clone(), host: "localhost".into(), port: 8080 },
        Action::SshAgent { login: user.clone() },
        Action::Database { user: user.clone(), database: "app".into() },
        Action::DatabaseStatement {
            user: user.clone(),
            database: "app".into(),
            command: "DROP TABLE".into(),
            writes: true,
        },
        Action::App { method: "GET".into(), path: "/".into() },
        Action::Kubernetes {
            verb: "get".into(),
            namespace: Some("default".into()),
            resource: "pods".into(),
            name: Some("web".into()),
        },
        Action::Desktop { login: user },
    ];
    actions.extend(Verb::ALL.map(Action::Api));
    let sort = |action: &Action| match action {
        Action::See => 0,
        Action::SshSession { .. } => 1,
        Action::SshSftp { .. } => 2,
        Action::SshForward { .. } => 3,
        Action::SshListen { .. } => 4,
        Action::SshAgent { .. } => 5,
        Action::Database { .. } => 6,
        Action::DatabaseStatement { .. } => 7,
        Action::App { .. } => 8,
        Action::Kubernetes { .. } => 9,
        Action::Desktop { .. } => 10,
        Action::Api(_) => 11,
    };
    let sorts: BTreeSet<i32> = actions.iter().map(sort).collect();
    assert_eq!(sorts, (0..=11).collect(), "an action is missing in this list");
    actions
}

/// Every target: a resource of each kind, and each kind of document, of nobody's.
pub(super) fn every_target() -> Vec<Target> {
    let listed = |kind: ResourceKind| match kind {
        ResourceKind::Node
        | ResourceKind::Database
        | ResourceKind::App
        | ResourceKind::KubernetesCluster
        | ResourceKind::Desktop => Target::Resource(resource(kind, "some", &[])),
    };
    ResourceKind::ALL
        .into_iter()
        .map(listed)
        .chain(ApiKind::ALL.iter().map(|kind| Target::api(*kind)))
        .collect()
}

/// The preset roles, without any user in the snapshot.
pub(super) fn preset_policy() -> PolicySnapshot {
    PRESETS
        .iter()
        .filter_map(|name| crate::role::preset(name))
        .fold(PolicySnapshot::builder(), |builder, role| builder.role(&role))
        .trust_unlisted_users()
        .build()
}

pub(super) fn ask(
    snapshot: &PolicySnapshot,
    who: &VerifiedIdentity,
    action: &Action,
    target: &Target,
) -> Decision {
    decide(snapshot, who, action, target, &Context::default(), now())
}

/// Whether alice may have a session on a node.
pub(super) fn may_ssh(snapshot: &PolicySnapshot, identity: Identity, as_whom: &str) -> bool {
    let target = Target::Resource(node(&[("env", "prod")]));
    ask(snapshot, &verified(identity), &ssh(as_whom), &target).is_allow()
}
