//! States that last: levels that hold for a random time and change at once.

use crate::grid::Grid;
use crate::random::Random;

/// Returns at each point a standard normal level that holds for an exponential time of this mean, but at least one point.
pub(crate) fn regimes(random: &mut Random, grid: &Grid, mean_hours: f64) -> Vec<f64> {
    let mean_points = grid.points(3600.0 * mean_hours);
    let mut levels = Vec::with_capacity(grid.len());
    while levels.len() < grid.len() {
        let points = ((random.exponential() * mean_points) as usize).clamp(1, grid.len() - levels.len());
        let level = random.normal();
        levels.extend(std::iter::repeat_n(level, points));
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::tests::fortnight;

    #[test]
    fn levels_hold_for_their_mean_time_and_are_standard_normal() {
        let grid = fortnight(1);
        let levels: Vec<f64> = (0..40).flat_map(|seed| regimes(&mut Random::new(seed, 0), &grid, 2.0)).collect();
        assert_eq!(levels.len(), 40 * grid.len());
        let mut changed = levels.clone();
        changed.dedup();
        let mean_points = levels.len() as f64 / changed.len() as f64;
        assert!((105.0..135.0).contains(&mean_points), "{mean_points}");
        let deviation = crate::moments::deviation(&changed);
        assert!((0.97..1.03).contains(&deviation), "{deviation}");
        let positive = changed.iter().filter(|level| **level > 0.0).count() as f64 / changed.len() as f64;
        assert!((0.48..0.52).contains(&positive), "{positive}");
    }

    #[test]
    fn a_time_shorter_than_the_step_gives_one_point_each() {
        let levels = regimes(&mut Random::new(1, 0), &fortnight(1), 1e-6);
        assert!(levels.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
