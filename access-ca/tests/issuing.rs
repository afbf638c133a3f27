//! What is issued verifies, what must not be issued is not, and what was changed is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use access_ca::*;
use access_core::identity::{AuthorityKind, Proof, Service, Subject, VerifyError};
use access_core::{ClusterName, HostId, Login, Timestamp, UserName};
use common::*;
use rustls_pki_types::CertificateDer;
use ssh_key::Certificate;
use ssh_key::certificate::CertType;

fn login(name: &str) -> Login {
    Login::new(name).unwrap()
}

#[test]
fn users_verify_by_ssh_and_by_tls() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::EcdsaP256] {
        let authority = authority_with(AuthorityKind::User, algorithm);
        let trust = trust(&[&authority]);
        let signed =
            user_draft(&["alice", "root"]).vet(&policy()).unwrap().sign(&authority).unwrap();
        let ssh = signed.ssh().unwrap();
        let by_ssh = trust.verify_ssh_user(ssh, &login("root"), None, now()).unwrap();
        let by_tls = trust.verify_tls(&signed.tls_chain(), now()).unwrap();
        assert_eq!((by_ssh.proof(), by_tls.proof()), (Proof::Ssh, Proof::Tls));
        for verified in [by_ssh, by_tls] {
            assert_eq!(Some(verified.identity()), signed.identity());
            assert_eq!(verified.validity(), signed.validity());
            assert_eq!(verified.authority(), AuthorityKind::User);
        }
        assert_eq!(ssh.key_id(), "alice");
        assert!(matches!(
            trust.verify_ssh_user(ssh, &login("bob"), None, now()),
            Err(VerifyError::Principal(_))
        ));
    }
}

#[test]
fn hosts_verify_by_tls_and_own_their_names() {
    let authority = authority(AuthorityKind::Host);
    let mut draft = host_draft();
    draft.add_name("203.0.113.9".parse().unwrap());
    let signed = draft.vet(&policy()).unwrap().sign(&authority).unwrap();
    let verified = trust(&[&authority]).verify_tls(&signed.tls_chain(), now()).unwrap();
    assert_eq!(verified.host().unwrap().0.as_str(), HOST_ID);

    let leaf = signed.tls_leaf().unwrap();
    let parsed = x509_parser::parse_x509_certificate(leaf).unwrap().1;
    let names = format!("{:?}", parsed.subject_alternative_name().unwrap().unwrap().value);
    for name in [
        &format!("DNSName(\"{HOST_ID}.agent.example.com\")"),
        "DNSName(\"web-1.node.example.com\")",
        "IPAddress([203, 0, 113, 9])",
        &format!("URI(\"spiffe://example.com/agent/{HOST_ID}\")"),
    ] {
        assert!(names.contains(name), "{name} is not in {names}");
    }
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth);

    let ssh = signed.ssh().unwrap();
    assert_eq!(ssh.cert_type(), CertType::Host);
    assert_eq!(ssh.valid_principals(), [HOST_ID, "web-1", "web-1.node.example.com", "203.0.113.9"]);
    assert!(ssh.critical_options().is_empty());
    assert!(!ssh.extensions().keys().any(|name| name.starts_with("permit-")));
}

