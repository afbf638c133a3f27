//! Guessing passwords is slow, and nobody is locked out by it.
//!
//! After some failures each further one keeps one of a few places of its key for some seconds;
//! whoever finds no place waits in line for one. That bounds what can be guessed of a user's
//! password from one source to [`AT_ONCE`] tries in [`LONGEST`] seconds, whichever replicas are
//! asked: failures and places are in the store, changed by compare-and-swap. Before the first
//! failures nothing is written, so that a login that succeeds costs one read; as many tries as
//! there are places may then be under way at each replica.
//!
//! Harder limits would lock users out: behind a proxy everybody has the proxy's address, so that
//! whoever keeps failing for a user's name does so as that user. The price is that guessing at the
//! full rate goes on for as long as somebody cares to (some 140,000 tries a day, each of them in
//! the audit log), and that a login may wait for [`PATIENCE`] while it does. To fill the line takes
//! as many connections as it has places, since each connection tries one login at a time; the
//! proxy bounds connections of real addresses.
//!
//! Keys share [`ROWS`] rows, so that strangers who make up names cannot fill the store. Two keys
//! that meet in one slow each other down, no more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_backend::{Backend, Key};
use access_core::{Clock, Timestamp};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::{secrets, store};

/// Failures that cost nothing yet.
const FREE: u32 = 5;
/// Tries of one key that are under way, or that keep others waiting.
const AT_ONCE: usize = 8;
/// Tries of one key that wait for a place, at each replica.
const WAITING: usize = 24;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a failed try keeps its place.
const LONGEST: Duration = Duration::from_secs(5);
/// How long a place is kept for a try of which nothing is heard any more.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// After how long without failures they are forgotten.
const FORGET: Duration = Duration::from_secs(900);
/// The most rows in the store.
const ROWS: u16 = u16::MAX;
/// The most keys that are remembered at once in the process, to line up at.
const MAX_KEYS: usize = 20_000;
/// How often a change is tried again when others came in between.
const ATTEMPTS: usize = 64;

/// Tries by key: who tries, or is tried.
pub(crate) struct Tries {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    /// Has who shares a row with whom differ from cluster to cluster.
    salt: String,
    lines: Mutex<HashMap<Key, Line>>,
}

/// Those who try here.
#[derive(Clone)]
struct Line {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// A place to try from.
#[derive(Debug)]
pub(crate) struct Turn {
    row: Key,
    /// Its number among the places in the store, where one was taken.
    id: Option<u64>,
    _here: OwnedSemaphorePermit,
}

/// What all replicas know of a key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tried {
    failures: u32,
    last: Option<Timestamp>,
    places: Vec<Place>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    id: u64,
    until: Timestamp,
}

impl Tried {
    /// Forgets what is over.
    fn settle(&mut self, now: Timestamp) {
        self.places.retain(|place| place.until > now);
        if self.last.is_none_or(|last| now.since(last) >= FORGET) {
            self.failures = 0;
        }
    }

    /// Whether a try needs no place: nobody has failed often enough.
    fn is_free(&self) -> bool {
        self.failures < FREE && self.places.is_empty()
    }

    /// Takes a place, or says when one is free at the earliest.
    fn take(&mut self, id: u64, now: Timestamp) -> Result<(), Timestamp> {
        if self.places.len() >= AT_ONCE {
            let first = self.places.iter().map(|place| place.until).min();
            return Err(first.unwrap_or(now));
        }
        self.places.push(Place { id, until: now.plus(UNDER_WAY) });
        Ok(())
    }

    /// Counts a failure, which keeps its place for a while.
    fn fail(&mut self, id: Option<u64>, fresh: u64, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
        self.places.retain(|place| Some(place.id) != id);
        let pause = pause_after(self.failures);
        // One that needed no place when it began needs one now, if one is left.
        if !pause.is_zero() && self.places.len() < AT_ONCE {
            self.places.push(Place { id: id.unwrap_or(fresh), until: now.plus(pause) });
        }
    }

    /// Forgets the failures. Those that still keep a place do so until their time is up.
    fn succeed(&mut self, id: Option<u64>) {
        self.failures = 0;
        self.places.retain(|place| Some(place.id) != id);
    }
}

impl Tries {
    pub(crate) fn new(backend: Arc<dyn Backend>, clock: Arc<dyn Clock>, salt: String) -> Self {
        Self { backend, clock, salt, lines: Mutex::default() }
    }

    /// Waits for a place to try from.
    pub(crate) async fn turn(&self, key: &str) -> Result<Turn> {
        let row = self.row_of(key)?;
        let Line { places, waiting } = self.line(&row);
        let here = match Arc::clone(&places).try_acquire_owned() {
            Ok(here) => here,
            Err(_) => {
                let _in_line = waiting.try_acquire().map_err(|_| limited())?;
                let place = tokio::time::timeout(PATIENCE, places.acquire_owned()).await;
                place.map_err(|_| limited())?.map_err(|_| limited())?
            }
        };
        let id = tokio::time::timeout(PATIENCE, self.place(&row)).await;
        Ok(Turn { id: id.map_err(|_| limited())??, row, _here: here })
    }

