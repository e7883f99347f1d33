//! A seed in; a random series that looks like an infrastructure metric out. Forecasters are trained on such series alone: there
//! are as many as wanted, nobody owns them, and no test series is among them.
//!
//! A series is built in the order in which a real one comes about: a signal of seasons, drifts, regimes and noise (`signal`)
//! drives a metric (`level`), things happen to it (`effects`), and some of it is not collected (`gaps`). What a series has of
//! all that, and how much, is drawn.
//!
//! The values of a seed are the same bits on every platform, in debug and in release: the random bits are ChaCha8's,
//! logarithms and exponentials are `libm`'s, and everything else is IEEE 754 arithmetic in a fixed order. [`VERSION`] says
//! when they change.

mod effects;
mod gaps;
mod grid;
mod level;
mod moments;
mod noise;
mod random;
mod regimes;
mod shape;
mod signal;

use grid::Grid;
use random::Random;

/// Version of the generator: another one gives other series for the same seeds.
pub const VERSION: u32 = 1;

/// Step in seconds, length in days and probability of the series that [`series`] returns. The probabilities are those of
/// the steps that dashboards and scrape configurations use; the lengths hold at least two days of a fine step, and two
/// weekends of a coarse one.
const STEPS: [(i64, u32, f64); 5] = [(15, 3, 0.08), (30, 5, 0.14), (60, 9, 0.33), (120, 10, 0.08), (300, 15, 0.37)];
const DAY_SECONDS: i64 = 86_400;
/// Shares of series with holes in them.
const WITH_GAPS: f64 = 0.1;
/// Streams of a seed: the choice of the step is apart, so that [`series_of`] gives the same values where it has the choice.
const STEP_STREAM: u64 = 1;
const VALUE_STREAM: u64 = 0;

/// A series: a value for each point of a regular grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// Unix time of the first value in seconds, a multiple of the step. Seasons follow the absolute clock.
    pub start_seconds: i64,
    /// Seconds from one value to the next.
    pub step_seconds: i64,
    /// The values, finite; NaN where one is missing, which at least half are not.
    pub values: Vec<f64>,
}

/// Returns the series of a seed: 3 to 15 days at a step of 15, 30, 60, 120 or 300 seconds, which is drawn too.
pub fn series(seed: u64) -> Synthetic {
    let mut draw = Random::new(seed, STEP_STREAM).unit();
    let [mut chosen, ..] = STEPS;
    for step in STEPS {
        chosen = step;
        draw -= step.2;
        if draw < 0.0 {
            break;
        }
    }
    series_of(seed, chosen.0, chosen.1)
}

/// Returns the series of a seed at this step (at least 1 second) over this many days (at least 1). Another step or length is
/// another series, not another sampling of the same one.
pub fn series_of(seed: u64, step_seconds: i64, days: u32) -> Synthetic {
    let step = step_seconds.max(1);
    let length = (i64::from(days.max(1)) * DAY_SECONDS / step).max(1) as usize;
    let mut random = Random::new(seed, VALUE_STREAM);
    let grid = Grid::new(&mut random, step, length);
    let signal = signal::signal(&mut random, &grid);
    let mut values = level::level(&mut random, &signal);
    effects::apply(&mut random, &grid, &mut values);
    if random.chance(WITH_GAPS) {
        gaps::gaps(&mut random, &grid, &mut values);
    }
    Synthetic { start_seconds: grid.start, step_seconds: step, values }
}
