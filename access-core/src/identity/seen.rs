//! Chains that a [`TrustStore`](super::TrustStore) has verified: the same one is shown for every
//! connection, and twice for each.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::VerifiedIdentity;
use crate::time::{Timestamp, Validity};

/// The most chains that are remembered.
const MOST: usize = 256;
/// The longest chain that is, in bytes.
const LONGEST: usize = 16 * 1024;

/// What verifying a chain came to, by the chain's bytes. That signatures fit does not change while
/// the roots stay the same, and other roots are another store; that it is time for every
/// certificate in the chain is asked anew. A chain that was refused is not remembered.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<VecDeque<Known>>);

#[derive(Debug)]
struct Known {
    chain: ChainId,
    /// When all certificates of the chain hold.
    holds: Validity,
    identity: VerifiedIdentity,
}

/// A digest of a chain: that of another is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChainId([u8; 32]);

impl ChainId {
    /// `None` for a chain that is not remembered, because it is too long.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        if chain.iter().map(|cert| cert.len()).sum::<usize>() > LONGEST {
            return None;
        }
        let mut digest = Context::new(&SHA256);
        for cert in chain {
            digest.update(&u64::try_from(cert.len()).ok()?.to_be_bytes());
            digest.update(cert);
        }
        digest.finish().as_ref().try_into().ok().map(Self)
    }
}

impl Seen {
    /// The identity behind a chain that was verified before and holds now.
    pub(super) fn find(&self, chain: ChainId, now: Timestamp) -> Option<VerifiedIdentity> {
        let known = self.lock();
        let found = known.iter().find(|known| known.chain == chain)?;
        found.holds.check(now).ok()?;
        Some(found.identity.clone())
    }

    /// Remembers a chain that was verified, in the place of the oldest one if there are too many.
    pub(super) fn add(&self, id: ChainId, identity: &VerifiedIdentity) {
        let Some(holds) = window(&identity.chain) else { return };
        let mut known = self.lock();
        known.retain(|known| known.chain != id);
        if known.len() == MOST {
            known.pop_front();
        }
        known.push_back(Known { chain: id, holds, identity: identity.clone() });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Seen {
    /// Nothing: the copy of a store may come to have other roots.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// When all certificates of a chain hold, those that no path needs too.
fn window(chain: &[CertificateDer<'_>]) -> Option<Validity> {
    let (mut from, mut until) = (i64::MIN, i64::MAX);
    for cert in chain {
        let (_, parsed) = X509Certificate::from_der(cert).ok()?;
        from = from.max(parsed.validity().not_before.timestamp());
        until = until.min(parsed.validity().not_after.timestamp());
    }
    let until = until.saturating_add(1);
    Validity::between(Timestamp::from_secs(from), Timestamp::from_secs(until)).ok()
}
