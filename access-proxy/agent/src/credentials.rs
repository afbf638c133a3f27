//! Client certificates for the databases that this agent serves.
//!
//! ```text
//!  permit ─► kept, with time left? ─ yes ────────────────────────► certificate
//!               │ no                                                   ▲
//!               ▼                                                      │
//!            asked for already? ─ yes ─► wait for that answer ─────────┤
//!               │ no                                                   │
//!               ▼                                                      │
//!            new key, ask Auth (which decides again) ─► keep ──────────┘
//! ```
//!
//! About a minute before its end a kept one is still handed out, while its successor is asked for.
//! When Auth is away, what it decided minutes ago goes on until it ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_client::types::AuthorityDocument;
use access_client::{AuthClient, ClientError, TlsKey, proto, with_deadline};
use access_core::credentials::{CredentialsError, TargetCertificate, TargetCredentials};
use access_core::gate::Permit;
use access_core::identity::{AuthorityKind, TrustedAuthority};
use access_core::policy::{Action, ApiKind, Target};
use access_core::role::CreateDbUserMode;
use access_core::time::Clock;
use access_core::{ResourceKind, Timestamp};
use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tracing::debug;

use crate::spool::ClientSource;

/// The most certificates that are kept at once.
const MAX_KEPT: usize = 4096;
/// How long before its end a certificate is replaced.
const BEFORE_END: Duration = Duration::from_secs(60);
/// How long Auth may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// What must be left of a certificate for a connection to be made with it.
const TO_CONNECT: Duration = Duration::from_secs(5);
/// How long it takes until Auth is asked again for the successor of one that still holds.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Client certificates for databases, by `db_client`: made when a permit first asks for one, and
/// kept in memory until about a minute before their end. Clones share what is kept.
///
/// Each is kept for one certificate of the user, one target, one account and one database on it:
/// for exactly what Auth decided over. Nothing is handed out but for a permit that still holds.
#[derive(Clone)]
pub struct DatabaseCredentials {
    inner: Arc<Inner>,
}

struct Inner {
    clients: ClientSource,
    clock: Arc<dyn Clock>,
    kept: Mutex<HashMap<Subject, Kept>>,
    roots: ArcSwap<Vec<CertificateDer<'static>>>,
}

/// What a certificate is made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    /// SHA-256 of the user's certificate.
    user: [u8; 32],
    target: String,
    account: String,
    database: String,
    /// It is the admin user's, which makes the account.
    admin: bool,
}

/// What there is for a subject.
#[derive(Default)]
struct Kept {
    current: Option<Current>,
    pending: Option<Pending>,
}

#[derive(Clone)]
struct Current {
    certificate: TargetCertificate,
    /// From here on another one is asked for.
    renew_at: Timestamp,
}

type Answer = Result<TargetCertificate, CredentialsError>;
type Pending = Shared<BoxFuture<'static, Answer>>;

