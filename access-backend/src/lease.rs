//! Work that one process at a time does, of several on one store.
//!
//! ```text
//!            nobody has it: create            every third of its time: keep_alive
//!  nothing ────────────────────────► held ◄──────────────────────────────┐
//!     ▲                               │ └─────────────────────────────────┘
//!     │◄── released: delete_if ───────┤
//!     │◄── expired, of who is gone ───┘
//! ```
//!
//! A lease is a row that expires. Who has written it holds it, and renews it; everybody else's
//! attempt fails until the row is released or has expired. A holder that was stopped for long, or
//! whose clock is slow, may still believe that it holds what another one has taken since. So time
//! alone is not relied on: what a holder writes by [`Held::batch`] is written only while the row is
//! of the revision that the holder gave it, and each such write gives it the next.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::{Backend, Batch, Clock, Condition, Error, Key, NewItem, Operation, Revision};
use crate::{UnixMillis, Value};

/// A lease that may be held by this process, or by another one.
#[derive(Clone, Debug)]
pub struct Lease {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    key: Key,
    holder: Value,
    ttl: Duration,
}

/// A lease that is held, as far as is known here.
#[derive(Debug)]
pub struct Held {
    lease: Lease,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    revision: Revision,
    until: UnixMillis,
}

/// What came of [`Lease::once`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once<T> {
    /// The work was done.
    Done(T),
    /// Another process holds the lease.
    Elsewhere,
    /// The lease was lost before the work was done, which was dropped then.
    Lost,
    /// It was stopped before the work was done, which was dropped then.
    Stopped,
}

impl Lease {
    /// A lease by its key. `holder` names this process among all that share the store, such as a
    /// random id. `clock` is the one by which the store judges what has expired. The lease ends
    /// `ttl` after it was renewed last.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a name that is longer than a value may be.
    pub fn new(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        key: Key,
        holder: &str,
        ttl: Duration,
    ) -> Result<Self, Error> {
        let holder = Value::new(holder.to_owned())?;
        Ok(Self { backend, clock, key, holder, ttl })
    }

    /// Takes the lease; `None` when it is held already.
    ///
    /// # Errors
    /// Those of the storage. The lease may have been taken all the same, and expires then.
    pub async fn acquire(&self) -> Result<Option<Held>, Error> {
        let until = self.until();
        let row = NewItem::new(self.key.clone(), self.holder.clone()).expires_at(until);
        match self.backend.create(row).await {
            Ok(revision) => {
                let state = Mutex::new(State { revision, until });
                Ok(Some(Held { lease: self.clone(), state }))
            }
            Err(Error::AlreadyExists { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Does some work unless another process is at it: holds the lease meanwhile, renews it, and
    /// releases it at the end, or when `stop` completes, whichever is first. Work that has more to
    /// do than may be lost halfway writes by [`Held::batch`].
    ///
    /// # Errors
    /// Those of the storage, of taking the lease.
    pub async fn once<T, F>(
        &self,
        stop: impl Future<Output = ()>,
        work: impl FnOnce(Arc<Held>) -> F,
    ) -> Result<Once<T>, Error>
    where
        F: Future<Output = T>,
    {
        let Some(held) = self.acquire().await?.map(Arc::new) else {
            return Ok(Once::Elsewhere);
        };
        let came = tokio::select! {
            biased;
            () = stop => Once::Stopped,
            () = held.keep() => Once::Lost,
            done = work(Arc::clone(&held)) => Once::Done(done),
        };
        match held.release().await {
            // It is somebody else's by now, or nobody's.
            Ok(()) | Err(Error::NotFound { .. } | Error::RevisionMismatch { .. }) => {}
            Err(error) => tracing::debug!(%error, "a lease was not released: it expires"),
        }
        Ok(came)
    }

    fn until(&self) -> UnixMillis {
        self.clock.now().plus(self.ttl)
    }
}

impl Held {
    /// When the lease ends, unless it is renewed.
    pub async fn until(&self) -> UnixMillis {
        self.state.lock().await.until
    }

    /// Renews the lease.
    ///
    /// # Errors
    /// [`Error::RevisionMismatch`] and [`Error::NotFound`] when it is lost, for good; those of the
    /// storage, after which it may still be held.
    pub async fn renew(&self) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        let Lease { backend, key, .. } = &self.lease;
        let until = self.lease.until();
        let renewed = match backend.keep_alive(key, Some(state.revision), until).await {
            Err(Error::RevisionMismatch { .. }) => {
                // The answer to a renewal or a write of ours may have been lost.
                let revision = self.ours().await?;
                backend.keep_alive(key, Some(revision), until).await
            }
            done => done,
        };
        *state = State { revision: renewed?, until };
        Ok(())
    }

    /// Writes a batch if the lease is held, and renews the lease by it: who has lost it to another
    /// writes nothing, whatever the clocks say. One condition more holds, and one row more is
    /// written, than the batch has.
    ///
    /// # Errors
    /// [`Error::RevisionMismatch`] naming the lease's key when it is lost; those of
    /// [`Backend::batch`].
    pub async fn batch(&self, batch: Batch) -> Result<Revision, Error> {
        let mut state = self.state.lock().await;
        let Lease { backend, key, holder, .. } = &self.lease;
        let until = self.lease.until();
        let lease = batch.conditions.len();
        let row = NewItem::new(key.clone(), holder.clone()).expires_at(until);
        let batch =
            batch.when(Condition::revision(key.clone(), state.revision)).then(Operation::Put(row));
        match backend.batch(batch).await {
            Ok(revision) => {
                *state = State { revision, until };
                Ok(revision)
            }
            Err(Error::ConditionFailed { index }) if index == lease => {
                Err(Error::RevisionMismatch { key: key.clone() })
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the lease up, so that another process can take it at once.
    ///
    /// # Errors
    /// [`Error::RevisionMismatch`] and [`Error::NotFound`] when it was lost already; those of the
    /// storage, after which it expires.
    pub async fn release(&self) -> Result<(), Error> {
        let state = self.state.lock().await;
        self.lease.backend.delete_if(&self.lease.key, state.revision).await
    }

    /// Renews the lease for as long as it can be; completes when it is lost.
    async fn keep(&self) {
        loop {
            tokio::time::sleep(self.lease.ttl / 3).await;
            match self.renew().await {
                Ok(()) => {}
                Err(Error::RevisionMismatch { .. } | Error::NotFound { .. } | Error::Closed) => {
                    return;
                }
                // Once its time is over another may hold it, whether or not the store answers.
                Err(_) if self.lease.clock.now() >= self.until().await => return,
                Err(error) => tracing::debug!(%error, "a lease was not renewed yet"),
            }
        }
    }

    /// The revision of the row, if it is of this holder's making.
    async fn ours(&self) -> Result<Revision, Error> {
        let Lease { backend, key, holder, .. } = &self.lease;
        match backend.get(key).await? {
            Some(row) if row.value == *holder => Ok(row.revision),
            Some(_) => Err(Error::RevisionMismatch { key: key.clone() }),
            None => Err(Error::NotFound { key: key.clone() }),
        }
    }
}
