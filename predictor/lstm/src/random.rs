//! Numbers to begin training with: Steele, Lea and Flood's SplitMix64, which gives the same on every machine.

/// A generator; the seed decides what it gives.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform in [least, most).
    pub(crate) fn uniform(&mut self, least: f32, most: f32) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 24) as f32;
        unit.mul_add(most - least, least)
    }
}