impl DatabaseCredentials {
    /// Credentials that are asked for over the clients of a source.
    pub fn new(clients: ClientSource, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner {
            clients,
            clock,
            kept: Mutex::default(),
            roots: ArcSwap::from_pointee(Vec::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The roots of the `db` authority, for databases whose certificates `accessctl auth sign`
    /// made: as Auth last told them, or asked for now.
    ///
    /// # Errors
    /// [`CredentialsError::Unavailable`] when Auth has told none yet and does not answer.
    pub async fn server_roots(
        &self,
    ) -> Result<Arc<Vec<CertificateDer<'static>>>, CredentialsError> {
        let known = self.inner.roots.load_full();
        if !known.is_empty() {
            return Ok(known);
        }
        self.refresh_server_roots().await?;
        Ok(self.inner.roots.load_full())
    }

    /// Asks Auth for the roots of the `db` authority: they change while it rotates.
    ///
    /// # Errors
    /// [`CredentialsError::Unavailable`] when Auth does not answer; those known before stay.
    pub async fn refresh_server_roots(&self) -> Result<(), CredentialsError> {
        let request = proto::GetRequest {
            kind: ApiKind::Authority.as_str().to_owned(),
            name: AuthorityKind::Db.as_str().to_owned(),
        };
        let client = (self.inner.clients)();
        let call = async move { client.resources().get(with_deadline(request)).await };
        let answer = within(call).await?.into_inner();
        let authority = AuthorityDocument::from_json(&answer.json)
            .map_err(unusable)
            .and_then(|document| TrustedAuthority::try_from(&document.spec).map_err(unusable))?;
        self.inner.note_roots(authority)
    }
}

#[async_trait::async_trait]
impl TargetCredentials for DatabaseCredentials {
    async fn client_certificate(&self, permit: &Permit) -> Answer {
        let (subject, request) = read(permit)?;
        self.inner.get_for(permit, subject, request).await
    }

    async fn admin_certificate(&self, permit: &Permit) -> Answer {
        let made = permit.grant().database.create_user != CreateDbUserMode::Off;
        let (mut subject, mut request) = read(permit)?;
        match permit.target() {
            Target::Resource(resource) if made && resource.admin_user.is_some() => {}
            _ => return Err(CredentialsError::NotForThis("no account is made for the permit")),
        }
        subject.admin = true;
        request.admin_user = true;
        self.inner.get_for(permit, subject, request).await
    }
}

impl Inner {
    async fn get_for(
        self: &Arc<Self>,
        permit: &Permit,
        subject: Subject,
        request: proto::DatabaseCertificateRequest,
    ) -> Answer {
        tokio::select! {
            biased;
            // Decided again at its first turn: a permit that has ended gets nothing, kept or new.
            reason = permit.ended() => Err(CredentialsError::Denied(reason.to_string())),
            answer = self.get(subject, request) => answer,
        }
    }

    async fn get(
        self: &Arc<Self>,
        subject: Subject,
        request: proto::DatabaseCertificateRequest,
    ) -> Answer {
        let pending = {
            let now = self.clock.now();
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            make_room(&mut kept, &subject, now)?;
            let entry = kept.entry(subject.clone()).or_default();
            let usable = entry
                .current
                .as_ref()
                .filter(|current| now.plus(TO_CONNECT) < current.certificate.not_after);
            match usable {
                Some(current) if now < current.renew_at => return Ok(current.certificate.clone()),
                _ => {}
            }
            let usable = usable.map(|current| current.certificate.clone());
            let pending = entry.pending.get_or_insert_with(|| {
                // A task of its own: whoever waits may go away, and others wait with them.
                let task = tokio::spawn(Arc::clone(self).mint(subject, request));
                async move { task.await.unwrap_or_else(|err| Err(unavailable(err))) }
                    .boxed()
                    .shared()
            });
            match usable {
                // Nobody waits for the next one while this one holds, least of all for an Auth
                // Service that is away.
                Some(certificate) => return Ok(certificate),
                None => pending.clone(),
            }
        };
        pending.await
    }

    /// Asks Auth, and keeps what it answers.
    async fn mint(
        self: Arc<Self>,
        subject: Subject,
        request: proto::DatabaseCertificateRequest,
    ) -> Answer {
        let answer = self.ask(request).await;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = kept.entry(subject) {
            entry.get_mut().pending = None;
            match (&answer, &mut entry.get_mut().current) {
                (Ok(new), current) => *current = Some(new.clone()),
                (Err(CredentialsError::Unavailable(why)), Some(current)) => {
                    debug!("a database certificate was not renewed: {why}");
                    current.renew_at = self.clock.now().plus(AFTER_FAILURE);
                }
                // Denied: what was kept is good for nobody any more.
                (Err(_), _) => drop(entry.remove()),
            }
        }
        answer.map(|current| current.certificate)
    }

    async fn ask(
        &self,
        mut request: proto::DatabaseCertificateRequest,
    ) -> Result<Current, CredentialsError> {
        let key = TlsKey::generate().map_err(unavailable)?;
        request.public_key = key.spki().to_vec();
        let client: AuthClient = (self.clients)();
        let call = async move {
            client.identity().issue_database_certificate(with_deadline(request)).await
        };
        let answer = within(call).await?.into_inner();
        let proto::DatabaseCertificate { tls_chain, db_authority, not_before: _, not_after } =
            answer;
        if let Some(authority) = db_authority {
            self.note_roots(TrustedAuthority::try_from(authority).map_err(unusable)?)?;
        }
        let not_after = Timestamp::from_millis(not_after);
        let chain = tls_chain.into_iter().map(CertificateDer::from).collect();
        let certificate = TargetCertificate { key: Arc::new(certified(chain, &key)?), not_after };
        // Of one that holds for less than minutes, a third is left for connecting.
        let left = not_after.since(self.clock.now());
        Ok(Current { certificate, renew_at: not_after.minus(BEFORE_END.min(left / 3)) })
    }

    fn note_roots(&self, authority: TrustedAuthority) -> Result<(), CredentialsError> {
        if authority.kind != AuthorityKind::Db || authority.tls.is_empty() {
            return Err(unusable("another authority than that of the databases"));
        }
        if **self.roots.load() != authority.tls {
            self.roots.store(Arc::new(authority.tls));
        }
        Ok(())
    }
}

/// What a permit asks for; the key is made later.
fn read(permit: &Permit) -> Result<(Subject, proto::DatabaseCertificateRequest), CredentialsError> {
    let Action::Database { user: account, database } = permit.action() else {
        return Err(CredentialsError::NotForThis("the permit is for no account of a database"));
    };
    let resource = match permit.target() {
        Target::Resource(resource) if resource.id.kind == ResourceKind::Database => resource,
        _ => return Err(CredentialsError::NotForThis("the permit is for no database")),
    };
    let chain = permit.who().certificate_chain();
    let leaf = chain.first().ok_or(CredentialsError::NotForThis(
        "the identity was not proven by a TLS certificate, which the auth service would ask for",
    ))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    let mut user = [0; 32];
    user.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    let target = resource.id.name.as_str().to_owned();
    let context = permit.context();
    let request = proto::DatabaseCertificateRequest {
        database: target.clone(),
        user_chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
        db_user: account.as_str().to_owned(),
        db_name: database.clone(),
        public_key: Vec::new(),
        client_address: context.client_addr.map(|addr| addr.to_string()).unwrap_or_default(),
        trace_id: context.trace_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        admin_user: false,
    };
    let (account, database) = (account.as_str().to_owned(), database.clone());
    Ok((Subject { user, target, account, database, admin: false }, request))
}

/// Makes sure that there is room for a subject: those that have ended go first, then the one that
/// ends soonest.
fn make_room(
    kept: &mut HashMap<Subject, Kept>,
    subject: &Subject,
    now: Timestamp,
) -> Result<(), CredentialsError> {
    if kept.len() < MAX_KEPT || kept.contains_key(subject) {
        return Ok(());
    }
    let end = |kept: &Kept| kept.current.as_ref().map(|current| current.certificate.not_after);
    kept.retain(|_, kept| kept.pending.is_some() || end(kept).is_some_and(|end| now < end));
    if kept.len() >= MAX_KEPT {
        let soonest = kept
            .iter()
            .filter(|(_, kept)| kept.pending.is_none())
            .min_by_key(|(_, kept)| end(kept))
            .map(|(subject, _)| subject.clone())
            .ok_or_else(|| unavailable("too many are being asked for at once"))?;
        kept.remove(&soonest);
    }
    Ok(())
}

/// The certificate with its key. The key's bytes are wiped when `key` is dropped.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &TlsKey,
) -> Result<CertifiedKey, CredentialsError> {
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.pkcs8()));
    let signer = rustls::crypto::ring::sign::any_ecdsa_type(&der).map_err(unusable)?;
    let certified = CertifiedKey::new(chain, signer);
    // Fails without a certificate, and for one over another key than the one sent.
    certified.keys_match().map_err(unusable)?;
    Ok(certified)
}

/// An answer of Auth, in time.
async fn within<T, E: Into<ClientError>>(
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, CredentialsError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(match status.into() {
            ClientError::Denied(why) => CredentialsError::Denied(why),
            other => unavailable(other),
        }),
        Err(_) => Err(unavailable("the auth service did not answer in time")),
    }
}

fn unavailable(why: impl std::fmt::Display) -> CredentialsError {
    CredentialsError::Unavailable(why.to_string())
}

fn unusable(why: impl std::fmt::Display) -> CredentialsError {
    CredentialsError::Unavailable(format!("the auth service's answer cannot be used: {why}"))
}

impl std::fmt::Debug for DatabaseCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseCredentials").finish_non_exhaustive()
    }
}
