//! Which horizons are scored: those asked for in; a few that answer all of them out.

use crate::series::steps;

/// Horizons that are scored, in seconds, besides the first four steps; what lies between is interpolated.
const LADDER_SECONDS: [i64; 26] = [
    60, 120, 180, 240, 300, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 10_800, 14_400, 21_600, 28_800, 43_200,
    57_600, 86_400, 129_600, 172_800, 259_200, 432_000, 604_800, 1_209_600,
];

/// The scored horizons that answer all of `horizons`, ascending: those on the ladder, and for others their neighbours.
pub(crate) fn knots(step: i64, horizons: &[usize]) -> Vec<usize> {
    let longest = horizons.iter().copied().max().unwrap_or(1);
    let mut ladder: Vec<usize> = (1..=4).chain(LADDER_SECONDS.iter().map(|seconds| steps(*seconds, step))).collect();
    ladder.sort_unstable();
    while ladder.last().is_some_and(|last| *last < longest) {
        ladder.extend(ladder.last().map(|last| last + last / 2));
    }
    ladder.dedup();
    let mut knots: Vec<usize> = horizons
        .iter()
        .flat_map(|horizon| {
            let above = ladder.partition_point(|knot| knot < horizon).min(ladder.len() - 1);
            let below = if ladder[above] == *horizon { above } else { above.saturating_sub(1) };
            [ladder[below], ladder[above]]
        })
        .collect();
    knots.sort_unstable();
    knots.dedup();
    if knots.is_empty() {
        knots.push(1);
    }
    knots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_horizons_are_scored_themselves() {
        assert_eq!(knots(60, &[5, 10, 15, 60]), [5, 10, 15, 60]);
        assert_eq!(knots(15, &[20, 40, 60, 240]), [20, 40, 60, 240]);
        assert_eq!(knots(300, &[1, 2, 3, 12, 288]), [1, 2, 3, 12, 288]);
        assert_eq!(knots(60, &[7]), [5, 10]);
        assert_eq!(knots(3600, &[24 * 30]).len(), 2);
        assert!(knots(60, &(1..=1440).collect::<Vec<_>>()).len() < 30);
    }
}