#[test]
fn the_authoritys_own_services_get_their_names() {
    let names = |service: Service| {
        let mut identity = host();
        identity.subject = Subject::Host {
            id: HostId::new(HOST_ID).unwrap(),
            services: [service].into(),
            resources: vec![],
        };
        let draft = HostDraft::new(identity, HOUR).unwrap();
        draft.names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let agent = format!("{HOST_ID}.agent.example.com");
    assert_eq!(names(Service::Auth), [agent.as_str(), "auth.example.com"]);
    assert_eq!(names(Service::Proxy), [agent.as_str(), "proxy.example.com"]);

    let authority = authority(AuthorityKind::Host);
    let web = ServerDraft {
        cluster: cluster(),
        names: vec!["*.app.example.com".parse().unwrap()],
        tls_public_key: key(KeyAlgorithm::EcdsaP256).public_key().spki_der().to_vec(),
        ttl: HOUR,
    };
    let signed = web.vet(&policy()).unwrap().sign(&authority).unwrap();
    assert!(signed.identity().is_none());
    // It serves, and is nobody.
    assert!(trust(&[&authority]).verify_tls(&signed.tls_chain(), now()).is_err());
}

#[test]
fn strangers_certificates_are_refused() {
    let (users, hosts) = (authority(AuthorityKind::User), authority(AuthorityKind::Host));
    let ours = trust(&[&users, &hosts]);

    // Another authority of the same name.
    let impostor = authority(AuthorityKind::User);
    let forged = user_draft(&["root"]).vet(&policy()).unwrap().sign(&impostor).unwrap();
    assert_eq!(ours.verify_tls(&forged.tls_chain(), now()).unwrap_err(), VerifyError::Untrusted);
    assert_eq!(
        ours.verify_ssh_user(forged.ssh().unwrap(), &login("root"), None, now()).unwrap_err(),
        VerifyError::Untrusted
    );

    // A host as a user.
    let host = host_draft().vet(&policy()).unwrap().sign(&hosts).unwrap();
    assert!(matches!(
        ours.verify_ssh_user(host.ssh().unwrap(), &login("web-1"), None, now()),
        Err(VerifyError::WrongType(_))
    ));
    assert!(ours.verify_tls(&host.tls_chain(), now()).unwrap().identity().subject.user().is_none());

    // Expired, and not yet valid.
    let signed = user_draft(&["root"]).vet(&policy()).unwrap().sign(&users).unwrap();
    for at in [signed.validity().not_after(), signed.validity().not_before().minus(HOUR)] {
        assert!(matches!(ours.verify_tls(&signed.tls_chain(), at), Err(VerifyError::Time(_))));
        assert!(matches!(
            ours.verify_ssh_user(signed.ssh().unwrap(), &login("root"), None, at),
            Err(VerifyError::Time(_))
        ));
    }
    let last = signed.validity().not_after().minus(Duration::from_millis(1));
    assert!(ours.verify_tls(&signed.tls_chain(), last).is_ok());

    // Another cluster.
    let elsewhere = ClusterName::new("example.org").unwrap();
    let new = NewAuthority::new(elsewhere.clone(), AuthorityKind::User);
    let theirs = Authority::create(&store(), &new, now()).unwrap();
    let mut draft = user_draft(&["root"]);
    draft.identity.cluster = elsewhere;
    let signed = draft.vet(&policy()).unwrap().sign(&theirs).unwrap();
    assert_eq!(ours.verify_tls(&signed.tls_chain(), now()).unwrap_err(), VerifyError::Untrusted);
}

#[test]
fn a_chain_that_was_verified_once_is_not_believed_for_ever() {
    let users = authority(AuthorityKind::User);
    let ours = trust(&[&users]);
    let signed = user_draft(&["root"]).vet(&policy()).unwrap().sign(&users).unwrap();
    let chain = signed.tls_chain();
    let first = ours.verify_tls(&chain, now()).unwrap();
    let again = ours.verify_tls(&chain, now()).unwrap();
    assert_eq!((again.identity(), again.validity()), (first.identity(), first.validity()));
    assert_eq!(again.certificate_chain(), first.certificate_chain());
    // Its time is over, or has not come.
    let (from, until) = (signed.validity().not_before(), signed.validity().not_after());
    for at in [until, from.minus(HOUR)] {
        assert!(matches!(ours.verify_tls(&chain, at), Err(VerifyError::Time(_))));
    }
    assert!(ours.verify_tls(&chain, until.minus(Duration::from_millis(1))).is_ok());
    // Whoever has other roots has not seen it, a copy of the store has to look for itself.
    let impostor = authority(AuthorityKind::User);
    assert_eq!(trust(&[&impostor]).verify_tls(&chain, now()).unwrap_err(), VerifyError::Untrusted);
    assert!(ours.clone().verify_tls(&chain, now()).is_ok());
    // Another chain with the same beginning is another chain.
    let stranger = user_draft(&["root"]).vet(&policy()).unwrap().sign(&impostor).unwrap();
    let mut swapped = chain.clone();
    swapped[0] = stranger.tls_leaf().unwrap().clone();
    assert_eq!(ours.verify_tls(&swapped, now()).unwrap_err(), VerifyError::Untrusted);
    // One after a certificate that holds for a shorter time than it.
    let mut brief = user_draft(&["root"]);
    brief.ttl = Duration::from_secs(120);
    let brief = brief.vet(&policy()).unwrap().sign(&users).unwrap();
    let mut longer = chain.clone();
    longer.push(brief.tls_leaf().unwrap().clone());
    let after = brief.validity().not_after();
    let fresh = trust(&[&users]).verify_tls(&longer, after).is_ok();
    let _ = ours.verify_tls(&longer, now());
    assert_eq!(ours.verify_tls(&longer, after).is_ok(), fresh);
}

#[test]
fn of_many_chains_each_is_still_told_from_the_others() {
    let users = authority(AuthorityKind::User);
    let ours = trust(&[&users]);
    let names: Vec<String> = (0..300).map(|at| format!("user-{at}")).collect();
    let chains: Vec<_> = names
        .iter()
        .map(|name| {
            let mut draft = user_draft(&["root"]);
            draft.identity.subject = Subject::User { name: UserName::new(name).unwrap() };
            draft.vet(&policy()).unwrap().sign(&users).unwrap().tls_chain()
        })
        .collect();
    for _ in 0..2 {
        for (name, chain) in names.iter().zip(&chains) {
            let verified = ours.verify_tls(chain, now()).unwrap();
            assert_eq!(verified.identity().subject.name(), name);
        }
    }
}

#[test]
fn a_changed_identity_breaks_the_signature() {
    let authority = authority(AuthorityKind::User);
    let trust = trust(&[&authority]);
    let signed = user_draft(&["root"]).vet(&policy()).unwrap().sign(&authority).unwrap();
    let changed = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let needle = br#""name":"alice""#;
        let at = bytes.windows(needle.len()).position(|w| w == needle).unwrap();
        bytes[at + 8..at + 13].copy_from_slice(b"admin");
        bytes
    };
    let leaf = CertificateDer::from(changed(signed.tls_leaf().unwrap()));
    assert_eq!(trust.verify_tls(&[leaf], now()).unwrap_err(), VerifyError::Untrusted);
    let ssh = Certificate::from_bytes(&changed(&signed.ssh().unwrap().to_bytes().unwrap()));
    assert!(matches!(
        trust.verify_ssh_user(&ssh.unwrap(), &login("root"), None, now()),
        Err(VerifyError::Malformed(_))
    ));
}

