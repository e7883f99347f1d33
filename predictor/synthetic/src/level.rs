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