    /// Counts a failure.
    pub(crate) async fn failed(&self, turn: Turn) -> Result<()> {
        let fresh = u64::from_be_bytes(secrets::random()?);
        self.change(&turn.row, |tried, now| tried.fail(turn.id, fresh, now)).await
    }

    /// Forgets the failures of a key.
    pub(crate) async fn succeeded(&self, turn: Turn) -> Result<()> {
        match turn.id {
            // Nobody had failed when it began, or not often.
            None if self.read(&turn.row).await?.is_none() => Ok(()),
            id => self.change(&turn.row, |tried, _| tried.succeed(id)).await,
        }
    }

    /// A place in the store, once one is free; `None` when none is needed.
    async fn place(&self, row: &Key) -> Result<Option<u64>> {
        let id = u64::from_be_bytes(secrets::random()?);
        loop {
            let Some((mut tried, revision)) = self.read(row).await? else { return Ok(None) };
            let now = self.clock.now();
            tried.settle(now);
            if tried.is_free() {
                return Ok(None);
            }
            match tried.take(id, now) {
                Ok(()) => {
                    if self.swap(row, &tried, Some(revision), now).await? {
                        return Ok(Some(id));
                    }
                    tokio::task::yield_now().await;
                }
                Err(free_at) => self.clock.sleep_until(free_at).await,
            }
        }
    }

    /// Changes a row, whatever others do meanwhile.
    async fn change(&self, row: &Key, change: impl Fn(&mut Tried, Timestamp)) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let found = self.read(row).await?;
            let (mut tried, revision) = match found {
                Some((tried, revision)) => (tried, Some(revision)),
                None => (Tried::default(), None),
            };
            let now = self.clock.now();
            tried.settle(now);
            change(&mut tried, now);
            if self.swap(row, &tried, revision, now).await? {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        Err(limited())
    }

    async fn read(&self, row: &Key) -> Result<Option<(Tried, access_backend::Revision)>> {
        let found = store::row::<Tried>(&*self.backend, row).await?;
        Ok(found.map(|row| (row.value, row.revision)))
    }

    /// Writes a row if it is still of a revision, or still not there; `false` if it is not.
    async fn swap(
        &self,
        row: &Key,
        tried: &Tried,
        expected: Option<access_backend::Revision>,
        now: Timestamp,
    ) -> Result<bool> {
        use access_backend::Error as E;
        let item = store::new_row(row.clone(), tried)?;
        let item = store::expiring(item, Some(now.plus(FORGET)));
        let nothing = tried.failures == 0 && tried.places.is_empty();
        let done = match expected {
            Some(revision) if nothing => self.backend.delete_if(row, revision).await,
            Some(revision) => self.backend.update(item, revision).await.map(drop),
            None if nothing => Ok(()),
            None => self.backend.create(item).await.map(drop),
        };
        match done {
            Ok(()) => Ok(true),
            Err(E::NotFound { .. } | E::RevisionMismatch { .. } | E::AlreadyExists { .. }) => {
                Ok(false)
            }
            Err(err) => Err(err.into()),
        }
    }

    fn row_of(&self, key: &str) -> Result<Key> {
        let hash = digest(&SHA256, format!("{}\0{key}", self.salt).as_bytes());
        let short = match hash.as_ref() {
            [a, b, ..] => u16::from_be_bytes([*a, *b]) % ROWS,
            _ => 0,
        };
        store::key(["private", "tries", &format!("{short:04x}")])
    }

    fn line(&self, row: &Key) -> Line {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= MAX_KEYS && !lines.contains_key(row) {
            // Those at whom nobody tries or waits.
            lines.retain(|_, line| Arc::strong_count(&line.places) > 1);
        }
        let fresh = || Line {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        };
        lines.entry(row.clone()).or_insert_with(fresh).clone()
    }
}

/// How long the last of so many failures keeps its place.
fn pause_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None | Some(0) => Duration::ZERO,
        Some(over) => Duration::from_secs(1_u64 << (over - 1).min(16)).min(LONGEST),
    }
}

fn limited() -> Error {
    Error::Limited("too many logins of this user are tried at once: try again in a moment".into())
}

#[cfg(test)]
mod tests {
    use access_backend::{KeyRange, Memory, MemoryOptions, Prefix, read_all};
    use futures::future::BoxFuture;
    use tokio::time::Instant;

    use super::*;
    use crate::StoreClock;

    /// The runtime's virtual time.
    struct Virtual(Instant);

    impl Clock for Virtual {
        fn now(&self) -> Timestamp {
            Timestamp::from_secs(1_000).plus(self.0.elapsed())
        }

        fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
            let left = deadline.since(self.now());
            Box::pin(tokio::time::sleep(left))
        }
    }

    /// So many replicas on one store.
    fn replicas(count: usize) -> (Vec<Arc<Tries>>, Arc<Memory>) {
        let clock: Arc<dyn Clock> = Arc::new(Virtual(Instant::now()));
        let store = Arc::new(Memory::new(MemoryOptions {
            clock: Arc::new(StoreClock(Arc::clone(&clock))),
            ..MemoryOptions::default()
        }));
        let one = || Arc::new(Tries::new(store.clone(), Arc::clone(&clock), "salt".into()));
        ((0..count).map(|_| one()).collect(), store)
    }

    async fn fail(tries: &Tries, key: &str) -> Result<()> {
        let turn = tries.turn(key).await?;
        tries.failed(turn).await
    }

    #[test]
    fn pauses_grow_to_a_few_seconds() {
        let secs: Vec<_> = (4..10).map(|failures| pause_after(failures).as_secs()).collect();
        assert_eq!(secs, [0, 0, 1, 2, 4, 5]);
        assert_eq!(pause_after(u32::MAX), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_is_slow_at_all_replicas_together_and_locks_nobody_out() {
        let (replicas, _) = replicas(3);
        for at in 0..FREE {
            fail(&replicas[at as usize % 3], "alice").await.unwrap();
        }
        // As many guessers as there are places at each, and each as fast as they can.
        let started = Instant::now();
        let guessed = Arc::new(Mutex::new(0));
        let guessers: Vec<_> = (0..AT_ONCE * 3)
            .map(|at| {
                let (tries, guessed) = (Arc::clone(&replicas[at % 3]), Arc::clone(&guessed));
                tokio::spawn(async move {
                    while started.elapsed() < Duration::from_secs(600) {
                        if fail(&tries, "alice").await.is_ok() {
                            *guessed.lock().unwrap() += 1;
                        }
                    }
                })
            })
            .collect();
        for minute in 1..10 {
            tokio::time::sleep_until(started + Duration::from_secs(60 * minute)).await;
            drop(replicas[0].turn("bob").await.unwrap());
        }
        for guesser in guessers {
            guesser.await.unwrap();
        }
        let guessed = *guessed.lock().unwrap();
        assert!((900..=1100).contains(&guessed), "{guessed} in ten minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_count_wherever_they_happen_and_a_success_anywhere_forgets_them() {
        let (replicas, store) = replicas(2);
        let rows = async || {
            let range = KeyRange::from(Prefix::from_segments(["private", "tries"]).unwrap());
            read_all(&*store, &range, 10).await.unwrap().len()
        };
        // A login that succeeds leaves nothing.
        let turn = replicas[0].turn("alice").await.unwrap();
        replicas[0].succeeded(turn).await.unwrap();
        assert_eq!(rows().await, 0);
        for at in 0..20 {
            fail(&replicas[at % 2], "alice").await.unwrap();
        }
        // All places are taken for as long as the last failures keep them.
        let started = Instant::now();
        let turns =
            futures::future::join_all((0..AT_ONCE + 1).map(|at| replicas[at % 2].turn("alice")));
        let mut turns: Vec<_> = turns.await.into_iter().map(Result::unwrap).collect();
        assert!(started.elapsed() > Duration::from_secs(1), "{:?}", started.elapsed());
        assert!(started.elapsed() <= UNDER_WAY, "{:?}", started.elapsed());
        replicas[1].succeeded(turns.pop().unwrap()).await.unwrap();
        drop(turns);
        tokio::time::sleep(UNDER_WAY).await;
        let started = Instant::now();
        for at in 0..4 {
            fail(&replicas[at % 2], "alice").await.unwrap();
        }
        assert_eq!(started.elapsed(), Duration::ZERO, "they were forgotten");
        tokio::time::sleep(FORGET).await;
        assert_eq!(rows().await, 0, "and in the end all is");
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_has_an_end() {
        let (replicas, _) = replicas(1);
        let tries = &replicas[0];
        for _ in 0..FREE + 10 {
            fail(tries, "alice").await.unwrap();
        }
        let waiting = futures::future::join_all((0..100).map(|_| tries.turn("alice"))).await;
        let refused = waiting.iter().filter(|turn| turn.is_err()).count();
        assert!(refused >= 100 - AT_ONCE - WAITING, "{refused}");
    }

    #[tokio::test]
    async fn what_strangers_can_fill_is_bounded() {
        let (replicas, _) = replicas(1);
        let tries = &replicas[0];
        let rows: std::collections::HashSet<_> =
            (0..200_000).map(|n| tries.row_of(&n.to_string()).unwrap()).collect();
        assert!(rows.len() <= usize::from(ROWS) && rows.len() > 60_000, "{}", rows.len());
        rows.iter().for_each(|row| drop(tries.line(row)));
        assert!(tries.lines.lock().unwrap().len() <= MAX_KEYS);
        // Who shares a row with whom depends on the cluster.
        let other = Tries::new(tries.backend.clone(), tries.clock.clone(), "another".into());
        assert_ne!(other.row_of("alice").unwrap(), tries.row_of("alice").unwrap());
    }
}
