//! The network that mixes the models: as written in; what is done with it, and findings, out.

use cloudpulse_common::duration::PromDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Check;

const DEFAULT_INTERVAL_SECONDS: i64 = 86_400;
const LEAST_INTERVAL_SECONDS: i64 = 600;
const DEFAULT_SERIES: usize = 100;
const MAX_SERIES: usize = 2000;

/// The network that mixes the models.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LstmShape {
    /// Whether it mixes the models at all.
    #[serde(default)]
    #[schemars(extend("default" = true))]
    enabled: Option<bool>,
    /// Whether it learns on from the forecast's own series while serving.
    #[serde(default)]
    #[schemars(extend("default" = true))]
    fine_tune: Option<bool>,
    /// How often; at least 10m.
    #[serde(default)]
    #[schemars(extend("default" = super::duration_label(DEFAULT_INTERVAL_SECONDS)))]
    fine_tune_interval: Option<PromDuration>,
    /// From how many series at most, 1 to 2,000.
    #[serde(default)]
    #[schemars(extend("default" = DEFAULT_SERIES))]
    fine_tune_series: Option<usize>,
}

/// What is done with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lstm {
    /// Whether it mixes the models at all.
    pub enabled: bool,
    /// Whether it learns on from the forecast's own series while serving.
    pub fine_tune: bool,
    /// How often, in seconds.
    pub interval: i64,
    /// From how many series at most.
    pub series: usize,
}

impl Default for Lstm {
    fn default() -> Self {
        Self { enabled: true, fine_tune: true, interval: DEFAULT_INTERVAL_SECONDS, series: DEFAULT_SERIES }
    }
}

pub(super) fn check_lstm(shape: &LstmShape, path: &str, check: &mut Check<'_>) -> Lstm {
    let LstmShape { enabled, fine_tune, fine_tune_interval, fine_tune_series } = shape;
    let seconds = fine_tune_interval.map_or(DEFAULT_INTERVAL_SECONDS, |interval| interval.seconds() as i64);
    if seconds < LEAST_INTERVAL_SECONDS {
        let least = super::duration_label(LEAST_INTERVAL_SECONDS);
        check.add(
            &format!("{path}.fine_tune_interval"),
            format!("is less than {least}; to switch it off write fine_tune: false"),
        );
    }
    let series = fine_tune_series.unwrap_or(DEFAULT_SERIES);
    if !(1..=MAX_SERIES).contains(&series) {
        let message = format!("must be from 1 to {MAX_SERIES}; to switch it off write fine_tune: false");
        check.add(&format!("{path}.fine_tune_series"), message);
    }
    Lstm { enabled: enabled.unwrap_or(true), fine_tune: fine_tune.unwrap_or(true), interval: seconds, series }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn lstm(text: &str) -> Result<Lstm, Vec<String>> {
        match Config::from_text("c.yaml", &format!("forecasts: [{{name: x, query: up{text}}}]")) {
            Ok(config) => Ok(config.forecasts[0].lstm),
            Err(found) => Err(found.0.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn it_is_on_unless_told_otherwise() {
        assert_eq!(lstm("").unwrap(), Lstm::default());
        let off = lstm(", lstm: {enabled: false, fine_tune: false}").unwrap();
        assert!(!off.enabled && !off.fine_tune);
        assert_eq!(lstm(", lstm: {fine_tune_interval: 6h, fine_tune_series: 7}").unwrap().interval, 6 * 3600);
    }

    #[test]
    fn findings_name_the_field() {
        let found = lstm(", lstm: {fine_tune_interval: 0s, fine_tune_series: 0}").unwrap_err();
        assert!(found[0].starts_with("c.yaml: forecasts[0].lstm.fine_tune_interval: is less than 10m"), "{found:?}");
        assert!(
            found[1].starts_with("c.yaml: forecasts[0].lstm.fine_tune_series: must be from 1 to 2000"),
            "{found:?}"
        );
    }
}
