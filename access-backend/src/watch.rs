//! What a watcher sees.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{BoxStream, Stream, StreamExt};

use crate::{Error, Item, Key, Position};

/// One event of a [`Watch`].
///
/// ```text
/// from: None      Put*  Ready  (Changed | Deleted)*  [Reset]
/// from: Some(p)         (Changed | Deleted)*  Ready  (Changed | Deleted)*  [Reset]
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A row that was there when the watch began. Rows come in key order within each prefix.
    Put(Item),
    /// Everything up to this position has been sent. It may come again from `Some` of it.
    Ready(Position),
    /// A row was written. Of a row with an expiry in the past, take it that it is gone.
    Changed {
        /// The row as it was written.
        item: Item,
        /// The place of this change.
        position: Position,
    },
    /// A row was deleted, or expired and was swept.
    Deleted {
        /// The row's name.
        key: Key,
        /// The place of this change.
        position: Position,
    },
    /// Something may have been missed: the reader was too slow, or the position it came with is too old. The
    /// stream ends here; start a new watch without a position and replace what was kept.
    Reset,
}

/// A stream of [`WatchEvent`]s, in the order of commits. Dropping it ends the watch.
///
/// Whoever resumes gets the changes since the position; several changes to one key may then be folded into the
/// last. The stream ends after [`WatchEvent::Reset`] and after an error: [`Error::Closed`] when the store closed.
pub struct Watch(BoxStream<'static, Result<WatchEvent, Error>>);

impl Watch {
    /// Makes a watch of an engine's stream, which it cuts off after a reset or an error.
    pub fn new(events: impl Stream<Item = Result<WatchEvent, Error>> + Send + 'static) -> Self {
        let ending = events.scan(false, |over, event| {
            let more = (!*over).then_some(event);
            *over = *over || !matches!(&more, Some(Ok(event)) if *event != WatchEvent::Reset);
            std::future::ready(more)
        });
        Self(ending.fuse().boxed())
    }

    /// The next event; `None` after the end. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        self.0.next().await
    }
}

impl Stream for Watch {
    type Item = Result<WatchEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
