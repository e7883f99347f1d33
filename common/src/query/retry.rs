//! How long to wait before a failed request is sent again.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// The first wait is up to this long, each further one up to twice as long as the one before.
const BASE: Duration = Duration::from_millis(500);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(8);

/// Returns the wait before retry `number`, counted from 0, for a uniform `share` of 0 to 1: exponential backoff with full
/// jitter (Brooker 2015, AWS Architecture Blog), so that clients that failed together do not come back together.
pub(super) fn backoff(number: u32, share: f64) -> Duration {
    BASE.saturating_mul(1 << number.min(16)).min(LONGEST).mul_f64(share.clamp(0.0, 1.0))
}

/// Returns a number from 0 to 1 that differs each time.
pub(super) fn random_share() -> f64 {
    // Every RandomState has other keys; what an empty hash says of them is spread well enough for a wait.
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let most: Vec<u128> = (0..7).map(|number| backoff(number, 1.0).as_millis()).collect();
        assert_eq!(most, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(backoff(3, 0.25), Duration::from_secs(1));
        assert_eq!((backoff(3, 0.0), backoff(u32::MAX, 1.0)), (Duration::ZERO, LONGEST));
    }

    #[test]
    fn shares_differ() {
        let shares: Vec<f64> = (0..50).map(|_| random_share()).collect();
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        assert!(shares.windows(2).any(|pair| (pair[0] - pair[1]).abs() > 0.01));
    }
}
