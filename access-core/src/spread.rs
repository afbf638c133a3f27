//! Several ways to one service, such as the replicas of Auth: spread, left when they fail, and
//! come back to.
//!
//! Each connection begins at a way of its own choice, so that clients spread over the replicas. A
//! way that failed is tried last for a while, which grows while it goes on failing, and never left
//! out: the last way that may work is always tried. A way that does not answer soon is not waited
//! for before the next one is begun, and the first that answers is taken.
//!
//! What a way is, the caller knows: here ways are numbers, and connecting is a function.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};

use crate::time::{Clock, Timestamp};

/// For how long a way is tried last after its first failure, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A failure so long after the one before is a first one again.
const FORGET: Duration = Duration::from_secs(120);
/// How long one way is waited for before another one is begun beside it.
const STAGGER: Duration = Duration::from_secs(2);

/// Ways, by number, and what is known of them.
#[derive(Debug)]
pub struct Spread {
    ways: Mutex<Vec<Way>>,
}

#[derive(Clone, Copy, Debug)]
struct Way {
    failures: u32,
    failed_at: Timestamp,
    last_until: Timestamp,
}

impl Spread {
    /// So many ways, of which nothing is known yet.
    pub fn new(ways: usize) -> Self {
        let fresh = Way { failures: 0, failed_at: Timestamp::EPOCH, last_until: Timestamp::EPOCH };
        Self { ways: Mutex::new(vec![fresh; ways]) }
    }

    /// The order in which to try all ways now. `draw` is random: those that did not fail lately
    /// come in an order that it chooses, then the others, the one that has waited longest first.
    pub fn order(&self, now: Timestamp, draw: u64) -> Vec<usize> {
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut good, mut bad): (Vec<usize>, Vec<usize>) =
            (0..ways.len()).partition(|at| ways.get(*at).is_none_or(|way| way.last_until <= now));
        bad.sort_by_key(|at| ways.get(*at).map(|way| way.last_until));
        shuffle(&mut good, draw);
        good.extend(bad);
        good
    }

    /// A way failed: it is tried last for a while.
    pub fn failed(&self, way: usize, now: Timestamp, draw: u64) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(way) = ways.get_mut(way) else { return };
        if now.since(way.failed_at) > FORGET {
            way.failures = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << way.failures.min(16)).min(LONGEST_PAUSE);
        way.failures = way.failures.saturating_add(1);
        way.failed_at = now;
        way.last_until = now.plus(jittered(pause, draw));
    }

    /// A way answered: it is as good as any again.
    pub fn answered(&self, way: usize) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = ways.get_mut(way) {
            way.last_until = Timestamp::EPOCH;
        }
    }

    /// Connects by the first way that answers, and says which. `attempt` has a deadline of its own.
    ///
    /// # Errors
    /// What came of each way, in the order in which they failed; nothing when there is none.
    pub async fn reach<T, E, F>(
        &self,
        clock: &dyn Clock,
        draw: u64,
        attempt: impl Fn(usize) -> F,
    ) -> Result<(usize, T), Vec<(usize, E)>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let attempt = &attempt;
        let mut waiting = self.order(clock.now(), draw).into_iter();
        let (mut running, mut begun) = (FuturesUnordered::new(), Vec::new());
        let mut failures = Vec::new();
        let mut stagger = clock.sleep_until(clock.now());
        let mut go_on = true;
        loop {
            if std::mem::take(&mut go_on)
                && let Some(way) = waiting.next()
            {
                running.push(async move { (way, attempt(way).await) });
                begun.push(way);
                stagger = clock.sleep_until(clock.now().plus(STAGGER));
            }
            tokio::select! {
                biased;
                done = running.next() => match done {
                    None => return Err(failures),
                    Some((way, Ok(connected))) => {
                        self.answered(way);
                        // Those that were begun before it are slow at best.
                        let slow = begun.iter().take_while(|other| **other != way);
                        for other in slow.filter(|at| !failures.iter().any(|(f, _)| f == *at)) {
                            self.failed(*other, clock.now(), draw);
                        }
                        return Ok((way, connected));
                    }
                    Some((way, Err(error))) => {
                        self.failed(way, clock.now(), draw);
                        failures.push((way, error));
                        go_on = true;
                    }
                },
                () = &mut stagger, if waiting.len() > 0 => go_on = true,
            }
        }
    }
}

