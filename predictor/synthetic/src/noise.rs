//! What does not repeat: unit-variance noise of a random tail and a random colour.

use crate::grid::Grid;
use crate::moments::standardise;
use crate::random::Random;

/// Time constants of an autoregressive colour, in seconds.
const CONSTANTS: (f64, f64) = (30.0, 6.0 * 3600.0);
/// Time constants of each process in a sum of several.
const SUMMED_CONSTANTS: (f64, f64) = (60.0, 86_400.0);
/// Longest averaging window, in seconds.
const LONGEST_WINDOW: f64 = 3600.0;

/// How independent draws are distributed.
#[derive(Debug, Clone, Copy)]
enum Tail {
    Normal,
    /// Of few degrees of freedom: values far out, on both sides.
    Student(f64),
    Laplace,
    /// Of this shape: values far out on one side, as of durations.
    Gamma(f64),
}

impl Tail {
    fn random(random: &mut Random) -> Self {
        match random.whole(0, 5) {
            0 | 1 => Self::Normal,
            2 => Self::Student(random.uniform(2.2, 5.0)),
            3 => Self::Laplace,
            _ => Self::Gamma(random.uniform(0.3, 3.0)),
        }
    }

    /// Returns `length` independent draws of mean 0 and variance 1.
    fn draw(self, random: &mut Random, length: usize) -> Vec<f64> {
        let mut one = || match self {
            Self::Normal => random.normal(),
            Self::Student(freedom) => random.student(freedom),
            Self::Laplace => random.laplace(),
            Self::Gamma(shape) => random.gamma(shape),
        };
        let mut draws: Vec<f64> = (0..length).map(|_| one()).collect();
        standardise(&mut draws);
        draws
    }
}

/// Returns noise of mean 0 and variance 1 over the whole series: white, autoregressive with or without white noise on top,
/// averaged over a window (as `rate()` and `avg_over_time()` leave it), or a sum of processes that are quick and slow.
pub(crate) fn noise(random: &mut Random, grid: &Grid) -> Vec<f64> {
    let tail = Tail::random(random);
    let length = grid.len();
    let mut values = match random.whole(0, 6) {
        0 => tail.draw(random, length),
        1 | 2 => autoregressive(random, grid, tail, CONSTANTS),
        3 => {
            let mut values = autoregressive(random, grid, tail, CONSTANTS);
            let share = random.uniform(0.1, 1.5);
            for (value, white) in values.iter_mut().zip(tail.draw(random, length)) {
                *value += share * white;
            }
            values
        }
        4 => windowed(random, grid, tail),
        _ => {
            let mut sum = vec![0.0; length];
            for _ in 0..random.whole(2, 4) {
                let weight = random.exponential();
                for (total, value) in sum.iter_mut().zip(autoregressive(random, grid, tail, SUMMED_CONSTANTS)) {
                    *total += weight * value;
                }
            }
            sum
        }
    };
    standardise(&mut values);
    values
}

/// An autoregression of order 1 (a sampled Ornstein-Uhlenbeck process) with a time constant drawn from the range, in
/// seconds, log-uniformly. Its variance is 1 from the first point on in expectation.
fn autoregressive(random: &mut Random, grid: &Grid, tail: Tail, constants: (f64, f64)) -> Vec<f64> {
    let kept = libm::exp(-(grid.step as f64) / random.log_uniform(constants.0, constants.1));
    let fresh = (1.0 - kept * kept).sqrt();
    let mut state = random.normal();
    let mut values = tail.draw(random, grid.len());
    for value in &mut values {
        state = kept * state + fresh * *value;
        *value = state;
    }
    values
}

/// White noise averaged over a window of up to an hour.
fn windowed(random: &mut Random, grid: &Grid, tail: Tail) -> Vec<f64> {
    let window = (grid.points(random.log_uniform(1.0, LONGEST_WINDOW)) as usize).max(1);
    let white = tail.draw(random, grid.len() + window - 1);
    let mut values = crate::effects::moving_mean(&white, window);
    // The first window is whole only from here on.
    values.drain(..window - 1);
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::tests::fortnight;
    use crate::moments::{deviation, mean};

    fn correlation(values: &[f64], lag: usize) -> f64 {
        let sum: f64 = values.iter().zip(&values[lag..]).map(|(early, late)| early * late).sum();
        sum / values.iter().map(|value| value * value).sum::<f64>()
    }

    #[test]
    fn it_has_unit_variance_whatever_the_colour() {
        for seed in 0..60 {
            let values = noise(&mut Random::new(seed, 0), &fortnight(1));
            assert_eq!(values.len(), 14 * 1440);
            assert!(mean(&values).abs() < 1e-9);
            assert!((deviation(&values) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn colours_reach_from_white_to_slow() {
        let memories: Vec<f64> =
            (0..120).map(|seed| correlation(&noise(&mut Random::new(seed, 0), &fortnight(1)), 5)).collect();
        let share = |low: f64, high: f64| memories.iter().filter(|memory| (low..high).contains(*memory)).count();
        assert!(share(-0.1, 0.1) > 20, "{memories:?}");
        assert!(share(0.1, 0.8) > 15, "{memories:?}");
        assert!(share(0.8, 1.1) > 25, "{memories:?}");
    }

    #[test]
    fn an_autoregression_forgets_with_its_time_constant() {
        for seed in 0..20 {
            let values = autoregressive(&mut Random::new(seed, 0), &fortnight(1), Tail::Normal, (600.0, 600.0));
            // A time constant of ten points.
            assert!((correlation(&values, 10) - libm::exp(-1.0)).abs() < 0.08);
            assert!((0.9..1.1).contains(&deviation(&values)));
        }
    }

    #[test]
    fn an_autoregression_does_not_begin_at_its_mean() {
        let grid = fortnight(1);
        let first = |seed| autoregressive(&mut Random::new(seed, 0), &grid, Tail::Normal, (86_400.0, 86_400.0))[0];
        let firsts: Vec<f64> = (0..200).map(first).collect();
        assert!((0.85..1.15).contains(&deviation(&firsts)), "{}", deviation(&firsts));
    }

    #[test]
    fn a_window_smooths_and_leaves_no_edge() {
        let grid = fortnight(1);
        let starts: Vec<f64> = (0..200)
            .map(|seed| {
                let values = windowed(&mut Random::new(seed, 0), &grid, Tail::Normal);
                assert_eq!(values.len(), grid.len());
                values[0] / deviation(&values)
            })
            .collect();
        assert!((0.85..1.15).contains(&deviation(&starts)), "{}", deviation(&starts));
        let smooth = |seed| correlation(&windowed(&mut Random::new(seed, 0), &grid, Tail::Normal), 1) > 0.4;
        assert!((0..100).filter(|seed| smooth(*seed)).count() > 25);
    }

    #[test]
    fn tails_differ() {
        let mut random = Random::new(5, 0);
        let mut far = |tail: Tail| tail.draw(&mut random, 50_000).iter().filter(|value| value.abs() > 5.0).count();
        assert!(far(Tail::Normal) <= 1);
        assert!((20..120).contains(&far(Tail::Laplace)));
        assert!(far(Tail::Student(3.0)) > 40);
        assert!(far(Tail::Gamma(0.3)) > 100);
        let gamma = Tail::Gamma(1.0).draw(&mut random, 50_000);
        assert!(gamma.iter().all(|value| *value > -1.1));
    }
}
