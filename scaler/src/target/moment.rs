//! Times as the engine writes them (RFC 3339, up to nanoseconds, any offset) to time since the Unix epoch. Pure.

use std::time::Duration;

const DAY: i64 = 24 * 3600;

/// Returns the time since the Unix epoch; `None` for what is no time, or one before 1970, such as the engine's
/// `0001-01-01T00:00:00Z` for what has not happened.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (date, time) = text.split_once(['T', 't'])?;
    let [year, month, day] = numbers(date, '-')?;
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (time, offset) = offset(time)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [hours, minutes, seconds] = numbers(time, ':')?;
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let seconds = days_from_epoch(year, month, day) * DAY + hours * 3600 + minutes * 60 + seconds - offset;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanoseconds(fraction)?))
}

/// Returns the text before the offset, and the offset in seconds east of Greenwich.
fn offset(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let [hours, minutes] = numbers(&time[at + 1..], ':')?;
    let seconds = hours * 3600 + minutes * 60;
    Some((&time[..at], if time[at..].starts_with('-') { -seconds } else { seconds }))
}

fn nanoseconds(fraction: &str) -> Option<u32> {
    if fraction.is_empty() {
        return Some(0);
    }
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}").parse().ok()
}

/// Returns exactly `N` numbers of at most four digits.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let parse = |part: &str| {
        let fits = (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        if fits { part.parse().ok() } else { None }
    };
    let numbers: Vec<i64> = text.split(separator).map(parse).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Days from 1970-01-01, by counting years from March on so that the leap day is the last of its year
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil).
const fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_engine_are_read() {
        for (text, seconds, nanoseconds) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2000-02-29T23:59:59.5Z", 951_868_799, 500_000_000),
            ("2026-11-25T01:19:20.123456789Z", 1_795_569_560, 123_456_789),
            ("2026-11-25T03:19:20.12+02:00", 1_795_569_560, 120_000_000),
            ("2026-11-24T19:49:20-05:30", 1_795_569_560, 0),
        ] {
            assert_eq!(parse(text), Some(Duration::new(seconds, nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "0001-01-01T00:00:00Z",
            "2026-11-25",
            "2026-13-01T00:00:00Z",
            "2026-11-25T24:00:00Z",
            "2026-11-25T01:19:20",
            "2026-11-25T01:19:20.1234567890Z",
            "2026-11-25T01:19:20.x5Z",
            "2026-11-25T01:19Z",
            "2026-11-25T01:19:20+02",
            "2026-11-25T01:19:20\u{2212}02:00",
            "1970-01-01T00:30:00+01:00",
            "99999999999999999999-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
