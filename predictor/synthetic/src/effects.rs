//! What happens to a metric on its way into a database: bursts, outages, restarts, rounding, ceilings, averaging. Values in,
//! the same number of values out.

use crate::grid::Grid;
use crate::moments::{quantile, scale};
use crate::random::Random;
use crate::regimes::regimes;

/// Seconds over which a rate is commonly taken.
const RATE_WINDOWS: [f64; 4] = [60.0, 120.0, 300.0, 600.0];

/// Applies each effect to the share of series that has it, in the order in which it happens to a metric.
pub(crate) fn apply(random: &mut Random, grid: &Grid, values: &mut [f64]) {
    // Of the untouched metric: bursts and rounding are measured by it.
    let size = scale(values);
    if random.chance(0.4) {
        bursts(random, grid, size, values);
    }
    if random.chance(0.08) {
        outages(random, grid, values);
    }
    if random.chance(0.1) {
        sparse(random, values);
    }
    if random.chance(0.04) {
        restarts(random, grid, values);
    }
    if random.chance(0.15) {
        rounded(random, size, values);
    }
    if random.chance(0.06) {
        held(random, values);
    }
    if random.chance(0.06) {
        ceiling(random, values);
    }
    if random.chance(0.2) {
        rate_window(random, grid, values);
    }
    if random.chance(0.1) {
        mirrored(values);
    }
}

/// Adds bursts: rare, of random length and height, now and then on a clock, mostly upwards.
fn bursts(random: &mut Random, grid: &Grid, size: f64, values: &mut [f64]) {
    let heights = burst_heights(random, grid);
    let direction = if random.chance(0.85) { 1.0 } else { -0.2 };
    values.iter_mut().zip(heights).for_each(|(value, height)| *value += direction * size * height);
}

/// Returns the height at each point, in sizes of the series; 0 outside bursts. Where two overlap, the higher counts.
fn burst_heights(random: &mut Random, grid: &Grid) -> Vec<f64> {
    let mean_points = grid.points(random.log_uniform((grid.step as f64).clamp(60.0, 7000.0), 7200.0));
    let typical = random.uniform(0.3, 6.0);
    let starts: Vec<usize> = if random.chance(0.65) {
        let probability = 1.0 / grid.points(random.log_uniform(1800.0, 2.0 * 86_400.0));
        (0..grid.len()).filter(|_| random.chance(probability)).collect()
    } else {
        let every = (grid.points(random.log_uniform(900.0, 43_200.0)) as usize).max(2);
        let first = random.whole(1, grid.len() / 8);
        (first..grid.len()).step_by(every).collect()
    };
    let mut heights = vec![0.0_f64; grid.len()];
    for start in starts {
        let points = ((random.exponential() * mean_points) as usize).clamp(1, grid.len() - start);
        let index = random.uniform(2.0, 6.0);
        let height = typical * (0.3 + random.pareto(index));
        heights[start..start + points].iter_mut().for_each(|highest| *highest = highest.max(height));
    }
    heights
}

/// Holds a share of the first value (none, a tenth, all) during some regimes: switched off and on.
fn outages(random: &mut Random, grid: &Grid, values: &mut [f64]) {
    let hours = random.uniform(0.2, 12.0);
    let states = regimes(random, grid, hours);
    let threshold = 0.5 * random.normal();
    let idle = values.first().copied().unwrap_or(0.0) * random.pick([0.0, 0.1, 1.0]);
    for (value, state) in values.iter_mut().zip(states) {
        if state <= threshold {
            *value = idle;
        }
    }
}

/// Leaves a few values in a hundred and sets the rest to 0: rare errors.
fn sparse(random: &mut Random, values: &mut [f64]) {
    let share = libm::exp(random.uniform(-6.0, -1.5));
    for value in values {
        if !random.chance(share) {
            *value = 0.0;
        }
    }
}

/// Dips to a fraction for a point or a few minutes, hours to days apart: a process that starts anew, a counter that begins
/// at 0 again.
fn restarts(random: &mut Random, grid: &Grid, values: &mut [f64]) {
    let probability = 1.0 / grid.points(random.log_uniform(6.0 * 3600.0, 4.0 * 86_400.0));
    let mean_points = grid.points(random.log_uniform(15.0, 300.0));
    let left = 0.3 * random.unit();
    let mut remaining = 0;
    for value in values {
        if remaining == 0 && random.chance(probability) {
            remaining = 1 + (random.exponential() * mean_points) as usize;
        }
        if remaining > 0 {
            remaining -= 1;
            *value *= left;
        }
    }
}

/// Rounds to multiples of 1/150 of the size or up to the whole of it: coarse units.
fn rounded(random: &mut Random, size: f64, values: &mut [f64]) {
    let unit = size * libm::exp(random.uniform(-5.0, 0.0));
    values.iter_mut().for_each(|value| *value = (*value / unit).round() * unit);
}

/// Repeats every so-manieth value until the next: sampled faster than it is updated.
fn held(random: &mut Random, values: &mut [f64]) {
    let points = random.whole(2, 20);
    for hold in values.chunks_mut(points) {
        let value = hold[0];
        hold.fill(value);
    }
}

/// Cuts off what exceeds the 60th to 98th percentile: a limit that is reached.
fn ceiling(random: &mut Random, values: &mut [f64]) {
    let share = random.uniform(0.6, 0.98);
    if let Some(limit) = quantile(values, share) {
        values.iter_mut().for_each(|value| *value = value.min(limit));
    }
}

/// Averages over the last one to ten minutes, as `rate()` does.
fn rate_window(random: &mut Random, grid: &Grid, values: &mut [f64]) {
    let window = grid.points(random.pick(RATE_WINDOWS)) as usize;
    values.copy_from_slice(&moving_mean(values, window.max(1)));
}

/// Turns the series upside down, with its highest value at 0: what is left instead of what is used.
fn mirrored(values: &mut [f64]) {
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|value| *value = highest - *value);
}

/// Returns at each point the mean of the last `window` values, of fewer at the beginning.
pub(crate) fn moving_mean(values: &[f64], window: usize) -> Vec<f64> {
    // Sums of whole blocks instead of a running one, which would keep a rounding error of each value that has left.
    (0..values.len()).map(|end| crate::moments::mean(&values[(end + 1).saturating_sub(window)..=end])).collect()
}
