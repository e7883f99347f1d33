//! Missing values: NaN where nothing was collected.

use crate::grid::Grid;
use crate::random::Random;

/// At most this share of a series is missing, so that there is something to learn from.
const MOST_MISSING: f64 = 0.5;

/// Makes holes: single points, runs of minutes to hours, or both.
pub(crate) fn gaps(random: &mut Random, grid: &Grid, values: &mut [f64]) {
    let kind = random.whole(0, 3);
    let mut left = (MOST_MISSING * values.len() as f64) as usize;
    if kind != 1 {
        let probability = random.log_uniform(0.0005, 0.03);
        for value in values.iter_mut() {
            if left > 0 && random.chance(probability) {
                *value = f64::NAN;
                left -= 1;
            }
        }
    }
    if kind != 0 {
        let probability = 1.0 / grid.points(random.log_uniform(6.0 * 3600.0, 3.0 * 86_400.0));
        let mean_points = grid.points(random.log_uniform(120.0, 3.0 * 3600.0));
        let mut remaining = 0;
        for value in values {
            if remaining == 0 && random.chance(probability) {
                remaining = 1 + (random.exponential() * mean_points) as usize;
            }
            if remaining > 0 && left > 0 {
                remaining -= 1;
                left -= usize::from(!value.is_nan());
                *value = f64::NAN;
            }
        }
    }
}
