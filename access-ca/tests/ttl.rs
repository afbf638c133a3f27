//! Whatever is asked for, the policy's bounds hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use access_ca::IssuingPolicy;
use access_core::Timestamp;
use proptest::prelude::*;

fn spans() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        (0..200_000u64).prop_map(Duration::from_secs),
        (0..200_000_000u64).prop_map(Duration::from_millis),
    ]
}

proptest! {
    #[test]
    fn a_validity_never_leaves_its_bounds(
        now in 0..4_000_000_000_000i64,
        ttl in spans(),
        max_ttl in spans(),
        skew in spans(),
        cap in proptest::option::of(-100_000_000..100_000_000i64),
    ) {
        let now = Timestamp::from_millis(now);
        let cap = cap.map(|offset| Timestamp::from_millis(now.as_millis() + offset));
        let policy = IssuingPolicy { now, max_ttl, skew, not_after: cap };
        let bound = now.plus(max_ttl).min(cap.unwrap_or(Timestamp::MAX));
        match policy.validity(ttl) {
            Ok(validity) => {
                let (start, end) = (validity.not_before(), validity.not_after());
                prop_assert!(validity.check(now).is_ok());
                prop_assert!(end <= bound);
                prop_assert_eq!(start.as_secs(), now.minus(skew).as_secs());
                prop_assert_eq!((start.as_millis() % 1000, end.as_millis() % 1000), (0, 0));
                // What was asked for, to the second, unless a bound stands against it.
                let asked = now.plus(ttl.max(IssuingPolicy::MIN_TTL)).min(bound);
                prop_assert_eq!(end.as_secs(), asked.as_secs());
            }
            // Refused only when nothing of it would lie ahead.
            Err(_) => prop_assert!(Timestamp::from_secs(bound.as_secs()) <= now),
        }
    }
}

#[test]
fn too_short_and_too_long_are_clamped() {
    let now = Timestamp::from_secs(1_000_000);
    let policy = IssuingPolicy::new(now, Duration::from_secs(3600));
    let end = |secs| policy.validity(Duration::from_secs(secs)).unwrap().not_after().since(now);
    assert_eq!(end(0), Duration::from_secs(60));
    assert_eq!(end(61), Duration::from_secs(61));
    assert_eq!(end(u64::MAX), Duration::from_secs(3600));
    let start = policy.validity(Duration::ZERO).unwrap().not_before();
    assert_eq!(now.since(start), Duration::from_secs(60));
}
