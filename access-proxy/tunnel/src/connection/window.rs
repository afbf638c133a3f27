//! The receive window of a stream and how it adapts.

use std::time::{Duration, Instant};

use crate::code::CloseCode;

/// Bytes that the peer may have in flight or unread on one stream.
///
/// Invariant: `credit + unread + returned == size`, where `unread` are bytes queued for the
/// reader; so a peer without credit is owed an update as soon as its bytes are read.
#[derive(Debug)]
pub(crate) struct RecvWindow {
    size: u32,
    /// Bytes that the peer may still send.
    credit: u32,
    /// Bytes that were read and not yet granted again.
    returned: u32,
    /// When credit was last granted.
    granted_at: Instant,
    /// Whether an update waits to be sent.
    pub(crate) update_queued: bool,
}

/// What the tunnel knows when a window is renewed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Climate {
    pub(crate) now: Instant,
    /// Best round trip seen lately, if any.
    pub(crate) rtt: Option<Duration>,
    pub(crate) max_window: u32,
    /// Bytes by which windows may grow in all.
    pub(crate) spare: usize,
    /// Size above which a window gives back when memory is short; `None` if it is not.
    pub(crate) shrink_to: Option<u32>,
}

/// A round trip shorter than this says more about the scheduler than about the path.
const RTT_FLOOR: Duration = Duration::from_micros(250);

impl RecvWindow {
    pub(crate) fn new(size: u32, now: Instant) -> Self {
        Self { size, credit: size, returned: 0, granted_at: now, update_queued: false }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// The peer can use the window from now on.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.granted_at = now;
    }

    /// Takes `n` bytes of the peer's credit.
    pub(crate) fn receive(&mut self, n: usize) -> Result<(), CloseCode> {
        let n = u32::try_from(n).map_err(|_| CloseCode::WINDOW)?;
        self.credit = self.credit.checked_sub(n).ok_or(CloseCode::WINDOW)?;
        Ok(())
    }

    /// Notes that `n` bytes were read. True if an update is now due.
    pub(crate) fn consume(&mut self, n: usize) -> bool {
        self.returned = self.returned.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        !self.update_queued && self.returned >= self.size / 2
    }

    /// Renews the window and returns the increment to send (0: none) and by how much the window
    /// grew or shrank.
    ///
    /// Half a window used up within two round trips means that the path holds more than the
    /// window: it doubles. When memory is short, windows beyond a fair share come down to it.
    pub(crate) fn renew(&mut self, climate: Climate) -> (u32, i64) {
        let elapsed = climate.now.saturating_duration_since(self.granted_at);
        let fast = climate.rtt.is_some_and(|rtt| elapsed < rtt.max(RTT_FLOOR) * 2);
        let mut change = 0i64;
        if let Some(fair) = climate.shrink_to.filter(|fair| self.size > *fair) {
            let cut = self.returned.min(self.size - fair);
            self.size -= cut;
            self.returned -= cut;
            change = -i64::from(cut);
        } else if fast && self.size < climate.max_window {
            let spare = u32::try_from(climate.spare).unwrap_or(u32::MAX);
            let grow = self.size.min(climate.max_window - self.size).min(spare);
            self.size += grow;
            self.returned += grow;
            change = i64::from(grow);
        }
        self.granted_at = climate.now;
        self.update_queued = false;
        let increment = std::mem::take(&mut self.returned);
        self.credit += increment;
        (increment, change)
    }
}

/// Round trips measured by pings: the latest, and the best of the last ten seconds or so, which
/// is what the path takes without its queues.
#[derive(Debug, Default)]
pub(crate) struct Rtt {
    latest: Option<Duration>,
    best: Option<(Duration, Instant)>,
}

impl Rtt {
    const KEEP_BEST: Duration = Duration::from_secs(10);

    pub(crate) fn sample(&mut self, rtt: Duration, now: Instant) {
        self.latest = Some(rtt);
        match self.best {
            Some((best, at)) if best < rtt && now < at + Self::KEEP_BEST => {}
            _ => self.best = Some((rtt, now)),
        }
    }

    pub(crate) fn latest(&self) -> Option<Duration> {
        self.latest
    }

    pub(crate) fn best(&self) -> Option<Duration> {
        self.best.map(|(best, _)| best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn climate(now: Instant) -> Climate {
        Climate {
            now,
            rtt: Some(Duration::from_millis(10)),
            max_window: 1000,
            spare: usize::MAX,
            shrink_to: None,
        }
    }

    #[test]
    fn grows_only_when_used_up_fast() {
        let start = Instant::now();
        let mut window = RecvWindow::new(100, start);
        window.receive(60).unwrap();
        assert!(!window.consume(49));
        assert!(window.consume(11));
        assert_eq!(window.renew(climate(start + Duration::from_millis(19))), (160, 100));
        assert_eq!(window.size(), 200);
        window.receive(150).unwrap();
        assert!(window.consume(150));
        assert_eq!(window.renew(climate(start + Duration::from_millis(39))), (150, 0));
    }

    #[test]
    fn no_growth_without_a_round_trip_or_past_the_bounds() {
        let start = Instant::now();
        let mut window = RecvWindow::new(100, start);
        window.receive(100).unwrap();
        window.consume(100);
        assert_eq!(window.renew(Climate { rtt: None, ..climate(start) }), (100, 0));
        window.receive(100).unwrap();
        window.consume(100);
        assert_eq!(window.renew(Climate { spare: 7, ..climate(start) }), (107, 7));
        window.receive(107).unwrap();
        window.consume(107);
        assert_eq!(window.renew(Climate { max_window: 110, ..climate(start) }), (110, 3));
    }

    #[test]
    fn shrinks_under_pressure_and_never_strands_the_peer() {
        let start = Instant::now();
        let mut window = RecvWindow::new(1000, start);
        window.receive(1000).unwrap();
        assert!(window.consume(500));
        let (increment, change) = window.renew(Climate { shrink_to: Some(100), ..climate(start) });
        assert_eq!((increment, change, window.size()), (0, -500, 500));
        assert!(window.consume(500));
        let (increment, change) = window.renew(Climate { shrink_to: Some(100), ..climate(start) });
        assert_eq!((increment, change, window.size()), (100, -400, 100));
        assert_eq!(window.receive(101), Err(CloseCode::WINDOW));
    }
}
