//! Concurrent histories, recorded and judged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::linear::{Call, MAX_CALLS, Model, is_linearizable};
use super::tools::{Backends, Numbers, START, fresh, key, new, prefix, text};
use crate::{
    Backend, Batch, Condition, Error, Expect, Item, Key, KeyRange, NewItem, Operation, Revision,
    UnixMillis,
};

const TASKS: usize = 4;

/// What the model keeps of a row.
type Kept = Option<(u64, Revision)>;

/// The model: a few registers, changed one operation at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Store(Vec<Kept>);

#[derive(Clone, Debug)]
enum Want {
    Get(usize),
    List,
    Create(usize, u64),
    Put(usize, u64),
    Update(usize, u64, Revision),
    Delete(usize),
    DeleteIf(usize, Revision),
    KeepAlive(usize, Option<Revision>),
    Clear,
    Batch(Vec<(usize, Expect)>, Vec<(usize, Option<u64>)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Row(Kept),
    Rows(Vec<Kept>),
    Wrote(Revision),
    Deleted,
    Cleared(u64),
    NotFound,
    Exists,
    Mismatch,
    Failed(usize),
}

type History = Vec<Call<Want, Answer>>;

impl Model for Store {
    type Op = Want;
    type Answer = Answer;

    fn step(&self, op: &Want, answer: &Answer) -> Option<Self> {
        let matches = |expected: Answer| (expected == *answer).then(|| self.clone());
        match op {
            Want::Get(at) => matches(Answer::Row(self.0[*at])),
            Want::List => matches(Answer::Rows(self.0.clone())),
            Want::Put(at, value) => self.write(&[(*at, Some(*value))], answer),
            Want::Create(at, value) => match self.0[*at] {
                Some(_) => matches(Answer::Exists),
                None => self.write(&[(*at, Some(*value))], answer),
            },
            Want::Update(at, value, expected) => match self.refusal(*at, Some(*expected)) {
                Some(refusal) => matches(refusal),
                None => self.write(&[(*at, Some(*value))], answer),
            },
            Want::KeepAlive(at, expected) => match self.refusal(*at, *expected) {
                Some(refusal) => matches(refusal),
                None => self.write(&[(*at, self.0[*at].map(|kept| kept.0))], answer),
            },
            Want::Delete(at) => match self.refusal(*at, None) {
                Some(refusal) => matches(refusal),
                None => matches(Answer::Deleted).map(|store| store.without(*at)),
            },
            Want::DeleteIf(at, expected) => match self.refusal(*at, Some(*expected)) {
                Some(refusal) => matches(refusal),
                None => matches(Answer::Deleted).map(|store| store.without(*at)),
            },
            Want::Clear => {
                let live = self.0.iter().flatten().count();
                matches(Answer::Cleared(live as u64)).map(|store| Self(vec![None; store.0.len()]))
            }
            Want::Batch(conditions, writes) => {
                let failed = conditions.iter().position(|(at, expect)| match expect {
                    Expect::Absent => self.0[*at].is_some(),
                    Expect::Present => self.0[*at].is_none(),
                    Expect::Revision(expected) => self.0[*at].map(|kept| kept.1) != Some(*expected),
                });
                match failed {
                    Some(index) => matches(Answer::Failed(index)),
                    None => self.write(writes, answer),
                }
            }
        }
    }
}

impl Store {
    fn refusal(&self, at: usize, expected: Option<Revision>) -> Option<Answer> {
        match (self.0[at], expected) {
            (None, _) => Some(Answer::NotFound),
            (Some((_, is)), Some(expected)) if is != expected => Some(Answer::Mismatch),
            _ => None,
        }
    }

    fn write(&self, writes: &[(usize, Option<u64>)], answer: &Answer) -> Option<Self> {
        let Answer::Wrote(revision) = answer else { return None };
        let mut after = self.clone();
        for (at, value) in writes {
            after.0[*at] = value.map(|value| (value, *revision));
        }
        // A revision that was there before would let a stale writer through.
        let fresh = self.0.iter().flatten().all(|kept| kept.1 != *revision);
        fresh.then_some(after)
    }

