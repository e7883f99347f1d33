//! The benchmark's own series: daily and weekly sines, a trend with random breaks, AR(1) noise, a floor at 0.1.

use std::f64::consts::TAU;

use cloudpulse_forecast::prophet::plan::SeasonalityMode;

/// Returns `count` samples. The swing is a fourth of the first level; if multiplicative, it stays that share of the level.
pub(crate) fn generate(count: usize, step_seconds: i64, mode: SeasonalityMode) -> Vec<f64> {
    let mut random = Random(1);
    let (mut level, mut slope, mut noise) = (40.0, 0.0, 0.0);
    (0..count)
        .map(|i| {
            let day = i as f64 * step_seconds as f64 / 86_400.0;
            let season = 10.0 * (TAU * day).sin() + 4.0 * (TAU * day / 7.0).sin();
            if random.uniform() < 0.001 {
                slope += 0.002 * random.normal();
            }
            level += slope;
            noise = 0.7 * noise + 2.0 * random.normal();
            let curve = match mode {
                SeasonalityMode::Additive => level + season,
                SeasonalityMode::Multiplicative => level * (1.0 + season / 40.0),
            };
            f64::max(curve + noise, 0.1)
        })
        .collect()
}

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    /// Uniform in (0, 1].
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z ^ (z >> 31)) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }
}