#[test]
fn a_source_pin_binds_both_certificates() {
    let authority = authority(AuthorityKind::User);
    let trust = trust(&[&authority]);
    let mut draft = user_draft(&["root"]);
    draft.identity.source_pin = Some("203.0.113.0/24".parse().unwrap());
    let signed = draft.vet(&policy()).unwrap().sign(&authority).unwrap();
    let ssh = signed.ssh().unwrap();
    assert_eq!(ssh.critical_options().get("source-address").unwrap(), "203.0.113.0/24");
    let from = |ip: &str| trust.verify_ssh_user(ssh, &login("root"), ip.parse().ok(), now());
    assert!(from("203.0.113.77").is_ok());
    assert!(matches!(from("198.51.100.1"), Err(VerifyError::Source(_))));
    let by_tls = trust.verify_tls(&signed.tls_chain(), now()).unwrap();
    assert_eq!(by_tls.identity().source_pin, signed.identity().unwrap().source_pin);
}

#[test]
fn permissions_follow_the_draft() {
    let authority = authority(AuthorityKind::User);
    let mut draft = user_draft(&["root"]);
    draft.ssh_permissions =
        SshPermissions { pty: false, port_forwarding: false, agent_forwarding: true };
    let signed = draft.vet(&policy()).unwrap().sign(&authority).unwrap();
    let extensions: Vec<_> = signed.ssh().unwrap().extensions().keys().cloned().collect();
    assert_eq!(extensions, ["identity@access", "permit-agent-forwarding"]);
}

#[test]
fn serial_numbers_are_never_used_twice() {
    let authority = authority(AuthorityKind::User);
    let draft = user_draft(&["root"]);
    let mut seen = HashSet::new();
    for _ in 0..64 {
        let signed = draft.clone().vet(&policy()).unwrap().sign(&authority).unwrap();
        let ssh = signed.ssh().unwrap();
        assert_ne!(ssh.serial(), 0);
        let tls = signed.tls_serial().unwrap();
        assert!((0x40..0x80).contains(&tls[0]));
        let parsed = x509_parser::parse_x509_certificate(signed.tls_leaf().unwrap()).unwrap().1;
        assert_eq!(parsed.raw_serial(), tls);
        assert!(seen.insert(ssh.serial().to_be_bytes().to_vec()));
        assert!(seen.insert(ssh.nonce().to_vec()));
        assert!(seen.insert(tls.to_vec()));
    }
}

