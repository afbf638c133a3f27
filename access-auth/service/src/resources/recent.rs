//! What watches show of a row, worked out once for all of them: a change that a thousand watch is
//! read and written as JSON once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use access_backend::{Item, Key, Revision};
use access_core::Timestamp;

use super::kinds::{KindEntry, Public};
use crate::error::Result;

/// How many rows are kept. Watches follow changes within moments of one another.
const MOST: usize = 1024;

/// The rows that were shown last.
#[derive(Default)]
pub(crate) struct Recent(Mutex<HashMap<Key, (Revision, Public)>>);

impl Recent {
    /// As [`KindEntry::public`].
    pub(crate) fn public(
        &self,
        entry: KindEntry,
        item: &Item,
        now: Timestamp,
    ) -> Result<Option<Public>> {
        if let Some(public) = self.find(item) {
            let gone = public.metadata.expires.is_some_and(|expires| expires <= now);
            return Ok((!gone).then_some(public));
        }
        let public = entry.public(item, now)?;
        if let Some(public) = &public {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MOST {
                kept.clear();
            }
            kept.insert(item.key.clone(), (item.revision, public.clone()));
        }
        Ok(public)
    }

    fn find(&self, item: &Item) -> Option<Public> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (revision, public) = kept.get(&item.key)?;
        (*revision == item.revision).then(|| public.clone())
    }
}

#[cfg(test)]
mod tests {
    use access_backend::{UnixMillis, Value};
    use access_core::policy::ApiKind;

    use super::*;

    #[test]
    fn each_revision_is_read_once_and_expires_all_the_same() {
        let item = |text: &str, revision| Item {
            key: Key::parse("/nodes/web").unwrap(),
            value: Value::new(text.to_owned()).unwrap(),
            expires: Some(UnixMillis(2000)),
            revision: Revision::from_bits(revision),
        };
        let node = KindEntry::find(ApiKind::Node.as_str()).unwrap();
        let text = |hostname: &str| {
            serde_json::json!({
                "kind": "node",
                "version": "v1",
                "metadata": { "name": "web", "expires": Timestamp::from_secs(2) },
                "spec": { "hostname": hostname },
            })
            .to_string()
        };
        let recent = Recent::default();
        let (before, after) = (Timestamp::from_secs(1), Timestamp::from_secs(2));
        let shown = |item: &Item, now| {
            let public = recent.public(node, item, now).unwrap();
            public.map(|public| String::from_utf8(public.document.json).unwrap())
        };
        let first = shown(&item(&text("one"), 1), before).unwrap();
        assert!(first.contains("one"));
        // Of the same revision nothing is read: what cannot be is not looked at.
        assert_eq!(shown(&item("{", 1), before).as_ref(), Some(&first));
        assert_eq!(shown(&item("{", 1), after), None);
        assert!(shown(&item(&text("two"), 2), before).unwrap().contains("two"));
        assert!(recent.public(node, &item("{", 3), before).is_err());
    }
}
