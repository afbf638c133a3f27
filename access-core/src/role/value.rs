//! Values in role documents: how they are written, and what they match.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::template::{Template, TraitView};
use crate::labels::{Case, Pattern, PatternError};

/// A list of values; a single one may be written without brackets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<String>);

impl std::ops::Deref for Values {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl<T: Into<String>, const N: usize> From<[T; N]> for Values {
    fn from(values: [T; N]) -> Self {
        Self(values.into_iter().map(Into::into).collect())
    }
}

impl From<Vec<String>> for Values {
    fn from(values: Vec<String>) -> Self {
        Self(values)
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Values;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Values, E> {
                Ok(Values(vec![text.to_owned()]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Values(values))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// How well a value fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// Not at all.
    No,
    /// By `*`, a glob or a regular expression.
    Broad,
    /// It is written out, or a trait holds it.
    Exact,
}

impl Match {
    /// Whether it fits at all.
    pub fn any(self) -> bool {
        self != Self::No
    }
}

/// One compiled value: a pattern, or a template over traits.
#[derive(Clone, Debug)]
pub enum ValuePattern {
    /// Without traits.
    Plain(Pattern),
    /// With one `{{…}}`.
    Template(Template),
}

impl ValuePattern {
    /// Compiles a value.
    ///
    /// # Errors
    /// [`PatternError`] when it is neither a pattern nor a template.
    pub fn parse(text: &str, case: Case) -> Result<Self, PatternError> {
        if text.contains("{{") || text.contains("}}") {
            Template::parse(text, case).map(Self::Template)
        } else {
            Pattern::new(text, case).map(Self::Plain)
        }
    }

    /// The trait that it draws on, if any.
    pub fn trait_name(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::Template(template) => Some(template.trait_name()),
        }
    }

    /// How well a text fits, for somebody with these traits.
    pub fn matches(&self, text: &str, traits: TraitView<'_>) -> Match {
        match self {
            Self::Plain(pattern) if !pattern.matches(text) => Match::No,
            Self::Plain(pattern) if pattern.is_exact() => Match::Exact,
            Self::Plain(_) => Match::Broad,
            Self::Template(template) => template.matches(text, traits),
        }
    }
}

/// A compiled list of values.
#[derive(Clone, Debug, Default)]
pub struct ValueList(Box<[ValuePattern]>);

impl ValueList {
    /// Compiles a list.
    ///
    /// # Errors
    /// [`PatternError`] of the first value that is none.
    pub fn compile(values: &[String], case: Case) -> Result<Self, PatternError> {
        let patterns = values.iter().map(|value| ValuePattern::parse(value, case));
        Ok(Self(patterns.collect::<Result<_, _>>()?))
    }

    /// How well a text fits the value that it fits best.
    pub fn matches(&self, text: &str, traits: TraitView<'_>) -> Match {
        let mut best = Match::No;
        for pattern in &self.0 {
            best = best.max(pattern.matches(text, traits));
            if best == Match::Exact {
                break;
            }
        }
        best
    }

    /// The traits that its values draw on.
    pub fn trait_names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(ValuePattern::trait_name)
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `with` for each text that a value stands for by itself: those written out, and those
    /// that traits hold. Patterns stand for none.
    pub fn each_exact<'a>(&'a self, traits: TraitView<'a>, with: &mut dyn FnMut(Cow<'a, str>)) {
        for pattern in &self.0 {
            match pattern {
                ValuePattern::Plain(pattern) => {
                    if let Some(text) = pattern.as_exact() {
                        with(Cow::Borrowed(text));
                    }
                }
                ValuePattern::Template(template) => template.each(traits, with),
            }
        }
    }
}
