//! Spans of time as people write them: `12h`, `30m`, `1h30m`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time, written as `90s`, `30m`, `12h`, `1h30m` or `7d`. `never` is no span at all,
/// which where it is allowed means no limit.
///
/// ```
/// use access_core::role::Span;
/// use std::time::Duration;
/// let span: Span = "1h30m".parse()?;
/// assert_eq!(span.as_duration(), Duration::from_secs(5400));
/// assert_eq!(span.to_string(), "1h30m");
/// # Ok::<(), access_core::role::SpanError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// A text that is no span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no span of time such as 30m, 12h or 1h30m")]
pub struct SpanError(String);

impl Span {
    /// The longest span: a hundred years of 365 days.
    pub const MAX: Self = Self(Duration::from_secs(100 * 365 * 86_400));

    /// A span of so many hours.
    pub const fn hours(hours: u32) -> Self {
        Self(Duration::from_secs(hours as u64 * 3600))
    }

    /// The span.
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// Whether it is `never`.
    pub const fn is_never(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration.min(Self::MAX.0))
    }
}

impl std::str::FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let fail = || SpanError(text.chars().take(40).collect());
        if matches!(text, "never" | "0") {
            return Ok(Self(Duration::ZERO));
        }
        let mut total = Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
            let (number, after) = rest.split_at(digits);
            let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let number: u64 = number.parse().map_err(|_| fail())?;
            let millis = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(fail()),
            };
            let part = Duration::from_millis(number.checked_mul(millis).ok_or_else(fail)?);
            total = total.checked_add(part).ok_or_else(fail)?;
            rest = after;
        }
        if text.is_empty() || total > Self::MAX.0 {
            return Err(fail());
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            return f.write_str("never");
        }
        let mut millis = self.0.as_millis();
        for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            let count = millis / size;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                millis %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_survive_their_text() {
        for (text, secs, back) in [
            ("12h", 43_200, "12h"),
            ("30m", 1_800, "30m"),
            ("24h0m0s", 86_400, "24h"),
            ("90s", 90, "1m30s"),
            ("7d", 604_800, "168h"),
            ("never", 0, "never"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.as_duration().as_secs(), span.to_string().as_str()), (secs, back));
            assert_eq!(back.parse::<Span>().unwrap(), span);
        }
        for bad in ["", "h", "12", "1x", "-1h", "1h ", "99999999999999999999h", "1000000d", "h1"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
