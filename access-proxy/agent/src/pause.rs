//! Pauses between attempts: they grow, and no two hosts keep step.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

/// A pause that doubles with each failure.
///
/// While a failure is young the pause stays short, so that what was restarted is found again at
/// once; later it grows, so that what is gone for good is not hammered.
#[derive(Debug)]
pub(crate) struct Pause {
    first: Duration,
    young_cap: Duration,
    cap: Duration,
    young_for: Duration,
    next: Duration,
    since: Option<Instant>,
}

impl Pause {
    /// For tunnels: within a second during the first half minute, fifteen seconds at most.
    pub(crate) fn for_tunnels() -> Self {
        Self::new(
            Duration::from_millis(50),
            Duration::from_secs(1),
            Duration::from_secs(15),
            Duration::from_secs(30),
        )
    }

    /// For calls: from a fifth of a second to half a minute.
    pub(crate) fn for_calls() -> Self {
        let cap = Duration::from_secs(30);
        Self::new(Duration::from_millis(200), cap, cap, Duration::ZERO)
    }

    fn new(first: Duration, young_cap: Duration, cap: Duration, young_for: Duration) -> Self {
        Self { first, young_cap, cap, young_for, next: first, since: None }
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
        self.since = None;
    }

    /// How long to wait now, after another failure.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let young = self.since.get_or_insert_with(Instant::now).elapsed() < self.young_for;
        let cap = if young { self.young_cap } else { self.cap };
        let pause = self.next.min(cap);
        self.next = pause.saturating_mul(2);
        jittered(pause)
    }
}

/// A span between half of `pause` and all of it.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause / 2 + pause.mul_f64(fraction() / 2.0)
}

/// A number between 0 and 1. Without randomness it is 0, which delays nothing.
pub(crate) fn fraction() -> f64 {
    f64::from(u32::from_be_bytes(random())) / f64::from(u32::MAX)
}

/// Random bytes; zeros when the system has none, so use them for nothing secret.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return [0; N];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_is_tried_every_second_at_first_and_seldom_later() {
        let mut pause = Pause::for_tunnels();
        let start = Instant::now();
        assert!(pause.after_failure() <= Duration::from_millis(50));
        let mut tries = 0;
        while start.elapsed() < Duration::from_secs(29) {
            let next = pause.after_failure();
            assert!(next <= Duration::from_secs(1), "{next:?}");
            tokio::time::sleep(next).await;
            tries += 1;
        }
        assert!(tries >= 29, "{tries}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let longest = (0..10).map(|_| pause.after_failure()).max().unwrap();
        assert!(longest > Duration::from_secs(7) && longest <= Duration::from_secs(15));
        pause.reset();
        assert!(pause.after_failure() <= Duration::from_millis(50));
    }
}
