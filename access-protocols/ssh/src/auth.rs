//! Authentication by user certificates, and how a refusal reaches whom it concerns.
//!
//! A *stranger* showed nothing that an authority of the cluster has signed. The server answers
//! "permission denied", and what stranger tried lands in the audit log once a connection.
//!
//! Somebody *known* holds a certificate of the cluster and its key, but may not come in: it is a
//! host's, does not name the login, is pinned to another address, or the gate says no. They are
//! told why. SSH has no field for a reason in a refused authentication, and the library sends
//! banners only before anything is known; so the authentication is reported as done, and the very
//! next message disconnects with the reason, which every client prints. Nothing is served in
//! between: without a permit there is nothing to serve it with.
//!
//! The library refuses expired certificates by itself, before this code sees them; who shows
//! nothing else is told by an empty keyboard-interactive dialogue that the certificate may have
//! expired.

use std::net::SocketAddr;
use std::sync::Arc;

use access_core::audit::events::{Auth as AuthEvent, Outcome};
use access_core::audit::{AuditSink, Durability, Text};
use access_core::identity::{AuthorityKind, SSH_IDENTITY_EXTENSION, Subject, VerifyError};
use access_core::{Clock, Identity, Login, TrustStore, VerifiedIdentity};
use russh::server::Auth;
use russh::{MethodKind, MethodSet};
use ssh_key::{Certificate, HashAlg, PublicKey};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Where the authorities that are trusted at the moment come from.
pub type TrustSource = Arc<dyn Fn() -> Arc<TrustStore> + Send + Sync>;

/// What every connection's authentication needs.
#[derive(Clone)]
pub(crate) struct Checker {
    pub(crate) trust: TrustSource,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) audit: Arc<dyn AuditSink>,
}

/// One connection's attempts.
pub(crate) struct Attempts {
    checker: Checker,
    client_addr: Option<SocketAddr>,
    /// The resource's name for events.
    target: Option<Text<256>>,
    /// Whom the client proved to be before SSH began, by a TLS certificate.
    peer: Option<Subject>,
    /// The last thing that a stranger tried.
    stranger: Option<Stranger>,
    /// Whether the client asked for authentication at all.
    login: Option<Text<256>>,
    settled: bool,
}

struct Stranger {
    claimed: Text<256>,
    why: String,
}

/// What became of a certificate.
pub(crate) enum Verdict {
    /// Its holder is who it says.
    Verified(Box<VerifiedIdentity>),
    /// Its holder is known and may be told why not.
    Known(String),
    /// It is nothing to us.
    Stranger,
}

