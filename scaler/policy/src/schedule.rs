//! Times at which other bounds hold: start and end as cron expressions in a time zone, and `now`, in; bounds out.

use std::fmt;

use cronexpr::Crontab;
use cronexpr::MakeTimestamp;

use crate::Replicas;
use crate::time::Timestamp;

/// Bounds that hold from each `start` until the next `end`.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Name, unique in the rule.
    pub name: String,
    /// When it begins.
    pub start: Cron,
    /// When it ends.
    pub end: Cron,
    /// Fewest replicas in between; `None` leaves the rule's.
    pub min_replicas: Option<Replicas>,
    /// Most replicas in between; `None` leaves the rule's.
    pub max_replicas: Option<Replicas>,
}

impl Schedule {
    /// Returns whether the schedule holds at `now`: its next end comes before its next start, as with KEDA's cron. The
    /// moment of the start belongs to it, that of the end does not.
    pub fn is_active(&self, now: Timestamp) -> bool {
        match (self.start.next(now), self.end.next(now)) {
            (Some(start), Some(end)) => end < start,
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }
}

/// A cron expression in its time zone.
#[derive(Clone)]
pub struct Cron {
    text: String,
    crontab: Crontab,
}

/// Why a cron expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronError(String);

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CronError {}

impl Cron {
    /// Returns the expression of five fields (minute, hour, day of the month, month, day of the week) in the IANA time
    /// zone, such as `0 8 * * MON-FRI` in `Europe/Berlin`. Summer time is followed: 8 is always 8 on the clock there.
    ///
    /// # Errors
    /// Where the expression or the time zone cannot be read, or no such time ever comes, as on 30 February.
    pub fn new(expression: &str, time_zone: &str) -> Result<Self, CronError> {
        let fields = expression.split_whitespace().count();
        if fields != 5 {
            return Err(CronError(format!("has {fields} fields; it needs 5: minute hour day month weekday")));
        }
        if jiff_of_cronexpr::tz::TimeZone::get(time_zone).is_err() {
            return Err(CronError(format!("the time zone {time_zone:?} is not one of IANA's, such as Europe/Berlin")));
        }
        let text = format!("{} {time_zone}", expression.trim());
        let crontab = cronexpr::parse_crontab(&text).map_err(|error| {
            // The first line names the fault; the rest draws it.
            let error = error.to_string();
            CronError(format!("cannot be read: {}", error.lines().next().unwrap_or_default().trim_end_matches(':')))
        })?;
        let cron = Self { text, crontab };
        match cron.next(Timestamp::from_unix_milliseconds(0)) {
            Some(_) => Ok(cron),
            None => Err(CronError("names a time that never comes".to_owned())),
        }
    }

    /// Returns the expression and its time zone.
    pub fn parts(&self) -> (&str, &str) {
        // It was put together of both, and a time zone has no space.
        self.text.rsplit_once(' ').unwrap_or((&self.text, "UTC"))
    }

    /// Returns the first time after `now`; `None` where there is none.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let after = MakeTimestamp::from_millisecond(now.unix_milliseconds()).ok()?;
        let next = self.crontab.find_next(after).ok()?;
        Some(Timestamp::from_unix_milliseconds(next.timestamp().as_millisecond()))
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unix time of a moment written as RFC 3339.
    fn at(text: &str) -> Timestamp {
        let moment: jiff_of_cronexpr::Timestamp = text.parse().unwrap();
        Timestamp::from_unix_milliseconds(moment.as_millisecond())
    }

    fn schedule(start: &str, end: &str, zone: &str) -> Schedule {
        Schedule {
            name: "office".to_owned(),
            start: Cron::new(start, zone).unwrap(),
            end: Cron::new(end, zone).unwrap(),
            min_replicas: Some(6),
            max_replicas: None,
        }
    }

    #[test]
    fn it_holds_from_start_to_end_on_the_clock_of_its_zone() {
        let office = schedule("0 8 * * MON-FRI", "0 19 * * MON-FRI", "Europe/Berlin");
        for (moment, active) in [
            ("2026-01-05T06:59:59.999Z", false), // a Monday; Berlin is an hour ahead in winter
            ("2026-01-05T07:00:00Z", true),
            ("2026-01-05T17:59:59Z", true),
            ("2026-01-05T18:00:00Z", false),
            ("2026-01-10T10:00:00Z", false), // a Saturday
            ("2026-07-06T06:00:00Z", true),  // and two in summer
            ("2026-07-06T17:00:00Z", false),
        ] {
            assert_eq!(office.is_active(at(moment)), active, "{moment}");
        }
    }

    #[test]
    fn it_may_last_over_midnight_and_the_change_of_the_clock() {
        let night = schedule("30 22 * * *", "0 6 * * *", "America/New_York");
        // Clocks went from 2 to 3 on 8 March 2026.
        for (moment, active) in [
            ("2026-03-08T03:29:00Z", false),
            ("2026-03-08T03:30:00Z", true),
            ("2026-03-08T09:59:00Z", true),
            ("2026-03-08T10:00:00Z", false),
        ] {
            assert_eq!(night.is_active(at(moment)), active, "{moment}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (expression, zone, word) in [
            ("0 8 * *", "UTC", "4 fields"),
            ("0 8 * * MON-FRI Europe/Berlin", "UTC", "6 fields"),
            ("0 25 * * *", "UTC", "cannot be read"),
            ("0 8 * * *", "Europe/Atlantis", "Atlantis"),
            ("0 8 30 2 *", "UTC", "never comes"),
        ] {
            let error = Cron::new(expression, zone).unwrap_err().to_string();
            assert!(error.contains(word), "{expression} {zone}: {error}");
        }
    }
}
