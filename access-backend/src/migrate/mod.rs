//! Moving a store: everything of one copied to another, while the first is in use, and shown to be the same.
//!
//! ```text
//!            from                          to
//!  begin     (read)                        marked: being filled, nobody may use it
//!  copy *    in use                        rows and events that differ are written
//!  finish    marked: moved, and nobody     the last differences are written; both sides are
//!            writes to it any more         counted and hashed; the mark goes: it may be used
//! ```
//!
//! A pass reads both sides in order and writes what differs, so that one which was cut off is simply repeated: what is
//! there already is not written again. The marks are rows of the stores, below [`MARKS`]. At no moment may both
//! stores be used, and a crash between two steps leaves none that may be: running it again ends it.
//!
//! What is not the same afterwards: revisions and positions, which each engine makes itself. Whoever holds one reads
//! again.

mod digest;
mod marks;
mod pass;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use self::digest::Digest;
use self::marks::{Copying, Moved, copying, copying_key, moved, moved_key, written};
pub use self::marks::{MARKS, check_usable, unused};
pub use self::pass::Pass;
use crate::{
    Backend, Batch, Clock, Condition, Error, EventQuery, EventStore, Key, KeyRange, Operation,
    Prefix, Revision, SystemClock, UnixMillis,
};

/// How often the last pass is repeated until it finds nothing to write.
const LAST_PASSES: usize = 5;

/// Both halves of a store, and what to call it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The rows.
    pub backend: Arc<dyn Backend>,
    /// The events.
    pub events: Arc<dyn EventStore>,
    /// What people call it, without secrets: `sqlite:/var/lib/access/access.db`.
    pub name: String,
}

impl Place {
    /// An engine that is both.
    pub fn new<T: Backend + EventStore>(engine: Arc<T>, name: impl Into<String>) -> Self {
        Self { backend: engine.clone(), events: engine, name: name.into() }
    }
}

/// How a store is told from another one.
#[derive(Clone)]
pub struct Identity {
    /// The row that every store in use has.
    pub key: Key,
    /// What of its value never changes; `None` where it can't be read.
    pub read: fn(&[u8]) -> Option<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What a migration has to know of what is stored.
#[derive(Clone, Debug)]
pub struct MigrateOptions {
    /// Whose a store is.
    pub identity: Identity,
    /// Rows below it are named as writers of events are: the highest number of each is kept also where its events have
    /// been deleted.
    pub writers: Option<Prefix>,
    /// What decides which rows have expired; that of the engines.
    pub clock: Arc<dyn Clock>,
    /// How far it is.
    pub progress: Arc<Progress>,
}

impl MigrateOptions {
    /// With the machine's clock.
    pub fn new(identity: Identity) -> Self {
        Self { identity, writers: None, clock: Arc::new(SystemClock), progress: Arc::default() }
    }
}

/// How far a pass is; it begins at 0 with each.
#[derive(Debug, Default)]
pub struct Progress {
    pub(crate) rows: AtomicU64,
    pub(crate) events: AtomicU64,
}

impl Progress {
    /// Rows and events that were compared.
    pub fn now(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.events.load(Ordering::Relaxed))
    }
}

/// What was moved: the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// The rows that had not expired.
    pub rows: Digest,
    /// The events.
    pub events: Digest,
}

/// A migration under way.
#[derive(Debug)]
pub struct Migration {
    to: Place,
    options: MigrateOptions,
    id: String,
    /// That of the target's mark: whoever takes the migration over changes it, and then nothing more is written here.
    mark: Revision,
    resumed: bool,
}

