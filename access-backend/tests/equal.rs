//! Both engines answer any sequence of operations alike.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use access_backend::{
    Backend, Batch, Condition, Error, Expect, Item, Key, KeyRange, ManualClock, Memory,
    MemoryOptions, NewItem, Operation, Prefix, Revision, Sqlite, SqliteOptions, UnixMillis, Value,
    WatchEvent,
};
use proptest::prelude::*;

/// Few keys, so that operations meet.
const PATHS: [&str; 6] = ["/a", "/a/1", "/a/2", "/a/2/x", "/a0", "/b"];

#[derive(Clone, Debug)]
enum Step {
    Create(usize, Option<i64>),
    Put(usize, Option<i64>),
    /// Which revision: one of the last that were given out, or none ever given.
    Update(usize, usize),
    Delete(usize),
    DeleteIf(usize, usize),
    DeleteRange(usize, usize),
    KeepAlive(usize, Option<usize>, i64),
    Batch(Vec<(usize, u8, usize)>, Vec<(usize, bool)>),
    Range(usize, usize, usize),
    Advance(u64),
    Sweep(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..PATHS.len();
    let expires = || prop::option::weighted(0.3, 0i64..8);
    let token = || 0usize..4;
    prop_oneof![
        (at(), expires()).prop_map(|(at, expires)| Step::Create(at, expires)),
        (at(), expires()).prop_map(|(at, expires)| Step::Put(at, expires)),
        (at(), token()).prop_map(|(at, token)| Step::Update(at, token)),
        at().prop_map(Step::Delete),
        (at(), token()).prop_map(|(at, token)| Step::DeleteIf(at, token)),
        (at(), at()).prop_map(|(from, to)| Step::DeleteRange(from, to)),
        (at(), prop::option::of(token()), 0i64..8)
            .prop_map(|(at, token, to)| Step::KeepAlive(at, token, to)),
        (
            prop::collection::vec((at(), 0u8..3, token()), 0..3),
            prop::collection::vec((at(), any::<bool>()), 0..4),
        )
            .prop_map(|(conditions, writes)| Step::Batch(conditions, writes)),
        (at(), at(), 0usize..5).prop_map(|(from, to, limit)| Step::Range(from, to, limit)),
        (0u64..4).prop_map(Step::Advance),
        (0usize..4).prop_map(Step::Sweep),
    ]
}

fn key(at: usize) -> Key {
    Key::parse(PATHS[at]).unwrap()
}

/// A row with its revision as the number of the write that it came from, which engines agree on.
type Seen = (String, Vec<u8>, Option<UnixMillis>, usize);

/// One engine, and which write each of its revisions came from.
struct Driver {
    store: Arc<dyn Backend>,
    given: Vec<Revision>,
    of: HashMap<Revision, usize>,
}

impl Driver {
    fn new(store: Arc<dyn Backend>) -> Self {
        Self { store, given: Vec::new(), of: HashMap::new() }
    }

    fn token(&self, back: usize) -> Revision {
        self.given.iter().rev().nth(back).copied().unwrap_or(Revision::from_bits(u128::MAX))
    }

    fn wrote(&mut self, result: Result<Revision, Error>) -> Result<String, Error> {
        let revision = result?;
        self.given.push(revision);
        assert!(self.of.insert(revision, self.given.len()).is_none(), "a revision twice");
        Ok(format!("write {}", self.given.len()))
    }

    fn seen(&self, item: &Item) -> Seen {
        (item.key.to_string(), item.value.to_vec(), item.expires, self.of[&item.revision])
    }

