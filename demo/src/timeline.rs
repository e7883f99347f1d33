//! What was seen over time: states in; a file, and what it says of replicas and load, out.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::watch::State;

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct Timeline(Vec<Moment>);

#[derive(Debug, Clone, Copy)]
struct Moment {
    seconds: f64,
    load: Option<f64>,
    /// Replicas that the load alone asks for.
    reactive: Option<u64>,
    current: Option<u64>,
}

impl Timeline {
    /// Notes a state, so long after the start.
    pub(crate) fn add(&mut self, elapsed: Duration, state: &State) {
        let State { load, reactive, current, .. } = *state;
        self.0.push(Moment { seconds: elapsed.as_secs_f64(), load, reactive, current });
    }

    /// Writes `seconds,load,reactive,current`; what was not known is empty.
    pub(crate) fn write(&self, file: &Path) -> std::io::Result<()> {
        let mut text = "seconds,load,reactive,current\n".to_owned();
        for Moment { seconds, load, reactive, current } in &self.0 {
            let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
            let count = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{seconds:.1},{},{},{}", number(*load), count(*reactive), count(*current));
        }
        std::fs::write(file, text)
    }

    /// Says when the replicas were there that the highest load asked for, and whether they went away again.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let Some(needed) = self.0.iter().filter_map(|moment| moment.reactive).max() else { return words };
        let first = |at_least: fn(&Moment) -> Option<u64>| {
            self.0.iter().find(|moment| at_least(moment) >= Some(needed)).map(|moment| moment.seconds)
        };
        if let (Some(had), Some(asked)) = (first(|moment| moment.current), first(|moment| moment.reactive)) {
            words.push(format!(
                "The load alone asked for {needed} replicas {asked:.0} s after the start; so many ran {had:.0} s after it."
            ));
        }
        let most = self.0.iter().filter_map(|moment| moment.current).max();
        let last = self.0.iter().rev().find_map(|moment| moment.current);
        if let (Some(most), Some(last)) = (most, last)
            && last < most
        {
            words.push(format!("At most {most} replicas ran, {last} at the end."));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_tell_which_came_first() {
        let mut timeline = Timeline::default();
        assert!(timeline.words().is_empty());
        for (seconds, reactive, current) in [(0, 2, 2), (10, 2, 6), (20, 5, 6), (30, 2, 3)] {
            let state = State { reactive: Some(reactive), current: Some(current), ..State::default() };
            timeline.add(Duration::from_secs(seconds), &state);
        }
        assert_eq!(
            timeline.words(),
            [
                "The load alone asked for 5 replicas 20 s after the start; so many ran 10 s after it.",
                "At most 6 replicas ran, 3 at the end.",
            ]
        );
    }
}
