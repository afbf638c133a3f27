//! Filling a page up to its bounds.

use crate::{Cursor, Item, MAX_PAGE_BYTES, MAX_PAGE_ITEMS, Page};

#[derive(Debug)]
pub(crate) struct PageBuilder {
    page: Page,
    limit: usize,
    bytes: usize,
}

impl PageBuilder {
    pub(crate) fn new(limit: usize) -> Self {
        Self { page: Page::default(), limit: limit.clamp(1, MAX_PAGE_ITEMS), bytes: 0 }
    }

    /// The rows to read from storage: one past the page shows whether there is another.
    pub(crate) fn wanted(&self) -> usize {
        self.limit + 1
    }

    /// Takes the row, or marks that the page ends before it and answers `false`.
    pub(crate) fn offer(&mut self, item: Item) -> bool {
        if self.page.items.len() >= self.limit || self.bytes >= MAX_PAGE_BYTES {
            self.page.next = self.page.items.last().map(|last| Cursor::after(last.key.clone()));
            return false;
        }
        self.bytes += item.value.len();
        self.page.items.push(item);
        true
    }

    pub(crate) fn finish(self) -> Page {
        self.page
    }
}
