//! When the next replica may be started, after several in a row did not get ready. Pure; the caller gives the time.

use std::time::Duration;
use std::time::Instant;

use crate::target::docker::progress::Failure;

/// So many failures in a row are no accident.
const TOO_MANY: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Failures since a replica last became ready.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    wait: Option<Wait>,
}

/// How long nothing is started, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wait {
    length: Duration,
    until: Instant,
    last: Failure,
}

/// What keeps a start back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Replicas that failed one after the other.
    pub(crate) failures: u32,
    /// The last of them.
    pub(crate) last: Failure,
    /// When it is tried again.
    pub(crate) again_in: Duration,
}

impl Backoff {
    /// Notes that a replica works.
    pub(crate) fn proven(&mut self) {
        *self = Self::default();
    }

    /// Notes at `now` that a replica does not work. The third in a row holds starts back for 30 s, and each that fails
    /// when it was tried again for twice as long, up to 10 min. Those that were started together count as one try.
    pub(crate) fn failed(&mut self, failure: Failure, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures < TOO_MANY {
            return;
        }
        self.wait = Some(match self.wait.take() {
            Some(wait) if now < wait.until => Wait { last: failure, ..wait },
            earlier => {
                let length = earlier.map_or(FIRST_WAIT, |wait| (wait.length * 2).min(LONGEST_WAIT));
                Wait { length, until: now + length, last: failure }
            }
        });
    }

    /// Returns what keeps a start back at `now`; `None` where it may be tried.
    pub(crate) fn held(&self, now: Instant) -> Option<Held> {
        let wait = self.wait.as_ref().filter(|wait| now < wait.until)?;
        Some(Held {
            failures: self.failures,
            last: wait.last.clone(),
            again_in: wait.until.saturating_duration_since(now),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(name: &str) -> Failure {
        Failure { name: name.to_owned(), what: "ended (exited, exit code 1)".to_owned(), last_output: None }
    }

    fn seconds(backoff: &Backoff, now: Instant) -> Option<u64> {
        backoff.held(now).map(|held| held.again_in.as_secs())
    }

    #[test]
    fn the_third_failure_holds_and_each_further_try_longer() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..2 {
            backoff.failed(failure("a"), now);
            assert_eq!(backoff.held(now), None);
        }
        for expected in [30, 60, 120, 240, 480, 600, 600] {
            backoff.failed(failure("b"), now);
            assert_eq!(seconds(&backoff, now), Some(expected));
            now += Duration::from_secs(expected);
            assert_eq!(seconds(&backoff, now), None, "one may be tried");
        }
        assert_eq!(backoff.failures, 9);
    }

    #[test]
    fn replicas_of_one_try_count_once() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for number in 1..=20 {
            backoff.failed(failure(&format!("web-{number}")), now);
        }
        let held = backoff.held(now + Duration::from_secs(1)).unwrap();
        assert_eq!((held.failures, held.last.name.as_str(), held.again_in.as_secs()), (20, "web-20", 29));
    }

    #[test]
    fn one_that_works_forgets_all() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..3 {
            backoff.failed(failure("a"), now);
        }
        backoff.proven();
        assert_eq!(backoff.held(now), None);
        for _ in 0..2 {
            backoff.failed(failure("a"), now);
            assert_eq!(backoff.held(now), None);
        }
        backoff.failed(failure("a"), now);
        assert_eq!(seconds(&backoff, now), Some(30));
    }
}
