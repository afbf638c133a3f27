//! Moments, spans of validity, and the clock that a caller supplies.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment, in milliseconds since the Unix epoch, UTC. Written as RFC 3339.
///
/// ```
/// use access_core::Timestamp;
/// let t: Timestamp = "2026-01-02T03:04:05.678Z".parse()?;
/// assert_eq!(t.to_string(), "2026-01-02T03:04:05.678Z");
/// # Ok::<(), access_core::time::TimestampError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// The latest moment that RFC 3339 can write (the end of the year 9999).
    pub const MAX: Self = Self(253_402_300_799_999);

    /// From milliseconds since the Unix epoch; values beyond the year 9999 are clamped.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            Self(0)
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// From whole seconds since the Unix epoch; clamped like [`Timestamp::from_millis`].
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment and a span later, clamped to [`Timestamp::MAX`].
    pub fn plus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This moment and a span earlier, clamped to the epoch.
    pub fn minus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// How long ago `earlier` was at this moment; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Appends the moment as text.
    pub(crate) fn append(self, out: &mut Vec<u8>) {
        // By hand: each audit event has one.
        let date = OffsetDateTime::from_unix_timestamp(self.as_secs())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = date.to_calendar_date();
        let (hour, minute, second) = date.to_hms();
        let two = |number: u8| [b'0' + number / 10, b'0' + number % 10];
        out.extend_from_slice(&two((year / 100) as u8));
        for (number, mark) in [
            ((year % 100) as u8, b'-'),
            (month.into(), b'-'),
            (day, b'T'),
            (hour, b':'),
            (minute, b':'),
        ] {
            let [tens, ones] = two(number);
            out.extend_from_slice(&[tens, ones, mark]);
        }
        out.extend_from_slice(&two(second));
        let mut fraction = self.0 % 1000;
        if fraction > 0 {
            out.push(b'.');
        }
        while fraction > 0 {
            out.push(b'0' + (fraction / 100) as u8);
            fraction = fraction % 100 * 10;
        }
        out.push(b'Z');
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(24);
        self.append(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an RFC 3339 moment.
#[derive(Debug, thiserror::Error)]
#[error("not an RFC 3339 time such as 2026-01-02T03:04:05Z: {0:?}")]
pub struct TimestampError(String);

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| TimestampError(text.chars().take(64).collect()))?;
        let millis = parsed.unix_timestamp() * 1000 + i64::from(parsed.millisecond());
        Ok(Self::from_millis(millis))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A span of time in which something holds: from `not_before` on, until just before `not_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a span is none, or does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValidityError {
    /// The end does not lie after the start.
    #[error("validity ends ({not_after}) before it starts ({not_before})")]
    Empty {
        /// The start that was given.
        not_before: Timestamp,
        /// The end that was given.
        not_after: Timestamp,
    },
    /// Too early.
    #[error("not valid before {0}: is a clock wrong?")]
    NotYet(Timestamp),
    /// Too late.
    #[error("expired at {0}")]
    Expired(Timestamp),
}

impl Validity {
    /// The span between two moments.
    ///
    /// # Errors
    /// [`ValidityError::Empty`] when it would hold at no moment.
    pub fn between(not_before: Timestamp, not_after: Timestamp) -> Result<Self, ValidityError> {
        if not_before < not_after {
            Ok(Self { not_before, not_after })
        } else {
            Err(ValidityError::Empty { not_before, not_after })
        }
    }

    /// First moment at which it holds.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// First moment at which it holds no more.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it holds at a moment.
    ///
    /// # Errors
    /// [`ValidityError::NotYet`] or [`ValidityError::Expired`].
    pub fn check(&self, now: Timestamp) -> Result<(), ValidityError> {
        if now < self.not_before {
            Err(ValidityError::NotYet(self.not_before))
        } else if now >= self.not_after {
            Err(ValidityError::Expired(self.not_after))
        } else {
            Ok(())
        }
    }
}

/// The time, as the embedding program tells it.
///
/// Tests give [`ManualClock`]; programs take the one of the `access-host` crate.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Completes at or after a moment (soon after, for a real clock).
    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()>;
}

/// A clock that stands still until it is moved: for tests and simulations.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: tokio::sync::watch::Sender<Timestamp>,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { now: tokio::sync::watch::Sender::new(now) }
    }

    /// Moves the clock forward and wakes those who slept until then.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = now.plus(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // The sender lives in the clock; when that is gone, time stands still for good.
            if now.wait_for(|now| *now >= deadline).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn validity_holds_from_its_start_until_just_before_its_end() {
        let (a, b) = (Timestamp::from_secs(10), Timestamp::from_secs(20));
        let span = Validity::between(a, b).unwrap();
        assert_eq!(span.check(Timestamp::from_millis(9_999)), Err(ValidityError::NotYet(a)));
        assert_eq!(span.check(a), Ok(()));
        assert_eq!(span.check(b), Err(ValidityError::Expired(b)));
        assert!(Validity::between(b, b).is_err());
    }

    #[test]
    fn timestamps_survive_their_text() {
        for millis in [0, 1, 999, 1_767_323_045_678, Timestamp::MAX.as_millis()] {
            let t = Timestamp::from_millis(millis);
            assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
        for early in ["1969-12-31T23:59:59.9999Z", "0000-01-01T00:00:00Z"] {
            assert_eq!(early.parse::<Timestamp>().unwrap(), Timestamp::EPOCH);
        }
    }

    proptest! {
        #[test]
        fn timestamps_are_written_as_rfc_3339_says(
            millis in 0..=Timestamp::MAX.as_millis(), unit in prop::sample::select(vec![1, 10, 100, 1000]),
        ) {
            let millis = millis / unit * unit;
            let t = Timestamp::from_millis(millis);
            let date = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap();
            let mut text = Vec::new();
            t.append(&mut text);
            prop_assert_eq!(String::from_utf8(text).unwrap(), date.format(&Rfc3339).unwrap());
            prop_assert_eq!(t.to_string(), date.format(&Rfc3339).unwrap());
            prop_assert_eq!(serde_json::to_value(t).unwrap(), t.to_string());
            prop_assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
        }
    }
}
