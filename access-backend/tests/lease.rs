//! Leases under virtual time, and under all interleavings that chance finds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use access_backend::{
    Backend, Batch, Clock, Error, Held, Key, Lease, ManualClock, Memory, MemoryOptions, NewItem,
    Once, Operation, UnixMillis, Value,
};
use proptest::prelude::*;
use tokio::time::Instant;

const TTL: Duration = Duration::from_secs(15);

/// The runtime's virtual time.
#[derive(Debug)]
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_000_000).plus(self.0.elapsed())
    }
}

fn store(clock: Arc<dyn Clock>) -> Arc<Memory> {
    Arc::new(Memory::new(MemoryOptions { clock, ..MemoryOptions::default() }))
}

fn key(name: &str) -> Key {
    Key::from_segments(["leases", name]).unwrap()
}

fn lease(store: &Arc<Memory>, clock: &Arc<dyn Clock>, holder: &str) -> Lease {
    Lease::new(store.clone(), Arc::clone(clock), key("job"), holder, TTL).unwrap()
}

/// Two processes and the clock of both.
fn two() -> (Lease, Lease, Arc<Memory>) {
    let clock: Arc<dyn Clock> = Arc::new(Virtual(Instant::now()));
    let store = store(Arc::clone(&clock));
    (lease(&store, &clock, "a"), lease(&store, &clock, "b"), store)
}

fn is_lost<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::RevisionMismatch { .. } | Error::NotFound { .. }))
}

