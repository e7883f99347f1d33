//! Durations in Prometheus' form: `30s`, `5m`, `1h30m`, `14d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration that reads and writes itself as Prometheus does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PromDuration(pub Duration);

impl PromDuration {
    /// Returns a duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Returns the length in seconds.
    pub fn seconds(self) -> f64 {
        self.0.as_secs_f64()
    }
}

/// Units from the longest to the shortest, in milliseconds; a year has 365 days, as in Prometheus.
const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration; write it as 30s, 5m, 1h30m or 14d")]
pub struct ParseDurationError(String);

impl FromStr for PromDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseDurationError(text.to_owned());
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text;
        let mut total: u64 = 0;
        let mut last_unit = u64::MAX;
        if rest.is_empty() {
            return Err(fail());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| fail())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(fail)?;
            if *unit >= last_unit {
                return Err(fail());
            }
            last_unit = *unit;
            rest = &rest[letters..];
            total = number.checked_mul(*unit).and_then(|ms| total.checked_add(ms)).ok_or_else(fail)?;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for PromDuration {
    /// Writes the shortest exact form that Prometheus' label values use: one unit where one is enough (`90s` stays
    /// `90s`, `300s` becomes `5m`), weeks and years never.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if milliseconds == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in &UNITS[2..] {
            if milliseconds.is_multiple_of(*unit) {
                return write!(f, "{}{name}", milliseconds / unit);
            }
        }
        Ok(())
    }
}

#[cfg(feature = "config")]
impl<'de> serde::Deserialize<'de> for PromDuration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for PromDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "duration", "pattern": "^([0-9]+(ms|[smhdwy]))+$|^0$"})
    }
}

#[cfg(feature = "config")]
impl serde::Serialize for PromDuration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_prometheus_form() {
        for (text, seconds, back) in [
            ("30s", 30.0, "30s"),
            ("300s", 300.0, "5m"),
            ("1h30m", 5400.0, "90m"),
            ("14d", 1_209_600.0, "14d"),
            ("1w", 604_800.0, "7d"),
            ("250ms", 0.25, "250ms"),
            ("0", 0.0, "0s"),
        ] {
            let duration: PromDuration = text.parse().unwrap();
            assert_eq!(duration.seconds(), seconds, "{text}");
            assert_eq!(duration.to_string(), back);
            assert_eq!(back.parse::<PromDuration>().unwrap(), duration);
        }
    }

    #[test]
    fn refuses_what_prometheus_refuses() {
        for text in ["", "5", "m", "5 m", "1m1h", "5x", "-5m", "99999999999999999999y"] {
            assert!(text.parse::<PromDuration>().is_err(), "{text}");
        }
    }
}
