//! Fewer alternations between the coefficients and the noise.
//!
//! In: where each alternation started and where it led. Out: where the next should start.

/// An accelerated step is at most so many plain ones.
const MOST_PLAIN_STEPS: f64 = 20.0;

/// Aitken's acceleration of ln s ← ln φ(s), φ being one alternation.
///
/// φ rises with s: a larger s means a stronger prior and a larger RSS. So a plain step never jumps over the root, and the
/// sign of its length tells on which side the root lies. An accelerated step that leaves the bracket is not taken.
#[derive(Debug)]
pub(crate) struct Aitken {
    last: Option<(f64, f64)>,
    low: f64,
    high: f64,
}

impl Default for Aitken {
    fn default() -> Self {
        Self { last: None, low: f64::NEG_INFINITY, high: f64::INFINITY }
    }
}

impl Aitken {
    /// Returns the next ln s after the alternation that led from `at` to `to`.
    pub(crate) fn next(&mut self, at: f64, to: f64) -> f64 {
        let gap = to - at;
        if gap > 0.0 {
            self.low = self.low.max(at);
        } else {
            self.high = self.high.min(at);
        }
        let slope = self.last.map_or(f64::NAN, |(earlier, before)| (gap - before) / (at - earlier));
        self.last = Some((at, gap));
        // Where two gaps are nearly alike they do not say how far the root is, only that it is at least 20 plain steps away.
        let accelerated = at + gap * (-1.0 / slope).min(MOST_PLAIN_STEPS);
        if slope < 0.0 && accelerated > self.low && accelerated < self.high { accelerated } else { to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the alternations until a map, which brings the distance to its root at 0 down to `rate` of it, moves by
    /// less than 1e-10; at most 1,000.
    fn alternations(rate: f64, mut next: impl FnMut(f64, f64) -> f64) -> usize {
        let mut at: f64 = -1.0;
        for alternation in 1..1000 {
            // With a curve, so that no two slopes are the same.
            let to = rate * at - 0.1 * (1.0 - rate) * at * at;
            if (to - at).abs() < 1e-10 {
                return alternation;
            }
            at = next(at, to);
        }
        1000
    }

    #[test]
    fn however_slow_an_alternation_is_it_ends_soon() {
        for (rate, plain, most) in [(0.5, 30, 10), (0.9, 150, 10), (0.97, 500, 40), (0.99, 1000, 100)] {
            assert!(alternations(rate, |_, to| to) >= plain, "{rate}");
            let mut aitken = Aitken::default();
            let accelerated = alternations(rate, |at, to| aitken.next(at, to));
            assert!(accelerated <= most, "{rate}: {accelerated}");
        }
    }
}
