//! Who calls.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use access_core::Timestamp;
use access_core::audit::Text;
use access_core::audit::events::Actor;
use access_core::identity::{SharedTrust, TrustStore, VerifiedIdentity, VerifyError};
use arc_swap::ArcSwap;
use rustls_pki_types::CertificateDer;

use crate::options::Limits;
use crate::visit::Visit;

/// Who calls, as far as it was proven.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Caller {
    /// Somebody who showed no certificate.
    Stranger,
    /// The holder of a certificate that was verified at this moment.
    Verified(Arc<VerifiedIdentity>),
    /// Whoever can open the service's local socket: the administrator of its host.
    LocalAdmin,
}

/// One connection's other end. Cheap to clone: each request on the connection carries it.
#[derive(Clone)]
pub(crate) struct Peer(Arc<Inner>);

struct Inner {
    address: Option<SocketAddr>,
    /// What may be asked for before any proof; without bounds for the local administrator.
    visit: Option<Arc<Visit>>,
    proof: Proof,
}

enum Proof {
    None,
    Local,
    Tls {
        chain: Vec<CertificateDer<'static>>,
        /// The identity, and the trust by which it was verified.
        verified: ArcSwap<(Arc<TrustStore>, Arc<VerifiedIdentity>)>,
    },
}

impl Peer {
    /// Somebody who showed no certificate.
    pub(crate) fn stranger(address: Option<SocketAddr>, limits: &Limits) -> Self {
        let visit = Some(Arc::new(Visit::new(limits)));
        Self(Arc::new(Inner { address, visit, proof: Proof::None }))
    }

    /// The local administrator.
    pub(crate) fn local() -> Self {
        Self(Arc::new(Inner { address: None, visit: None, proof: Proof::Local }))
    }

    /// The holder of a certificate, whose key a TLS handshake has just proved.
    pub(crate) fn tls(
        address: Option<SocketAddr>,
        chain: Vec<CertificateDer<'static>>,
        trust: &SharedTrust,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<Self, VerifyError> {
        let trust = trust.load();
        let identity = Arc::new(trust.verify_tls(&chain, now)?);
        let verified = ArcSwap::from_pointee((trust, identity));
        let visit = Some(Arc::new(Visit::new(limits)));
        Ok(Self(Arc::new(Inner { address, visit, proof: Proof::Tls { chain, verified } })))
    }

    /// Who that is at this moment: what was verified by authorities that are trusted no more is
    /// verified again.
    pub(crate) fn caller(
        &self,
        trust: &SharedTrust,
        now: Timestamp,
    ) -> Result<Caller, VerifyError> {
        match &self.0.proof {
            Proof::None => Ok(Caller::Stranger),
            Proof::Local => Ok(Caller::LocalAdmin),
            Proof::Tls { chain, verified } => {
                let current = trust.load();
                let held = verified.load_full();
                if Arc::ptr_eq(&current, &held.0) {
                    held.1.validity().check(now)?;
                    return Ok(Caller::Verified(Arc::clone(&held.1)));
                }
                let identity = Arc::new(current.verify_tls(chain, now)?);
                verified.store(Arc::new((current, Arc::clone(&identity))));
                Ok(Caller::Verified(identity))
            }
        }
    }

    /// Whether no certificate was shown.
    pub(crate) fn is_stranger(&self) -> bool {
        matches!(self.0.proof, Proof::None)
    }

    /// What the connection may ask for without a proof; `None` when that has no bounds.
    pub(crate) fn visit(&self) -> Option<&Arc<Visit>> {
        self.0.visit.as_ref()
    }

    /// Where the connection comes from.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.0.address.map(|address| address.ip().to_canonical())
    }

    /// The same for events.
    pub(crate) fn remote(&self) -> Option<Text<256>> {
        self.0.address.map(Text::of)
    }
}

/// Who calls, and from where: what every call is given.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) caller: Caller,
    pub(crate) peer: Peer,
}

impl Call {
    /// Who changes something, for events.
    pub(crate) fn actor(&self) -> Actor {
        match &self.caller {
            Caller::LocalAdmin => Actor::local(),
            Caller::Verified(who) => {
                Actor { user: who.name().into(), addr_remote: self.peer.remote() }
            }
            Caller::Stranger => Actor { user: "".into(), addr_remote: self.peer.remote() },
        }
    }

    /// The name for `created_by` and the like.
    pub(crate) fn name(&self) -> String {
        self.actor().user.as_str().to_owned()
    }

    /// The identity, when there is one.
    pub(crate) fn identity(&self) -> Option<&VerifiedIdentity> {
        match &self.caller {
            Caller::Verified(who) => Some(who),
            Caller::Stranger | Caller::LocalAdmin => None,
        }
    }

    /// The host's id, when a host calls.
    pub(crate) fn host(&self) -> Option<&access_core::HostId> {
        self.identity().and_then(VerifiedIdentity::host).map(|(id, _)| id)
    }
}