/// For which account a certificate must be good.
pub(crate) enum Account<'a> {
    /// For this one, as the client wrote it.
    Login(&'a str),
    /// For any: a jump host opens none.
    Any(&'a str),
}

impl Attempts {
    pub(crate) fn new(
        checker: Checker,
        client_addr: Option<SocketAddr>,
        target: Option<Text<256>>,
    ) -> Self {
        Self {
            checker,
            client_addr,
            target,
            peer: None,
            stranger: None,
            login: None,
            settled: false,
        }
    }

    /// Demands that the client is whom its TLS certificate named, if it showed one.
    pub(crate) fn of_peer(mut self, peer: Option<&VerifiedIdentity>) -> Self {
        self.peer = peer.map(|peer| peer.identity().subject.clone());
        self
    }

    /// Notes that the client asked to be authenticated.
    pub(crate) fn began(&mut self, login: &str) {
        self.login = Some(login.into());
    }

    /// Judges a certificate whose key the client proved to hold.
    pub(crate) async fn certificate(
        &mut self,
        certificate: &Certificate,
        account: Account<'_>,
    ) -> Verdict {
        let (Account::Login(login) | Account::Any(login)) = account;
        self.began(login);
        let trust = (self.checker.trust)();
        let err = match self.verify(&trust, certificate, &account) {
            Ok(who) => {
                self.settled = true;
                if let Some(why) = self.contradiction(&who) {
                    let event = self.event(who.name().into(), &why);
                    record(Arc::clone(&self.checker.audit), event).await;
                    return Verdict::Known(format!("access denied: {why}"));
                }
                return Verdict::Verified(Box::new(who));
            }
            Err(err) => err,
        };
        let claimed = claimed_name(certificate);
        if !is_of_cluster(&trust, certificate) {
            self.stranger = Some(Stranger { claimed, why: err.to_string() });
            return Verdict::Stranger;
        }
        self.settled = true;
        record(Arc::clone(&self.checker.audit), self.event(claimed, &err.to_string())).await;
        Verdict::Known(match err {
            VerifyError::Principal(login) if login.is_empty() => {
                "access denied: the certificate names no logins".into()
            }
            err => format!("access denied: {err}"),
        })
    }

    fn verify(
        &self,
        trust: &TrustStore,
        certificate: &Certificate,
        account: &Account<'_>,
    ) -> Result<VerifiedIdentity, VerifyError> {
        let source = self.client_addr.map(|addr| addr.ip().to_canonical());
        let now = self.checker.clock.now();
        match account {
            Account::Login(login) => {
                let login =
                    Login::new(login).map_err(|err| VerifyError::Principal(err.to_string()))?;
                trust.verify_ssh_user(certificate, &login, source, now)
            }
            Account::Any(_) => trust.verify_ssh_any_login(certificate, source, now),
        }
    }

    /// Why the client cannot be both whom SSH and whom TLS say it is, if so.
    fn contradiction(&self, who: &VerifiedIdentity) -> Option<String> {
        let peer = self.peer.as_ref().filter(|peer| **peer != who.identity().subject)?;
        Some(format!(
            "the SSH certificate is made out to {}, but the TLS certificate of the connection to {}",
            who.name(),
            peer.name()
        ))
    }

    /// A key without a certificate.
    pub(crate) fn plain_key(&mut self, login: &str, key: &PublicKey) -> Auth {
        self.began(login);
        if self.stranger.is_none() {
            self.stranger = Some(Stranger {
                claimed: "unknown".into(),
                why: format!(
                    "no valid certificate; the plain key {} was offered",
                    key.fingerprint(HashAlg::Sha256)
                ),
            });
        }
        Auth::reject()
    }

    /// The last method that a client tries: it is only told something.
    pub(crate) fn explain(&self, answered: bool) -> Auth {
        if answered {
            return Auth::Reject {
                proceed_with_methods: Some(MethodSet::from([MethodKind::PublicKey].as_slice())),
                partial_success: false,
            };
        }
        let cluster = (self.checker.trust)().cluster().clone();
        Auth::Partial {
            name: "".into(),
            instructions: format!(
                "No certificate of {cluster} was presented that is valid now. \
                 If it has expired, log in again."
            )
            .into(),
            prompts: Vec::new().into(),
        }
    }

    /// The connection is over: what strangers tried is written down, in a task.
    pub(crate) fn finish(&mut self, tasks: &TaskTracker) {
        if self.settled || self.login.is_none() || Handle::try_current().is_err() {
            return;
        }
        self.settled = true;
        let (claimed, why) = match self.stranger.take() {
            Some(stranger) => (stranger.claimed, stranger.why),
            None => ("unknown".into(), "no certificate was presented, or an expired one".into()),
        };
        let event = self.event(claimed, &why);
        tasks.spawn(record(Arc::clone(&self.checker.audit), event));
    }

    fn event(&self, user: Text<256>, why: &str) -> AuthEvent {
        AuthEvent {
            outcome: Outcome::failed(why),
            user,
            login: self.login.clone(),
            addr_remote: self.client_addr.map(Text::of),
            server_hostname: self.target.clone(),
            proto: Some("ssh".into()),
        }
    }
}

async fn record(audit: Arc<dyn AuditSink>, event: AuthEvent) {
    // A refusal that cannot be written down is a refusal all the same.
    if let Err(err) = audit.accept(event.into(), Durability::Soon).await {
        tracing::warn!(%err, "a refused authentication could not be recorded");
    }
}

/// The name in a certificate, believed or not.
fn claimed_name(certificate: &Certificate) -> Text<256> {
    certificate
        .extensions()
        .get(SSH_IDENTITY_EXTENSION)
        .and_then(|document| Identity::decode(document.as_bytes()).ok())
        .map_or_else(|| certificate.key_id().into(), |identity| identity.subject.name().into())
}

/// Whether any authority of the cluster signed it, as whatever.
fn is_of_cluster(trust: &TrustStore, certificate: &Certificate) -> bool {
    AuthorityKind::ALL
        .into_iter()
        .flat_map(|kind| trust.of_kind(kind))
        .any(|authority| authority.ssh.contains(certificate.signature_key()))
        && certificate.verify_signature().is_ok()
}
