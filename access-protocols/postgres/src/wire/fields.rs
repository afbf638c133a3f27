//! Takes the fields of a message apart.

use bytes::Buf;

/// The fields of a message's body, in order. What is not there is `None`: of a long message only
/// its beginning may be at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.0.try_get_i16().ok()
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.0.try_get_u32().ok()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// As many of the next bytes as there are, and whether that is all.
    pub(crate) fn up_to(&mut self, count: usize) -> (&'a [u8], bool) {
        let (bytes, rest) = self.0.split_at_checked(count).unwrap_or((self.0, &[]));
        self.0 = rest;
        (bytes, bytes.len() == count)
    }

    /// A text that ends with a zero byte.
    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..)?;
        Some(text)
    }

    /// A text that ends with a zero byte or where the bytes at hand do, and whether it is whole.
    pub(crate) fn text_at_hand(&mut self) -> (&'a [u8], bool) {
        match self.text() {
            Some(text) => (text, true),
            None => (std::mem::take(&mut self.0), false),
        }
    }
}
