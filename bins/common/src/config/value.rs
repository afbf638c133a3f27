//! Values that YAML alone does not describe.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// `yes`/`no`, as well as `true`/`false` and `on`/`off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Switch(pub bool);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Switch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("yes or no")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Switch, E> {
                Ok(Switch(value))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Switch, E> {
                match text.to_ascii_lowercase().as_str() {
                    "yes" | "true" | "on" => Ok(Switch(true)),
                    "no" | "false" | "off" => Ok(Switch(false)),
                    _ => Err(E::custom(format!("{text:?} is neither yes nor no"))),
                }
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// A span of time such as `90s`, `30m`, `12h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span(pub Duration);

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is no duration such as 90s, 30m, 12h or 7d");
        let mut rest = text.trim();
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let (number, tail) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| error())?;
            let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            let part = match unit.trim() {
                "ms" => Some(Duration::from_millis(number)),
                "s" => Some(Duration::from_secs(number)),
                "m" => number.checked_mul(60).map(Duration::from_secs),
                "h" => number.checked_mul(3600).map(Duration::from_secs),
                "d" => number.checked_mul(86_400).map(Duration::from_secs),
                _ => None,
            };
            total = part.and_then(|part| total.checked_add(part)).ok_or_else(error)?;
            rest = tail;
        }
        Ok(Self(total))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, secs) in [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("7d", 604_800)] {
            assert_eq!(text.parse::<Span>().unwrap().0.as_secs(), secs, "{text}");
        }
        for text in ["", "12", "h", "1y", "-1s", "99999999999999999999s", "999999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
