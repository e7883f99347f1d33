//! A point in time, given by the caller; nothing here reads a clock.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// A point in time to the millisecond. Serialized as Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    unix_milliseconds: i64,
}

impl Timestamp {
    /// Returns the point `milliseconds` after the Unix epoch.
    pub const fn from_unix_milliseconds(milliseconds: i64) -> Self {
        Self { unix_milliseconds: milliseconds }
    }

    /// Returns the Unix time in milliseconds.
    pub const fn unix_milliseconds(self) -> i64 {
        self.unix_milliseconds
    }

    /// Returns the Unix time in seconds.
    pub fn unix_seconds(self) -> f64 {
        self.unix_milliseconds as f64 / 1000.0
    }

    /// Returns the time from `earlier` to this; zero where `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        let milliseconds = self.unix_milliseconds.saturating_sub(earlier.unix_milliseconds);
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
    }

    /// Returns the whole minutes since the Unix epoch.
    pub const fn unix_minutes(self) -> i64 {
        self.unix_milliseconds.div_euclid(60_000)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.unix_seconds())
    }
}

/// Serializes a duration, where there is one, as seconds.
///
/// # Errors
/// Those of the serializer.
pub fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

/// Serializes a duration as seconds.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
