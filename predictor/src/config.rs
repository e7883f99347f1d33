//! The predictor's configuration: YAML in; checked forecasts, or all findings, out.

use std::collections::BTreeSet;
use std::path::Path;

use cloudpulse_common::config::{Finding, Findings, parse, read};
use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::query::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;

mod built_in;
mod forecast;
mod known;
mod lstm;
mod regressor;
mod unusual;

pub use built_in::built_in;
pub use forecast::ForecastConfig;
pub(crate) use forecast::is_name;
use forecast::{ForecastShape, check_forecast};
pub use lstm::Lstm;
pub use regressor::Regressor;
pub use unusual::Outliers;

/// The file as it is written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct File {
    /// Where Prometheus, or what speaks its API, is and how to be let in.
    prometheus: Option<ClientConfig>,
    /// Whether node CPU, memory, network, load and disk are forecast too; where absent, only if there are no forecasts.
    defaults: Option<bool>,
    /// What is forecast.
    forecasts: Vec<ForecastShape>,
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where Prometheus is.
    pub prometheus: ClientConfig,
    /// What is forecast, in the order of the file; names are unique.
    pub forecasts: Vec<ForecastConfig>,
}

/// Where Prometheus is when nobody says.
pub const DEFAULT_URL: &str = "http://127.0.0.1:9090";

impl Config {
    /// Returns the configuration for no file at all: the built-in forecasts.
    pub fn without_file() -> Self {
        Self {
            prometheus: ClientConfig { url: DEFAULT_URL.to_owned(), ..ClientConfig::default() },
            forecasts: built_in(),
        }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// All findings, each with file and field path.
    pub fn load(path: &Path) -> Result<Self, Findings> {
        Self::from_text(&path.display().to_string(), &read(path)?)
    }

    /// Checks the text of a file; `file` is used in findings only.
    ///
    /// # Errors
    /// All findings, each with file and field path.
    pub fn from_text(file: &str, text: &str) -> Result<Self, Findings> {
        let shape: File = if text.trim().is_empty() { File::default() } else { parse(file, text)? };
        let File { prometheus, defaults, forecasts } = shape;
        let mut check = Check { file, findings: Vec::new() };
        let mut prometheus = prometheus.unwrap_or_default();
        let url_is_given = !prometheus.url.is_empty();
        if !url_is_given {
            DEFAULT_URL.clone_into(&mut prometheus.url);
        }
        for (field, message) in prometheus.findings() {
            // The URL may come from the command line; then it is looked at there.
            if field == "tls" && !url_is_given {
                continue;
            }
            check.add(format!("prometheus.{field}").trim_end_matches('.'), message);
        }
        let query_offset = prometheus.query_offset.map_or(0, |offset| offset.seconds() as i64);
        let mut names = BTreeSet::new();
        let mut checked = Vec::new();
        for (i, forecast) in forecasts.into_iter().enumerate() {
            let path = format!("forecasts[{i}]");
            if !names.insert(forecast.name.clone()) {
                check.add(&format!("{path}.name"), format!("{:?} is used twice; names are unique", forecast.name));
            }
            checked.push(check_forecast(forecast, &path, &mut check));
        }
        if defaults.unwrap_or(checked.is_empty()) {
            checked.extend(built_in().into_iter().filter(|forecast| !names.contains(&forecast.name)));
        }
        if checked.is_empty() {
            check.add("forecasts", "nothing is forecast; add a forecast or set defaults: true");
        }
        for forecast in &mut checked {
            forecast.query_offset = query_offset;
        }
        if check.findings.is_empty() {
            Ok(Self { prometheus, forecasts: checked })
        } else {
            Err(Findings(check.findings))
        }
    }
}

struct Check<'f> {
    file: &'f str,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        self.findings.push(Finding { file: self.file.to_owned(), path: path.to_owned(), message: message.into() });
    }
}

/// Returns the JSON schema of the file, with a description of each field.
pub fn schema() -> schemars::Schema {
    let settings = schemars::generate::SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<File>()
}

/// Returns seconds as Prometheus writes a duration.
pub fn duration_label(seconds: i64) -> String {
    PromDuration::from_secs(seconds.unsigned_abs()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        Config::from_text("c.yaml", text).unwrap_err().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_written_is_the_built_in_set() {
        let config = Config::from_text("c.yaml", "").unwrap();
        assert_eq!(config, Config::without_file());
        let names: Vec<&str> = config.forecasts.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(
            names,
            ["node-cpu", "node-memory", "node-network-receive", "node-network-transmit", "node-load", "node-disk"]
        );
        assert_eq!(config.forecasts[0].series_per_source(), (2 + 5) * 3 + 7 + 2);
    }

    #[test]
    fn all_findings_come_at_once() {
        let found = findings(
            "forecasts:\n- {name: a b, query: '', step: 1m, horizons: [90s, 5m], quantiles: [0.5, 1.5], bounds: {lower: 2, upper: 1}}\n\
             - {name: x, query: up}\n- {name: x, query: up, max_series: 0, history: 1m}\n",
        );
        for expected in [
            "c.yaml: forecasts[0].name: \"a b\" is no name",
            "c.yaml: forecasts[0].query: is empty",
            "c.yaml: forecasts[0].horizons[0]: 90s is no multiple of the step 1m",
            "c.yaml: forecasts[0].quantiles[1]: 1.5 is no quantile",
            "c.yaml: forecasts[0].bounds: lower 2 is not below upper 1",
            "c.yaml: forecasts[2].name: \"x\" is used twice",
            "c.yaml: forecasts[2].max_series: must be at least 1",
            "c.yaml: forecasts[2].history: must hold at least two steps",
        ] {
            assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}\n{found:#?}");
        }
        assert_eq!(found.len(), 8, "{found:#?}");
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let found = findings("forecasts: [{name: a, query: up, horizon: [5m]}]\nprometeus: {}");
        assert!(
            found[0].contains("forecasts[0].horizon: unknown field \"horizon\"; did you mean \"horizons\"?"),
            "{found:?}"
        );
        assert!(found[1].contains("prometeus: unknown field \"prometeus\"; did you mean \"prometheus\"?"), "{found:?}");
    }

    #[test]
    fn the_source_is_checked_with_all_the_rest() {
        let text = "prometheus: {url: 'https://p', tls: {cert_file: a}, params: {query: x}, bearer_token_file: t, basic_auth: {username: u, password_file: p}}\n";
        let found = findings(&format!("{text}forecasts: [{{name: x, query: ''}}]"));
        for expected in [
            "c.yaml: prometheus: bearer_token_file and basic_auth exclude each other",
            "c.yaml: prometheus.params.query: is set by the client itself",
            "c.yaml: prometheus.tls.key_file: is missing",
            "c.yaml: forecasts[0].query: is empty",
        ] {
            assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}\n{found:#?}");
        }
        assert_eq!(found.len(), 4, "{found:#?}");
    }

    #[test]
    fn own_forecasts_replace_the_built_in_ones_unless_asked_for() {
        let own = "forecasts: [{name: web, query: up, step: 30s}]";
        assert_eq!(Config::from_text("c", own).unwrap().forecasts.len(), 1);
        assert_eq!(Config::from_text("c", &format!("defaults: true\n{own}")).unwrap().forecasts.len(), 7);
    }
}
