//! A verified identity comes from a trust store or not at all.
use access_core::identity::{AuthorityKind, Identity, Proof};
use access_core::{Validity, VerifiedIdentity};

fn attempt(identity: Identity, validity: Validity) -> VerifiedIdentity {
    VerifiedIdentity { identity, validity, proof: Proof::Tls, authority: AuthorityKind::User }
}

fn main() {}
