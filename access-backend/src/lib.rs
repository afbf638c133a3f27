//! An ordered key-value store with revisions, expiry, atomic batches and watch.
//!
//! One object-safe trait, [`Backend`], and two engines: [`Memory`], fast and gone with its process, and
//! [`Sqlite`], one file, durable before it acknowledges. The same engines keep append-only audit events behind a
//! second small trait, [`EventStore`]. PostgreSQL and CockroachDB are in a crate of their own, `access-backend-sql`, so
//! that nobody gets a client of them who did not ask for one. The crate knows nothing of what it stores: keys are paths, values are bytes.
//!
//! # Thirty lines
//!
//! ```
//! use std::sync::Arc;
//! use access_backend::{
//!     Backend, Batch, Condition, Key, KeyRange, NewItem, Operation, Prefix, Sqlite, SqliteOptions, Value,
//!     WatchEvent,
//! };
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), access_backend::Error> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("data/state.db");
//! let store: Arc<dyn Backend> = Arc::new(Sqlite::open(SqliteOptions::new(path)).await?);
//!
//! // Writing answers with a revision; the next writer has to show it.
//! let key = Key::from_segments(["users", "danielle"])?;
//! let first = store.create(NewItem::new(key.clone(), Value::new("v1")?)).await?;
//! store.update(NewItem::new(key.clone(), Value::new("v2")?), first).await?;
//!
//! // Several keys change together or not at all.
//! let alias = Key::parse("/aliases/dani")?;
//! let batch = Batch::new()
//!     .when(Condition::absent(alias.clone()))
//!     .then(Operation::Put(NewItem::new(alias, Value::new("danielle")?)));
//! store.batch(batch).await?;
//!
//! // Reading in key order, a page at a time.
//! let users = Prefix::from_segments(["users"])?;
//! let page = store.range(&KeyRange::from(&users), 100, None).await?;
//! assert_eq!(page.items.len(), 1);
//!
//! // Watching: first what is there, then a mark, then every change in the order of commits.
//! let mut watch = store.watch(&[users], None).await?;
//! assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Put(item))) if item.key == key));
//! assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Ready(_)))));
//! store.delete(&key).await?;
//! assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Deleted { key: gone, .. })) if gone == key));
//! store.close().await
//! # }
//! ```
//!
//! # Rules that hold for every engine
//!
//! * A write that was acknowledged is seen by every read that starts afterwards. Operations on one store are
//!   linearizable; a durable engine acknowledges only what survives a crash.
//! * Every write, [`Backend::keep_alive`] included, gives the row a new [`Revision`]. A revision is a token for
//!   equality and says nothing about order. A [`Position`] is a place in the stream of changes.
//! * A row past its expiry does not exist for any operation, whether or not it has been swept yet. Engines sweep nothing by
//!   themselves: whoever has one open calls [`Backend::sweep`] now and then, and [`EventStore::delete_before`]; of several
//!   processes on one store best the one that holds a [`Lease`].
//! * A future that was dropped may still have written: cancelling is not undoing.
//!
//! # Writing a third engine
//!
//! Implement [`Backend`] (and [`EventStore`], if it keeps events) using the types of this crate alone:
//!
//! 1. Keys compare as bytes. [`KeyRange::start`] and [`KeyRange::end`] are the bounds to put into a query.
//! 2. Make a [`Revision`] from 128 bits that are never given to the same key twice: a counter that survives
//!    restarts, or random bits.
//! 3. Make a [`Position`] from whatever orders your commits, and never from the order in which numbers were
//!    *allocated*, unless one writer does both. Build a [`Watch`] from any stream with [`Watch::new`]; send
//!    [`WatchEvent::Reset`] whenever you cannot prove that nothing was missed.
//!    [`engine`] has what hands changes to many watchers, what fills a page, and what packs events.
//! 4. Call [`Batch::validate`] and [`validate_events`] before writing.
//! 5. Run the suite, which checks all of the above and the linearizability of concurrent histories, from the
//!    engine's tests, with the feature `conformance`:
//!
//! ```
//! # #[cfg(feature = "conformance")]
//! mod mine {
//!     use std::sync::Arc;
//!     use access_backend::{Clock, Memory, MemoryOptions};
//!
//!     async fn fresh(clock: Arc<dyn Clock>) -> Arc<Memory> {
//!         Arc::new(Memory::new(MemoryOptions { clock, ..MemoryOptions::default() }))
//!     }
//!     access_backend::conformance_tests!(fresh); // one #[test] for each check
//! }
//! ```
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod apply;
mod backend;
mod batch;
mod blocks;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod engine;
mod error;
mod events;
mod hub;
mod item;
mod key;
mod lease;
mod memory;
pub mod migrate;
mod page;
mod sqlite;
mod token;
mod watch;

pub use backend::{
    Backend, Capabilities, Health, MAX_PAGE_BYTES, MAX_PAGE_ITEMS, Page, Report, StoreRegion,
    read_all, read_all_lately,
};
pub use batch::{Batch, Condition, Expect, MAX_BATCH_BYTES, MAX_BATCH_ENTRIES, Operation};
pub use clock::{Clock, ManualClock, SystemClock, UnixMillis};
pub use error::Error;
pub use events::{
    EventCursor, EventOrder, EventPage, EventQuery, EventStore, MAX_APPEND_EVENTS, MAX_EVENT_BYTES,
    MAX_EVENT_PAGE, MAX_EVENT_TEXT, StoredEvent, validate_events,
};
pub use item::{Item, MAX_VALUE_BYTES, NewItem, Value};
pub use key::{Key, KeyRange, MAX_KEY_BYTES, Prefix};
pub use lease::{Held, Lease, Once};
pub use memory::{Memory, MemoryOptions};
pub use sqlite::{Sqlite, SqliteOptions};
pub use token::{Cursor, Position, Revision};
pub use watch::{Watch, WatchEvent};
