//! Frames on their way to the transport, as a list of chunks for vectored writes.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Pieces up to this size are copied next to the heads rather than becoming a slice of their own.
const COPY_MAX: usize = 512;
/// Memory kept for heads between batches.
const KEEP_SCRATCH: usize = 4096;

/// Encoded frames that are ready to be written, in order. It grows by whole frames and shrinks by
/// whatever the transport takes.
#[derive(Debug, Default)]
pub struct Transmit {
    chunks: VecDeque<Bytes>,
    scratch: BytesMut,
    len: usize,
}

impl Transmit {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes left to write.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `slices` from the front of what is left, and returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut n = 0;
        let tail = (!self.scratch.is_empty()).then_some(&self.scratch[..]);
        let chunks = self.chunks.iter().map(|c| &c[..]).chain(tail);
        for (slot, chunk) in slices.iter_mut().zip(chunks) {
            *slot = IoSlice::new(chunk);
            n += 1;
        }
        n
    }

    /// Forgets the first `n` bytes, which were written.
    pub fn advance(&mut self, mut n: usize) {
        n = n.min(self.len);
        self.len -= n;
        while n > 0 {
            let Some(front) = self.chunks.front_mut() else {
                self.scratch.advance(n.min(self.scratch.len()));
                break;
            };
            if front.len() > n {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.chunks.pop_front();
        }
        if self.len == 0 {
            self.scratch.clear();
        }
    }

    /// All that is left as one chunk, for a transport without vectored writes.
    pub fn flatten(&mut self) {
        if self.chunks.is_empty() {
            return;
        }
        let mut flat = BytesMut::with_capacity(self.len);
        for chunk in self.chunks.drain(..) {
            flat.extend_from_slice(&chunk);
        }
        flat.extend_from_slice(&self.scratch);
        self.scratch = flat;
    }

    /// Gives back memory that a busy time left behind.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Appends a copy.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if self.scratch.capacity() - self.scratch.len() < bytes.len() {
            self.scratch.reserve(bytes.len().max(KEEP_SCRATCH));
        }
        self.scratch.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends a payload, without copying if it is worth a slice of its own.
    pub(crate) fn put_bytes(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_MAX {
            self.put(&bytes);
            return;
        }
        if !self.scratch.is_empty() {
            let heads = self.scratch.split().freeze();
            self.chunks.push_back(heads);
        }
        self.len += bytes.len();
        self.chunks.push_back(bytes);
    }
}
