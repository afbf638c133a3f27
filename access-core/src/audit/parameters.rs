//! The values that were bound to a statement: bounded, with NULL told from any text.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::field::Field;
use super::text::Text;

/// One value, as the client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter<'a> {
    /// NULL.
    Null,
    /// In the form of a text.
    Text(&'a [u8]),
    /// In the binary form of its type. Written as `\x` and hexadecimal digits.
    Binary(&'a [u8]),
}

/// A bounded list of bounded values: at most 256, and at most 32 KiB together.
///
/// NULL is JSON's `null`. The last one of a longer list says how many are missing.
///
/// ```
/// use access_core::audit::{Parameter, Parameters};
/// let values: Parameters =
///     [Parameter::Text(b"alice"), Parameter::Null, Parameter::Binary(&[0, 42])].into_iter().collect();
/// assert_eq!(serde_json::to_string(&values).unwrap(), r#"["alice",null,"\\x002a"]"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<Option<Text<{ Parameters::MAX_BYTES }>>>);

impl Parameters {
    /// The most values that are kept.
    pub const MAX: usize = 256;
    /// The most bytes that are kept of one value.
    pub const MAX_BYTES: usize = 1024;
    /// The most bytes that are kept of all.
    pub const MAX_TOTAL: usize = 32 * 1024;

    /// The values; `None` is NULL.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        self.0.iter().map(|value| value.as_ref().map(Text::as_str))
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps what fits, and says in the place of the last one how many did not.
    fn bounded(mut values: impl Iterator<Item = Option<Text<{ Self::MAX_BYTES }>>>) -> Self {
        let (mut kept, mut total) = (Vec::with_capacity(values.size_hint().0.min(Self::MAX)), 0);
        let mut missing = 0;
        for value in values.by_ref() {
            total += value.as_ref().map_or(0, |text| text.as_str().len());
            if kept.len() == Self::MAX || total > Self::MAX_TOTAL {
                missing = 1;
                break;
            }
            kept.push(value);
        }
        if missing > 0
            && let Some(last) = kept.last_mut()
        {
            // The last one makes room for the mark.
            missing += 1 + values.count();
            *last = Some(Text::of(format_args!("…(+{missing} more)")));
        }
        Self(kept)
    }
}

impl<'a> FromIterator<Parameter<'a>> for Parameters {
    fn from_iter<I: IntoIterator<Item = Parameter<'a>>>(values: I) -> Self {
        Self::bounded(values.into_iter().map(|value| match value {
            Parameter::Null => None,
            Parameter::Text(bytes) => Some(Text::lossy(bytes)),
            Parameter::Binary(bytes) => Some(Text::of(Hex(bytes))),
        }))
    }
}

/// `\x` and the digits of as many bytes as a text can hold; the rest is counted by the text.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\\x")?;
        // A text that is cut counts what it was given, in its own bytes: digits.
        self.0.chunks(64).try_for_each(|chunk| f.write_str(&HEXLOWER.encode(chunk)))
    }
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Vec::<Option<Text<{ Self::MAX_BYTES }>>>::deserialize(deserializer)?;
        Ok(Self::bounded(values.into_iter()))
    }
}

impl Field for Parameters {
    const TYPE: &'static str = "strings";
    const REQUIRED: bool = false;

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(values: &[Parameter<'_>]) -> Parameters {
        values.iter().copied().collect()
    }

    #[test]
    fn null_is_no_text() {
        let values = collect(&[Parameter::Null, Parameter::Text(b""), Parameter::Text(b"null")]);
        assert_eq!(values.iter().collect::<Vec<_>>(), [None, Some(""), Some("null")]);
        let json = serde_json::to_string(&values).unwrap();
        assert_eq!(json, r#"[null,"","null"]"#);
        assert_eq!(serde_json::from_str::<Parameters>(&json).unwrap(), values);
    }

    #[test]
    fn long_and_many_values_are_cut_and_counted() {
        let long = vec![b'x'; 5000];
        let binary = vec![0xab; 5000];
        let values = collect(&[Parameter::Text(&long), Parameter::Binary(&binary)]);
        for (value, missing) in values.iter().zip(["…(+4008 bytes)", "…(+9010 bytes)"]) {
            let text = value.unwrap();
            assert!(text.len() <= Parameters::MAX_BYTES && text.ends_with(missing), "{text}");
        }
        let many = collect(&vec![Parameter::Text(b"1"); 1000]);
        assert_eq!(many.iter().count(), 256);
        assert_eq!(many.iter().last(), Some(Some("…(+745 more)")));
        assert_eq!(many.iter().nth(254), Some(Some("1")));
        let heavy = collect(&vec![Parameter::Text(&long); 100]);
        assert!(heavy.iter().flatten().map(str::len).sum::<usize>() <= Parameters::MAX_TOTAL);
        let json = serde_json::to_string(&heavy).unwrap();
        assert_eq!(serde_json::from_str::<Parameters>(&json).unwrap(), heavy);
    }
}
