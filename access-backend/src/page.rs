//! Filling a page up to its bounds.

use crate::{Cursor, Item, MAX_PAGE_BYTES, MAX_PAGE_ITEMS, Page};

/// A page with more rows than these is taken to be one that becomes full.
const SEVERAL: usize = 32;

/// A page that takes rows up to its bounds.
#[derive(Debug)]
pub struct PageBuilder {
    page: Page,
    limit: usize,
    bytes: usize,
}

impl PageBuilder {
    /// A page of at most `limit` rows, between 1 and [`MAX_PAGE_ITEMS`].
    pub fn new(limit: usize) -> Self {
        Self { page: Page::default(), limit: limit.clamp(1, MAX_PAGE_ITEMS), bytes: 0 }
    }

    /// The rows to read from storage: one past the page shows whether there is another.
    pub fn wanted(&self) -> usize {
        self.limit + 1
    }

    /// Takes the row, or marks that the page ends before it and answers `false`.
    pub fn offer(&mut self, item: Item) -> bool {
        if self.is_full() {
            self.end_before_more();
            return false;
        }
        self.push(item);
        true
    }

    /// Whether the page takes no other row.
    pub fn is_full(&self) -> bool {
        self.page.items.len() >= self.limit || self.bytes >= MAX_PAGE_BYTES
    }

    /// Takes a row into a page that is not full.
    pub fn push(&mut self, item: Item) {
        if self.page.items.len() == SEVERAL {
            self.page.items.reserve(self.limit.saturating_sub(SEVERAL));
        }
        self.bytes += item.value.len();
        self.page.items.push(item);
    }

    /// Marks that there is another row after those that were taken.
    pub fn end_before_more(&mut self) {
        self.page.next = self.page.items.last().map(|last| Cursor::after(last.key.clone()));
    }

    /// What was taken.
    pub fn finish(self) -> Page {
        self.page
    }
}
