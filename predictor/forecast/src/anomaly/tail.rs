//! A statistic in, row by row; how far each value lies in that statistic's own tail out.
//!
//! Peaks over a threshold with an exponential tail (after Siffer et al., "Anomaly Detection in Streams with Extreme Value
//! Theory", 2017, who fit a shape as well): on each side a running 98 % quantile `q` and the mean excess `b` over it. The
//! exceedance `(s - q) / b` of a value is its tail probability in disguise: `0.02 · exp(-exceedance)`.

use serde::{Deserialize, Serialize};

/// Share of values beyond the quantile, on each side.
const TAIL_SHARE: f64 = 0.02;
/// Rows that the quantile, the mean and the deviation remember.
const MEMORY_ROWS: u16 = 3000;
/// Exceedances that the mean excess remembers.
const MEMORY_EXCEEDANCES: u8 = (MEMORY_ROWS as f64 * TAIL_SHARE) as u8;
/// Least rate at which the quantile moves, per row.
const LEAST_QUANTILE_RATE: f64 = 2e-4;
/// Values that are gathered before the first is judged.
const WARMUP: usize = 40;
/// The mean excess counts as at least this share of the statistic's mean absolute deviation.
const LEAST_EXCESS: f64 = 0.1;
/// The mean excess is widened by this over the root of the exceedances seen, while few are known.
const WIDENING: f64 = 1.5;
/// Values count up to this many mean absolute deviations in the mean and the deviation.
const CLIP: f64 = 10.0;

/// How far a value lies beyond the quantile of its side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exceedance {
    /// Mean excesses beyond the quantile; negative inside.
    pub(super) ratio: f64,
    /// Whether it is the lower side.
    pub(super) is_below: bool,
}

/// What else is known of a value that is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Context {
    /// The least mean excess that counts, in the unit of the statistic.
    pub(super) least_excess: f64,
    /// Whether the series mostly repeats its last value. Its quantile lies among the repeats, so that most exceedances
    /// are next to nothing and their plain mean says little about the rare large ones: these are weighted by size.
    pub(super) is_held: bool,
}

/// The two tails of a statistic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Tail {
    /// The first values; none has been judged.
    Warmup(Vec<f32>),
    /// Both sides are known.
    Known(Known),
}

/// State of the tails once the first values are in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    above: Side,
    /// Of the mirrored statistic.
    below: Side,
    mean: f32,
    deviation: f32,
    /// As far as they are told apart: up to [`MEMORY_ROWS`].
    rows: u16,
    /// The same, of exceedances above and below.
    seen_above: u8,
    seen_below: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Side {
    quantile: f32,
    excess: f32,
    /// Root of the mean square of the excess.
    excess_rms: f32,
}

impl Default for Tail {
    fn default() -> Self {
        Self::Warmup(Vec::new())
    }
}

impl Tail {
    /// Returns how far `value` lies in the tail, judged by earlier values alone, then learns it. `None` during the first
    /// 40 values.
    pub(super) fn push(&mut self, value: f64, context: Context) -> Option<Exceedance> {
        match self {
            Self::Known(known) => Some(known.push(value, context)),
            Self::Warmup(values) => {
                if values.is_empty() {
                    values.reserve_exact(WARMUP);
                }
                values.push(value as f32);
                if values.len() >= WARMUP {
                    *self = Self::Known(Known::from_first(values));
                }
                None
            }
        }
    }

    /// Returns whether values are judged already.
    pub(super) const fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }

    /// Returns the bytes held on the heap.
    pub(super) const fn heap_bytes(&self) -> usize {
        match self {
            Self::Warmup(values) => values.capacity() * size_of::<f32>(),
            Self::Known(_) => 0,
        }
    }
}

impl Known {
    fn from_first(values: &[f32]) -> Self {
        let mut sorted: Vec<f64> = values.iter().copied().map(f64::from).collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        let deviation = sorted.iter().map(|value| (value - median).abs()).sum::<f64>() / sorted.len() as f64;
        let (above, seen_above) = Side::from_sorted(&sorted, deviation);
        let mirrored: Vec<f64> = sorted.iter().rev().map(|value| -value).collect();
        let (below, seen_below) = Side::from_sorted(&mirrored, deviation);
        let (mean, deviation, rows) = (median as f32, deviation as f32, WARMUP as u16);
        Self { above, below, mean, deviation, rows, seen_above, seen_below }
    }

