//! What the tests share: a cluster, its authorities, identities and subject keys.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use access_ca::*;
use access_core::identity::{AuthorityKind, Service, Subject};
use access_core::{
    ClusterName, HostId, Identity, Login, ResourceName, ResourceRef, Timestamp, TrustStore,
    UserName,
};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const HOST_ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

pub(crate) fn cluster() -> ClusterName {
    ClusterName::new("example.com").unwrap()
}

/// The real time, because real peers look at it.
#[allow(clippy::disallowed_methods, reason = "real peers have the real clock")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(since.as_millis().try_into().unwrap())
}

pub(crate) fn store() -> SoftwareKeyStore {
    SoftwareKeyStore::new(SealingKey::from_bytes([7; 32]))
}

pub(crate) fn authority(kind: AuthorityKind) -> Authority {
    authority_with(kind, KeyAlgorithm::Ed25519)
}

pub(crate) fn authority_with(kind: AuthorityKind, ssh_algorithm: KeyAlgorithm) -> Authority {
    let new = NewAuthority { ssh_algorithm, ..NewAuthority::new(cluster(), kind) };
    Authority::create(&store(), &new, now()).unwrap()
}

pub(crate) fn trust(authorities: &[&Authority]) -> TrustStore {
    TrustStore::new(cluster(), authorities.iter().map(|a| a.trusted().clone())).unwrap()
}

pub(crate) fn key(algorithm: KeyAlgorithm) -> Arc<dyn Signer> {
    store().create(algorithm, &KeyPurpose::new("subject")).unwrap().1
}

pub(crate) fn user(logins: &[&str]) -> Identity {
    let subject = Subject::User { name: UserName::new("alice").unwrap() };
    let mut identity = Identity::new(cluster(), subject, now());
    identity.logins = logins.iter().map(|login| Login::new(login).unwrap()).collect();
    identity
}

pub(crate) fn host() -> Identity {
    let subject = Subject::Host {
        id: HostId::new(HOST_ID).unwrap(),
        services: [Service::Node].into(),
        resources: vec![ResourceRef::node(ResourceName::new("web-1").unwrap())],
    };
    Identity::new(cluster(), subject, now())
}

/// A draft for alice with both keys.
pub(crate) fn user_draft(logins: &[&str]) -> UserDraft {
    let mut draft = UserDraft::new(user(logins), HOUR);
    draft.ssh_public_key = Some(key(KeyAlgorithm::Ed25519).public_key().ssh().clone());
    draft.tls_public_key = Some(key(KeyAlgorithm::EcdsaP256).public_key().spki_der().to_vec());
    draft
}

/// A draft for web-1's agent with both keys.
pub(crate) fn host_draft() -> HostDraft {
    let mut draft = HostDraft::new(host(), HOUR).unwrap();
    draft.ssh_public_key = Some(key(KeyAlgorithm::Ed25519).public_key().ssh().clone());
    draft.tls_public_key = Some(key(KeyAlgorithm::EcdsaP256).public_key().spki_der().to_vec());
    draft
}

pub(crate) fn policy() -> IssuingPolicy {
    IssuingPolicy::new(now(), 12 * HOUR)
}

/// Runs a program to its end; it must be there.
pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|err| panic!("{program} is needed by this test: {err}"))
}

/// The standard output of a program that must succeed.
pub(crate) fn stdout(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
