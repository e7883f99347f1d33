//! A seed in; a random series that looks like an infrastructure metric out. Forecasters are trained on such series alone: there
//! are as many as wanted, nobody owns them, and no test series is among them.
//!
//! A series is built in the order in which a real one comes about: a signal of seasons, drifts, regimes and noise (`signal`)
//! drives a metric (`level`), things happen to it (`effects`), and some of it is not collected (`gaps`). What a series has of
//! all that, and how much, is drawn.
//!
//! The values of a seed are the same bits on every platform, in debug and in release: the random bits are ChaCha8's,
//! logarithms and exponentials are `libm`'s, and everything else is IEEE 754 arithmetic in a fixed order. [`VERSION`] says
//! when they change.

mod effects;
mod gaps;
mod grid;
mod level;
mod moments;
mod noise;
mod random;
mod regimes;
mod shape;
mod signal;

use grid::Grid;
use random::Random;

/// Version of the generator: another one gives other series for the same seeds.
pub const VERSION: u32 = 1;

/// Step in seconds, length in days and probability of the series that [`series`] returns. The probabilities are those of
/// the steps that dashboards and scrape configurations use; the lengths hold at least two days of a fine step, and two
/// weekends of a coarse one.
const STEPS: [(i64, u32, f64); 5] = [(15, 3, 0.08), (30, 5, 0.14), (60, 9, 0.33), (120, 10, 0.08), (300, 15, 0.37)];
const DAY_SECONDS: i64 = 86_400;
/// Shares of series with holes in them.
const WITH_GAPS: f64 = 0.1;
/// Streams of a seed: the choice of the step is apart, so that [`series_of`] gives the same values where it has the choice.
const STEP_STREAM: u64 = 1;
const VALUE_STREAM: u64 = 0;

/// A series: a value for each point of a regular grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// Unix time of the first value in seconds, a multiple of the step. Seasons follow the absolute clock.
    pub start_seconds: i64,
    /// Seconds from one value to the next.
    pub step_seconds: i64,
    /// The values, finite; NaN where one is missing, which at least half are not.
    pub values: Vec<f64>,
}

/// Returns the series of a seed: 3 to 15 days at a step of 15, 30, 60, 120 or 300 seconds, which is drawn too.
pub fn series(seed: u64) -> Synthetic {
    let mut draw = Random::new(seed, STEP_STREAM).unit();
    let [mut chosen, ..] = STEPS;
    for step in STEPS {
        chosen = step;
        draw -= step.2;
        if draw < 0.0 {
            break;
        }
    }
    series_of(seed, chosen.0, chosen.1)
}

/// Returns the series of a seed at this step (at least 1 second) over this many days (at least 1). Another step or length is
/// another series, not another sampling of the same one.
pub fn series_of(seed: u64, step_seconds: i64, days: u32) -> Synthetic {
    let step = step_seconds.max(1);
    let length = (i64::from(days.max(1)) * DAY_SECONDS / step).max(1) as usize;
    let mut random = Random::new(seed, VALUE_STREAM);
    let grid = Grid::new(&mut random, step, length);
    let signal = signal::signal(&mut random, &grid);
    let mut values = level::level(&mut random, &signal);
    effects::apply(&mut random, &grid, &mut values);
    if random.chance(WITH_GAPS) {
        gaps::gaps(&mut random, &grid, &mut values);
    }
    Synthetic { start_seconds: grid.start, step_seconds: step, values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// FNV-1a of the bits; a missing value counts as one that no series has.
    fn checksum(values: &[f64]) -> u64 {
        let bits = |value: &f64| if value.is_nan() { u64::MAX } else { value.to_bits() };
        values
            .iter()
            .flat_map(|value| bits(value).to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    #[test]
    fn the_series_of_a_version_never_change() {
        // Whoever changes these gives VERSION another number.
        assert_eq!(VERSION, 1);
        for (seed, start, step, sum) in [
            (0, 1_683_481_500, 300, 2_255_845_209_278_988_091),
            (1, 1_625_992_350, 30, 3_286_137_184_541_231_909),
            (2, 1_701_092_640, 60, 8_932_028_235_728_264_887),
            (8, 1_615_922_880, 60, 16_535_298_692_118_162_501),
            (13, 1_579_155_300, 15, 6_346_196_863_158_411_618),
            (u64::MAX, 1_666_743_780, 60, 3_723_497_128_574_752_455),
        ] {
            let Synthetic { start_seconds, step_seconds, values } = series(seed);
            assert_eq!((start_seconds, step_seconds, checksum(&values)), (start, step, sum), "seed {seed}");
        }
        // And of many at once, so that every effect has a part in it.
        let all = (100..400).fold(0, |sum: u64, seed| sum.rotate_left(1) ^ checksum(&series_of(seed, 60, 2).values));
        assert_eq!(all, 3_038_442_422_662_596_454);
    }

    #[test]
    fn steps_are_drawn_as_often_as_wanted_and_lengths_belong_to_them() {
        let mut counts = [0.0; 5];
        for seed in 0..600 {
            let Synthetic { step_seconds, values, .. } = series(seed);
            let index = STEPS.iter().position(|step| step.0 == step_seconds).unwrap();
            assert_eq!(values.len() as i64, i64::from(STEPS[index].1) * 86_400 / step_seconds);
            counts[index] += 1.0 / 600.0;
        }
        for (count, step) in counts.iter().zip(STEPS) {
            assert!((count - step.2).abs() < 0.06, "{counts:?}");
        }
        assert!((STEPS.iter().map(|step| step.2).sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_default_is_one_of_the_choices_and_another_seed_is_another_series() {
        let Synthetic { step_seconds, values, start_seconds } = series(11);
        let days = STEPS.iter().find(|step| step.0 == step_seconds).unwrap().1;
        let chosen = series_of(11, step_seconds, days);
        assert_eq!((checksum(&values), start_seconds), (checksum(&chosen.values), chosen.start_seconds));
        assert_ne!(checksum(&values), checksum(&series_of(12, step_seconds, days).values));
    }

    #[test]
    fn a_tenth_has_gaps_and_few_are_constant() {
        let all: Vec<Vec<f64>> = (0..500).map(|seed| series_of(seed, 300, 3).values).collect();
        let holed = all.iter().filter(|values| values.iter().any(|value| value.is_nan())).count();
        assert!((30..70).contains(&holed), "{holed}");
        let constant = |values: &&Vec<f64>| {
            let mut known = values.iter().filter(|value| value.is_finite());
            let first = known.next();
            known.all(|value| Some(value) == first)
        };
        let idle = all.iter().filter(constant).count();
        assert!((5..50).contains(&idle), "{idle}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_seed_gives_the_length_and_values_that_are_finite_or_missing(
            seed: u64,
            step in prop_oneof![Just(1_i64 << 40), Just(0), 15_i64..7200],
            days in 0_u32..4,
        ) {
            let Synthetic { start_seconds, step_seconds, values } = series_of(seed, step, days);
            prop_assert_eq!(step_seconds, step.max(1));
            prop_assert_eq!(start_seconds % step_seconds, 0);
            prop_assert_eq!(values.len() as i64, (i64::from(days.max(1)) * 86_400 / step_seconds).max(1));
            prop_assert!(values.iter().all(|value| value.is_finite() || value.is_nan()));
            prop_assert!(2 * values.iter().filter(|value| value.is_nan()).count() <= values.len());
        }
    }
}
