//! The first contact: who knows nothing but a pin must not be led astray by a name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use access_ca::*;
use access_core::identity::{AuthorityKind, Identity, Service, Subject, cluster_of_root};
use access_core::time::{Clock, ManualClock};
use access_core::tls::{ClientAuth, ServerTrust, SharedKey, client_config, server_config};
use access_core::{ClusterName, HostId, Timestamp};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A host of example.com, and whether a client that is told `cluster` believes it to be that
/// cluster's Auth.
async fn believed(
    services: Service,
    extra_name: Option<&str>,
    cluster: &str,
) -> Result<(), String> {
    let store = SoftwareKeyStore::new(SealingKey::generate().unwrap());
    let example = ClusterName::new("example.com").unwrap();
    let new = NewAuthority::new(example.clone(), AuthorityKind::Host);
    let authority = Authority::create(&store, &new, NOW).unwrap();
    assert_eq!(cluster_of_root(authority.tls_root()), Some(example.clone()));

    let subject = Subject::Host {
        id: HostId::new("h-1").unwrap(),
        services: [services].into(),
        resources: Vec::new(),
    };
    let identity = Identity::new(example, subject, NOW);
    let mut draft = HostDraft::new(identity, Duration::from_secs(3600)).unwrap();
    if let Some(name) = extra_name {
        draft.add_name(name.parse().unwrap());
    }
    let key = rcgen::KeyPair::generate().unwrap();
    draft.tls_public_key = Some(rcgen::PublicKeyData::subject_public_key_info(&key));
    let policy = IssuingPolicy::new(NOW, Duration::from_secs(3600));
    let signed = draft.vet(&policy).unwrap().sign(&authority).unwrap();

    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    let shown = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let shown = Arc::new(SharedKey::new(signed.tls_chain(), shown).unwrap());
    let server = server_config(ClientAuth::None, shown, clock.clone(), &[]).unwrap();
    let cluster = ClusterName::new(cluster).unwrap();
    let name = ServerName::try_from(format!("auth.{cluster}")).unwrap();
    let trust = ServerTrust::PinnedCluster { pins: vec![authority.pin()], cluster };
    let client = client_config(trust, None, clock, &[]).unwrap();

    let (near, far) = tokio::io::duplex(64 * 1024);
    let accept = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far);
    let connect = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, near);
    let (accepted, connected) = tokio::join!(accept, connect);
    drop(accepted);
    connected.map(drop).map_err(|err| err.to_string())
}

#[tokio::test]
async fn auth_of_the_pinned_cluster_is_believed() {
    believed(Service::Auth, None, "example.com").await.unwrap();
}

#[tokio::test]
async fn another_host_of_the_cluster_is_not_auth() {
    assert!(believed(Service::Proxy, None, "example.com").await.is_err());
}

#[tokio::test]
async fn a_name_of_another_cluster_under_the_same_root_is_not_believed() {
    let refused = believed(Service::Proxy, Some("auth.evil.test"), "evil.test").await;
    assert!(refused.unwrap_err().contains("UnknownIssuer"));
}
