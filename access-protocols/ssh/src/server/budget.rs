//! How much of one direction of a session is recorded when not all must be.

use access_core::Timestamp;

/// What is recorded at once.
const BURST: u64 = 1024 * 1024;
/// What is recorded on end, in bytes a millisecond: about a megabyte a minute.
const RATE: u64 = 16;
/// After a gap this much must fit in, so that the notes on gaps stay few.
const RESUME: u64 = 4096;

/// A bucket of bytes that fills up again. Whatever is poured through at once, what comes later
/// finds room: nothing can be hidden behind a flood that has passed, and a flood that does not
/// pass leaves notes of what is missing.
#[derive(Debug)]
pub(super) struct Budget {
    room: u64,
    filled: Timestamp,
    /// Bytes left out since the last that were recorded.
    left_out: u64,
}

/// What becomes of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// How many bytes were left out before them, to be noted.
    pub(super) gap: Option<u64>,
    /// How many of them are recorded.
    pub(super) kept: usize,
}

impl Budget {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { room: BURST, filled: now, left_out: 0 }
    }

    /// Decides over the next bytes.
    pub(super) fn share(&mut self, now: Timestamp, len: usize) -> Share {
        let passed = u64::try_from(now.since(self.filled).as_millis()).unwrap_or(u64::MAX);
        self.room = self.room.saturating_add(passed.saturating_mul(RATE)).min(BURST);
        self.filled = now;
        if self.left_out > 0 && self.room < RESUME {
            self.left_out = self.left_out.saturating_add(len as u64);
            return Share { gap: None, kept: 0 };
        }
        let gap = self.gap();
        let kept = usize::try_from(self.room).unwrap_or(usize::MAX).min(len);
        self.room -= kept as u64;
        self.left_out = (len - kept) as u64;
        Share { gap, kept }
    }

    /// What was left out since the last bytes that were recorded, if anything.
    pub(super) fn gap(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.left_out)).filter(|left_out| *left_out > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_000_000);

    fn after(millis: u64) -> Timestamp {
        START.plus(Duration::from_millis(millis))
    }

    #[test]
    fn what_follows_a_flood_is_recorded_and_the_gap_is_known() {
        let mut budget = Budget::new(START);
        let flood = 3 * BURST;
        let kept = usize::try_from(BURST).unwrap();
        assert_eq!(budget.share(START, usize::try_from(flood).unwrap()), Share { gap: None, kept });
        assert_eq!(budget.share(after(100), 10), Share { gap: None, kept: 0 });
        let gap = Some(flood - BURST + 10);
        assert_eq!(budget.share(after(300), 10), Share { gap, kept: 10 });
        assert_eq!(budget.share(after(300), 10), Share { gap: None, kept: 10 });
        assert_eq!(budget.gap(), None);
    }

    #[test]
    fn a_flood_that_does_not_end_is_bounded_and_sampled() {
        let mut budget = Budget::new(START);
        let (mut kept, mut missing) = (0, 0);
        for millis in 0..600_000 {
            let share = budget.share(after(millis), 1000);
            kept += share.kept as u64;
            missing += share.gap.unwrap_or(0);
        }
        missing += budget.gap().unwrap_or(0);
        assert_eq!(kept + missing, 600_000 * 1000);
        let expected = BURST + 600_000 * RATE;
        assert!((expected - 2 * RESUME..=expected).contains(&kept), "{kept} of {expected}");
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_away() {
        let mut budget = Budget::new(START);
        let all = usize::try_from(BURST).unwrap();
        assert_eq!(budget.share(START, all).kept, all);
        assert_eq!(budget.share(Timestamp::EPOCH, 10).kept, 0);
        assert_eq!(budget.share(Timestamp::EPOCH.plus(Duration::from_secs(1)), 10).kept, 10);
    }
}
