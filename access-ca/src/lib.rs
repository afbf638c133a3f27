//! A certificate authority for SSH and X.509: authorities, vetted issuance, key stores.
//!
//! An [`Authority`] signs for users, for hosts, for databases or for their accounts, never for two
//! of these; those for users and hosts have an SSH half beside their TLS half. A certificate is made in three steps, one type each, and nothing changes after the second: a
//! draft ([`UserDraft`], [`HostDraft`], [`ServerDraft`], [`DatabaseServerDraft`],
//! [`DatabaseClientDraft`]) says what is wanted, [`Vetted`] what it
//! will be, [`Signed`] is it. Private keys are made and opened by a [`KeyStore`];
//! [`SoftwareKeyStore`] seals them with a [`SealingKey`].
//!
//! This crate stores nothing and reads no clock: the time is an argument, and an
//! [`AuthorityDocument`] is what there is to store.
//!
//! ```
//! use std::time::Duration;
//! use access_ca::*;
//! use access_core::identity::{AuthorityKind, Identity, Subject};
//! use access_core::{ClusterName, Login, Timestamp, UserName};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now: Timestamp = "2026-01-02T03:04:05Z".parse()?;
//! let cluster = ClusterName::new("example.com")?;
//!
//! // Once: make the authority, and store its document (its private keys are sealed in it).
//! let store = SoftwareKeyStore::new(SealingKey::generate()?);
//! let new = NewAuthority::new(cluster.clone(), AuthorityKind::User);
//! let authority = Authority::create(&store, &new, now)?;
//! let stored = serde_json::to_string(authority.document())?;
//!
//! // After every start: open it again.
//! let authority = Authority::open(&store, serde_json::from_str(&stored)?)?;
//!
//! // For every login: say who it is and which key is theirs; vet; sign.
//! let mut identity =
//!     Identity::new(cluster, Subject::User { name: UserName::new("alice")? }, now);
//! identity.logins = vec![Login::new("alice")?, Login::new("deploy")?];
//! let mut draft = UserDraft::new(identity, Duration::from_secs(3600));
//! draft.ssh_public_key = Some(parse_ssh_key(
//!     "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
//! )?);
//! let policy = IssuingPolicy::new(now, Duration::from_secs(12 * 3600));
//! let signed = draft.vet(&policy)?.sign(&authority)?;
//!
//! println!("{}", signed.ssh_openssh()?.unwrap_or_default());
//! # Ok(())
//! # }
//! ```
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod authority;
mod der;
mod error;
mod issue;
mod keys;
mod random;
mod sealing;
mod software;
mod subject_key;
mod text;

pub use authority::{
    ActiveKeys, Authority, AuthorityDocument, NewAuthority, RotationPhase, TrustedKeys,
};
pub use error::{Error, Result};
pub use issue::{
    DatabaseClientDraft, DatabaseServer, DatabaseServerDraft, HostDraft, IssuingPolicy, SanName,
    ServerDraft, Signed, SshPermissions, UserDraft, Vetted,
};
pub use keys::{
    KeyAlgorithm, KeyId, KeyPurpose, KeyStore, PrivateHalf, PublicKey, Signer, StoredKey,
};
pub use sealing::{Sealed, SealingKey};
pub use software::SoftwareKeyStore;
pub use subject_key::{MAX_KEY, RSA_BITS, check_ssh_key, check_tls_key, parse_ssh_key};
pub use text::{openssh_line, parse_openssh_line, pem};
