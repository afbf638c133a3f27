//! Rows and what is in them.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use crate::{Error, Key, Revision, UnixMillis};

/// The most bytes that a value may have.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// The content of a row: at most [`MAX_VALUE_BYTES`] of anything. Cloning is cheap; `Debug` shows the length alone,
/// since a value may hold a secret.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Value(Bytes);

impl Value {
    /// Takes `bytes` as a value.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past [`MAX_VALUE_BYTES`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, Error> {
        let bytes = bytes.into();
        if bytes.len() > MAX_VALUE_BYTES {
            return Err(Error::TooLarge {
                what: "value in bytes",
                size: bytes.len(),
                limit: MAX_VALUE_BYTES,
            });
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Value {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub key: Key,
    /// Its content.
    pub value: Value,
    /// When it ceases to exist; never, if `None`.
    pub expires: Option<UnixMillis>,
    /// The write that it comes from.
    pub revision: Revision,
}

impl Item {
    /// Whether the row has ceased to exist at `now`: its expiry is the first moment at which it is gone.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        expired(self.expires, now)
    }
}

/// A row to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewItem {
    /// Its name.
    pub key: Key,
    /// Its content.
    pub value: Value,
    /// When it ceases to exist; never, if `None`.
    pub expires: Option<UnixMillis>,
}

impl NewItem {
    /// A row without expiry.
    pub fn new(key: Key, value: Value) -> Self {
        Self { key, value, expires: None }
    }

    /// The same row, which ceases to exist at `moment`.
    #[must_use]
    pub fn expires_at(self, moment: UnixMillis) -> Self {
        Self { expires: Some(moment), ..self }
    }
}

pub(crate) fn expired(expires: Option<UnixMillis>, now: UnixMillis) -> bool {
    expires.is_some_and(|moment| moment <= now)
}
