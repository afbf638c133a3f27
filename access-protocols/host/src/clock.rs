//! The system's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use access_core::time::{Clock, Timestamp};
use futures::future::BoxFuture;

/// How long to sleep before looking at the wall clock again: it may have been set, or the machine
/// may have slept, and the monotonic timer knows of neither.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The system's wall clock, with tokio's timer to sleep by.
///
/// A deadline is noticed within 30 seconds when the wall clock is set past it meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is where the time comes from")]
        let now = SystemTime::now();
        // Before 1970 the clock is wrong, and the epoch makes every certificate not yet valid.
        let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let clock = *self;
        Box::pin(async move {
            loop {
                let left = deadline.since(clock.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleeping_ends_at_the_deadline_and_not_before() {
        let clock = SystemClock;
        let deadline = clock.now().plus(Duration::from_millis(30));
        clock.sleep_until(deadline).await;
        assert!(clock.now() >= deadline);
        clock.sleep_until(Timestamp::EPOCH).await;
    }
}
