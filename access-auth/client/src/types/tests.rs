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

fn dynamic(spec: &str) -> Result<DbDocument, String> {
    let json = format!(
        r#"{{"kind":"db","version":"v1","metadata":{{"name":"orders"}},"spec":{{{spec}}}}}"#
    );
    let document = DbDocument::from_json(json.as_bytes()).map_err(|err| err.to_string())?;
    document.spec.check().map_err(|err| err.to_string())?;
    Ok(document)
}

#[test]
fn an_administrator_s_database_has_no_host() {
    let document = dynamic(
        r#""origin":"dynamic","protocol":"postgres","uri":"a.internal:5432, [::1]:1,10.0.0.1:2",
            "tls":{"mode":"verify-ca","server_name":"db.internal","negotiation":"direct"}"#,
    )
    .unwrap();
    assert!(document.spec.is_dynamic());
    assert_eq!(document.spec.tls.mode, TlsMode::VerifyCa);
    round_trip(&document);
    let resource = document.spec.resource(&document.metadata).unwrap();
    assert_eq!(resource.id.to_string(), "db/orders");
    // What Auth adds is not the administrator's.
    let host = HostId::new("h-1").unwrap();
    let mut shown = document.spec.clone();
    shown.servers.push(DbServer {
        host: host.clone(),
        hostname: "web-1".into(),
        version: String::new(),
        role_schema: 1,
        health: Health::default(),
    });
    round_trip(&DbDocument::new("orders", shown.clone()));
    assert_eq!(shown.as_registered(), document.spec);
    assert!(!DbSpec::new(DbProtocol::Postgres, "a:1", host).is_dynamic());
}

#[test]
fn what_is_wrong_with_an_administrator_s_database_is_said() {
    let uri = |uri: &str| dynamic(&format!(r#""protocol":"postgres","uri":"{uri}""#));
    for good in ["db:5432", "db_1.internal:1", "127.0.0.1:65535", "a:1,b:2"] {
        uri(good).unwrap();
    }
    for (bad, why) in [
        ("db", "\"db\" is no HOST:PORT"),
        ("db:", "is no port"),
        ("db:0", "is no port"),
        ("db:+1", "is no port"),
        ("db:65536", "is no port"),
        (":5432", "is no HOST:PORT"),
        ("a:1,", "is no HOST:PORT"),
        ("::1:5432", "IPv6 in brackets"),
        ("a b:5432", "neither a DNS name nor an address"),
        ("/run/postgresql:5432", "neither a DNS name nor an address"),
        ("postgres://db:5432/x", "without postgres://"),
        ("postgres://u:p@db:5432", "without accounts or passwords"),
        ("", "is missing"),
    ] {
        let err = uri(bad).unwrap_err();
        assert!(err.starts_with("spec.uri: ") && err.contains(why), "{bad}: {err}");
    }
    let many = vec!["a:1"; 17].join(",");
    assert!(uri(&many).unwrap_err().contains("16 addresses at most"));

    let more = |more: &str| dynamic(&format!(r#""protocol":"postgres","uri":"a:1",{more}"#));
    let pem = r"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = r"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (text, why) in [
        (r#""urii":"x""#.to_owned(), "did you mean \"uri\"?"),
        (r#""password_file":"/p""#.into(), "spec.password_file: agents read no files"),
        (r#""tls":{"ca_cert_file":"/ca"}"#.into(), "spec.tls.ca_cert_file: agents read no files"),
        (r#""tls":{"ca_cert":"/etc/ca.pem"}"#.into(), "spec.tls.ca_cert: there is no certificate"),
        (format!(r#""tls":{{"ca_cert":"{pem}"}}"#), "spec.tls.ca_cert: no authority's"),
        (format!(r#""tls":{{"ca_cert":"{key}"}}"#), "spec.tls.ca_cert: there is a private key"),
        (format!(r#""tls":{{"mode":"require","ca_cert":"{pem}"}}"#), "verifies nothing by it"),
        (r#""tls":{"mode":"verify"}"#.into(), "spec.tls.mode: unknown value \"verify\""),
        (r#""tls":{"server_name":"a b"}"#.into(), "spec.tls.server_name: "),
        (r#""origin":"config""#.into(), "spec.host: it is missing"),
        (r#""origin":"dynamic","host":"h-1""#.into(), "spec.host: a dynamic database has none"),
    ] {
        let err = more(&text).unwrap_err();
        assert!(err.contains(why), "{text}: {err}");
    }
    let err = dynamic(r#""protocol":"mysql","uri":"a:1""#).unwrap_err();
    assert!(err.contains("\"mysql\"") && err.contains("cockroachdb"), "{err}");
}