#[tokio::test(start_paused = true)]
async fn one_holds_it_until_it_is_released_or_expires() {
    let (a, b, _) = two();
    let held = a.acquire().await.unwrap().unwrap();
    assert!(b.acquire().await.unwrap().is_none());
    assert!(a.acquire().await.unwrap().is_none(), "once is once in one process too");
    held.release().await.unwrap();
    let held = b.acquire().await.unwrap().unwrap();
    for _ in 0..10 {
        tokio::time::sleep(TTL * 2 / 3).await;
        held.renew().await.unwrap();
        assert!(a.acquire().await.unwrap().is_none());
    }
    tokio::time::sleep(TTL).await;
    let taken = a.acquire().await.unwrap().unwrap();
    assert!(is_lost(held.renew().await) && is_lost(held.batch(Batch::new()).await));
    taken.renew().await.unwrap();
    assert!(is_lost(held.release().await), "what is another's is not given up");
    assert!(b.acquire().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn work_is_done_by_one_however_long_it_takes_and_then_by_the_next() {
    let (a, b, _) = two();
    let (at_once, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = |_| async {
        most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(TTL * 10).await;
        at_once.fetch_sub(1, Ordering::SeqCst);
    };
    let (first, second) =
        tokio::join!(a.once(std::future::pending(), work), b.once(std::future::pending(), work));
    assert_eq!((first, second), (Ok(Once::Done(())), Ok(Once::Elsewhere)));
    assert_eq!(b.once(std::future::pending(), work).await, Ok(Once::Done(())));
    assert_eq!(most.into_inner(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_releases_it_and_a_loss_ends_the_work() {
    let (a, b, store) = two();
    let began = Instant::now();
    let endless = |_| std::future::pending::<()>();
    let stop = tokio::time::sleep(TTL * 3);
    assert_eq!(a.once(stop, endless).await, Ok(Once::Stopped));
    assert_eq!(began.elapsed(), TTL * 3);
    let held = b.acquire().await.unwrap().expect("it was released at once");
    held.release().await.unwrap();
    // Somebody takes it away.
    let steal = async {
        tokio::time::sleep(TTL).await;
        store.put(NewItem::new(key("job"), Value::new("c").unwrap())).await.unwrap();
    };
    let (came, ()) = tokio::join!(a.once(std::future::pending(), endless), steal);
    assert_eq!(came, Ok(Once::Lost));
    let row = store.get(&key("job")).await.unwrap().unwrap();
    assert_eq!(row.value, Value::new("c").unwrap(), "it was left to who has it");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_was_lost_loses_nothing() {
    let (a, _, store) = two();
    let held = a.acquire().await.unwrap().unwrap();
    let until = UnixMillis(1_000_000).plus(TTL * 2);
    store.keep_alive(&key("job"), None, until).await.unwrap();
    held.renew().await.unwrap();
    held.batch(Batch::new()).await.unwrap();
    held.release().await.unwrap();
}

/// What a process does, or what befalls it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire(usize),
    Renew(usize),
    Write(usize),
    Release(usize),
    /// Time passes.
    Pass(u64),
    /// A clock is set, by so many milliseconds from the store's.
    Set(usize, i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 0_usize..3;
    let step = prop_oneof![
        3 => who().prop_map(Step::Acquire),
        2 => who().prop_map(Step::Renew),
        4 => who().prop_map(Step::Write),
        1 => who().prop_map(Step::Release),
        2 => (0_u64..20_000).prop_map(Step::Pass),
        1 => (who(), -20_000_i64..20_000).prop_map(|(who, off)| Step::Set(who, off)),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Of processes whose clocks are off, and which stop for as long as they like between two steps,
    /// none writes under the lease after another one has taken it.
    #[test]
    fn no_two_write_under_one_lease(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(steps))?;
    }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let start = UnixMillis(1_000_000);
    let truth = Arc::new(ManualClock::new(start));
    let clocks: Vec<_> = (0..3).map(|_| Arc::new(ManualClock::new(start))).collect();
    let store = store(truth.clone());
    let names = ["a", "b", "c"];
    let leases: Vec<_> = (0..3)
        .map(|who| {
            let clock: Arc<dyn Clock> = clocks[who].clone();
            lease(&store, &clock, names[who])
        })
        .collect();
    let mut held: Vec<Option<Held>> = vec![None, None, None];
    // Who took it last, and until when the store keeps it.
    let mut owner: Option<(usize, UnixMillis)> = None;
    let until = |who: usize| clocks[who].now().plus(TTL);
    for step in steps {
        let live = owner.filter(|(_, until)| truth.now() < *until).map(|(who, _)| who);
        match step {
            Step::Pass(millis) => {
                let by = Duration::from_millis(millis);
                truth.advance(by);
                clocks.iter().for_each(|clock| clock.advance(by));
            }
            Step::Set(who, off) => clocks[who].set(UnixMillis(truth.now().0 + off)),
            Step::Acquire(who) => {
                let taken = leases[who].acquire().await.unwrap();
                prop_assert_eq!(taken.is_some(), live.is_none(), "{:?}", step);
                if let Some(taken) = taken {
                    held[who] = Some(taken);
                    owner = Some((who, until(who)));
                }
            }
            Step::Renew(who) => {
                let Some(mine) = &held[who] else { continue };
                let done = mine.renew().await;
                prop_assert_eq!(done.is_ok(), live == Some(who), "{:?}: {:?}", step, done);
                if done.is_ok() {
                    owner = Some((who, until(who)));
                }
            }
            Step::Write(who) => {
                let Some(mine) = &held[who] else { continue };
                let item = NewItem::new(key("written"), Value::new(names[who]).unwrap());
                let done = mine.batch(Batch::new().then(Operation::Put(item))).await;
                prop_assert_eq!(done.is_ok(), live == Some(who), "{:?}: {:?}", step, done);
                if done.is_ok() {
                    owner = Some((who, until(who)));
                    let row = store.get(&key("written")).await.unwrap().unwrap();
                    prop_assert_eq!(row.value, Value::new(names[who]).unwrap());
                }
            }
            Step::Release(who) => {
                let Some(mine) = held[who].take() else { continue };
                let done = mine.release().await;
                prop_assert_eq!(done.is_ok(), live == Some(who), "{:?}: {:?}", step, done);
                if done.is_ok() {
                    owner = None;
                }
            }
        }
    }
    Ok(())
}
