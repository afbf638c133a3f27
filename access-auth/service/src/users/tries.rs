//! Guessing passwords is slow, and nobody is locked out by it.
//!
//! After some failures each further one keeps one of a few places of its key for some seconds;
//! whoever finds no place waits in line for one. That bounds what can be guessed of a user's
//! password from one source to [`AT_ONCE`] tries in [`LONGEST`] seconds.
//!
//! Harder limits would lock users out: behind a proxy everybody has the proxy's address, so that
//! whoever keeps failing for a user's name does so as that user. The price is that guessing at the
//! full rate goes on for as long as somebody cares to (some 140,000 tries a day, each of them in
//! the audit log), and that a login may wait for [`PATIENCE`] while it does. To fill the line takes
//! as many connections as it has places, since each connection tries one login at a time; the
//! proxy bounds connections of real addresses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_core::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Failures that cost nothing yet.
const FREE: u32 = 5;
/// Tries of one key that are under way, or that keep others waiting.
const AT_ONCE: usize = 8;
/// Tries of one key that wait for a place.
const WAITING: usize = 24;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a failed try keeps its place.
const LONGEST: Duration = Duration::from_secs(5);
/// After how long without failures they are forgotten.
const FORGET: Duration = Duration::from_secs(900);
/// The most keys that are remembered at once.
const MAX_KEYS: usize = 20_000;

/// Tries by key: who tries, or is tried.
pub(crate) struct Tries {
    keys: Mutex<HashMap<String, Tried>>,
}

#[derive(Clone)]
struct Tried {
    failures: u32,
    last: Timestamp,
    places: Arc<Semaphore>,
    line: Arc<Semaphore>,
}

/// A place to try from.
#[derive(Debug)]
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
}

impl Tries {
    pub(crate) fn new() -> Self {
        Self { keys: Mutex::default() }
    }

    /// Waits for a place to try from.
    pub(crate) async fn turn(&self, key: &str, now: Timestamp) -> Result<Turn> {
        let Tried { places, line, .. } = self.tried(key, now);
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            return Ok(Turn { _place: place });
        }
        let _in_line = line.try_acquire().map_err(|_| limited())?;
        match tokio::time::timeout(PATIENCE, places.acquire_owned()).await {
            Ok(Ok(place)) => Ok(Turn { _place: place }),
            Ok(Err(_)) | Err(_) => Err(limited()),
        }
    }

    /// Counts a failure, which may keep its place for a while; nobody has to wait for that.
    pub(crate) fn failed(&self, key: &str, turn: Turn, now: Timestamp) {
        let failures = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(tried) = keys.get_mut(key) else { return };
            if now.since(tried.last) >= FORGET {
                tried.failures = 0;
            }
            tried.failures = tried.failures.saturating_add(1);
            tried.last = now;
            tried.failures
        };
        let pause = pause_after(failures);
        if !pause.is_zero() {
            // Ends by itself in a few seconds; there are never more than places.
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                drop(turn);
            });
        }
    }

    /// Forgets the failures of a key. Those that still keep a place do so until their time is up.
    pub(crate) fn succeeded(&self, key: &str) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tried) = keys.get_mut(key) {
            tried.failures = 0;
        }
    }

    fn tried(&self, key: &str, now: Timestamp) -> Tried {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MAX_KEYS && !keys.contains_key(key) {
            keys.retain(|_, tried| now.since(tried.last) < FORGET && tried.failures > 0);
            if keys.len() >= MAX_KEYS {
                // The one that was quiet for longest has the least to lose.
                let quiet = keys.iter().min_by_key(|(_, tried)| tried.last);
                if let Some(quiet) = quiet.map(|(key, _)| key.clone()) {
                    keys.remove(&quiet);
                }
            }
        }
        let fresh = || Tried {
            failures: 0,
            last: now,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            line: Arc::new(Semaphore::new(WAITING)),
        };
        keys.entry(key.to_owned()).or_insert_with(fresh).clone()
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
    use super::*;
    use tokio::time::Instant;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    async fn fail(tries: &Tries, key: &str) -> Result<()> {
        let turn = tries.turn(key, at(0)).await?;
        tries.failed(key, turn, at(0));
        Ok(())
    }

    #[test]
    fn pauses_grow_to_a_few_seconds() {
        let secs: Vec<_> = (4..10).map(|failures| pause_after(failures).as_secs()).collect();
        assert_eq!(secs, [0, 0, 1, 2, 4, 5]);
        assert_eq!(pause_after(u32::MAX), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_is_slow_and_locks_nobody_out() {
        let tries = Arc::new(Tries::new());
        for _ in 0..FREE {
            fail(&tries, "alice").await.unwrap();
        }
        // As many guessers as there are places, each as fast as they can.
        let started = Instant::now();
        let guessed = Arc::new(Mutex::new(0));
        let guessers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (tries, guessed) = (Arc::clone(&tries), Arc::clone(&guessed));
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
            let asked = Instant::now();
            drop(tries.turn("alice", at(0)).await.unwrap());
            assert!(asked.elapsed() <= LONGEST, "{:?}", asked.elapsed());
            drop(tries.turn("bob", at(0)).await.unwrap());
        }
        for guesser in guessers {
            guesser.await.unwrap();
        }
        let guessed = *guessed.lock().unwrap();
        assert!((900..=1100).contains(&guessed), "{guessed} in ten minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_has_an_end() {
        let tries = Tries::new();
        for _ in 0..FREE + 10 {
            fail(&tries, "alice").await.unwrap();
        }
        let waiting = futures::future::join_all((0..100).map(|_| tries.turn("alice", at(0)))).await;
        let refused = waiting.iter().filter(|turn| turn.is_err()).count();
        assert!(refused >= 100 - AT_ONCE - WAITING, "{refused}");
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let tries = Tries::new();
        for n in 0..MAX_KEYS + 10 {
            fail(&tries, &n.to_string()).await.unwrap();
        }
        assert!(tries.keys.lock().unwrap().len() <= MAX_KEYS);
    }
}
