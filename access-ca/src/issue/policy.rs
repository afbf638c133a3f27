//! What bounds a certificate, whoever asks for it.

use std::time::Duration;

use access_core::{Timestamp, Validity};

use crate::error::{Error, Result};

/// The bounds that drafts are vetted against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuingPolicy {
    /// The present moment.
    pub now: Timestamp,
    /// The longest time that a certificate holds from now on. A draft that asks for more gets
    /// this.
    pub max_ttl: Duration,
    /// How far the start of the validity lies before now, for machines whose clocks are behind.
    pub skew: Duration,
    /// A moment that no certificate outlives, whatever its draft asks for: the end of the session
    /// or of the access request behind it.
    pub not_after: Option<Timestamp>,
}

impl IssuingPolicy {
    /// The shortest time that a certificate holds. A draft that asks for less gets this, unless
    /// `max_ttl` or `not_after` allow less still.
    pub const MIN_TTL: Duration = Duration::from_secs(60);

    /// The skew of [`IssuingPolicy::new`].
    pub const SKEW: Duration = Duration::from_secs(60);

    /// A policy with the usual skew.
    pub fn new(now: Timestamp, max_ttl: Duration) -> Self {
        Self { now, max_ttl, skew: Self::SKEW, not_after: None }
    }

    /// The validity of a certificate that should hold for `ttl`, in whole seconds, as both kinds
    /// of certificate write it.
    ///
    /// # Errors
    /// [`Error::Policy`] when it would have ended already.
    pub fn validity(&self, ttl: Duration) -> Result<Validity> {
        let ttl = ttl.max(Self::MIN_TTL).min(self.max_ttl);
        let end = self.now.plus(ttl);
        let end = self.not_after.map_or(end, |cap| cap.min(end));
        let end = Timestamp::from_secs(end.as_secs());
        if end <= self.now {
            return Err(Error::Policy("its longest time to live has passed already"));
        }
        let start = Timestamp::from_secs(self.now.minus(self.skew).as_secs());
        Validity::between(start, end).map_err(|_| Error::Policy("its validity would be empty"))
    }
}