    fn without(mut self, at: usize) -> Self {
        self.0[at] = None;
        self
    }
}

pub(super) async fn concurrent_operations_on_one_key_are_linearizable(factory: &Backends) {
    for seed in 0..12 {
        let (store, _) = fresh(factory).await;
        let history = record(store, seed, 1, MAX_CALLS / TASKS).await;
        judge(seed, 1, &history);
    }
}

pub(super) async fn concurrent_batches_are_linearizable(factory: &Backends) {
    for seed in 100..112 {
        let (store, _) = fresh(factory).await;
        let history = record(store, seed, 3, 24).await;
        judge(seed, 3, &history);
    }
}

pub(super) async fn counting_by_revision_loses_nothing(factory: &Backends) {
    let (store, _) = fresh(factory).await;
    store.create(new("/count", "0")).await.unwrap();
    let counting: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    loop {
                        let item = store.get(&key("/count")).await.unwrap().unwrap();
                        let count: u64 = std::str::from_utf8(&item.value).unwrap().parse().unwrap();
                        match store
                            .update(new("/count", &(count + 1).to_string()), item.revision)
                            .await
                        {
                            Ok(_) => break,
                            Err(Error::RevisionMismatch { .. }) => tokio::task::yield_now().await,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    for task in counting {
        task.await.unwrap();
    }
    assert_eq!(store.get(&key("/count")).await.unwrap().unwrap().value, text("200"));
}

fn judge(seed: u64, registers: usize, history: &History) {
    let start = Store(vec![None; registers]);
    assert!(
        is_linearizable(start, history),
        "seed {seed} gave a history that no order explains: {history:#?}"
    );
}

/// Has some tasks do `each` random operations at once.
async fn record(store: Arc<dyn Backend>, seed: u64, registers: usize, each: usize) -> History {
    let clock = Arc::new(AtomicU64::new(0));
    // What anyone last saw of each register: revisions that are right half of the time.
    let seen = Arc::new(Mutex::new(vec![Revision::from_bits(u128::MAX); registers]));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (store, clock, seen) = (store.clone(), clock.clone(), seen.clone());
            let mut numbers = Numbers::new(seed * 1000 + task as u64);
            tokio::spawn(async move {
                let mut calls = Vec::new();
                for step in 0..each {
                    let value = (task * 1000 + step) as u64;
                    let op = choose(&mut numbers, registers, value, &seen.lock().unwrap());
                    let began = clock.fetch_add(1, Ordering::SeqCst);
                    let answer = perform(&*store, registers, &op).await;
                    let ended = clock.fetch_add(1, Ordering::SeqCst);
                    note(&seen, &op, &answer);
                    calls.push(Call { op, answer, began, ended });
                    if numbers.below(3) == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                calls
            })
        })
        .collect();
    let mut history = Vec::new();
    for task in tasks {
        history.extend(task.await.unwrap());
    }
    history
}

fn choose(numbers: &mut Numbers, registers: usize, value: u64, seen: &[Revision]) -> Want {
    let at = numbers.below(registers as u64) as usize;
    match numbers.below(if registers > 1 { 16 } else { 12 }) {
        0..=2 => Want::Get(at),
        3 => Want::Put(at, value),
        4 | 5 => Want::Create(at, value),
        6 | 7 => Want::Update(at, value, seen[at]),
        8 => Want::Delete(at),
        9 => Want::DeleteIf(at, seen[at]),
        10 => Want::KeepAlive(at, (numbers.below(2) == 0).then_some(seen[at])),
        11 if numbers.below(3) == 0 => Want::Clear,
        11 | 12 => Want::List,
        _ => {
            let other = (at + 1) % registers;
            let expect = match numbers.below(3) {
                0 => Expect::Absent,
                1 => Expect::Present,
                _ => Expect::Revision(seen[at]),
            };
            let second = (numbers.below(3) > 0).then_some(value);
            Want::Batch(vec![(at, expect)], vec![(at, Some(value)), (other, second)])
        }
    }
}

fn register(at: usize) -> Key {
    key(&format!("/l/{at}"))
}

fn kept(item: &Item) -> (u64, Revision) {
    (std::str::from_utf8(&item.value).unwrap().parse().unwrap(), item.revision)
}

async fn perform(store: &dyn Backend, registers: usize, op: &Want) -> Answer {
    let row = |at: usize, value: u64| NewItem::new(register(at), text(&value.to_string()));
    let wrote = |result: Result<Revision, Error>| result.map(Answer::Wrote);
    let result = match op.clone() {
        Want::Get(at) => {
            store.get(&register(at)).await.map(|item| Answer::Row(item.as_ref().map(kept)))
        }
        Want::List => store.range(&KeyRange::from(prefix("/l")), 100, None).await.map(|page| {
            let find = |at| page.items.iter().find(|item| item.key == register(at)).map(kept);
            Answer::Rows((0..registers).map(find).collect())
        }),
        Want::Create(at, value) => wrote(store.create(row(at, value)).await),
        Want::Put(at, value) => wrote(store.put(row(at, value)).await),
        Want::Update(at, value, expected) => wrote(store.update(row(at, value), expected).await),
        Want::Delete(at) => store.delete(&register(at)).await.map(|()| Answer::Deleted),
        Want::DeleteIf(at, expected) => {
            store.delete_if(&register(at), expected).await.map(|()| Answer::Deleted)
        }
        Want::KeepAlive(at, expected) => {
            let later = UnixMillis(START.0 + 3_600_000);
            wrote(store.keep_alive(&register(at), expected, later).await)
        }
        Want::Clear => store.delete_range(&prefix("/l").into()).await.map(Answer::Cleared),
        Want::Batch(conditions, writes) => {
            let condition = |(at, expect)| Condition { key: register(at), expect };
            let operation = |(at, value): (usize, Option<u64>)| match value {
                Some(value) => Operation::Put(row(at, value)),
                None => Operation::Delete(register(at)),
            };
            let conditions = conditions.into_iter().map(condition).collect();
            let operations = writes.into_iter().map(operation).collect();
            wrote(store.batch(Batch { conditions, operations }).await)
        }
    };
    result.unwrap_or_else(|error| match error {
        Error::NotFound { .. } => Answer::NotFound,
        Error::AlreadyExists { .. } => Answer::Exists,
        Error::RevisionMismatch { .. } => Answer::Mismatch,
        Error::ConditionFailed { index } => Answer::Failed(index),
        error => panic!("{op:?}: {error}"),
    })
}

fn note(seen: &Mutex<Vec<Revision>>, op: &Want, answer: &Answer) {
    let mut seen = seen.lock().unwrap();
    match (op, answer) {
        (Want::Get(at), Answer::Row(Some((_, revision)))) => seen[*at] = *revision,
        (
            Want::Create(at, _) | Want::Put(at, _) | Want::Update(at, ..) | Want::KeepAlive(at, _),
            Answer::Wrote(revision),
        ) => seen[*at] = *revision,
        (Want::Batch(_, writes), Answer::Wrote(revision)) => {
            for (at, _) in writes {
                seen[*at] = *revision;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualClock, Memory, MemoryOptions};

    fn call(began: u64, ended: u64, op: Want, answer: Answer) -> Call<Want, Answer> {
        Call { op, answer, began, ended }
    }

    fn revision(bits: u128) -> Revision {
        Revision::from_bits(bits)
    }

    fn wrote(bits: u128) -> Answer {
        Answer::Wrote(revision(bits))
    }

    fn read(value: u64, bits: u128) -> Answer {
        Answer::Row(Some((value, revision(bits))))
    }

    fn fits(history: &[Call<Want, Answer>]) -> bool {
        is_linearizable(Store(vec![None; 2]), history)
    }

    #[test]
    fn overlapping_calls_may_come_in_either_order() {
        for seen in [read(1, 1), read(2, 2)] {
            assert!(fits(&[
                call(0, 4, Want::Put(0, 1), wrote(1)),
                call(1, 5, Want::Put(0, 2), wrote(2)),
                call(6, 7, Want::Get(0), seen),
            ]));
        }
        assert!(fits(&[
            call(0, 9, Want::Put(0, 1), wrote(1)),
            call(1, 2, Want::Get(0), Answer::Row(None)),
            call(3, 4, Want::Get(0), read(1, 1)),
        ]));
    }

    #[test]
    fn a_stale_read_is_found() {
        assert!(!fits(&[
            call(0, 1, Want::Put(0, 1), wrote(1)),
            call(2, 3, Want::Put(0, 2), wrote(2)),
            call(4, 5, Want::Get(0), read(1, 1)),
        ]));
    }

    #[test]
    fn a_read_that_goes_back_is_found() {
        assert!(!fits(&[
            call(0, 9, Want::Put(0, 1), wrote(1)),
            call(1, 2, Want::Get(0), read(1, 1)),
            call(3, 4, Want::Get(0), Answer::Row(None)),
        ]));
    }

    #[test]
    fn a_lost_update_is_found() {
        let update = |value| Want::Update(0, value, revision(1));
        assert!(!fits(&[
            call(0, 1, Want::Put(0, 1), wrote(1)),
            call(2, 5, update(2), wrote(2)),
            call(3, 6, update(3), wrote(3)),
        ]));
        assert!(fits(&[
            call(0, 1, Want::Put(0, 1), wrote(1)),
            call(2, 5, update(2), wrote(2)),
            call(3, 6, update(3), Answer::Mismatch),
        ]));
    }

    #[test]
    fn a_half_batch_is_found() {
        let both = Want::Batch(vec![], vec![(0, Some(1)), (1, Some(1))]);
        let half = Answer::Rows(vec![Some((1, revision(1))), None]);
        assert!(!fits(&[call(0, 9, both, wrote(1)), call(1, 2, Want::List, half)]));
    }

    #[test]
    fn a_revision_given_twice_is_found() {
        assert!(!fits(&[
            call(0, 1, Want::Put(0, 1), wrote(1)),
            call(2, 3, Want::Put(0, 2), wrote(1)),
        ]));
    }

    #[tokio::test]
    async fn one_wrong_answer_spoils_a_real_history() {
        let clock = Arc::new(ManualClock::new(START));
        let options = MemoryOptions { clock, sweep_every: None, ..MemoryOptions::default() };
        let mut history = record(Arc::new(Memory::new(options)), 5, 2, 20).await;
        assert!(fits(&history));
        let rows =
            history.iter_mut().find(|call| matches!(call.answer, Answer::Row(Some(_)))).unwrap();
        rows.answer = read(777, 777);
        assert!(!fits(&history));
    }
}
