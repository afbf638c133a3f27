//! A queue of bytes made of shared chunks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The tail in which small pieces are gathered is closed at this size.
const TAIL_MAX: usize = 16 * 1024;
/// A longer list of chunks is given back once it is empty.
const KEEP_CHUNKS: usize = 4;

/// Bytes in order: large pieces stay the chunks that they came as, small ones are copied together
/// so that a peer that sends single bytes costs little more than those bytes. Owns no memory
/// while it is empty, but for a few slots.
#[derive(Debug, Default)]
pub(crate) struct ChunkQueue {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl ChunkQueue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends without copying.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        self.close_tail();
        self.chunks.push_back(bytes);
    }

    /// Appends a copy.
    pub(crate) fn push_copy(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        if self.tail.len() + bytes.len() > TAIL_MAX {
            self.close_tail();
        }
        self.tail.extend_from_slice(bytes);
    }

    /// Takes at most `max` bytes off the front, as one chunk. Empty only if the queue is.
    pub(crate) fn pop(&mut self, max: usize) -> Bytes {
        if self.chunks.is_empty() {
            self.close_tail();
        }
        let Some(front) = self.chunks.front_mut() else {
            return Bytes::new();
        };
        let chunk = if front.len() > max {
            front.split_to(max)
        } else {
            self.chunks.pop_front().unwrap_or_default()
        };
        self.len -= chunk.len();
        if self.len == 0 && self.chunks.capacity() > KEEP_CHUNKS {
            self.chunks = VecDeque::new();
        }
        chunk
    }

    /// Discards everything and returns how much that was.
    pub(crate) fn clear(&mut self) -> usize {
        std::mem::take(self).len
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_over_mixed_pieces() {
        let mut queue = ChunkQueue::default();
        let mut expected = Vec::new();
        for i in 0..200u32 {
            let piece = vec![i as u8; (i as usize * 37) % 900];
            expected.extend_from_slice(&piece);
            if i % 3 == 0 { queue.push(piece.into()) } else { queue.push_copy(&piece) }
        }
        assert_eq!(queue.len(), expected.len());
        let mut got = Vec::new();
        while !queue.is_empty() {
            let chunk = queue.pop(100 + got.len() % 1000);
            assert!(!chunk.is_empty());
            got.extend_from_slice(&chunk);
        }
        assert_eq!(got, expected);
        assert!(queue.pop(1).is_empty());
    }

    #[test]
    fn single_bytes_are_gathered() {
        let mut queue = ChunkQueue::default();
        for _ in 0..TAIL_MAX {
            queue.push_copy(b"x");
        }
        assert_eq!(queue.pop(usize::MAX).len(), TAIL_MAX);
        assert_eq!(queue.chunks.capacity().min(KEEP_CHUNKS + 1), queue.chunks.capacity());
    }
}
