//! What repeats: phases in, a random periodic function of them out, of mean 0 and deviation 1.

use std::f64::consts::TAU;

use crate::grid::fraction;
use crate::moments::standardise;
use crate::random::Random;

/// Returns a random function of the phases (0 to 1): a smooth wave, a plateau, peaks or a saw-tooth.
pub(crate) fn shape(random: &mut Random, phases: &[f64]) -> Vec<f64> {
    let mut values = match random.whole(0, 5) {
        0 | 1 => wave(random, phases),
        2 => plateau(random, phases),
        3 => peaks(random, phases),
        _ => saw(random, phases),
    };
    standardise(&mut values);
    values
}

/// A Fourier series of one to eight terms whose amplitudes fall with their number: load of many users.
fn wave(random: &mut Random, phases: &[f64]) -> Vec<f64> {
    let terms: Vec<(f64, f64)> = (1..=random.whole(1, 9))
        .map(|order| {
            let decay = libm::exp(-random.uniform(0.5, 2.0) * libm::log(order as f64));
            let (amplitude, shift) = (random.normal() * decay, TAU * random.unit());
            (amplitude * libm::cos(shift), amplitude * libm::sin(shift))
        })
        .collect();
    phases
        .iter()
        .map(|phase| {
            // Sine and cosine of the multiples follow by addition of angles, which saves most of the time.
            let (sine, cosine) = libm::sincos(TAU * phase);
            let (mut s, mut c) = (0.0, 1.0);
            terms.iter().fold(0.0, |sum, (in_phase, quadrature)| {
                (s, c) = (s * cosine + c * sine, c * cosine - s * sine);
                sum + in_phase * s + quadrature * c
            })
        })
        .collect()
}

/// High between two times of the period, with flanks of random steepness: office hours, a batch.
fn plateau(random: &mut Random, phases: &[f64]) -> Vec<f64> {
    let (rise, length, width) = (random.unit(), plateau_length(random), random.uniform(0.005, 0.08));
    phases
        .iter()
        .map(|phase| {
            // From the middle of the plateau, so that both flanks are whole wherever the period is cut.
            let distance = (fraction(phase - rise - length / 2.0 + 0.5) - 0.5).abs();
            logistic((length / 2.0 - distance) / width)
        })
        .collect()
}

/// Distance of two random times of the period.
fn plateau_length(random: &mut Random) -> f64 {
    (random.unit() - random.unit()).abs()
}

/// One to five bell-shaped peaks: jobs that run at fixed times.
fn peaks(random: &mut Random, phases: &[f64]) -> Vec<f64> {
    let peaks: Vec<(f64, f64, f64)> =
        (0..random.whole(1, 6)).map(|_| (random.unit(), random.exponential(), random.uniform(0.003, 0.15))).collect();
    phases
        .iter()
        .map(|phase| {
            let height = |(middle, height, width): &(f64, f64, f64)| {
                let distance = (fraction(phase - middle + 0.5) - 0.5) / width;
                height * libm::exp(-0.5 * distance * distance)
            };
            peaks.iter().map(height).sum()
        })
        .collect()
}

/// Rises evenly and falls at once, or the other way round: a cache that fills, a queue that is worked off.
fn saw(random: &mut Random, phases: &[f64]) -> Vec<f64> {
    let (shift, rising) = (random.unit(), random.chance(0.5));
    let value = |phase: &f64| if rising { fraction(phase + shift) } else { 1.0 - fraction(phase + shift) };
    phases.iter().map(value).collect()
}

/// Returns 1 / (1 + e^−x).
pub(crate) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x.clamp(-30.0, 30.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::{deviation, mean};

    fn phases() -> Vec<f64> {
        (0..2000).map(|point| f64::from(point) / 1000.0 % 1.0).collect()
    }

    fn of_seeds(draw: fn(&mut Random, &[f64]) -> Vec<f64>) -> impl Iterator<Item = Vec<f64>> {
        (0..50).map(move |seed| draw(&mut Random::new(seed, 0), &phases()))
    }

    /// Jumps between neighbours of the closed period, as a share of the range.
    fn jumps(values: &[f64], share: f64) -> usize {
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        values.windows(2).filter(|pair| (pair[1] - pair[0]).abs() > share * (high - low)).count()
    }

    #[test]
    fn a_shape_is_standard_and_periodic() {
        for values in of_seeds(shape) {
            assert!(mean(&values).abs() < 1e-9);
            assert!((deviation(&values) - 1.0).abs() < 1e-6);
            assert!(values[..1000].iter().zip(&values[1000..]).all(|(first, second)| (first - second).abs() < 1e-9));
        }
    }

    #[test]
    fn a_wave_is_its_fourier_series() {
        for values in of_seeds(wave) {
            // Of eight terms no more: the ninth to the fourteenth coefficient vanish, one of the first does not.
            let power = |order: i32| {
                let (sine, cosine) = values.iter().zip(phases()).fold((0.0, 0.0), |(sine, cosine), (value, phase)| {
                    let angle = TAU * f64::from(order) * phase;
                    (sine + value * angle.sin(), cosine + value * angle.cos())
                });
                (sine * sine + cosine * cosine).sqrt() / 2000.0
            };
            assert!((9..15).all(|order| power(order) < 1e-9));
            assert!((1..9).any(|order| power(order) > 1e-3));
        }
    }

    #[test]
    fn a_plateau_is_smooth_within_0_and_1_and_as_long_as_drawn() {
        for (seed, values) in (0..).zip(of_seeds(plateau)) {
            let mut random = Random::new(seed, 0);
            random.unit();
            let length = plateau_length(&mut random);
            assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
            assert!(values.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.06));
            let above = values.iter().filter(|value| **value > 0.5).count() as f64 / 2000.0;
            assert!((above - length).abs() < 0.003, "{above} of {length}");
        }
    }

    #[test]
    fn peaks_are_never_negative_and_fall_to_little_between_narrow_ones() {
        let all: Vec<Vec<f64>> = of_seeds(peaks).collect();
        assert!(all.iter().flatten().all(|value| *value >= 0.0));
        let peaked = |values: &&Vec<f64>| {
            let highest = values.iter().fold(0.0_f64, |highest, value| highest.max(*value));
            values.iter().filter(|value| **value > highest / 2.0).count() < 600
        };
        assert!(all.iter().filter(peaked).count() > 25);
    }

    #[test]
    fn a_saw_jumps_once_a_period_and_goes_both_ways() {
        let all: Vec<Vec<f64>> = of_seeds(saw).collect();
        assert!(all.iter().all(|values| (1..=2).contains(&jumps(values, 0.9))));
        let rising = all.iter().filter(|values| values[1] > values[0] || values[2] > values[1]).count();
        assert!((10..40).contains(&rising), "{rising}");
    }

    #[test]
    fn every_kind_of_shape_is_drawn() {
        // Saw-teeth are the only ones with a jump of nearly their whole range.
        let teeth = of_seeds(shape).filter(|values| jumps(values, 0.9) > 0).count();
        assert!((3..20).contains(&teeth), "{teeth}");
        assert_eq!(logistic(0.0), 0.5);
        assert!((logistic(2.0) + logistic(-2.0) - 1.0).abs() < 1e-12);
    }
}