impl Migration {
    /// Makes sure that `from` may be copied to `to`, and marks `to` as being filled.
    ///
    /// `to` is empty; or it was left in the middle of this very migration; or it is where the store was before it was
    /// moved to `from`.
    ///
    /// # Errors
    /// [`Error::Invalid`] saying what is wrong with one of them; [`Error::Moved`] and [`Error::HalfCopied`] where `from`
    /// is not in use; those of the engines.
    pub async fn begin(from: &Place, to: &Place, options: MigrateOptions) -> Result<Self, Error> {
        if from.name == to.name {
            return Err(refused(format!("both sides are {}", from.name)));
        }
        if let Some(mark) = copying(&*from.backend).await? {
            return Err(Error::HalfCopied { from: mark.value.from });
        }
        let ours = identity(from, &options.identity).await?.ok_or_else(|| {
            refused(format!("{} holds nothing that could be moved: check its name", from.name))
        })?;
        let gone = moved(&*from.backend).await?;
        let theirs = copying(&*to.backend).await?;
        match (&gone, &theirs) {
            (Some(gone), Some(theirs)) if gone.value.id == theirs.value.id => {}
            (Some(gone), _) => return Err(Error::Moved { to: gone.value.to.clone() }),
            (None, _) => {}
        }
        let (id, resumed) = match &theirs {
            Some(mark) if mark.value.of == ours => (mark.value.id.clone(), true),
            Some(_) => {
                return Err(refused(format!(
                    "{} is being filled from another store: finish that, or name an empty one",
                    to.name
                )));
            }
            None => (fresh_id(), false),
        };
        let mut batch = Batch::new();
        match &theirs {
            Some(mark) => batch = batch.when(Condition::revision(copying_key()?, mark.revision)),
            None => {
                batch = batch.when(Condition::absent(copying_key()?));
                batch = check_target(to, &options.identity, &ours, batch).await?;
            }
        }
        let mark = Copying { id: id.clone(), of: ours, from: from.name.clone() };
        let batch = batch.then(Operation::Put(written(copying_key()?, &mark)?));
        let mark = to.backend.batch(batch).await.map_err(|error| match error {
            Error::ConditionFailed { .. } => {
                refused(format!("{} has just been taken by another process", to.name))
            }
            other => other,
        })?;
        if copying(&*from.backend).await?.is_some() {
            to.backend.delete_if(&copying_key()?, mark).await?;
            return Err(refused(format!("{} and {} are the same store", from.name, to.name)));
        }
        Ok(Self { to: to.clone(), options, id, mark, resumed })
    }

    /// How far the pass is that runs.
    pub fn progress(&self) -> &Progress {
        &self.options.progress
    }

    /// Whether an earlier attempt is gone on with.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Copies what differs: all rows, and the events that happened since `events_since`. `from` may be in use: then what
    /// changes meanwhile is for the next pass.
    ///
    /// # Errors
    /// [`Error::ConditionFailed`] where another process has taken the migration over; those of the engines.
    pub async fn copy(
        &self,
        from: &Place,
        events_since: Option<UnixMillis>,
    ) -> Result<Pass, Error> {
        pass::run(self.work(from), events_since).await
    }

    /// Ends it: marks `from` as moved, copies what still differs, makes sure that both sides are the same by count and
    /// hash, and lets `to` be used.
    ///
    /// The caller has made sure that nobody else writes to `from` any more, and that whoever opens it from now on looks
    /// for the mark: [`check_usable`].
    ///
    /// # Errors
    /// [`Error::Invalid`] where the sides stay different: somebody still writes to `from`, or `to` holds what is not
    /// `from`'s. Nothing is undone then; repeat it. Those of the engines.
    pub async fn finish(&self, from: &Place) -> Result<Moving, Error> {
        self.close(from).await?;
        let mut last = None;
        for _ in 0..LAST_PASSES {
            let pass = pass::run(self.work(from), None).await?;
            if pass.changed_nothing() {
                self.keep_numbers(from).await?;
                return self.release(pass).await;
            }
            last = Some(pass);
        }
        let what = last.map(|pass| pass.to_string()).unwrap_or_default();
        Err(refused(format!(
            "{} and {} do not become the same ({what}): stop whatever still writes to the first, or \
             empty the second, and repeat this",
            from.name, self.to.name
        )))
    }

