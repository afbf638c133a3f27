//! Count and hash of what is in a store.

use std::fmt;

use ring::digest::{Context, SHA256};

use crate::{Item, StoredEvent, UnixMillis};

/// How many there are, and the SHA-256 over all of them in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// How many.
    pub count: u64,
    /// The hash, in hexadecimal digits.
    pub sha256: String,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (sha256 {})", self.count, self.sha256)
    }
}

/// The years that every engine knows, 1 to 9999; beyond them a moment is never.
const FIRST: i64 = -62_135_596_800_000;
const LAST: i64 = 253_402_300_799_999;

/// An expiry as every engine gives it back.
pub(super) fn expiry(item: &Item) -> Option<i64> {
    item.expires.map(|UnixMillis(millis)| match millis {
        before if before < FIRST => i64::MIN,
        after if after > LAST => i64::MAX,
        millis => millis,
    })
}

pub(super) struct Hasher {
    count: u64,
    context: Context,
}

impl Hasher {
    pub(super) fn new() -> Self {
        Self { count: 0, context: Context::new(&SHA256) }
    }

    /// Takes a row: its revision is its engine's, and no part of it.
    pub(super) fn row(&mut self, item: &Item) {
        self.count += 1;
        self.field(item.key.as_str().as_bytes());
        self.field(&item.value);
        self.optional(expiry(item).map(i64::to_be_bytes).as_ref().map(|bytes| &bytes[..]));
    }

    pub(super) fn event(&mut self, event: &StoredEvent) {
        let StoredEvent { writer, seq, time, name, user, json } = event;
        self.count += 1;
        self.field(writer.as_bytes());
        self.context.update(&seq.to_be_bytes());
        self.context.update(&time.0.to_be_bytes());
        self.field(name.as_bytes());
        self.optional(user.as_ref().map(|user| user.as_bytes()));
        self.field(json);
    }

    pub(super) fn finish(self) -> Digest {
        let hash = self.context.finish();
        let digits = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Digest { count: self.count, sha256: digits.collect() }
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        self.context.update(&[u8::from(bytes.is_some())]);
        self.field(bytes.unwrap_or_default());
    }

    fn field(&mut self, bytes: &[u8]) {
        self.context.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.context.update(bytes);
    }
}
