//! Fewer alternations between the coefficients and the noise.
//!
//! In: where each alternation started and where it led. Out: where the next should start.

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
        let accelerated = at - gap / slope;
        // Beyond 20 plain steps the two gaps are too alike to say how far.
        if slope < -0.05 && accelerated > self.low && accelerated < self.high { accelerated } else { to }
    }
}