    /// Marks `from` as moved, so that nobody begins to use it any more. [`Migration::finish`] does it first; where
    /// several processes may share `from`, do it before looking whether they are gone.
    ///
    /// # Errors
    /// [`Error::Moved`] where it was moved elsewhere; those of the engine.
    pub async fn close(&self, from: &Place) -> Result<(), Error> {
        let mark = Moved { id: self.id.clone(), to: self.to.name.clone() };
        let key = moved_key()?;
        let held = moved(&*from.backend).await?;
        let condition = match held {
            Some(held) if held.value.id == self.id => {
                Condition::revision(key.clone(), held.revision)
            }
            Some(held) => return Err(Error::Moved { to: held.value.to }),
            None => Condition::absent(key.clone()),
        };
        let batch = Batch::new().when(condition).then(Operation::Put(written(key, &mark)?));
        from.backend.batch(batch).await.map(drop)
    }

    fn work<'a>(&'a self, from: &'a Place) -> pass::Work<'a> {
        pass::Work { from, to: &self.to, options: &self.options, mark: self.mark }
    }

    /// Keeps the highest numbers of writers whose events were deleted since.
    async fn keep_numbers(&self, from: &Place) -> Result<(), Error> {
        let Some(writers) = &self.options.writers else { return Ok(()) };
        let (range, mut after) = (KeyRange::from(writers), None);
        loop {
            let page = from.backend.range(&range, crate::MAX_PAGE_ITEMS, after.as_ref()).await?;
            for item in &page.items {
                let writer = item.key.name();
                let Some(seq) = from.events.last_seq(writer).await? else { continue };
                if self.to.events.last_seq(writer).await?.is_none_or(|held| held < seq) {
                    // One that is older than all others takes the number along, and goes at once.
                    let event = pass::before_all(writer, seq);
                    let after = UnixMillis(event.time.0 + 1);
                    self.to.events.append(vec![event]).await?;
                    while self.to.events.delete_before(after, 1).await? > 0 {}
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn release(&self, pass: Pass) -> Result<Moving, Error> {
        let batch = Batch::new()
            .when(Condition::revision(copying_key()?, self.mark))
            .then(Operation::Delete(copying_key()?))
            .then(Operation::Delete(moved_key()?));
        self.to.backend.batch(batch).await?;
        Ok(Moving { rows: pass.rows.1, events: pass.events.1 })
    }
}

/// Lets a store that was moved away be used again, without what was written to the other since.
///
/// # Errors
/// [`Error::Invalid`] where it was not moved; those of the engine.
pub async fn undo(from: &Place) -> Result<String, Error> {
    let mark = moved(&*from.backend)
        .await?
        .ok_or_else(|| refused(format!("{} was not moved: it may be used as it is", from.name)))?;
    from.backend.delete_if(&moved_key()?, mark.revision).await?;
    Ok(mark.value.to)
}

/// What the target has to be, where no migration was begun there.
async fn check_target(
    to: &Place,
    who: &Identity,
    ours: &str,
    batch: Batch,
) -> Result<Batch, Error> {
    let Some(held) = identity(to, who).await? else {
        let one = EventQuery { limit: 1, ..EventQuery::default() };
        let empty = to.backend.range(&KeyRange::all(), 1, None).await?.items.is_empty()
            && to.events.search(&one).await?.events.is_empty();
        if !empty {
            return Err(refused(format!(
                "{} holds something already: name an empty store",
                to.name
            )));
        }
        // Nobody begins to use it meanwhile.
        return Ok(batch.when(Condition::absent(who.key.clone())));
    };
    if held != ours {
        return Err(refused(format!(
            "{} holds another cluster ({held}, not {ours}): name an empty store",
            to.name
        )));
    }
    match moved(&*to.backend).await? {
        Some(mark) => Ok(batch.when(Condition::revision(moved_key()?, mark.revision))),
        None => Err(refused(format!(
            "{} holds this very cluster and was not moved away: it may be the one that is in use. \
             Check which way this is to go",
            to.name
        ))),
    }
}

async fn identity(place: &Place, who: &Identity) -> Result<Option<String>, Error> {
    let Some(item) = place.backend.get(&who.key).await? else { return Ok(None) };
    (who.read)(&item.value)
        .map(Some)
        .ok_or_else(|| refused(format!("{} of {} cannot be read", who.key, place.name)))
}

fn refused(reason: String) -> Error {
    Error::invalid("migration", reason)
}

fn fresh_id() -> String {
    use std::hash::{BuildHasher, Hasher};
    let part = || std::hash::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", part(), part())
}
