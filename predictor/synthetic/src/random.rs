//! A seed in; draws from named distributions out, the same bits on every platform.
//!
//! The bits are ChaCha8's. The samplers are our own, and their logarithms and exponentials `libm`'s: those of `rand_distr`
//! call the platform's mathematics as soon as any crate of the build asks `num-traits` for it, and a last bit that differs
//! is enough for another series where a sampler rejects.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Above this mean a Poisson number is drawn by transformed rejection, below by counting arrivals.
const POISSON_COUNTED: f64 = 10.0;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    bits: ChaCha8Rng,
    /// Normal numbers come in pairs.
    spare: Option<f64>,
}

impl Random {
    /// Returns stream number `stream` of `seed`; streams of one seed are independent.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut bits = ChaCha8Rng::from_seed(key);
        bits.set_stream(stream);
        Self { bits, spare: None }
    }

    /// Returns a uniform number in [0, 1), a multiple of 2⁻⁵³.
    pub(crate) fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.bits.next_u64() >> 11) as f64 * STEP
    }

    /// Returns a uniform number in (0, 1], of which a logarithm is finite.
    fn positive_unit(&mut self) -> f64 {
        1.0 - self.unit()
    }

    /// Returns whether an event of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Returns a uniform number in [`low`, `high`).
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Returns a number in [`low`, `high`) whose logarithm is uniform; both are above 0.
    pub(crate) fn log_uniform(&mut self, low: f64, high: f64) -> f64 {
        libm::exp(self.uniform(libm::log(low), libm::log(high)))
    }

    /// Returns a whole number in `low..high`; `low` where that is empty.
    pub(crate) fn whole(&mut self, low: usize, high: usize) -> usize {
        low + (self.unit() * high.saturating_sub(low) as f64) as usize
    }

    /// Returns one of the values, all equally likely.
    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, values: [T; N]) -> T {
        values[self.whole(0, N)]
    }

    /// Returns a standard normal number (Marsaglia's polar method, 1964).
    pub(crate) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (u, v) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = u * u + v * v;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * libm::log(square) / square).sqrt();
                self.spare = Some(v * factor);
                return u * factor;
            }
        }
    }

    /// Returns an exponential number of mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -libm::log(self.positive_unit())
    }

    /// Returns a Laplace number of scale 1 (variance 2).
    pub(crate) fn laplace(&mut self) -> f64 {
        let magnitude = self.exponential();
        if self.chance(0.5) { magnitude } else { -magnitude }
    }

    /// Returns a gamma number of this shape, above 0, and scale 1 (Marsaglia and Tsang, 2000).
    pub(crate) fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let raised = self.gamma(shape + 1.0);
            return raised * libm::exp(libm::log(self.positive_unit()) / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let root = 1.0 + c * x;
            if root <= 0.0 {
                continue;
            }
            let v = root * root * root;
            if libm::log(self.positive_unit()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// Returns a number of Student's t distribution.
    pub(crate) fn student(&mut self, freedom: f64) -> f64 {
        // A chi-squared number is twice a gamma one. The floor keeps the quotient finite.
        let chi = 2.0 * self.gamma(freedom / 2.0);
        self.normal() / (chi / freedom).max(1e-12).sqrt()
    }

    /// Returns a number of the Pareto distribution that begins at 0 (Lomax): P(X > x) = (1 + x)^−`index`.
    pub(crate) fn pareto(&mut self, index: f64) -> f64 {
        libm::expm1(self.exponential() / index)
    }

    /// Returns a Poisson number of this mean; 0 for a mean not above 0.
    pub(crate) fn poisson(&mut self, mean: f64) -> f64 {
        if mean < POISSON_COUNTED {
            let mut count = 0.0;
            let mut arrived = self.exponential();
            while arrived < mean {
                count += 1.0;
                arrived += self.exponential();
            }
            return count;
        }
        // PTRS of Hörmann, "The transformed rejection method for generating Poisson random variables" (1993).
        let b = 0.931 + 2.53 * mean.sqrt();
        let a = -0.059 + 0.024_83 * b;
        let inverse_alpha = 1.123_9 + 1.132_8 / (b - 3.4);
        let squeeze = 0.927_7 - 3.622_4 / (b - 2.0);
        let log_mean = libm::log(mean);
        loop {
            let u = self.unit() - 0.5;
            let v = self.positive_unit();
            let distance = 0.5 - u.abs();
            let count = ((2.0 * a / distance + b) * u + mean + 0.43).floor();
            if distance >= 0.07 && v <= squeeze {
                return count;
            }
            if count < 0.0 || (distance < 0.013 && v > distance) {
                continue;
            }
            let accepted = libm::log(v) + libm::log(inverse_alpha) - libm::log(a / (distance * distance) + b);
            if accepted <= count * log_mean - mean - libm::lgamma(count + 1.0) {
                return count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 100_000;

    /// Mean, variance and share above 1.
    fn moments(mut draw: impl FnMut(&mut Random) -> f64) -> (f64, f64, f64) {
        let mut random = Random::new(7, 0);
        let draws: Vec<f64> = (0..DRAWS).map(|_| draw(&mut random)).collect();
        let n = DRAWS as f64;
        let mean = draws.iter().sum::<f64>() / n;
        let variance = draws.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / n;
        (mean, variance, draws.iter().filter(|value| **value > 1.0).count() as f64 / n)
    }

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() < tolerance, "{found} is not {expected}");
    }

    #[test]
    fn the_bits_are_the_published_ones() {
        // ChaCha8 of an all-zero key, as in the test vectors of ECRYPT's eSTREAM.
        let mut random = Random::new(0, 0);
        assert_eq!(random.bits.next_u64().to_le_bytes(), [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]);
        assert_ne!(Random::new(0, 1).unit(), Random::new(0, 0).unit());
    }

    #[test]
    fn distributions_have_their_moments_and_tails() {
        let (mean, variance, above) = moments(Random::normal);
        close(mean, 0.0, 0.015);
        close(variance, 1.0, 0.02);
        close(above, 0.158_7, 0.005);
        let (mean, variance, above) = moments(Random::exponential);
        close(mean, 1.0, 0.015);
        close(variance, 1.0, 0.04);
        close(above, 0.367_9, 0.006);
        let (mean, variance, above) = moments(Random::laplace);
        close(mean, 0.0, 0.02);
        close(variance, 2.0, 0.08);
        close(above, 0.183_9, 0.005);
        let (mean, variance, above) = moments(|random| random.gamma(3.0));
        close(mean, 3.0, 0.03);
        close(variance, 3.0, 0.1);
        close(above, 0.919_7, 0.005);
        let (mean, variance, above) = moments(|random| random.gamma(0.5));
        close(mean, 0.5, 0.02);
        close(variance, 0.5, 0.04);
        close(above, 0.157_3, 0.005);
        let (mean, variance, above) = moments(|random| random.student(5.0));
        close(mean, 0.0, 0.02);
        close(variance, 5.0 / 3.0, 0.1);
        close(above, 0.181_6, 0.005);
        let (mean, _, above) = moments(|random| random.pareto(4.0));
        close(mean, 1.0 / 3.0, 0.01);
        close(above, 0.062_5, 0.004);
    }

    #[test]
    fn poisson_has_its_mean_and_variance_on_both_sides_of_the_change_of_method() {
        for expected in [0.02, 0.7, 4.0, 9.9, 10.1, 60.0, 5000.0] {
            let (mean, variance, above) = moments(|random| random.poisson(expected));
            close(mean / expected, 1.0, 0.02 + 0.02 / expected.sqrt());
            close(variance / expected, 1.0, 0.04 + 0.02 / expected.sqrt());
            let none_or_one = libm::exp(-expected) * (1.0 + expected);
            close(above, 1.0 - none_or_one, 0.006);
        }
        assert_eq!(Random::new(1, 0).poisson(0.0), 0.0);
    }

    #[test]
    fn ranges_are_kept_and_filled() {
        let mut random = Random::new(3, 0);
        let mut seen = [0; 4];
        let mut logarithmic = 0;
        for _ in 0..4000 {
            seen[random.whole(2, 6) - 2] += 1;
            let value = random.log_uniform(1.0, 10_000.0);
            assert!((1.0..10_000.0).contains(&value));
            logarithmic += usize::from(value < 100.0);
            assert!((-2.0..3.0).contains(&random.uniform(-2.0, 3.0)));
        }
        assert!(seen.iter().all(|count| (900..1100).contains(count)), "{seen:?}");
        assert!((1880..2120).contains(&logarithmic), "{logarithmic}");
        assert_eq!(random.whole(5, 5), 5);
    }
}
