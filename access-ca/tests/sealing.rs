//! Secrets at rest: only the right key, for the right purpose, unchanged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::os::unix::fs::PermissionsExt;

use access_ca::*;
use access_core::identity::AuthorityKind;
use common::*;

fn sealed_from(text: String) -> Sealed {
    serde_json::from_value(serde_json::Value::String(text)).unwrap()
}

#[test]
fn a_secret_opens_for_its_key_and_purpose_alone() {
    let key = SealingKey::generate().unwrap();
    let sealed = key.seal("a", b"secret").unwrap();
    assert_eq!(key.open("a", &sealed).unwrap().as_slice(), b"secret");
    assert_ne!(sealed, key.seal("a", b"secret").unwrap(), "the nonce repeats");

    let other = SealingKey::generate().unwrap();
    assert!(matches!(other.open("a", &sealed), Err(Error::OtherSealingKey { .. })));
    let swapped = key.open("b", &sealed).unwrap_err().to_string();
    assert!(swapped.contains("another purpose"), "{swapped}");

    let bytes = data_encoding::BASE64.decode(sealed.as_str().as_bytes()).unwrap();
    for length in 0..bytes.len() {
        let cut = sealed_from(data_encoding::BASE64.encode(&bytes[..length]));
        assert!(matches!(key.open("a", &cut), Err(Error::Sealed { .. })), "{length}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let changed = sealed_from(data_encoding::BASE64.encode(&changed));
        match (at, key.open("a", &changed)) {
            (0, Err(Error::SealedVersion { version: 0, .. })) => {}
            (1..=8, Err(Error::OtherSealingKey { .. })) => {}
            (9.., Err(Error::Sealed { .. })) => {}
            (at, other) => panic!("byte {at}: {other:?}"),
        }
    }
    assert!(matches!(key.open("a", &sealed_from("?".into())), Err(Error::Sealed { .. })));
}

#[test]
fn sealing_keys_are_read_from_text() {
    let seal = |key: &SealingKey| key.seal("a", b"x").unwrap();
    let key = SealingKey::from_bytes([0xab; 32]);
    let hex = "ab".repeat(32);
    let base64 = data_encoding::BASE64.encode(&[0xab; 32]);
    for text in [hex.clone(), hex.to_uppercase(), format!(" {base64}\n")] {
        assert!(key.open("a", &seal(&SealingKey::from_text(&text).unwrap())).is_ok());
    }
    for (text, says) in [
        ("", "empty"),
        ("hunter2!", "neither"),
        ("aGVsbG8=", "32 bytes"),
        (&"00".repeat(32), "zero"),
    ] {
        let err = SealingKey::from_text(text).unwrap_err().to_string();
        assert!(err.contains(says) && (text.is_empty() || !err.contains(text)), "{err}");
    }
    assert_eq!(format!("{key:?}"), "SealingKey(..)");
}

#[test]
fn sealing_key_files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sealing.key");
    let key = SealingKey::generate().unwrap();
    key.create_file(&path).unwrap();
    let sealed = key.seal("a", b"x").unwrap();
    assert!(SealingKey::read_file(&path).unwrap().open("a", &sealed).is_ok());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a draft was left behind");

    // One that exists is never replaced.
    assert!(SealingKey::generate().unwrap().create_file(&path).is_err());
    assert!(SealingKey::read_file(&path).unwrap().open("a", &sealed).is_ok());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a draft was left behind");

    for mode in [0o640, 0o604, 0o620, 0o777] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let err = SealingKey::read_file(&path).unwrap_err().to_string();
        assert!(err.contains("chmod 600") && err.contains("sealing.key"), "{err}");
    }
    let err = SealingKey::read_file(&dir.path().join("none")).unwrap_err().to_string();
    assert!(err.contains("No such file"), "{err}");
    let err = SealingKey::read_file(dir.path()).unwrap_err().to_string();
    assert!(err.contains("not a regular file"), "{err}");
}

