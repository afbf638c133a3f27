//! A certificate authority for SSH in thirty lines: `cargo run --example ca_in_thirty_lines`.
//!
//! Prints an authority's public key and a user certificate that `ssh-keygen -L -f -` reads and any
//! `sshd` with `TrustedUserCAKeys` accepts. Give an SSH public key as the first argument to have
//! that one certified.
#![allow(clippy::print_stdout, reason = "an example that prints what it made")]

use std::time::{Duration, SystemTime};

use access_ca::*;
use access_core::identity::{AuthorityKind, Identity, Subject};
use access_core::{ClusterName, Login, Timestamp, UserName};

const SOME_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = Timestamp::from_secs(i64::try_from(since_1970.as_secs())?);
    let cluster = ClusterName::new("example.com")?;

    // Once: make the authority and store its document. Its private keys are sealed in it.
    let store = SoftwareKeyStore::new(SealingKey::generate()?);
    let new = NewAuthority::new(cluster.clone(), AuthorityKind::User);
    let document = serde_json::to_string(Authority::create(&store, &new, now)?.document())?;

    // After every start: open it.
    let authority = Authority::open(&store, serde_json::from_str(&document)?)?;
    println!("{}", openssh_line(authority.ssh_key().ok_or("no SSH half")?)?);

    // For every login: who it is, and which key is theirs; then vet, then sign.
    let alice = Subject::User { name: UserName::new("alice")? };
    let mut identity = Identity::new(cluster, alice, now);
    identity.logins = vec![Login::new("alice")?];
    let mut draft = UserDraft::new(identity, Duration::from_secs(3600));
    let key = std::env::args().nth(1).unwrap_or_else(|| SOME_KEY.to_owned());
    draft.ssh_public_key = Some(parse_ssh_key(&key)?);
    let policy = IssuingPolicy::new(now, Duration::from_secs(12 * 3600));
    let signed = draft.vet(&policy)?.sign(&authority)?;
    println!("{}", signed.ssh_openssh()?.ok_or("no SSH key was given")?);
    Ok(())
}
