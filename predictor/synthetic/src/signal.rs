//! What drives a metric: a sum of seasons, drifts, regimes and noise, around 0 and of about unit size. [`crate::level`]
//! makes a metric of it.

use crate::grid::{Grid, fraction};
use crate::noise::noise;
use crate::random::Random;
use crate::regimes::regimes;
use crate::shape::shape;

/// How often a day the short periods repeat: hourly, every two hours and so on, down to every ten minutes.
const PER_DAY: [f64; 10] = [24.0, 12.0, 8.0, 6.0, 4.0, 3.0, 2.0, 48.0, 96.0, 144.0];
/// Of noise whose size varies: the size stays within a factor of e³ of its mean, or a heavy tail raised to an exponent would
/// leave one value to see and nothing else.
const LARGEST_EXPONENT: f64 = 3.0;

/// Returns the sum of the components, each of which a series has or has not.
pub(crate) fn signal(random: &mut Random, grid: &Grid) -> Vec<f64> {
    const COMPONENTS: [(f64, fn(&mut Random, &Grid) -> Vec<f64>); 8] = [
        (0.6, daily),
        (0.35, short_period),
        (0.15, free_period),
        (0.25, trend),
        (0.2, walk),
        (0.12, leak),
        (0.35, levels),
        (0.9, scatter),
    ];
    let mut sum = vec![0.0; grid.len()];
    for (probability, component) in COMPONENTS {
        if random.chance(probability) {
            for (total, value) in sum.iter_mut().zip(component(random, grid)) {
                *total += value;
            }
        }
    }
    sum
}

/// A shape of the day; at times another size or lateness each day, at times other weekends.
fn daily(random: &mut Random, grid: &Grid) -> Vec<f64> {
    let sizes = day_sizes(random, grid);
    let mut phases = grid.phases(1.0);
    if random.chance(0.3) {
        let lateness = 0.02 * random.unit();
        let late = grid.by_day(|| lateness * random.normal());
        phases.iter_mut().zip(late).for_each(|(phase, late)| *phase = fraction(*phase + late));
    }
    let mut values = shape(random, &phases);
    values.iter_mut().zip(sizes).for_each(|(value, size)| *value *= size);
    if random.chance(0.4) {
        weekends(random, grid, &mut values);
    }
    let amplitude = random.uniform(0.1, 1.5);
    values.iter_mut().for_each(|value| *value *= amplitude);
    values
}

/// How large the shape is on each day, about 1: either it drifts from day to day, or each day is drawn for itself.
fn day_sizes(random: &mut Random, grid: &Grid) -> Vec<f64> {
    if random.chance(0.3) {
        let (spread, mut drift) = (0.15 * random.unit(), 0.0);
        grid.by_day(|| {
            drift += random.normal();
            libm::exp(spread * drift)
        })
    } else {
        let unit = random.unit();
        let spread = 0.6 * unit * unit;
        grid.by_day(|| libm::exp(spread * random.normal()))
    }
}

/// Lets a share of the weekday's shape remain on two days of seven: of its swing about its mean, or of what rises above its
/// trough, which lowers the level too, as a load that falls at weekends does.
fn weekends(random: &mut Random, grid: &Grid, values: &mut [f64]) {
    let share = random.uniform(0.1, 0.9);
    let centre = if random.chance(0.5) { 0.0 } else { values.iter().copied().fold(f64::INFINITY, f64::min) };
    for (value, free) in values.iter_mut().zip(grid.weekend()) {
        if free {
            *value = centre + (*value - centre) * share;
        }
    }
}

/// A shape that repeats a whole number of times a day, as cron jobs do; at times of another size each day.
fn short_period(random: &mut Random, grid: &Grid) -> Vec<f64> {
    let (amplitude, per_day) = (random.uniform(0.1, 1.0), random.pick(PER_DAY));
    let mut values = shape(random, &grid.phases(per_day));
    if random.chance(0.3) {
        let sizes = grid.by_day(|| random.normal().abs());
        values.iter_mut().zip(sizes).for_each(|(value, size)| *value *= size);
    }
    values.iter_mut().for_each(|value| *value *= amplitude);
    values
}

/// A shape whose period, a quarter of an hour to half a day, has nothing to do with the calendar: garbage collection,
/// compaction.
fn free_period(random: &mut Random, grid: &Grid) -> Vec<f64> {
    let (amplitude, days) = (random.uniform(0.1, 1.0), random.log_uniform(0.01, 0.6));
    let mut values = shape(random, &grid.phases(1.0 / days));
    values.iter_mut().for_each(|value| *value *= amplitude);
    values
}

/// A straight line from 0, up or down.
fn trend(random: &mut Random, grid: &Grid) -> Vec<f64> {
    let end = random.normal() * random.uniform(0.3, 3.0);
    let last = grid.len().saturating_sub(1).max(1) as f64;
    (0..grid.len()).map(|point| end * point as f64 / last).collect()
}

/// A random walk with heavy-tailed steps: what depends on many events and forgets none, such as a queue or a disk.
fn walk(random: &mut Random, grid: &Grid) -> Vec<f64> {
    let stride = random.uniform(0.2, 2.5) / (grid.len() as f64).sqrt();
    let mut place = 0.0;
    (0..grid.len())
        .map(|_| {
            place += stride * random.student(3.0);
            place
        })
        .collect()
}

/// Rises at a nearly even pace and falls at once: memory that leaks until the restart, a log until it is rotated.
fn leak(random: &mut Random, grid: &Grid) -> Vec<f64> {
    let (per_day, height) = (random.log_uniform(0.05, 3.0), random.uniform(0.3, 2.0));
    let (stride, mut ahead) = (0.1 / (grid.len() as f64).sqrt(), 0.0);
    grid.days
        .iter()
        .map(|day| {
            ahead += stride * random.normal();
            height * fraction(day * per_day + ahead)
        })
        .collect()
}

/// Levels that hold for half an hour to days: deployments, fail-overs, batch runs.
fn levels(random: &mut Random, grid: &Grid) -> Vec<f64> {
    let (height, mean_hours) = (random.uniform(0.2, 2.0), random.log_uniform(0.5, 96.0));
    let mut values = regimes(random, grid, mean_hours);
    values.iter_mut().for_each(|value| *value *= height);
    values
}

/// Noise, at times of a size that itself is noise or changes with a regime.
fn scatter(random: &mut Random, grid: &Grid) -> Vec<f64> {
    let size = random.log_uniform(0.02, 1.5);
    let mut values = noise(random, grid);
    if random.chance(0.3) {
        let spread = 0.9 * random.unit();
        for (value, exponent) in values.iter_mut().zip(noise(random, grid)) {
            *value *= libm::exp((spread * exponent).clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT));
        }
    }
    if random.chance(0.2) {
        for (value, level) in values.iter_mut().zip(regimes(random, grid, 6.0)) {
            *value *= 0.3 + level.abs();
        }
    }
    values.iter_mut().for_each(|value| *value *= size);
    values
}
