//! What a certificate will be, to the last bit but the signature.

use std::time::Duration;

use access_core::identity::{AuthorityKind, Identity};
use access_core::{ClusterName, Validity};

use super::policy::IssuingPolicy;
use super::signed::Signed;
use super::ssh::VettedSsh;
use super::x509::VettedTls;
use super::{make_positive, ssh, x509};
use crate::authority::Authority;
use crate::error::{Error, Result};
use crate::random;

/// A draft that passed: only a signature is missing, and nothing else changes any more.
///
/// Made by the drafts' `vet` alone; its fields are private, so that holding one is the proof.
#[derive(Clone, Debug)]
pub struct Vetted {
    authority: AuthorityKind,
    cluster: ClusterName,
    identity: Option<Identity>,
    document: String,
    ssh: Option<VettedSsh>,
    tls: Option<VettedTls>,
    parts: VettedParts,
}

/// What every certificate has, whoever it is for.
#[derive(Clone, Debug)]
pub(super) struct VettedParts {
    pub(super) validity: Validity,
    pub(super) ssh_serial: u64,
    pub(super) ssh_nonce: [u8; 16],
    pub(super) tls_serial: [u8; 16],
}

impl VettedParts {
    pub(super) fn new(policy: &IssuingPolicy, ttl: Duration) -> Result<Self> {
        let validity = policy.validity(ttl)?;
        // Drawn at once: each draw is a call into the operating system.
        let random: [u8; 40] = random::bytes()?;
        let (ssh_serial, rest) = take(&random)?;
        let (ssh_nonce, rest) = take(rest)?;
        let (mut tls_serial, _) = take(rest)?;
        make_positive(&mut tls_serial);
        Ok(Self {
            validity,
            // Zero means "not numbered" in SSH.
            ssh_serial: u64::from_be_bytes(ssh_serial).max(1),
            ssh_nonce,
            tls_serial,
        })
    }

    pub(super) fn vetted(
        self,
        authority: AuthorityKind,
        cluster: ClusterName,
        identity: Option<(Identity, String)>,
        ssh: Option<VettedSsh>,
        tls: Option<VettedTls>,
    ) -> Result<Vetted> {
        if ssh.is_none() && tls.is_none() {
            return Err(Error::NoKey);
        }
        let (identity, document) = identity.unzip();
        let document = document.unwrap_or_default();
        Ok(Vetted { authority, cluster, identity, document, ssh, tls, parts: self })
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(head, rest)| (*head, rest)).ok_or(Error::Randomness)
}

impl Vetted {
    /// The kind of authority that signs it.
    pub fn authority(&self) -> AuthorityKind {
        self.authority
    }

    /// The identity as the certificates will carry it; servers outside the cluster have none.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// When the certificates will hold.
    pub fn validity(&self) -> Validity {
        self.parts.validity
    }

    /// Signs.
    ///
    /// # Errors
    /// [`Error::WrongAuthority`], [`Error::OtherCluster`], [`Error::OutlivesAuthority`], or what
    /// the key meets.
    pub fn sign(self, authority: &Authority) -> Result<Signed> {
        let Self { authority: kind, cluster, identity, document, ssh, tls, parts } = self;
        authority.check(kind, &cluster)?;
        let ends = authority.tls_issuer().validity().not_after();
        if parts.validity.not_after() > ends {
            return Err(Error::OutlivesAuthority(ends));
        }
        let tls = tls
            .map(|tls| x509::sign(tls, &document, &parts, authority.tls_issuer()))
            .transpose()?;
        let ssh =
            ssh.map(|ssh| ssh::sign(ssh, document, &parts, authority.ssh_signer()?)).transpose()?;
        Ok(Signed {
            identity,
            validity: parts.validity,
            ssh,
            tls: tls.map(|leaf| (leaf, authority.tls_root().clone())),
            tls_serial: parts.tls_serial,
        })
    }
}
