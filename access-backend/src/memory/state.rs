//! The rows, the order in which they expire, and the last changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::apply::{Held, Rows};
use crate::hub::{Change, position, random_gap};
use crate::page::PageBuilder;
use crate::{Cursor, Error, Item, Key, KeyRange, Page, Position, Prefix, UnixMillis};

#[derive(Debug)]
pub(super) struct State {
    rows: BTreeMap<Key, Item>,
    expiries: BTreeSet<(UnixMillis, Key)>,
    history: VecDeque<Arc<Change>>,
    history_limit: usize,
    /// The change before the first of the history.
    floor: u64,
    closed: bool,
}

impl State {
    pub(super) fn new(history_limit: usize) -> Self {
        Self {
            rows: BTreeMap::new(),
            expiries: BTreeSet::new(),
            history: VecDeque::new(),
            history_limit,
            floor: random_gap() << 16,
            closed: false,
        }
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }

    pub(super) fn close(&mut self) {
        *self = Self { closed: true, ..Self::new(0) };
    }

    /// The number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.history.back().map_or(self.floor, |change| number(change))
    }

    pub(super) fn remember(&mut self, changes: Vec<Arc<Change>>) {
        self.history.extend(changes);
        while self.history.len() > self.history_limit {
            if let Some(forgotten) = self.history.pop_front() {
                self.floor = number(&forgotten);
            }
        }
    }

    /// The changes after `from`, if all of them are still there.
    pub(super) fn since(&self, from: Position) -> Option<impl Iterator<Item = &Arc<Change>>> {
        let skip = if from == position(self.floor) {
            0
        } else {
            self.history.binary_search_by_key(&from, |change| change.position).ok()? + 1
        };
        Some(self.history.range(skip..))
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Item> {
        self.rows.get(key)
    }

    pub(super) fn page(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
        now: UnixMillis,
    ) -> Page {
        let mut builder = PageBuilder::new(limit);
        let rest = after.map(|cursor| range.after(cursor.key().as_str()));
        for item in self.rows_in(rest.as_ref().unwrap_or(range)) {
            if !item.is_expired(now) && !builder.offer(item.clone()) {
                break;
            }
        }
        builder.finish()
    }

    /// The live rows below `prefixes`. A copy holds references alone, not values.
    pub(super) fn snapshot(
        &self,
        prefixes: &[Prefix],
        now: UnixMillis,
    ) -> impl Iterator<Item = Item> {
        prefixes
            .iter()
            .flat_map(|prefix| self.rows_in(&prefix.into()))
            .filter(move |item| !item.is_expired(now))
            .cloned()
    }

    fn rows_in(&self, range: &KeyRange) -> impl Iterator<Item = &Item> + use<'_> {
        let bounds =
            (Bound::Included(range.start()), range.end().map_or(Bound::Unbounded, Bound::Excluded));
        // The map panics on a range that ends before it begins.
        let found = (!range.is_empty()).then(|| self.rows.range::<str, _>(bounds));
        found.into_iter().flatten().map(|(_, item)| item)
    }
}

impl Rows for State {
    fn held(&mut self, key: &Key) -> Result<Option<Held>, Error> {
        let held = self.rows.get(key);
        Ok(held.map(|item| Held { expires: item.expires, revision: item.revision }))
    }

    fn read(&mut self, key: &Key) -> Result<Option<Item>, Error> {
        Ok(self.rows.get(key).cloned())
    }

    fn write(&mut self, item: &Item, seq: u64) -> Result<(), Error> {
        self.remove(&item.key, seq)?;
        if let Some(expires) = item.expires {
            self.expiries.insert((expires, item.key.clone()));
        }
        self.rows.insert(item.key.clone(), item.clone());
        Ok(())
    }

    fn remove(&mut self, key: &Key, _seq: u64) -> Result<(), Error> {
        if let Some(Item { expires: Some(expires), key, .. }) = self.rows.remove(key) {
            self.expiries.remove(&(expires, key));
        }
        Ok(())
    }

    fn keys_in(&mut self, range: &KeyRange) -> Result<Vec<(Key, Option<UnixMillis>)>, Error> {
        Ok(self.rows_in(range).map(|item| (item.key.clone(), item.expires)).collect())
    }

    fn expired(&mut self, now: UnixMillis, limit: usize) -> Result<Vec<Key>, Error> {
        let gone = self.expiries.iter().take_while(|(expires, _)| *expires <= now).take(limit);
        Ok(gone.map(|(_, key)| key.clone()).collect())
    }
}

/// The number of a change of this engine.
fn number(change: &Change) -> u64 {
    u64::try_from(change.position.to_bits()).unwrap_or(u64::MAX)
}
