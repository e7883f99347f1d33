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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::tests::fortnight;

    fn missing(values: &[f64]) -> usize {
        values.iter().filter(|value| value.is_nan()).count()
    }

    fn of_seeds() -> Vec<Vec<f64>> {
        let holed = |seed| {
            let mut values = vec![1.0; fortnight(1).len()];
            gaps(&mut Random::new(seed, 0), &fortnight(1), &mut values);
            values
        };
        (0..90).map(holed).collect()
    }

    /// Length of each run of missing points.
    fn runs(values: &[f64]) -> Vec<usize> {
        values
            .chunk_by(|left, right| left.is_nan() == right.is_nan())
            .filter(|run| run[0].is_nan())
            .map(<[_]>::len)
            .collect()
    }

    #[test]
    fn values_that_remain_are_unchanged_and_most() {
        for values in of_seeds() {
            assert!(values.iter().all(|value| value.is_nan() || *value == 1.0));
            assert!(2 * missing(&values) <= values.len());
        }
        assert!(of_seeds().iter().filter(|values| missing(values) > 0).count() > 85);
    }

    #[test]
    fn there_are_single_points_and_long_runs() {
        let longest: Vec<usize> = of_seeds().iter().map(|values| runs(values).into_iter().max().unwrap_or(0)).collect();
        let single = longest.iter().filter(|points| (1..=4).contains(*points)).count();
        assert!((20..45).contains(&single), "{longest:?}");
        assert!(longest.iter().filter(|points| **points > 30).count() > 30, "{longest:?}");
        let many = of_seeds().iter().filter(|values| runs(values).len() > 100).count();
        assert!((15..60).contains(&many), "{many}");
    }

    #[test]
    fn however_many_would_fail_half_remain() {
        let mut random = Random::new(1, 0);
        let grid = Grid::new(&mut random, 86_400, 6);
        for _ in 0..200 {
            let mut values = [1.0; 6];
            gaps(&mut random, &grid, &mut values);
            assert!(missing(&values) <= 3);
        }
    }
}
