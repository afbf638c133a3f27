//! Documents survive their text, and refuse what they do not know.

use access_core::identity::Service;
use access_core::policy::ClusterSettings;
use access_core::{ClusterName, HostId, ResourceRef, RoleName, Timestamp, UserName};

use super::*;

fn round_trip<S: DocumentSpec + PartialEq + std::fmt::Debug>(document: &Document<S>) {
    let json = document.to_json().unwrap();
    assert_eq!(&Document::<S>::from_json(&json).unwrap(), document);
}

#[test]
fn every_kind_survives_its_text() {
    let host = HostId::new("h-1").unwrap();
    let mut user = UserSpec::with_roles([RoleName::new("access").unwrap()]);
    user.traits.entry("logins".into()).or_default().insert("alice".into());
    user.valid_after = Timestamp::from_secs(7);
    round_trip(&UserDocument::new("alice", user));
    round_trip(&NodeDocument::new("web-1", NodeSpec::new(host.clone())));
    round_trip(&ServerDocument::new(
        "h-1",
        ServerSpec {
            service: Service::Proxy,
            host,
            hostname: "p".into(),
            version: "1".into(),
            public_addrs: vec!["example.com:443".into()],
            peer_addr: None,
            role_schema: access_core::role::ROLE_SCHEMA,
        },
    ));
    round_trip(&TokenDocument::new(
        "t1",
        TokenSpec {
            types: vec![Service::Node],
            uses_left: Some(1),
            names: vec!["node/web-1".parse().unwrap(), "roach".parse().unwrap()],
            ..TokenSpec::default()
        },
    ));
    round_trip(&InviteDocument::new(
        "i1",
        InviteSpec {
            user: UserName::new("alice").unwrap(),
            purpose: InvitePurpose::Reset,
            redeemed: false,
            created_by: None,
        },
    ));
    round_trip(&ClusterConfigDocument::new(
        ClusterConfigSpec::NAME,
        ClusterConfigSpec {
            cluster_name: ClusterName::new("example.com").unwrap(),
            cluster_id: "c".into(),
            created_at: Timestamp::EPOCH,
            settings: ClusterSettings::default(),
            proxies: Vec::new(),
        },
    ));
}

#[test]
fn an_unknown_field_is_named_with_the_nearest() {
    let json = br#"{"kind":"user","version":"v1","metadata":{"name":"a"},"spec":{"rols":[]}}"#;
    let err = UserDocument::from_json(json).unwrap_err().to_string();
    assert!(err.contains("rols") && err.contains("roles"), "{err}");
}

#[test]
fn a_token_binds_names_of_a_kind_or_of_all() {
    let bound = |names: &[&str]| TokenSpec {
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        ..TokenSpec::default()
    };
    let node: ResourceRef = "node/web-1".parse().unwrap();
    let db: ResourceRef = "db/web-1".parse().unwrap();
    assert!(bound(&[]).binds(&node));
    assert!(bound(&["web-1"]).binds(&node) && bound(&["web-1"]).binds(&db));
    assert!(bound(&["node/web-1"]).binds(&node) && !bound(&["node/web-1"]).binds(&db));
    assert!(!bound(&["web-2"]).binds(&node));
    assert!("what/web-1".parse::<NameBinding>().is_err());
}

#[test]
fn a_node_is_what_decisions_look_at() {
    let mut node = NodeDocument::new("web-1", NodeSpec::new(HostId::new("h-1").unwrap()));
    node.metadata.labels.insert("env".into(), "prod".into());
    let resource = node.spec.resource(&node.metadata).unwrap();
    assert_eq!(resource.id.to_string(), "node/web-1");
    assert_eq!(resource.labels["env"], "prod");
}
