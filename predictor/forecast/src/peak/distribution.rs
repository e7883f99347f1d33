//! A location, a scale and past scores in; quantiles and exceedance out.

/// Share of the scores that the exponential tail replaces.
const TAIL: f64 = 0.05;

/// The distribution of a peak: location + scale · score, with the scores of past peaks.
#[derive(Debug, Clone, PartialEq)]
pub struct PeakDistribution {
    location: f64,
    scale: f64,
    /// Ascending.
    scores: Vec<f64>,
    tail_start: f64,
    tail_share: f64,
    tail_mean: f64,
}

impl PeakDistribution {
    /// Returns the distribution for scores (peak − location) / scale of the past, at least one. The 5 % largest are
    /// replaced by an exponential tail with their mean excess over the next one.
    pub(crate) fn new(location: f64, scale: f64, mut scores: Vec<f64>) -> Self {
        scores.sort_by(f64::total_cmp);
        let count = scores.len();
        let tail = ((TAIL * count as f64).ceil() as usize).min(count - 1);
        let tail_start = scores[count - 1 - tail];
        let excess: f64 = scores[count - tail..].iter().map(|score| score - tail_start).sum();
        Self {
            location,
            scale,
            tail_start,
            tail_share: tail as f64 / count as f64,
            tail_mean: if tail > 0 { excess / tail as f64 } else { 0.0 },
            scores,
        }
    }

    /// Returns the value that the peak stays at or below with probability `quantile` (in (0, 1)).
    pub fn quantile(&self, quantile: f64) -> f64 {
        let beyond = 1.0 - quantile;
        let score = if beyond < self.tail_share {
            self.tail_start + self.tail_mean * (self.tail_share / beyond).ln()
        } else {
            let rank = ((self.scores.len() as f64 + 1.0) * quantile - 1e-9).ceil().max(1.0) as usize;
            self.scores[rank.min(self.scores.len()) - 1].min(self.tail_start)
        };
        self.location + self.scale * score
    }

    /// Returns the probability that the peak is above `value`.
    pub fn exceedance(&self, value: f64) -> f64 {
        let score = (value - self.location) / self.scale;
        if score > self.tail_start {
            if self.tail_mean <= 0.0 {
                return 0.0;
            }
            return self.tail_share * (-(score - self.tail_start) / self.tail_mean).exp();
        }
        let above = self.scores.len() - self.scores.partition_point(|past| *past <= score);
        above as f64 / self.scores.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_exponential_sample_keeps_its_tail() {
        // Scores at the quantiles of an exponential distribution of mean 1.
        let scores: Vec<f64> = (0..1440).map(|i| -(1.0 - (f64::from(i) + 0.5) / 1440.0_f64).ln()).collect();
        let distribution = PeakDistribution::new(100.0, 10.0, scores);
        for quantile in [0.5_f64, 0.9, 0.99, 0.999] {
            let expected = 100.0 - 10.0 * (1.0 - quantile).ln();
            assert!((distribution.quantile(quantile) / expected - 1.0).abs() < 0.02, "{quantile}");
            assert!((distribution.exceedance(expected) - (1.0 - quantile)).abs() < 0.003);
        }
    }

    proptest! {
        #[test]
        fn quantiles_never_cross(scores in proptest::collection::vec(-5.0_f64..5.0, 1..300), a in 0.01_f64..0.999, b in 0.01_f64..0.999) {
            let distribution = PeakDistribution::new(1.0, 2.0, scores);
            prop_assert!(distribution.quantile(a.min(b)) <= distribution.quantile(a.max(b)));
        }
    }
}
