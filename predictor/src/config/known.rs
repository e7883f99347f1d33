//! Holidays: as written in; times in Unix seconds, and findings, out.

use std::collections::BTreeSet;

use cloudpulse_forecast::known::{Event, Known};
use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Check;

/// Days before and after a holiday that may have an effect of their own.
const MAX_WINDOW: i32 = 31;

/// A holiday.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HolidayShape {
    /// Unique name.
    name: String,
    /// Days such as 2026-12-24, past ones to learn from and future ones.
    dates: Vec<String>,
    /// Days from the holiday back to the first one that it changes, 0 or below, as Prophet has it.
    #[serde(default)]
    lower_window: i32,
    /// Days from the holiday to the last one that it changes.
    #[serde(default)]
    upper_window: i32,
}

/// Returns one event for each day of each holiday's window, as Prophet does: the day before a feast is not like the feast.
pub(super) fn check_holidays(shapes: &[HolidayShape], zone: Option<&str>, path: &str, check: &mut Check<'_>) -> Known {
    let zone = zone.map_or(Ok(TimeZone::UTC), TimeZone::get).unwrap_or_else(|error| {
        check.add(&format!("{path}.time_zone"), error.to_string());
        TimeZone::UTC
    });
    let mut names = BTreeSet::new();
    let mut events = Vec::new();
    for (i, HolidayShape { name, dates, lower_window, upper_window }) in shapes.iter().enumerate() {
        let path = format!("{path}.holidays[{i}]");
        if name.is_empty() || !names.insert(name) {
            check.add(&format!("{path}.name"), format!("{name:?} is empty or used twice; names are unique"));
        }
        if !(-MAX_WINDOW..=0).contains(lower_window) {
            let message = format!("must be days from -{MAX_WINDOW} to 0; -1 is the day before");
            check.add(&format!("{path}.lower_window"), message);
            continue;
        }
        if !(0..=MAX_WINDOW).contains(upper_window) {
            let message = format!("must be days from 0 to {MAX_WINDOW}; 1 is the day after");
            check.add(&format!("{path}.upper_window"), message);
            continue;
        }
        if dates.is_empty() {
            check.add(
                &format!("{path}.dates"),
                "is empty; name past dates, from which the effect is learnt, and future ones",
            );
        }
        let mut days: Vec<Date> = Vec::new();
        for (place, text) in dates.iter().enumerate() {
            match text.parse() {
                Ok(date) => days.push(date),
                Err(_) => {
                    check.add(&format!("{path}.dates[{place}]"), format!("{text:?} is no date; write 2026-12-24"));
                }
            }
        }
        days.sort_unstable();
        days.dedup();
        for offset in *lower_window..=*upper_window {
            let occurrences = days.iter().filter_map(|day| occurrence(*day, offset, &zone)).collect();
            let name = if offset == 0 { name.clone() } else { format!("{name}_{offset:+}") };
            events.push(Event { name, occurrences });
        }
    }
    Known { events, quantities: Vec::new() }
}

/// Start and end of a day, Unix seconds; `None` at the end of all calendars.
fn occurrence(day: Date, offset: i32, zone: &TimeZone) -> Option<(i64, i64)> {
    let midnight = |date: Date| Some(date.to_zoned_datetime(zone.clone()).ok()?.timestamp().as_second());
    let day = day.checked_add(offset.days()).ok()?;
    Some((midnight(day)?, midnight(day.checked_add(1.day()).ok()?)?))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn config(extra: &str) -> Result<Config, Vec<String>> {
        let text = format!("forecasts:\n- {{name: web, query: up, {extra}}}\n");
        Config::from_text("c.yaml", &text).map_err(|found| found.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_day_of_a_window_is_its_own_event_in_local_time() {
        let written =
            "time_zone: Europe/Berlin, holidays: [{name: sale, dates: [2026-03-29, 2025-11-28], lower_window: -1}]";
        let known = config(written).unwrap().forecasts[0].known.clone();
        let names: Vec<&str> = known.events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["sale_-1", "sale"]);
        // Berlin is an hour ahead of UTC; the clocks go forward on 2026-03-29, which lasts 23 hours.
        let day = 86_400;
        let (winter, spring) = (1_764_284_400, 1_774_738_800);
        assert_eq!(known.events[1].occurrences, [(winter, winter + day), (spring, spring + day - 3600)]);
        assert_eq!(known.events[0].occurrences, [(winter - day, winter), (spring - day, spring)]);
        let utc = config("holidays: [{name: x, dates: [1970-01-02]}]").unwrap();
        assert_eq!(utc.forecasts[0].known.events[0].occurrences, [(day, 2 * day)]);
        assert!(config("step: 1m").unwrap().forecasts[0].known.events.is_empty());
    }

    #[test]
    fn findings_name_the_field() {
        let found = config(
            "time_zone: Mars/Olympus, holidays: [{name: a, dates: [2026-02-30, soon]}, {name: a, dates: []}, \
             {name: b, dates: [2026-01-01], lower_window: 1}, {name: c, dates: [2026-01-01], upper_window: 99}]",
        )
        .unwrap_err();
        for expected in [
            "c.yaml: forecasts[0].time_zone: ",
            "c.yaml: forecasts[0].holidays[0].dates[0]: \"2026-02-30\" is no date",
            "c.yaml: forecasts[0].holidays[0].dates[1]: \"soon\" is no date",
            "c.yaml: forecasts[0].holidays[1].name: \"a\" is empty or used twice",
            "c.yaml: forecasts[0].holidays[1].dates: is empty",
            "c.yaml: forecasts[0].holidays[2].lower_window: must be days from -31 to 0",
            "c.yaml: forecasts[0].holidays[3].upper_window: must be days from 0 to 31",
        ] {
            assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}\n{found:#?}");
        }
        assert_eq!(found.len(), 7, "{found:#?}");
    }
}
