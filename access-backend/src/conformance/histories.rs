//! Concurrent histories, recorded and judged.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::linear::{Call, MAX_CALLS, Model, Open, is_linearizable_with};
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

/// What was answered, and what was not.
#[derive(Debug, Default)]
struct History {
    calls: Vec<Call<Want, Answer>>,
    open: Vec<(u64, Want)>,
}

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
        let history = record(store, seed, 1, MAX_CALLS / TASKS, Fate::Lives).await;
        judge(seed, 1, &history);
    }
}

pub(super) async fn concurrent_batches_are_linearizable(factory: &Backends) {
    for seed in 100..112 {
        let (store, _) = fresh(factory).await;
        let history = record(store, seed, 3, 24, Fate::Lives).await;
        judge(seed, 3, &history);
    }
}

pub(super) async fn clients_that_are_killed_leave_whole_operations(factory: &Backends) {
    for seed in 200..212 {
        let (store, _) = fresh(factory).await;
        let registers = 1 + seed as usize % 3;
        let history = record(store, seed, registers, 16, Fate::IsKilled).await;
        judge(seed, registers, &history);
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
    let open = history.open(registers);
    assert!(
        is_linearizable_with(start, &history.calls, &open),
        "seed {seed} gave a history that no order explains: {history:#?}"
    );
    let (known, unknown) = (history.calls.len(), history.open.len());
    assert!(known >= unknown * 2, "seed {seed}: {unknown} of {} got no answer", known + unknown);
}

impl History {
    /// What the calls without an answer may have been answered. Whoever wrote without being told has a revision that
    /// nobody was told, and that others may have seen.
    fn open(&self, registers: usize) -> Vec<Open<Want, Answer>> {
        let mut told = HashSet::new();
        let mut seen = HashSet::new();
        for call in &self.calls {
            match &call.answer {
                Answer::Wrote(revision) => drop(told.insert(*revision)),
                Answer::Row(row) => seen.extend(row.iter().map(|kept| kept.1)),
                Answer::Rows(rows) => seen.extend(rows.iter().flatten().map(|kept| kept.1)),
                _ => {}
            }
        }
        let mut strange: Vec<Revision> = seen.difference(&told).copied().collect();
        strange.sort_by_key(|revision| revision.to_bits());
        let answers = |at: usize, op: &Want| match op {
            Want::Get(_) | Want::List => Vec::new(),
            Want::Delete(_) | Want::DeleteIf(..) => vec![Answer::Deleted],
            Want::Clear => (0..=registers as u64).map(Answer::Cleared).collect(),
            // One that nobody saw, or one of those that somebody did.
            _ => strange
                .iter()
                .copied()
                .chain([Revision::from_bits(u128::MAX - 1 - at as u128)])
                .map(Answer::Wrote)
                .collect(),
        };
        let open = self.open.iter().enumerate();
        open.map(|(at, (began, op))| Open {
            op: op.clone(),
            answers: answers(at, op),
            began: *began,
        })
        .collect()
    }
}

/// What becomes of those who ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    /// Some of them, in the middle of an operation.
    IsKilled,
}

/// Has some tasks do `each` random operations at once.
async fn record(
    store: Arc<dyn Backend>,
    seed: u64,
    registers: usize,
    each: usize,
    fate: Fate,
) -> History {
    let clock = Arc::new(AtomicU64::new(0));
    // What anyone last saw of each register: revisions that are right half of the time.
    let seen = Arc::new(Mutex::new(vec![Revision::from_bits(u128::MAX); registers]));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (store, clock, seen) = (store.clone(), clock.clone(), seen.clone());
            let mut numbers = Numbers::new(seed * 1000 + task as u64);
            tokio::spawn(async move {
                let mut history = History::default();
                for step in 0..each {
                    let value = (task * 1000 + step) as u64;
                    let op = choose(&mut numbers, registers, value, &seen.lock().unwrap());
                    let began = clock.fetch_add(1, Ordering::SeqCst);
                    let answer = match fate == Fate::IsKilled && numbers.below(5) == 0 {
                        true => killed(&store, registers, &op, numbers.below(3000)).await,
                        false => perform(&*store, registers, &op).await,
                    };
                    let ended = clock.fetch_add(1, Ordering::SeqCst);
                    match answer {
                        Some(answer) => {
                            note(&seen, &op, &answer);
                            history.calls.push(Call { op, answer, began, ended });
                        }
                        None => history.open.push((began, op)),
                    }
                    if numbers.below(3) == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                history
            })
        })
        .collect();
    let mut history = History::default();
    for task in tasks {
        let part = task.await.unwrap();
        history.calls.extend(part.calls);
        history.open.extend(part.open);
    }
    history
}

/// What is answered to somebody who may not live for so many microseconds.
async fn killed(
    store: &Arc<dyn Backend>,
    registers: usize,
    op: &Want,
    micros: u64,
) -> Option<Answer> {
    let (store, op) = (store.clone(), op.clone());
    let mut asking = tokio::spawn(async move { perform(&*store, registers, &op).await });
    let lives = std::time::Duration::from_micros(micros);
    match tokio::time::timeout(lives, &mut asking).await {
        Ok(answer) => answer.unwrap(),
        Err(_) => {
            asking.abort();
            // It may have been answered in this moment.
            asking.await.ok().flatten()
        }
    }
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

/// `None` where an engine that lost its storage in the middle can't tell.
async fn perform(store: &dyn Backend, registers: usize, op: &Want) -> Option<Answer> {
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
    Some(match result {
        Ok(answer) => answer,
        Err(Error::NotFound { .. }) => Answer::NotFound,
        Err(Error::AlreadyExists { .. }) => Answer::Exists,
        Err(Error::RevisionMismatch { .. }) => Answer::Mismatch,
        Err(Error::ConditionFailed { index }) => Answer::Failed(index),
        Err(Error::Unavailable { .. }) => return None,
        Err(error) => panic!("{op:?}: {error}"),
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
mod tests;
