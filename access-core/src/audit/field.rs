//! What a field of an event can hold, and how a set of fields is written and read.

use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::text::{List, Text};
use crate::ids::{HostId, Login, ResourceName, RoleName, SessionId, TraceId, UserName, WriterId};
use crate::time::Timestamp;

/// A field's line in the event reference.
///
/// ```
/// let kind = access_core::audit::kinds().find(|kind| kind.name == "session.start").unwrap();
/// let sid = kind.fields().find(|field| field.key == "sid").unwrap();
/// assert!(sid.required);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FieldInfo {
    /// Its key in the JSON object.
    pub key: &'static str,
    /// What its value is: `string`, `strings`, `number`, `boolean`, `time`, `object`.
    pub type_name: &'static str,
    /// Whether it is always there.
    pub required: bool,
    docs: &'static str,
}

impl FieldInfo {
    pub(super) const fn new<T: Field>(key: &'static str, docs: &'static str) -> Self {
        Self { key, type_name: T::TYPE, required: T::REQUIRED, docs }
    }

    /// What it means.
    pub fn docs(&self) -> String {
        tidy(self.docs)
    }
}

/// Documentation comments come line by line with the space after the slashes.
pub(super) fn tidy(docs: &str) -> String {
    let mut text = String::with_capacity(docs.len());
    for line in docs.lines() {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(line.trim());
    }
    text
}

/// A field that could not be read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// A field that is always there is not.
    #[error("the field {0:?} is missing")]
    Missing(&'static str),
    /// A field holds what it cannot hold.
    #[error("the field {0:?} is malformed")]
    Malformed(&'static str),
    /// The kind has no such code.
    #[error("the event {0:?} has no such code")]
    UnknownCode(&'static str),
}

/// What a field can hold. A field that is added to a kind later must be optional, or events
/// written before could not be read.
pub trait Field: Serialize + DeserializeOwned {
    /// The type's name in the reference.
    const TYPE: &'static str;
    /// Whether the field is always there.
    const REQUIRED: bool;

    /// Whether to leave it out.
    fn is_absent(&self) -> bool {
        false
    }

    /// The value when it was left out.
    fn absent() -> Option<Self> {
        None
    }
}

/// Takes a field out of an object.
pub(super) fn take<T: Field>(
    map: &mut Map<String, Value>,
    key: &'static str,
) -> Result<T, FieldError> {
    match map.shift_remove(key) {
        None => T::absent().ok_or(FieldError::Missing(key)),
        Some(value) => serde_json::from_value(value).map_err(|_| FieldError::Malformed(key)),
    }
}

macro_rules! required {
    ($type_name:literal: $($ty:ty),* $(,)?) => {$(
        impl Field for $ty {
            const TYPE: &'static str = $type_name;
            const REQUIRED: bool = true;
        }
    )*};
}

required!("string": UserName, Login, SessionId, HostId, ResourceName, RoleName, TraceId, WriterId);
required!("boolean": bool);
required!("number": u8, u16, u32, u64, i32, i64);
required!("time": Timestamp);

impl<const MAX: usize> Field for Text<MAX> {
    const TYPE: &'static str = "string";
    const REQUIRED: bool = true;
}

impl Field for List {
    const TYPE: &'static str = "strings";
    const REQUIRED: bool = false;

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl<T: Field> Field for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const REQUIRED: bool = false;

    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A field that is an object of its own. Whoever fills it bounds it.
///
/// ```
/// let mut object = access_core::audit::Object::default();
/// object.0.insert("user".into(), "alice".into());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object(pub Map<String, Value>);

impl Field for Object {
    const TYPE: &'static str = "object";
    const REQUIRED: bool = true;
}

/// A set of fields that several kinds share; written flat into each of them.
pub trait Fields: Sized {
    /// Their lines in the reference.
    const FIELDS: &'static [FieldInfo];

    /// Writes those that are there.
    ///
    /// # Errors
    /// Those of the serializer.
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;

    /// Takes them out of an object.
    ///
    /// # Errors
    /// [`FieldError`] names the first that is missing or malformed.
    fn read(map: &mut Map<String, Value>) -> Result<Self, FieldError>;
}

/// Sets that a session makes once and all of its events share.
impl<T: Fields> Fields for Arc<T> {
    const FIELDS: &'static [FieldInfo] = T::FIELDS;

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        T::write(self, map)
    }

    fn read(map: &mut Map<String, Value>) -> Result<Self, FieldError> {
        T::read(map).map(Self::new)
    }
}