    fn push(&mut self, value: f64, Context { least_excess, is_held }: Context) -> Exceedance {
        self.rows = (self.rows + 1).min(MEMORY_ROWS);
        let rate = 1.0 / f64::from(self.rows);
        let (mean, deviation) = (f64::from(self.mean), f64::from(self.deviation));
        let least_excess = (LEAST_EXCESS * deviation).max(least_excess).max(1e-9 * mean.abs()).max(1e-12);
        let above = self.above.push(value, least_excess, is_held, rate, &mut self.seen_above);
        let below = self.below.push(-value, least_excess, is_held, rate, &mut self.seen_below);
        let distance = value - mean;
        // A statistic that was constant until now has no deviation to clip by.
        let reach = if deviation > least_excess { CLIP * deviation } else { f64::INFINITY };
        let deviation = deviation + rate * (distance.abs().min(reach) - deviation);
        self.deviation = deviation as f32;
        self.mean += (rate * distance.clamp(-reach, reach)) as f32;
        Exceedance { ratio: above.max(below), is_below: below > above }
    }
}

impl Side {
    /// Also returns the exceedances seen.
    fn from_sorted(sorted: &[f64], deviation: f64) -> (Self, u8) {
        let last = sorted.len().saturating_sub(1);
        let quantile = sorted[((1.0 - TAIL_SHARE) * last as f64) as usize];
        let over: Vec<f64> = sorted.iter().map(|value| value - quantile).filter(|excess| *excess > 0.0).collect();
        // With one exceedance of the size of the deviation as a prior, and one of none.
        let excess = (over.iter().sum::<f64>() + deviation) / (over.len() as f64 + 2.0);
        let excess_rms = std::f64::consts::SQRT_2 * excess;
        let side = Self { quantile: quantile as f32, excess: excess as f32, excess_rms: excess_rms as f32 };
        (side, over.len() as u8 + 1)
    }

    fn push(&mut self, value: f64, least_excess: f64, is_held: bool, rate: f64, seen: &mut u8) -> f64 {
        let (quantile, count) = (f64::from(self.quantile), f64::from(*seen));
        let (mean, rms) = (f64::from(self.excess), f64::from(self.excess_rms));
        let excess = mean.max(least_excess);
        // Of an exponential tail E[y²] / 2 E[y] is the mean as well; of any other it leans towards the large ones.
        let weighted = if is_held { rms * rms / (2.0 * mean.max(f64::MIN_POSITIVE)) } else { 0.0 };
        let over = value - quantile;
        let ratio = over / (excess.max(weighted) * (1.0 + WIDENING / count.sqrt()));
        if over > 0.0 {
            let rate = 1.0 / count;
            self.excess = (mean + rate * (over - mean)) as f32;
            self.excess_rms = (rms * rms + rate * (over * over - rms * rms)).max(0.0).sqrt() as f32;
            *seen = (*seen + 1).min(MEMORY_EXCEEDANCES);
        }
        // Stochastic approximation of the quantile (Robbins and Monro, 1951), in steps of the tail's own size.
        let step = 0.5 * rate.max(LEAST_QUANTILE_RATE) * excess / TAIL_SHARE;
        self.quantile += (step * if over > 0.0 { 1.0 - TAIL_SHARE } else { -TAIL_SHARE }) as f32;
        ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic values that are spread evenly over (0, 1).
    fn even(row: u64) -> f64 {
        (row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1_u64 << 53) as f64
    }

    const PLAIN: Context = Context { least_excess: 0.0, is_held: false };

    #[test]
    fn an_exponential_tail_is_learned() {
        let mut tail = Tail::default();
        let mut beyond = [0; 3];
        let rows = 100_000;
        for row in 1..=rows {
            let value = -(1.0 - even(row)).ln();
            assert_eq!(tail.is_known(), row > WARMUP as u64);
            if let Some(found) = tail.push(value, PLAIN) {
                for (count, ratio) in beyond.iter_mut().zip([0.0, 1.0, 3.0]) {
                    *count += u64::from(found.ratio > ratio && !found.is_below);
                }
            }
        }
        // 0.02 · exp(-ratio) of the rows, a little less for the widening.
        for (count, ratio) in beyond.into_iter().zip([0.0_f64, 1.0, 3.0]) {
            let share = count as f64 / rows as f64 / (0.02 * (-ratio).exp());
            assert!((0.6..1.1).contains(&share), "{share} at {ratio}");
        }
        assert_eq!(tail.heap_bytes(), 0);
    }

    #[test]
    fn rare_equal_spikes_on_a_held_series_become_usual() {
        let last_ratio = |is_held: bool| {
            let mut tail = Tail::default();
            let mut last = f64::NAN;
            for row in 0..20_000 {
                let value = if row % 500 == 499 { 1.0 } else { 0.001 * even(row) };
                let found = tail.push(value, Context { least_excess: 0.0, is_held });
                if value == 1.0 {
                    last = found.map_or(f64::NAN, |found| found.ratio);
                }
            }
            last
        };
        assert!(last_ratio(false) > 4.0, "{}", last_ratio(false));
        assert!(last_ratio(true) < 3.0, "{}", last_ratio(true));
    }
}
