//! The time that the serving predictor goes by: now, or a time in the past that passes quicker.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Returns Unix seconds: the only place where the predictor reads the wall clock.
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A clock; copies go alike.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The time of the machine.
    Wall,
    /// A past time when the program started, and how many seconds of it pass in one.
    Replay {
        /// Unix seconds at the start.
        from: f64,
        /// At least 1.
        speed: f64,
        /// When the program started.
        started: Instant,
    },
}

impl Clock {
    /// Returns a clock that starts at `from` (Unix seconds) and runs `speed` times as fast as the wall's.
    pub fn replay(from: f64, speed: f64) -> Self {
        Self::Replay { from, speed, started: Instant::now() }
    }

    /// Returns Unix seconds.
    pub fn now(self) -> f64 {
        match self {
            Self::Wall => unix_now(),
            Self::Replay { from, speed, started } => from + speed * started.elapsed().as_secs_f64(),
        }
    }

    /// Returns how long `seconds` of this clock take.
    pub fn real(self, seconds: f64) -> Duration {
        let speed = match self {
            Self::Wall => 1.0,
            Self::Replay { speed, .. } => speed,
        };
        Duration::try_from_secs_f64(seconds / speed).unwrap_or_default()
    }
}
