//! What a kind of event is, for the reference and for everything generic over kinds.

use serde::ser::SerializeMap;
use serde_json::{Map, Value};

use super::field::{FieldError, FieldInfo, tidy};

/// How much an event asks for attention. The last character of its code says it.
///
/// ```
/// use access_core::audit::Severity;
/// assert_eq!(Severity::of_code("T1000W"), Severity::Warning);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Something happened as it should (`I`, or `S` for the end of something).
    Info,
    /// Something was refused (`W`), or ran into a limit (`L`).
    Warning,
    /// Something failed (`E`).
    Error,
}

impl Severity {
    /// The severity that a code states; unknown letters count as information.
    pub fn of_code(code: &str) -> Self {
        match code.as_bytes().last() {
            Some(b'W' | b'L') => Self::Warning,
            Some(b'E') => Self::Error,
            _ => Self::Info,
        }
    }
}

/// One code of a kind: one way in which it can go.
///
/// ```
/// let login = access_core::audit::kinds().find(|kind| kind.name == "user.login").unwrap();
/// let failed = login.codes.iter().find(|code| code.code == "T1000W").unwrap();
/// assert!(failed.by_stranger);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Code {
    /// The code, such as `T2000I`.
    pub code: &'static str,
    /// Whether somebody who proved no identity can cause it, as often as he likes. A sink keeps
    /// such events in a ring of limited size, so that strangers can't fill its disk.
    pub by_stranger: bool,
    docs: &'static str,
}

impl Code {
    pub(super) const fn new(code: &'static str, by_stranger: bool, docs: &'static str) -> Self {
        Self { code, by_stranger, docs }
    }

    /// When it is used.
    pub fn docs(&self) -> String {
        tidy(self.docs)
    }

    /// How much attention it asks for.
    pub fn severity(&self) -> Severity {
        Severity::of_code(self.code)
    }
}

/// A kind of event, as the reference prints it.
///
/// ```
/// for kind in access_core::audit::kinds() {
///     println!("{}: {}", kind.name, kind.docs());
///     for field in kind.fields() {
///         println!("  {} ({}): {}", field.key, field.type_name, field.docs());
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Kind {
    /// The name in the field `event`.
    pub name: &'static str,
    /// What it is about; the reference is grouped by it.
    pub area: &'static str,
    /// Its codes; at least one.
    pub codes: &'static [Code],
    docs: &'static str,
    shared: &'static [&'static [FieldInfo]],
    own: &'static [FieldInfo],
}

impl Kind {
    pub(super) const fn new(
        name: &'static str,
        area: &'static str,
        docs: &'static str,
        codes: &'static [Code],
        shared: &'static [&'static [FieldInfo]],
        own: &'static [FieldInfo],
    ) -> Self {
        Self { name, area, codes, docs, shared, own }
    }

    /// When it is written.
    pub fn docs(&self) -> String {
        tidy(self.docs)
    }

    /// Its fields beside those that every envelope has, in the order in which they are written.
    pub fn fields(&self) -> impl Iterator<Item = &'static FieldInfo> {
        self.shared.iter().copied().flatten().chain(self.own)
    }
}

/// A type that is one kind of event. The kinds in [`super::events`] implement it.
pub trait EventKind: Into<super::Event> {
    /// The kind.
    const KIND: Kind;

    /// The code of this event.
    fn code(&self) -> &'static str;

    /// Writes the fields.
    ///
    /// # Errors
    /// Those of the serializer.
    fn write_fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;

    /// Appends the same to an object of JSON that has fields already, each with the comma before it.
    ///
    /// # Errors
    /// Those of the serializer.
    fn append_fields(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error>;

    /// Takes the fields out of an object; what is left there is none of this kind's.
    ///
    /// # Errors
    /// [`FieldError`] names what keeps the object from being such an event.
    fn read_fields(code: &str, map: &mut Map<String, Value>) -> Result<Self, FieldError>;
}