#[test]
fn drafts_that_must_not_pass() {
    let vet = |change: &dyn Fn(&mut UserDraft)| {
        let mut draft = user_draft(&["root"]);
        change(&mut draft);
        draft.vet(&policy()).unwrap_err().to_string()
    };
    assert!(vet(&|d| d.identity.logins.clear()).contains("at least one login"));
    assert!(vet(&|d| d.identity = host()).contains("for a user"));
    assert!(
        vet(&|d| {
            d.ssh_public_key = None;
            d.tls_public_key = None;
        })
        .contains("nothing to certify")
    );
    assert!(
        vet(&|d| {
            let huge = (0..2000).map(|i| format!("{i:010}")).collect();
            d.identity.traits = [("groups".to_owned(), huge)].into();
        })
        .contains("fewer roles or traits")
    );
    assert!(vet(&|d| d.tls_public_key = Some(vec![0x30, 0])).contains("TLS public key"));

    // Without logins there can still be a TLS certificate.
    let mut draft = user_draft(&[]);
    draft.ssh_public_key = None;
    let authority = authority(AuthorityKind::User);
    let signed = draft.vet(&policy()).unwrap().sign(&authority).unwrap();
    assert!(signed.ssh().is_none() && signed.tls_chain().len() == 2);

    assert!(matches!(HostDraft::new(user(&[]), HOUR), Err(Error::WrongSubject { .. })));
    for pattern in ["*", "web-?", "!web", "a,b", "a b", ""] {
        let mut draft = host_draft();
        draft.ssh_principals.push(pattern.to_owned());
        assert!(matches!(draft.vet(&policy()), Err(Error::Name { .. })), "{pattern:?}");
    }
    for name in ["", "*", "*.com", "a..b", "a_b", "http://a", "a\0b", &"a.".repeat(200)] {
        assert!(name.parse::<SanName>().is_err(), "{name:?}");
    }
}

#[test]
fn a_vetted_draft_is_signed_by_its_own_authority_alone() {
    let (users, hosts) = (authority(AuthorityKind::User), authority(AuthorityKind::Host));
    let user = user_draft(&["root"]).vet(&policy()).unwrap();
    assert!(matches!(user.clone().sign(&hosts), Err(Error::WrongAuthority { .. })));
    let host = host_draft().vet(&policy()).unwrap();
    assert!(matches!(host.sign(&users), Err(Error::WrongAuthority { .. })));

    let elsewhere = ClusterName::new("example.org").unwrap();
    let new = NewAuthority::new(elsewhere, AuthorityKind::User);
    let theirs = Authority::create(&store(), &new, now()).unwrap();
    assert!(matches!(user.sign(&theirs), Err(Error::OtherCluster { .. })));

    // The root ends before the certificate would.
    let short =
        NewAuthority { lifetime: HOUR, ..NewAuthority::new(cluster(), AuthorityKind::User) };
    let short = Authority::create(&store(), &short, now()).unwrap();
    let mut draft = user_draft(&["root"]);
    draft.ttl = 2 * HOUR;
    let vetted = draft.vet(&policy()).unwrap();
    assert!(matches!(vetted.sign(&short), Err(Error::OutlivesAuthority(_))));
}

#[test]
fn the_time_of_issue_is_the_policys() {
    let mut draft = user_draft(&["root"]);
    draft.identity.issued_at = Timestamp::MAX;
    let policy = policy();
    let vetted = draft.vet(&policy).unwrap();
    assert_eq!(vetted.identity().unwrap().issued_at, policy.now);
}

#[test]
fn every_supported_tls_key_gets_a_certificate_and_weak_ones_do_not() {
    let authority = authority(AuthorityKind::User);
    let trust = trust(&[&authority]);
    let dir = tempfile::tempdir().unwrap();
    let spki = |args: &[&str]| {
        let (key, public) = (dir.path().join("key"), dir.path().join("public"));
        let (key, public) = (key.to_str().unwrap(), public.to_str().unwrap());
        stdout("openssl", &[&["genpkey", "-out", key], args].concat());
        stdout("openssl", &["pkey", "-in", key, "-pubout", "-outform", "DER", "-out", public]);
        std::fs::read(public).unwrap()
    };
    for args in [
        ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"].as_slice(),
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["-algorithm", "ED25519"],
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ] {
        let mut draft = user_draft(&[]);
        draft.ssh_public_key = None;
        let good = spki(args);
        draft.tls_public_key = Some(good.clone());
        let signed = draft.vet(&policy()).unwrap().sign(&authority).unwrap();
        assert!(trust.verify_tls(&signed.tls_chain(), now()).is_ok(), "{args:?}");
        // Its key, with something after it or missing at the end.
        assert!(check_tls_key(&[good.as_slice(), &[0]].concat()).is_err(), "{args:?}");
        assert!(check_tls_key(&good[..good.len() - 1]).is_err(), "{args:?}");
    }
    for (args, says) in [
        (["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"].as_slice(), "not 1024"),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], "not supported"),
        (&["-algorithm", "ED448"], "use P-256"),
    ] {
        let err = check_tls_key(&spki(args)).unwrap_err().to_string();
        assert!(err.contains(says), "{args:?}: {err}");
    }
}
