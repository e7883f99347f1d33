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
    type Component = fn(&mut Random, &Grid) -> Vec<f64>;
    /// With their probabilities.
    const COMPONENTS: [(f64, Component); 8] = [
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
        shift_days(random, grid, &mut phases);
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

/// Lets each day come earlier or later, normally by less than half an hour.
fn shift_days(random: &mut Random, grid: &Grid, phases: &mut [f64]) {
    let spread = 0.02 * random.unit();
    let shifts = grid.by_day(|| spread * random.normal());
    phases.iter_mut().zip(shifts).for_each(|(phase, shift)| *phase = fraction(*phase + shift));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::tests::fortnight;
    use crate::moments::{deviation, mean};

    const DAY: usize = 1440;

    fn of_seeds(component: fn(&mut Random, &Grid) -> Vec<f64>) -> Vec<Vec<f64>> {
        (0..60).map(|seed| component(&mut Random::new(seed, 0), &fortnight(1))).collect()
    }

    fn repeats_after(values: &[f64], points: usize) -> bool {
        // A jump of a saw-tooth may fall on this or that side of a point.
        let close = |(early, late): (&f64, &f64)| (early - late).abs() < 1e-6;
        let equal = values.iter().zip(&values[points..]).filter(|pair| close(*pair)).count();
        equal as f64 > 0.98 * (values.len() - points) as f64
    }

    fn correlation(values: &[f64], lag: usize) -> f64 {
        let (centre, variance) = (mean(values), deviation(values) * deviation(values));
        let product = |(early, late): (&f64, &f64)| (early - centre) * (late - centre);
        values.iter().zip(&values[lag..]).map(product).sum::<f64>() / (values.len() - lag) as f64 / variance
    }

    #[test]
    fn a_daily_shape_comes_again_after_a_day() {
        let again: Vec<f64> = of_seeds(daily).iter().map(|values| correlation(values, DAY)).collect();
        assert!(again.iter().filter(|correlation| **correlation > 0.7).count() > 40, "{again:?}");
        // Days differ in some.
        assert!(of_seeds(daily).iter().filter(|values| !repeats_after(values, DAY)).count() > 20);
    }

    #[test]
    fn days_have_sizes_about_1_that_differ_more_or_less() {
        let all = of_seeds(day_sizes);
        assert!(all.iter().flatten().all(|size| *size > 0.0));
        let spreads: Vec<f64> = all.iter().map(|sizes| deviation(sizes) / mean(sizes)).collect();
        assert!(spreads.iter().filter(|spread| **spread < 0.05).count() > 8, "{spreads:?}");
        assert!(spreads.iter().filter(|spread| **spread > 0.2).count() > 8, "{spreads:?}");
        // A drift goes further in a fortnight than in a day; of independent days the differences exceed the deviation.
        let drifts = |sizes: &&Vec<f64>| {
            let days: Vec<f64> = sizes.iter().copied().step_by(DAY).collect();
            let differences: Vec<f64> = days.windows(2).map(|pair| pair[1] - pair[0]).collect();
            deviation(&days) > 0.02 && deviation(&differences) < 0.8 * deviation(&days)
        };
        let drifting = all.iter().filter(drifts).count();
        assert!((8..35).contains(&drifting), "{drifting}");
    }

    #[test]
    fn shifted_days_come_minutes_earlier_or_later() {
        let grid = fortnight(1);
        let usual = grid.phases(1.0);
        for seed in 0..20 {
            let mut phases = usual.clone();
            shift_days(&mut Random::new(seed, 0), &grid, &mut phases);
            assert!(phases.iter().all(|phase| (0.0..1.0).contains(phase)));
            let shift = |(after, before): (&f64, &f64)| fraction(after - before + 0.5) - 0.5;
            let shifts: Vec<f64> = phases.iter().zip(&usual).map(shift).collect();
            assert!(deviation(&shifts) > 1e-5 && shifts.iter().all(|shift| shift.abs() < 0.1), "seed {seed}");
        }
    }

    #[test]
    fn a_weekend_swings_less_and_at_times_lies_lower() {
        let grid = fortnight(1);
        let usual: Vec<f64> = grid.phases(1.0).iter().map(|phase| libm::sin(std::f64::consts::TAU * phase)).collect();
        let mut lower = 0;
        for seed in 0..40 {
            let mut values = usual.clone();
            weekends(&mut Random::new(seed, 0), &grid, &mut values);
            let mut free = Vec::new();
            for ((value, usual), weekend) in values.iter().zip(&usual).zip(grid.weekend()) {
                if weekend {
                    free.push(*value);
                } else {
                    assert_eq!(value, usual);
                }
            }
            assert!(deviation(&free) < 0.91 * deviation(&usual) && deviation(&free) > 0.09 * deviation(&usual));
            assert!(mean(&free) < 1e-6);
            lower += usize::from(mean(&free) < -0.05);
        }
        assert!((10..30).contains(&lower), "{lower}");
    }

    #[test]
    fn a_short_period_divides_the_day() {
        let all = of_seeds(short_period);
        let periods = [60, 120, 180, 240, 360, 480, 720, 30, 15, 10];
        let found = all.iter().filter(|values| periods.iter().any(|points| repeats_after(values, *points))).count();
        // The others change from day to day in size.
        assert!((30..55).contains(&found), "{found}");
        assert!(all.iter().all(|values| deviation(values) < 2.0));
    }

    #[test]
    fn a_free_period_is_found_in_no_day() {
        let all = of_seeds(free_period);
        assert!(all.iter().all(|values| (0.1 - 1e-9..1.0).contains(&deviation(values))));
        assert!(all.iter().all(|values| !repeats_after(values, DAY)));
    }

    #[test]
    fn a_trend_is_a_line_from_0_up_or_down() {
        let all = of_seeds(trend);
        for values in &all {
            let slope = values[1];
            assert_eq!(values[0], 0.0);
            assert!(values.windows(2).all(|pair| (pair[1] - pair[0] - slope).abs() < 1e-9));
        }
        let rising = all.iter().filter(|values| values[1] > 0.0).count();
        assert!((18..42).contains(&rising), "{rising}");
    }

    #[test]
    fn a_walk_has_independent_heavy_steps() {
        let mut largest = Vec::new();
        for values in of_seeds(walk) {
            let strides: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(correlation(&strides, 1).abs() < 0.05);
            largest.push(strides.iter().fold(0.0_f64, |far, stride| far.max(stride.abs())) / deviation(&strides));
            assert!(correlation(&values, 60) > 0.5);
        }
        assert!(mean(&largest) > 10.0, "{largest:?}");
    }

    #[test]
    fn a_leak_rises_slowly_and_falls_at_once() {
        for values in of_seeds(leak) {
            let highest = values.iter().fold(0.0_f64, |highest, value| highest.max(*value));
            assert!(highest < 2.0 && values.iter().all(|value| *value >= 0.0));
            let falls = values.windows(2).filter(|pair| pair[0] - pair[1] > 0.9 * highest).count();
            assert!(falls <= 50, "{falls}");
            // At the edge it may waver between full and empty for a few points.
            assert!(values.windows(2).filter(|pair| (pair[1] - pair[0]).abs() > 0.05 * highest).count() <= 100);
        }
        let falls = |values: &Vec<f64>| values.windows(2).any(|pair| pair[0] - pair[1] > 0.25);
        assert!(of_seeds(leak).iter().filter(|values| falls(values)).count() > 40);
    }

    #[test]
    fn levels_change_rarely() {
        for values in of_seeds(levels) {
            let changes = values.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(changes < 14 * 24 * 3, "{changes}");
        }
        assert!(of_seeds(levels).iter().filter(|values| deviation(values) > 0.2).count() > 40);
    }

    #[test]
    fn scatter_is_of_many_sizes_and_at_times_changes_its_own() {
        let all = of_seeds(scatter);
        let sizes: Vec<f64> = all.iter().map(|values| deviation(values)).collect();
        assert!(sizes.iter().filter(|size| **size < 0.1).count() > 10, "{sizes:?}");
        assert!(sizes.iter().filter(|size| **size > 0.5).count() > 8, "{sizes:?}");
        let uneven = |values: &&Vec<f64>| {
            let days: Vec<f64> = values.chunks(6 * 60).map(deviation).collect();
            deviation(&days) > 0.4 * mean(&days)
        };
        let changing = all.iter().filter(uneven).count();
        assert!((6..40).contains(&changing), "{changing}");
    }

    #[test]
    fn a_signal_is_finite_and_of_about_unit_size() {
        let sizes: Vec<f64> = of_seeds(signal).iter().map(|values| deviation(values)).collect();
        assert!(sizes.iter().all(|size| *size < 20.0), "{sizes:?}");
        assert!(sizes.iter().filter(|size| (0.2..3.0).contains(*size)).count() > 45, "{sizes:?}");
    }
}
