//! A signal in; values of a metric out: which are never below 0, or counts, or shares of a hundred, at any size.

use crate::random::Random;
use crate::shape::logistic;

/// Logarithm of the unit: from 0.05 to 3000.
const LOG_UNIT: (f64, f64) = (-3.0, 8.0);
/// Mean counts of the least and the most busy counter.
const COUNTS: (f64, f64) = (0.02, 200.0);
const LARGEST_COUNT: f64 = 1e6;

/// How a signal becomes a metric.
#[derive(Debug, Clone, Copy)]
enum Link {
    /// A base plus the signal, mostly cut at 0.
    Additive,
    /// The exponential of the signal: what is skewed, such as latencies.
    Exponential,
    /// Counts of independent events at the rate of the signal.
    Counts,
    /// A share of a full hundred.
    Share,
    /// The signal where it exceeds a threshold and 0 otherwise: idle most of the time, or always.
    Excess,
}

/// Returns the metric that the signal drives.
pub(crate) fn level(random: &mut Random, signal: &[f64]) -> Vec<f64> {
    let link = match random.whole(0, 10) {
        0..5 => Link::Additive,
        5 | 6 => Link::Exponential,
        7 => Link::Counts,
        8 => Link::Share,
        _ => Link::Excess,
    };
    let mut values = linked(random, link, signal);
    if !matches!(link, Link::Counts) {
        let unit = libm::exp(random.uniform(LOG_UNIT.0, LOG_UNIT.1));
        values.iter_mut().for_each(|value| *value *= unit);
    }
    values
}

fn linked(random: &mut Random, link: Link, signal: &[f64]) -> Vec<f64> {
    match link {
        Link::Additive => {
            let base = random.uniform(0.5, 6.0);
            let least = if random.chance(0.8) { 0.0 } else { f64::NEG_INFINITY };
            signal.iter().map(|x| (base + x).max(least)).collect()
        }
        Link::Exponential => {
            let slope = random.uniform(0.3, 1.2);
            signal.iter().map(|x| libm::exp((slope * x).clamp(-9.0, 9.0))).collect()
        }
        Link::Counts => {
            let rate = random.log_uniform(COUNTS.0, COUNTS.1);
            let mean = |x: &f64| (rate * libm::exp((0.6 * x).clamp(-5.0, 3.0))).min(LARGEST_COUNT);
            signal.iter().map(|x| random.poisson(mean(x))).collect()
        }
        Link::Share => {
            let (slope, shift) = (random.uniform(0.5, 2.0), 1.5 * random.normal());
            signal.iter().map(|x| 100.0 * logistic((slope * x + shift).clamp(-20.0, 20.0))).collect()
        }
        Link::Excess => {
            if random.chance(0.4) {
                let awake = if random.chance(0.5) { 1.0 } else { 0.0 };
                signal.iter().map(|x| awake * x.max(0.0)).collect()
            } else {
                let threshold = random.uniform(0.0, 2.0);
                signal.iter().map(|x| (x - threshold).max(0.0)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::{deviation, mean};

    /// A sine of this size, many times over.
    fn swing(size: f64) -> Vec<f64> {
        (0..5000).map(|point| size * libm::sin(f64::from(point) * 0.01)).collect()
    }

    fn of_seeds(link: Link, size: f64) -> Vec<Vec<f64>> {
        (0..60).map(|seed| linked(&mut Random::new(seed, 0), link, &swing(size))).collect()
    }

    fn below_zero(values: &[f64]) -> bool {
        values.iter().any(|value| *value < 0.0)
    }

    #[test]
    fn an_added_base_keeps_the_swing_and_is_mostly_cut_at_0() {
        for values in of_seeds(Link::Additive, 0.3) {
            assert!((deviation(&values) - deviation(&swing(0.3))).abs() < 1e-9);
            assert!((0.5..6.0).contains(&mean(&values)));
        }
        // A swing of 8 goes below 0 with any base.
        let negative = of_seeds(Link::Additive, 8.0).iter().filter(|values| below_zero(values)).count();
        assert!((4..24).contains(&negative), "{negative}");
    }

    #[test]
    fn an_exponential_is_skewed_and_above_0() {
        for values in of_seeds(Link::Exponential, 2.0) {
            assert!(values.iter().all(|value| *value > 0.0 && value.is_finite()));
            assert!(mean(&values) > crate::moments::quantile(&values, 0.5).unwrap());
        }
        let bounded = linked(&mut Random::new(1, 0), Link::Exponential, &[1e9, -1e9]);
        assert_eq!(bounded, [libm::exp(9.0), libm::exp(-9.0)]);
    }

    #[test]
    fn counts_are_whole_follow_the_signal_and_vary_as_poisson_numbers_do() {
        let mut ratios = Vec::new();
        for values in of_seeds(Link::Counts, 0.0) {
            assert!(values.iter().all(|value| value.fract() == 0.0 && *value >= 0.0));
            if mean(&values) > 0.5 {
                ratios.push(deviation(&values) * deviation(&values) / mean(&values));
            }
        }
        assert!(ratios.iter().all(|ratio| (0.85..1.15).contains(ratio)), "{ratios:?}");
        let driven = linked(&mut Random::new(2, 0), Link::Counts, &[[-4.0; 4000], [4.0; 4000]].concat());
        assert!(mean(&driven[4000..]) > 10.0 * mean(&driven[..4000]));
    }

    #[test]
    fn a_share_is_within_0_and_100_and_rises_with_the_signal() {
        for values in of_seeds(Link::Share, 3.0) {
            assert!(values.iter().all(|value| (0.0..=100.0).contains(value)));
            assert!(
                values
                    .windows(2)
                    .zip(swing(3.0).windows(2))
                    .all(|(now, driver)| { (now[1] - now[0]) * (driver[1] - driver[0]) >= 0.0 })
            );
        }
        let high = of_seeds(Link::Share, 0.1).iter().filter(|values| mean(values) > 50.0).count();
        assert!((18..42).contains(&high), "{high}");
    }

    #[test]
    fn an_excess_is_0_much_of_the_time_and_always_in_a_few() {
        let idle: Vec<usize> =
            of_seeds(Link::Excess, 2.5).iter().map(|values| values.iter().filter(|v| **v == 0.0).count()).collect();
        assert!(idle.iter().all(|points| *points > 2000), "{idle:?}");
        let always = idle.iter().filter(|points| **points == 5000).count();
        assert!((5..22).contains(&always), "{always}");
        assert!(of_seeds(Link::Excess, 2.5).iter().all(|values| !below_zero(values)));
    }

    #[test]
    fn units_span_orders_of_magnitude_and_all_links_are_used() {
        let all: Vec<Vec<f64>> = (0..400).map(|seed| level(&mut Random::new(seed, 0), &swing(0.5))).collect();
        let count = |condition: &dyn Fn(&Vec<f64>) -> bool| all.iter().filter(|values| condition(values)).count();
        assert!(count(&|values| mean(values) > 1000.0) > 40);
        assert!(count(&|values| mean(values) < 1.0) > 40);
        let whole = count(&|values| mean(values) > 0.0 && values.iter().all(|value| value.fract() == 0.0));
        assert!((20..65).contains(&whole), "{whole}");
    }
}
