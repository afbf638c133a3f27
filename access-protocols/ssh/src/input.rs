//! What a client sent into a channel and its target has not read yet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::sync::Notify;

use crate::wire::Link;

/// The largest piece that is handed on at once.
const MAX_CHUNK: usize = 256 * 1024;

/// A queue of bytes with one reader. Its length counts on the connection's [`Link`], which bounds
/// it.
pub(crate) struct Input {
    link: Arc<Link>,
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    bytes: BytesMut,
    /// Nothing more will come.
    ended: bool,
    /// Nobody will read any more.
    shut: bool,
}

impl Input {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link, state: Mutex::default(), ready: Notify::new() }
    }

    /// Adds what came; dropped when nobody reads.
    pub(crate) fn push(&self, data: &[u8]) {
        {
            let mut state = self.lock();
            if state.shut || state.ended {
                return;
            }
            state.bytes.extend_from_slice(data);
            self.link.queue(data.len());
        }
        self.ready.notify_one();
    }

    /// The client will send no more.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.ready.notify_one();
    }

    /// The target will read no more: what is queued and what comes is dropped.
    pub(crate) fn shut(&self) {
        let mut state = self.lock();
        state.shut = true;
        self.link.unqueue(state.bytes.len());
        state.bytes = BytesMut::new();
    }

    /// The next bytes; `None` when there will be no more. Counts as queued until it is dropped.
    pub(crate) async fn next(&self) -> Option<Chunk> {
        loop {
            {
                let mut state = self.lock();
                if !state.bytes.is_empty() {
                    let bytes = if state.bytes.len() > MAX_CHUNK {
                        state.bytes.split_to(MAX_CHUNK)
                    } else {
                        std::mem::take(&mut state.bytes)
                    };
                    return Some(Chunk { bytes, link: Arc::clone(&self.link) });
                }
                if state.ended || state.shut {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Bytes on their way to a target.
pub(crate) struct Chunk {
    bytes: BytesMut,
    link: Arc<Link>,
}

impl std::ops::Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.link.unqueue(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{QUEUE_HIGH, WINDOW};

    #[tokio::test]
    async fn bytes_come_out_in_order_and_are_counted_until_they_are_done_with() {
        let link = Arc::new(Link::new());
        let input = Input::new(Arc::clone(&link));
        input.push(&vec![1; QUEUE_HIGH]);
        input.push(&[2]);
        input.end();
        input.push(&[3]);
        assert!(link.window() < WINDOW);
        let mut all = Vec::new();
        while let Some(chunk) = input.next().await {
            assert!(chunk.len() <= MAX_CHUNK);
            all.extend_from_slice(&chunk);
        }
        assert_eq!((all.len(), all.last()), (QUEUE_HIGH + 1, Some(&2)));
        assert_eq!(link.window(), WINDOW);
    }

    #[tokio::test]
    async fn what_nobody_reads_is_not_kept() {
        let link = Arc::new(Link::new());
        let input = Input::new(Arc::clone(&link));
        input.push(&vec![1; 2 * QUEUE_HIGH]);
        input.shut();
        assert_eq!(link.window(), WINDOW);
        input.push(&[1]);
        assert!(input.next().await.is_none());
    }
}
