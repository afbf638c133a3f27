//! Opaque tokens: revisions, positions and page cursors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Key};

/// Which write a row comes from: a token for equality and nothing else. No two writes of one key share it, even
/// across restarts. Its text form is what documents carry as `metadata.revision`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(u128);

/// A place in a store's stream of changes, from which a watch can go on.
///
/// Positions of one store order as its commits do. A position of another store, or one that fell out of the
/// change log, is answered with [`Reset`](crate::WatchEvent::Reset).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position(u128);

/// Where the next page of a range begins. Its text form may leave the process; it reveals the last key of the page
/// before.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(Key);

impl Cursor {
    /// Goes on after `last`.
    pub fn after(last: Key) -> Self {
        Self(last)
    }

    /// The key after which the page begins.
    pub fn key(&self) -> &Key {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Key::parse(text).map(Self)
    }
}

macro_rules! token {
    ($name:ident, $what:literal) => {
        impl $name {
            /// Makes the token of these bits; for engines.
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// The bits of the token; for the engine that made it.
            pub const fn to_bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                let plain = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                match u128::from_str_radix(text, 16) {
                    // One spelling a token: callers compare the text.
                    Ok(bits) if plain && (text == "0" || !text.starts_with('0')) => Ok(Self(bits)),
                    _ => {
                        let shown: String = text.chars().take(64).collect();
                        Err(Error::invalid($what, format!("{shown:?} was not made by this store")))
                    }
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(token: $name) -> Self {
                token.to_string()
            }
        }
    };
}

token!(Revision, "revision");
token!(Position, "position");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_come_back() {
        for bits in [0, 1, 0xdead_beef, u128::MAX] {
            assert_eq!(
                Revision::from_bits(bits).to_string().parse(),
                Ok(Revision::from_bits(bits))
            );
            assert_eq!(
                Position::from_bits(bits).to_string().parse(),
                Ok(Position::from_bits(bits))
            );
        }
        for bad in ["", "+1", "-1", "01", "A", "g", " 1", "100000000000000000000000000000000"] {
            assert!(bad.parse::<Revision>().is_err(), "{bad:?}");
        }
    }
}
