//! What a field of an event can hold, and how a set of fields is written and read.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::text::{List, Text};
use crate::ids::{HostId, Login, ResourceName, RoleName, SessionId, TraceId, UserName, WriterId};
use crate::scan::append_json_string;
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

    /// Appends the value as JSON.
    ///
    /// # Errors
    /// Those of the serializer.
    fn append(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(out, self)
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

required!("boolean": bool);
required!("number": u8, u16, u32, u64, i32, i64);
required!("time": Timestamp);

macro_rules! ids {
    ($($ty:ty),* $(,)?) => {$(
        impl Field for $ty {
            const TYPE: &'static str = "string";
            const REQUIRED: bool = true;

            fn append(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
                append_json_string(out, self.as_str())
            }
        }
    )*};
}

ids!(UserName, Login, SessionId, HostId, ResourceName, RoleName, TraceId, WriterId);

impl<const MAX: usize> Field for Text<MAX> {
    const TYPE: &'static str = "string";
    const REQUIRED: bool = true;

    fn append(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        append_json_string(out, self.as_str())
    }
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

    fn append(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        match self {
            Some(value) => value.append(out),
            None => serde_json::to_writer(out, self),
        }
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

    /// Appends the same to an object of JSON that has fields already, each with the comma before it.
    ///
    /// # Errors
    /// Those of the serializer.
    fn append(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error>;

    /// Takes them out of an object.
    ///
    /// # Errors
    /// [`FieldError`] names the first that is missing or malformed.
    fn read(map: &mut Map<String, Value>) -> Result<Self, FieldError>;
}

/// A set of fields that a session makes once and all of its events share, written once too.
///
/// ```
/// use access_core::audit::{Shared, events::Actor};
/// let actor = Shared::new(Actor::local());
/// assert_eq!(actor.clone().user.as_str(), "local admin");
/// ```
pub struct Shared<T>(Arc<Kept<T>>);

struct Kept<T> {
    set: T,
    /// As it stands in an event's JSON, once the first was written.
    json: OnceLock<Box<[u8]>>,
}

impl<T> Shared<T> {
    /// Makes it, for good.
    pub fn new(set: T) -> Self {
        Self(Arc::new(Kept { set, json: OnceLock::new() }))
    }
}

impl<T> From<T> for Shared<T> {
    fn from(set: T) -> Self {
        Self::new(set)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.set
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.set == other.0.set
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.set.fmt(f)
    }
}

impl<T: Fields> Fields for Shared<T> {
    const FIELDS: &'static [FieldInfo] = T::FIELDS;

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        T::write(self, map)
    }

    fn append(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        if let Some(json) = self.0.json.get() {
            out.extend_from_slice(json);
            return Ok(());
        }
        let start = out.len();
        T::append(self, out)?;
        // Whoever else was as early has written the same.
        let _ = self.0.json.set(out.get(start..).unwrap_or_default().into());
        Ok(())
    }

    fn read(map: &mut Map<String, Value>) -> Result<Self, FieldError> {
        T::read(map).map(Self::new)
    }
}
