//! A backend of one's own, held to the same rules as ours: `cargo run --example custom_backend`.
//!
//! It wraps an engine and counts what is written, as one would for quotas or metrics, and then
//! runs through the conformance suite in one call.
#![allow(clippy::print_stdout, reason = "an example that prints what it found")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use access_backend::*;
use async_trait::async_trait;

/// Counts the writes that an engine accepts.
#[derive(Debug)]
struct Counted {
    inner: Memory,
    writes: AtomicU64,
}

static WRITES: AtomicU64 = AtomicU64::new(0);

impl Counted {
    fn note<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_ok() {
            self.writes.fetch_add(1, Ordering::Relaxed);
            WRITES.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

#[async_trait]
impl Backend for Counted {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        self.inner.get(key).await
    }
    async fn range(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page, Error> {
        self.inner.range(range, limit, after).await
    }
    async fn create(&self, item: NewItem) -> Result<Revision, Error> {
        self.note(self.inner.create(item).await)
    }
    async fn put(&self, item: NewItem) -> Result<Revision, Error> {
        self.note(self.inner.put(item).await)
    }
    async fn update(&self, item: NewItem, expected: Revision) -> Result<Revision, Error> {
        self.note(self.inner.update(item, expected).await)
    }
    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.note(self.inner.delete(key).await)
    }
    async fn delete_if(&self, key: &Key, expected: Revision) -> Result<(), Error> {
        self.note(self.inner.delete_if(key, expected).await)
    }
    async fn delete_range(&self, range: &KeyRange) -> Result<u64, Error> {
        self.note(self.inner.delete_range(range).await)
    }
    async fn keep_alive(
        &self,
        key: &Key,
        expected: Option<Revision>,
        expires: UnixMillis,
    ) -> Result<Revision, Error> {
        self.note(self.inner.keep_alive(key, expected, expires).await)
    }
    async fn batch(&self, batch: Batch) -> Result<Revision, Error> {
        self.note(self.inner.batch(batch).await)
    }
    async fn watch(&self, prefixes: &[Prefix], from: Option<Position>) -> Result<Watch, Error> {
        self.inner.watch(prefixes, from).await
    }
    async fn sweep(&self, limit: usize) -> Result<usize, Error> {
        self.inner.sweep(limit).await
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn health(&self) -> Result<Health, Error> {
        self.inner.health().await
    }
    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

async fn fresh(clock: Arc<dyn Clock>) -> Arc<Counted> {
    let options = MemoryOptions { clock, ..MemoryOptions::default() };
    Arc::new(Counted { inner: Memory::new(options), writes: AtomicU64::new(0) })
}

#[tokio::main]
async fn main() {
    // Panics with what was expected, should a rule be broken.
    conformance::run(fresh).await;
    println!("the suite passed; it made {} writes", WRITES.load(Ordering::Relaxed));
}
