//! What is known of the future beforehand, beside the series itself: holidays, sales, maintenance.

/// What is known beforehand; by default nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Times at which the level may be another. Names are unique.
    pub events: Vec<Event>,
}

/// What happens from time to time with the same effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// A name, its own among the events.
    pub name: String,
    /// Start and end in Unix seconds, the end not included; past and future.
    pub occurrences: Vec<(i64, i64)>,
}

impl Event {
    /// Returns whether it holds at `time`, Unix seconds.
    pub(crate) fn holds(&self, time: i64) -> bool {
        self.occurrences.iter().any(|(start, end)| (*start..*end).contains(&time))
    }
}
