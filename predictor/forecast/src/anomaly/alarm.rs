//! Scores in; alarms out: one for an event, not one for each of its rows.

use serde::{Deserialize, Serialize};

/// Rows after an alarm in which only an escalation raises another.
pub const QUIET_ROWS: u32 = 150;
/// An escalation is a score of more than this many times the last alarm's.
const ESCALATION: f64 = 2.0;

/// Turns scores into alarms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Alarms {
    quiet_rows: u32,
    /// Score of the last alarm.
    peak: f32,
}

impl Alarms {
    /// Returns whether the next row raises an alarm: its score is at least `threshold` and, in the [`QUIET_ROWS`] after
    /// an alarm, also more than twice that alarm's score. NaN raises none.
    pub fn push(&mut self, score: f64, threshold: f64) -> bool {
        let is_quiet = self.quiet_rows > 0;
        self.quiet_rows = self.quiet_rows.saturating_sub(1);
        let raises = score >= threshold && (!is_quiet || score > ESCALATION * f64::from(self.peak));
        if raises {
            self.quiet_rows = QUIET_ROWS - 1;
            self.peak = score as f32;
        }
        raises
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_one_alarm_unless_it_escalates() {
        let mut alarms = Alarms::default();
        let mut raised = Vec::new();
        for row in 0..400 {
            let score = match row {
                20 => 5.0,
                30 => 9.9,
                40 => 10.5,
                200 => f64::NAN,
                _ => 1.0,
            };
            if alarms.push(score, 1.0) {
                raised.push(row);
            }
        }
        // 20: escalates the alarm of row 0; 40: escalates that of row 20; then each 150 rows.
        assert_eq!(raised, [0, 20, 40, 190, 340]);
        assert!(!alarms.push(0.99, 1.0));
    }
}