    async fn run(&mut self, number: usize, step: &Step) -> Result<String, Error> {
        let item = |at: usize, expires: Option<i64>| NewItem {
            key: key(at),
            value: Value::new(number.to_string()).unwrap(),
            expires: expires.map(UnixMillis),
        };
        let store = self.store.clone();
        match step.clone() {
            Step::Create(at, expires) => self.wrote(store.create(item(at, expires)).await),
            Step::Put(at, expires) => self.wrote(store.put(item(at, expires)).await),
            Step::Update(at, token) => {
                self.wrote(store.update(item(at, None), self.token(token)).await)
            }
            Step::Delete(at) => store.delete(&key(at)).await.map(|()| "deleted".into()),
            Step::DeleteIf(at, token) => {
                store.delete_if(&key(at), self.token(token)).await.map(|()| "deleted".into())
            }
            Step::DeleteRange(from, to) => {
                let range = KeyRange::from(key(from)..key(to));
                store.delete_range(&range).await.map(|count| format!("deleted {count}"))
            }
            Step::KeepAlive(at, token, to) => {
                let expected = token.map(|token| self.token(token));
                self.wrote(store.keep_alive(&key(at), expected, UnixMillis(to)).await)
            }
            Step::Batch(conditions, writes) => {
                let conditions = conditions
                    .into_iter()
                    .map(|(at, expect, token)| Condition {
                        key: key(at),
                        expect: match expect {
                            0 => Expect::Absent,
                            1 => Expect::Present,
                            _ => Expect::Revision(self.token(token)),
                        },
                    })
                    .collect();
                let operation = |(at, put)| {
                    if put { Operation::Put(item(at, None)) } else { Operation::Delete(key(at)) }
                };
                let puts = writes.iter().any(|(_, put)| *put);
                let operations = writes.into_iter().map(operation).collect();
                match store.batch(Batch { conditions, operations }).await {
                    Ok(_) if !puts => Ok("deleted".into()),
                    result => self.wrote(result),
                }
            }
            Step::Range(from, to, limit) => {
                let page = store.range(&KeyRange::from(key(from)..key(to)), limit, None).await?;
                let rows: Vec<Seen> = page.items.iter().map(|item| self.seen(item)).collect();
                Ok(format!("{rows:?} then {:?}", page.next))
            }
            Step::Sweep(limit) => store.sweep(limit).await.map(|count| format!("swept {count}")),
            Step::Advance(_) => Ok(String::new()),
        }
    }

    async fn rows(&self) -> Vec<Seen> {
        let rows = access_backend::read_all(&*self.store, &KeyRange::all(), 100).await.unwrap();
        rows.iter().map(|item| self.seen(item)).collect()
    }
}

/// What a watch told, without its positions.
async fn told(driver: &Driver, watch: &mut access_backend::Watch) -> Vec<String> {
    let end = Key::parse("/end").unwrap();
    driver.store.put(NewItem::new(end.clone(), Value::default())).await.unwrap();
    let mut told = Vec::new();
    loop {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Changed { item, .. } if item.key == end => return told,
            WatchEvent::Changed { item, .. } => {
                told.push(format!("changed {:?}", driver.seen(&item)))
            }
            WatchEvent::Deleted { key, .. } => told.push(format!("deleted {key}")),
            WatchEvent::Ready(_) => {}
            event => panic!("{event:?} of an empty store"),
        }
    }
}

async fn compare(steps: Vec<Step>) {
    let dir =
        tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(UnixMillis(0)));
    let memory = Memory::new(MemoryOptions { clock: clock.clone(), ..MemoryOptions::default() });
    let options = SqliteOptions::new(dir.path().join("state.db"));
    let options = SqliteOptions { clock: clock.clone(), ..options };
    let sqlite = Sqlite::open(options).await.unwrap();
    let mut one = Driver::new(Arc::new(memory));
    let mut two = Driver::new(Arc::new(sqlite));
    let mut watch_one = one.store.watch(&[Prefix::root()], None).await.unwrap();
    let mut watch_two = two.store.watch(&[Prefix::root()], None).await.unwrap();
    for watch in [&mut watch_one, &mut watch_two] {
        assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Ready(_)))));
    }
    for (number, step) in steps.iter().enumerate() {
        if let Step::Advance(millis) = step {
            clock.advance(Duration::from_millis(*millis));
        }
        assert_eq!(one.run(number, step).await, two.run(number, step).await, "{number}: {step:?}");
        assert_eq!(one.rows().await, two.rows().await, "after {number}: {step:?}");
    }
    assert_eq!(told(&one, &mut watch_one).await, told(&two, &mut watch_two).await);
    two.store.close().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn engines_agree(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(steps));
    }
}
