//! What happens to a metric on its way into a database: bursts, outages, restarts, rounding, ceilings, averaging. Values in,
//! the same number of values out.

use crate::grid::Grid;
use crate::moments::{quantile, scale};
use crate::random::Random;
use crate::regimes::regimes;

/// Seconds over which a rate is commonly taken.
const RATE_WINDOWS: [f64; 4] = [60.0, 120.0, 300.0, 600.0];

/// Downward bursts are of this share of the height of upward ones.
const DIP: f64 = 0.2;

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
    if random.chance(0.85) {
        values.iter_mut().zip(heights).for_each(|(value, height)| *value += size * height);
    } else {
        // What is never negative stays so.
        let least = values.iter().copied().fold(0.0, f64::min);
        for (value, height) in values.iter_mut().zip(heights) {
            *value = (*value - DIP * size * height).max(least);
        }
    }
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

/// Returns at each point the mean of the last `window` values (at least 1), of fewer at the beginning.
pub(crate) fn moving_mean(values: &[f64], window: usize) -> Vec<f64> {
    // Each window ends in one block of its length and begins in the one before: two partial sums. A running sum would keep
    // the rounding error of every value that has left.
    let window = window.max(1);
    let mut until_block_end = vec![0.0; values.len()];
    for (sums, block) in until_block_end.chunks_mut(window).zip(values.chunks(window)) {
        let mut sum = 0.0;
        for (total, value) in sums.iter_mut().zip(block).rev() {
            sum += value;
            *total = sum;
        }
    }
    let (mut since_block_start, mut equal) = (0.0, 0);
    (0..values.len())
        .map(|end| {
            // What is constant stays so, to the last bit: a forecaster would measure its errors by the rounding.
            equal = if end > 0 && values[end] == values[end - 1] { equal + 1 } else { 1 };
            if end % window == 0 {
                since_block_start = 0.0;
            }
            since_block_start += values[end];
            // Where the window is one whole block, nothing of the one before belongs to it.
            let before = if end >= window && (end + 1) % window != 0 { until_block_end[end + 1 - window] } else { 0.0 };
            let points = window.min(end + 1);
            if equal >= points { values[end] } else { (before + since_block_start) / points as f64 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::tests::fortnight;
    use crate::moments::mean;

    const SEEDS: u64 = 60;

    /// Positive values without a repetition.
    fn rough() -> Vec<f64> {
        let mut random = Random::new(99, 0);
        (0..fortnight(1).len()).map(|_| 1.0 + random.exponential()).collect()
    }

    fn of_seeds(effect: impl Fn(&mut Random, &mut [f64])) -> Vec<Vec<f64>> {
        let apply = |seed| {
            let mut values = rough();
            effect(&mut Random::new(seed, 0), &mut values);
            values
        };
        (0..SEEDS).map(apply).collect()
    }

    /// Share of the points that the effect has changed.
    fn changed(values: &[f64]) -> f64 {
        let pairs = values.iter().zip(rough());
        pairs.filter(|(after, before)| **after != *before).count() as f64 / values.len() as f64
    }

    #[test]
    fn bursts_are_rare_and_mostly_positive() {
        let all = of_seeds(|random, values| bursts(random, &fortnight(1), 10.0, values));
        let shares: Vec<f64> = all.iter().map(|values| changed(values)).collect();
        assert!(shares.iter().filter(|share| **share > 0.0 && **share < 0.25).count() > 40, "{shares:?}");
        let upward = all.iter().filter(|values| mean(values) > mean(&rough())).count();
        assert!((42..60).contains(&upward), "{upward}");
        for values in &all {
            let differences: Vec<f64> = values.iter().zip(rough()).map(|(after, before)| after - before).collect();
            assert!(differences.iter().all(|d| *d >= 0.0) || differences.iter().all(|d| *d <= 0.0));
            assert!(values.iter().all(|value| *value >= 0.0));
        }
    }

    #[test]
    fn some_bursts_keep_a_clock() {
        let regular = |seed: &u64| {
            let heights = burst_heights(&mut Random::new(*seed, 0), &fortnight(1));
            let edge = |pair: (usize, &[f64])| (pair.1[0] == 0.0 && pair.1[1] > 0.0).then_some(pair.0);
            let starts: Vec<usize> = heights.windows(2).enumerate().filter_map(edge).collect();
            // A burst may run into the next, which leaves whole multiples of the distance.
            let distances: Vec<usize> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let Some(least) = distances.iter().min() else { return false };
            distances.len() > 5 && distances.iter().all(|distance| distance % least == 0)
        };
        let count = (0..SEEDS).filter(regular).count();
        assert!((8..35).contains(&count), "{count}");
    }

    #[test]
    fn outages_hold_one_value_in_runs() {
        for values in of_seeds(|random, values| outages(random, &fortnight(1), values)) {
            let idle: Vec<f64> = values
                .iter()
                .zip(rough())
                .filter(|(after, before)| **after != *before)
                .map(|(after, _)| *after)
                .collect();
            assert!(idle.windows(2).all(|pair| pair[0] == pair[1]));
            let first = rough()[0];
            assert!(idle.first().is_none_or(|value| [0.0, 0.1 * first, first].contains(value)));
            let held: Vec<bool> = values.iter().zip(rough()).map(|(after, before)| *after != before).collect();
            assert!(held.chunk_by(|left, right| left == right).count() < 14 * 24 * 6);
        }
        let all = of_seeds(|random, values| outages(random, &fortnight(1), values));
        assert!(all.iter().filter(|values| (0.1..0.9).contains(&changed(values))).count() > 40);
    }

    #[test]
    fn sparse_leaves_few_values_as_they_were() {
        for values in of_seeds(sparse) {
            let left = values.iter().filter(|value| **value != 0.0).count() as f64 / values.len() as f64;
            assert!((0.001..0.25).contains(&left), "{left}");
            assert!(values.iter().zip(rough()).all(|(after, before)| *after == 0.0 || *after == before));
        }
    }

    #[test]
    fn restarts_are_short_deep_dips() {
        for values in of_seeds(|random, values| restarts(random, &fortnight(1), values)) {
            assert!(changed(&values) < 0.03, "{}", changed(&values));
            let dip = |(after, before): (&f64, f64)| (*after != before).then_some(after / before);
            assert!(values.iter().zip(rough()).filter_map(dip).all(|left| (0.0..0.3).contains(&left)));
        }
        let all = of_seeds(|random, values| restarts(random, &fortnight(1), values));
        assert!(all.iter().filter(|values| changed(values) > 0.0).count() > 50);
    }

    #[test]
    fn rounding_leaves_few_different_values() {
        for values in of_seeds(|random, values| rounded(random, 1.0, values)) {
            let mut different = values.clone();
            different.sort_by(f64::total_cmp);
            different.dedup();
            // Of a range of about 11 sizes in units of at least 1/150.
            assert!(different.len() < 2000, "{}", different.len());
            assert!(values.iter().zip(rough()).all(|(after, before)| (after - before).abs() <= 0.5 + 1e-9));
        }
    }

    #[test]
    fn held_values_stay_for_the_same_number_of_points() {
        for values in of_seeds(held) {
            let changes: Vec<usize> = (1..values.len()).filter(|point| values[*point] != values[*point - 1]).collect();
            let points = changes[0];
            assert!((2..20).contains(&points));
            assert!(changes.iter().zip(1..).all(|(change, number)| *change == number * points));
        }
    }

    #[test]
    fn a_ceiling_is_reached_often_and_never_passed() {
        for values in of_seeds(ceiling) {
            let highest = values.iter().copied().fold(0.0, f64::max);
            let there = values.iter().filter(|value| **value == highest).count() as f64 / values.len() as f64;
            assert!((0.019..0.41).contains(&there), "{there}");
        }
    }

    #[test]
    fn a_rate_window_smooths_and_keeps_the_level() {
        let all = of_seeds(|random, values| rate_window(random, &fortnight(1), values));
        let roughness = |values: &[f64]| crate::moments::deviation(values) / crate::moments::deviation(&rough());
        assert!(all.iter().all(|values| (mean(values) - mean(&rough())).abs() < 0.01));
        // Windows of 1, 2, 5 and 10 minutes leave 1/sqrt(points) of independent noise.
        for points in [1.0_f64, 2.0, 5.0, 10.0] {
            let matching = |values: &&Vec<f64>| (roughness(values) * points.sqrt() - 1.0).abs() < 0.06;
            assert!(all.iter().filter(matching).count() > 5, "{points}");
        }
    }

    #[test]
    fn a_mirrored_series_is_never_negative_and_counts_down() {
        let mut values = [1.0, 4.0, 2.0];
        mirrored(&mut values);
        assert_eq!(values, [3.0, 0.0, 2.0]);
    }

    #[test]
    fn a_moving_mean_is_the_mean_of_each_window() {
        let values = [3.0, 1.0, 2.0, 6.0, 4.0, 0.0, 9.0];
        assert_eq!(moving_mean(&values, 1), values);
        assert_eq!(moving_mean(&values, 2), [3.0, 2.0, 1.5, 4.0, 5.0, 2.0, 4.5]);
        assert_eq!(moving_mean(&values, 3)[2..], [2.0, 3.0, 4.0, 10.0 / 3.0, 13.0 / 3.0]);
        assert_eq!(moving_mean(&values, 100)[6], 25.0 / 7.0);
        assert_eq!(moving_mean(&[0.1; 50], 7), [0.1; 50]);
        // Nothing remains of a great value that has left the window.
        assert_eq!(moving_mean(&[1e18, 0.1, 0.1, 0.1, 0.1, 0.1], 2)[2..], [0.1; 4]);
    }

    #[test]
    fn most_series_are_left_alone_by_each_effect() {
        let untouched = of_seeds(|random, values| apply(random, &fortnight(1), values));
        let count = untouched.iter().filter(|values| changed(values) == 0.0).count();
        // The product of the probabilities not to happen is 0.27.
        assert!((7..28).contains(&count), "{count}");
    }
}
