//! The sessions that can be cancelled: by a number that leads here, and a secret that only this
//! process and the session's client know.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use access_core::audit::events::{DbSessionCancel, DbSessionCancelCode, Outcome};
use access_core::audit::{Durability, Text};
use zeroize::Zeroizing;

use super::Parts;
use super::journal::Journal;
use super::target::StopLine;
use crate::wire::CancelRequest;

/// A session, for those who may cancel its queries.
pub(super) struct Cancellable {
    secret: Zeroizing<Vec<u8>>,
    stop: StopLine,
    journal: Journal,
    /// The last statement that it had.
    statement: AtomicU64,
}

impl Cancellable {
    pub(super) fn at_statement(&self, number: u64) {
        self.statement.store(number, Ordering::Relaxed);
    }
}

/// The open sessions by their numbers. Numbers that others gave may be the same: the secret tells
/// them apart.
#[derive(Default)]
pub(super) struct Registry {
    sessions: Mutex<HashMap<u32, Vec<Arc<Cancellable>>>>,
}

/// A session is registered until this is dropped.
pub(super) struct Registered {
    registry: Arc<Registry>,
    pub(super) number: u32,
    pub(super) session: Arc<Cancellable>,
}

impl Registered {
    pub(super) fn secret(&self) -> &[u8] {
        &self.session.secret
    }
}

impl Registry {
    /// Enters a session, under the number that leads to it from outside, if there is one.
    pub(super) fn enter(
        self: &Arc<Self>,
        number: Option<u32>,
        secret_len: usize,
        stop: StopLine,
        journal: Journal,
    ) -> Registered {
        let mut secret: Zeroizing<Vec<u8>> = Zeroizing::new(rand::random::<[u8; 32]>().to_vec());
        secret.truncate(secret_len);
        let session = Arc::new(Cancellable { secret, stop, journal, statement: AtomicU64::new(0) });
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let number = number.unwrap_or_else(|| {
            loop {
                // A process id, for clients that show it as one.
                let number = rand::random::<u32>() >> 1;
                if number != 0 && !sessions.contains_key(&number) {
                    break number;
                }
            }
        });
        sessions.entry(number).or_default().push(Arc::clone(&session));
        drop(sessions);
        Registered { registry: Arc::clone(self), number, session }
    }

    fn find(&self, request: &CancelRequest) -> Option<Arc<Cancellable>> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let named = sessions.get(&request.process_id)?;
        named.iter().find(|session| request.has_secret(&session.secret)).cloned()
    }

    /// Passes a request on to the server of the session that it names.
    pub(super) async fn cancel(
        &self,
        request: &CancelRequest,
        client: Option<SocketAddr>,
        parts: &Parts,
    ) -> bool {
        let addr_remote = client.map(Text::of);
        let Some(session) = self.find(request) else {
            if parts.may_tell(client) {
                let event = DbSessionCancel {
                    code: DbSessionCancelCode::Refused,
                    outcome: Outcome::failed("no session has this number and secret"),
                    sid: None,
                    user: None,
                    db_service: None,
                    statement: None,
                    addr_remote,
                };
                if let Err(err) = parts.audit.accept(event.into(), Durability::Soon).await {
                    tracing::warn!(%err, "a refused cancel could not be recorded");
                }
            }
            return false;
        };
        let (context, db) = (&session.journal.session, &session.journal.db);
        let event = |outcome| DbSessionCancel {
            code: DbSessionCancelCode::Passed,
            outcome,
            sid: Some(context.sid.clone()),
            user: Some(context.user.as_str().into()),
            db_service: Some(db.db_service.clone()),
            statement: Some(session.statement.load(Ordering::Relaxed)).filter(|n| *n > 0),
            addr_remote,
        };
        let done = session.stop.cancel().await;
        let outcome = match &done {
            Ok(()) => Outcome::succeeded(),
            Err(err) => Outcome::failed(err),
        };
        session.journal.note(event(outcome)).await;
        done.is_ok()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut sessions = self.registry.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(named) = sessions.get_mut(&self.number) {
            named.retain(|session| !Arc::ptr_eq(session, &self.session));
            if named.is_empty() {
                sessions.remove(&self.number);
            }
        }
    }
}

/// Stops what a session is doing. Nobody waits for it.
pub(super) async fn stop(line: StopLine) {
    let done = tokio::time::timeout(std::time::Duration::from_secs(5), line.cancel()).await;
    if let Ok(Err(err)) = done {
        tracing::debug!(%err, "a query could not be cancelled");
    }
}
