//! Clients that show a certificate which is not good (expired, another authority's, not their own):
//! what is written down about them.
//!
//! The library tells a handshake's caller no more than which alert was sent, so that the verifier
//! leaves a note, which [`noting`] hands over with the handshake's end. A client that closes, sends
//! garbage or takes too long has said nothing about anybody, and leaves none.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use rustls::pki_types::CertificateDer;

use super::RefusedClients;
use crate::audit::Text;
use crate::audit::events::{Auth, Outcome};
use crate::identity::{VerifyError, claimed_name};
use crate::resource::{ResourceKind, ResourceRef};

thread_local! {
    /// The certificate for which the handshake ends that is polled on this thread.
    static NOTED: RefCell<Option<RefusedCertificate>> = const { RefCell::new(None) };
}

/// A certificate that is not good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCertificate {
    /// Whom it names, which nobody need be.
    claimed: Text<256>,
    why: String,
}

impl RefusedCertificate {
    /// One that was refused for this reason.
    pub fn new(leaf: Option<&CertificateDer<'_>>, why: impl ToString) -> Self {
        let claimed = leaf.and_then(claimed_name);
        let claimed = claimed.as_deref().unwrap_or("unknown").into();
        Self { claimed, why: why.to_string() }
    }

    /// A certificate whose key the client does not hold: that is told by the error with which the
    /// handshake ends.
    pub fn unproven(err: &io::Error) -> Option<Self> {
        let inner = err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        matches!(inner, Some(rustls::Error::InvalidCertificate(_))).then(|| Self::new(None, err))
    }

    /// The event that tells of it.
    pub fn event(&self, resource: &ResourceRef, client: Option<SocketAddr>) -> Auth {
        Auth {
            outcome: Outcome::failed(self.why.as_str()),
            user: self.claimed.clone(),
            login: None,
            addr_remote: client.map(Text::of),
            server_hostname: Some(resource.name.as_str().into()),
            proto: Some(match resource.kind {
                ResourceKind::Node => "ssh".into(),
                kind => kind.as_str().into(),
            }),
        }
    }
}

impl std::fmt::Display for RefusedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

/// Notes refused certificates for [`noting`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoteRefused;

impl RefusedClients for NoteRefused {
    fn refused(&self, leaf: &CertificateDer<'_>, why: &VerifyError) {
        NOTED.set(Some(RefusedCertificate::new(Some(leaf), why)));
    }
}

/// Runs a handshake of a server that has [`NoteRefused`] watch its clients; gives what it came to,
/// and the certificate that it ended for.
pub async fn noting<T>(handshake: impl Future<Output = T>) -> (T, Option<RefusedCertificate>) {
    let mut handshake = pin!(handshake);
    let mut noted = None;
    let done = std::future::poll_fn(|cx| {
        // A client is refused in the poll of its own handshake, and others run between two polls.
        drop(NOTED.take());
        let polled = handshake.as_mut().poll(cx);
        if let Some(refused) = NOTED.take() {
            noted = Some(refused);
        }
        polled
    });
    (done.await, noted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn each_handshake_has_its_own_note() {
        let refuse = |why: &'static str| async move {
            tokio::task::yield_now().await;
            NOTED.set(Some(RefusedCertificate::new(None, why)));
            tokio::task::yield_now().await;
            why
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let good = noting(async {
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            });
            let both = futures::future::join3(noting(refuse("one")), good, noting(refuse("two")));
            let ((one, first), ((), none), (two, second)) = both.await;
            assert_eq!((one, first.unwrap().to_string().as_str()), ("one", "one"));
            assert_eq!((two, second.unwrap().to_string().as_str()), ("two", "two"));
            assert_eq!(none, None);
        });
        NOTED.set(Some(RefusedCertificate::new(None, "nobody's")));
        assert_eq!(noting(async {}).now_or_never().unwrap(), ((), None));
    }
}