/// Between a half and the whole of it.
fn jittered(pause: Duration, draw: u64) -> Duration {
    pause / 2 + pause.mul_f64((draw >> 11) as f64 / (1_u64 << 53) as f64 / 2.0)
}

fn shuffle(ways: &mut [usize], mut draw: u64) {
    for left in (1..ways.len()).rev() {
        // A generator of its own from one draw: who connects where is no secret.
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = (draw >> 33) % (left as u64 + 1);
        ways.swap(left, usize::try_from(other).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::time::ManualClock;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn clients_spread_over_the_ways() {
        let mut firsts = [0; 3];
        for n in 0..3000_u64 {
            let spread = Spread::new(3);
            let order = spread.order(at(0), n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            firsts[order[0]] += 1;
        }
        assert!(firsts.iter().all(|count| (850..1150).contains(count)), "{firsts:?}");
    }

    #[test]
    fn a_way_that_failed_is_tried_last_for_longer_and_longer_and_then_again_like_the_others() {
        let spread = Spread::new(3);
        let mut now = at(1_000);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            spread.failed(1, now, u64::MAX);
            let until = (0..100).find(|secs| {
                let later = now.plus(Duration::from_secs(*secs));
                (0..64).any(|n| spread.order(later, n << 40)[2] != 1)
            });
            let pause = until.expect("it is never tried like the others again");
            pauses.push(pause);
            now = now.plus(Duration::from_secs(pause));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        now = now.plus(FORGET * 2);
        spread.failed(1, now, u64::MAX);
        assert_eq!(spread.order(now.plus(FIRST_PAUSE), 7).len(), 3);
        assert!((0..64).any(|n| spread.order(now.plus(FIRST_PAUSE), n << 40)[2] != 1));
        // Of several the one that has waited longest comes first.
        spread.failed(0, now, u64::MAX);
        spread.failed(2, now.plus(Duration::from_millis(1)), u64::MAX);
        spread.failed(1, now.plus(Duration::from_millis(2)), u64::MAX);
        assert_eq!(spread.order(now.plus(Duration::from_millis(3)), 0), [0, 2, 1]);
        spread.answered(1);
        assert_eq!(spread.order(now.plus(Duration::from_millis(3)), 0), [1, 0, 2]);
    }

    #[tokio::test]
    async fn the_first_that_answers_is_taken_and_all_causes_are_told() {
        let (clock, spread) = (ManualClock::at(at(0)), Spread::new(3));
        let tried = RefCell::new(Vec::new());
        let only = |good: usize| {
            let tried = &tried;
            move |way: usize| async move {
                tried.borrow_mut().push(way);
                if way == good { Ok(way * 10) } else { Err(format!("no {way}")) }
            }
        };
        let reached = spread.reach(&clock, 3, only(2)).await;
        assert_eq!(reached, Ok((2, 20)));
        // Those that failed come last from now on.
        tried.borrow_mut().clear();
        assert_eq!(spread.reach(&clock, 99, only(2)).await, Ok((2, 20)));
        assert_eq!(*tried.borrow(), [2]);
        let mut failures = spread.reach(&clock, 5, only(9)).await.unwrap_err();
        failures.sort();
        assert_eq!(failures, [0, 1, 2].map(|way| (way, format!("no {way}"))));
        let none = Spread::new(0).reach(&clock, 5, only(9)).await.unwrap_err();
        assert!(none.is_empty());
    }

    #[tokio::test]
    async fn a_way_that_says_nothing_is_not_waited_for() {
        let (clock, spread) = (ManualClock::at(at(0)), Spread::new(2));
        let silent = spread.order(clock.now(), 1)[0];
        let attempt = |way: usize| async move {
            if way == silent {
                std::future::pending::<()>().await;
            }
            Ok::<_, ()>(())
        };
        let reach = spread.reach(&clock, 1, attempt);
        tokio::pin!(reach);
        for _ in 0..10 {
            assert!(futures::poll!(&mut reach).is_pending());
        }
        clock.advance(STAGGER);
        assert_eq!(reach.await, Ok((1 - silent, ())));
        assert_eq!(spread.order(clock.now(), 1)[1], silent, "it is tried last from now on");
    }
}