#[test]
fn authorities_survive_storage_and_nothing_secret_stands_in_clear() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::EcdsaP256] {
        let authority = authority_with(AuthorityKind::User, algorithm);
        let text = serde_json::to_string(authority.document()).unwrap();
        let document: AuthorityDocument = serde_json::from_str(&text).unwrap();
        assert_eq!(&document, authority.document());
        assert_eq!(&document.trusted(), authority.trusted());
        let opened = Authority::open(&store(), document).unwrap();
        assert_eq!(opened.pin(), authority.trusted().pins().unwrap()[0]);
        assert_eq!(opened.ssh_key(), authority.ssh_key());
        let signed = user_draft(&["root"]).vet(&policy()).unwrap().sign(&opened).unwrap();
        assert!(trust(&[&authority]).verify_tls(&signed.tls_chain(), now()).is_ok());
    }
}

fn ssh(document: &mut AuthorityDocument) -> &mut StoredKey {
    document.active.ssh.as_mut().unwrap()
}

#[test]
fn stored_authorities_that_were_tampered_with_do_not_open() {
    let users = authority(AuthorityKind::User);
    let hosts = authority(AuthorityKind::Host);
    let open = |change: &dyn Fn(&mut AuthorityDocument)| {
        let mut document = users.document().clone();
        change(&mut document);
        Authority::open(&store(), document).unwrap_err()
    };
    let wrong_store = SoftwareKeyStore::new(SealingKey::from_bytes([8; 32]));
    let err = Authority::open(&wrong_store, users.document().clone()).unwrap_err();
    assert!(matches!(err, Error::OtherSealingKey { .. }), "{err}");
    // The user authority's key for the host authority's.
    let err = open(&|d| d.active.ssh = hosts.document().active.ssh.clone());
    assert!(matches!(err, Error::Purpose { .. }), "{err}");
    let err = open(&|d| {
        d.active.ssh = hosts.document().active.ssh.clone();
        ssh(d).purpose = users.document().active.ssh.as_ref().unwrap().purpose.clone();
    });
    assert!(matches!(err, Error::Sealed { .. }), "{err}");
    let err = open(&|d| d.kind = AuthorityKind::Host);
    assert!(matches!(err, Error::Purpose { .. }), "{err}");
    let err = open(&|d| d.active.tls_root = hosts.document().active.tls_root.clone());
    assert!(err.to_string().contains("another key"), "{err}");
    let err = open(&|d| {
        ssh(d).public_key = hosts.document().active.ssh.as_ref().unwrap().public_key.clone();
    });
    assert!(err.to_string().contains("do not match"), "{err}");

    // A user authority that could sign no SSH certificates, and a database's that could.
    let err = open(&|d| d.active.ssh = None);
    assert!(err.to_string().contains("missing"), "{err}");
    let mut document = authority(AuthorityKind::DbClient).document().clone();
    document.active.ssh = users.document().active.ssh.clone();
    let err = Authority::open(&store(), document).unwrap_err();
    assert!(err.to_string().contains("one too many"), "{err}");

    let mut text = serde_json::to_value(users.document()).unwrap();
    text["never_heard_of"] = true.into();
    assert!(serde_json::from_value::<AuthorityDocument>(text).is_err());
}

#[test]
fn several_generations_are_trusted_at_once() {
    let (old, new) = (authority(AuthorityKind::User), authority(AuthorityKind::User));
    let mut document = new.document().clone();
    document.additional_trusted =
        vec![TrustedKeys { ssh: old.ssh_key().cloned(), tls_root: old.tls_root().clone() }];
    let text = serde_json::to_string(&document).unwrap();
    let both = Authority::open(&store(), serde_json::from_str(&text).unwrap()).unwrap();
    let trust = trust(&[&both]);
    for signer in [&old, &new, &both] {
        let signed = user_draft(&["root"]).vet(&policy()).unwrap().sign(signer).unwrap();
        assert!(trust.verify_tls(&signed.tls_chain(), now()).is_ok());
        let login = access_core::Login::new("root").unwrap();
        assert!(trust.verify_ssh_user(signed.ssh().unwrap(), &login, None, now()).is_ok());
    }
    assert_eq!(both.trusted().pins().unwrap(), [new.pin(), old.pin()]);
}
