//! Regressors, quantities that a load follows: as written in; checked ones, and findings, out.

use std::collections::BTreeSet;

use cloudpulse_forecast::known::Known;
use cloudpulse_forecast::prophet::plan::SeasonalityMode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Check;

/// Each is a query of its own, and a column of every fit.
const MAX_REGRESSORS: usize = 8;

/// A quantity that the load follows.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegressorShape {
    /// Unique name, in the log and in metrics.
    name: String,
    /// PromQL that returns one series, for future times too.
    query: String,
    /// `additive`, or `multiplicative`: a unit of it scales the trend.
    #[serde(default)]
    #[schemars(extend("default" = "additive"))]
    mode: Option<String>,
}

/// A quantity that the load follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regressor {
    /// Unique name, in the log and in metrics.
    pub name: String,
    /// PromQL that returns one series, for past and future times.
    pub query: String,
    /// Whether a unit of it adds to the level or multiplies it.
    pub mode: SeasonalityMode,
}

/// Returns the regressors; `known` holds the holidays, whose names are taken.
pub(super) fn check_regressors(
    shapes: Vec<RegressorShape>,
    known: &Known,
    path: &str,
    check: &mut Check<'_>,
) -> Vec<Regressor> {
    if shapes.len() > MAX_REGRESSORS {
        check.add(path, format!("are {}; at most {MAX_REGRESSORS} are followed", shapes.len()));
    }
    let mut names = BTreeSet::new();
    let mut regressors = Vec::with_capacity(shapes.len());
    for (i, RegressorShape { name, query, mode }) in shapes.into_iter().enumerate() {
        let path = format!("{path}[{i}]");
        if name.is_empty() || !names.insert(name.clone()) {
            check.add(&format!("{path}.name"), format!("{name:?} is empty or used twice; names are unique"));
        }
        if known.events.iter().any(|event| event.name == name) {
            check.add(&format!("{path}.name"), format!("{name:?} is the name of a holiday, or of a day of its window"));
        }
        if query.trim().is_empty() {
            check
                .add(&format!("{path}.query"), "is empty; write PromQL that returns one series, also for future times");
        }
        let mode = match mode.as_deref() {
            None | Some("additive") => SeasonalityMode::Additive,
            Some("multiplicative") => SeasonalityMode::Multiplicative,
            Some(other) => {
                check.add(&format!("{path}.mode"), format!("{other:?} is no mode; use additive or multiplicative"));
                SeasonalityMode::Additive
            }
        };
        regressors.push(Regressor { name, query, mode });
    }
    regressors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(extra: &str) -> Result<Vec<Regressor>, Vec<String>> {
        let text = format!("forecasts:\n- {{name: web, query: up, {extra}}}\n");
        let config = Config::from_text("c.yaml", &text);
        config
            .map(|mut config| config.forecasts.remove(0).regressors)
            .map_err(|found| found.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_regressor_adds_unless_it_multiplies() {
        let written =
            "regressors: [{name: queue, query: queue offset 30m}, {name: sale, query: sale, mode: multiplicative}]";
        let found = config(written).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].query.as_str()), ("queue", "queue offset 30m"));
        assert_eq!(found[0].mode, SeasonalityMode::Additive);
        assert_eq!(found[1].mode, SeasonalityMode::Multiplicative);
        assert!(config("step: 1m").unwrap().is_empty());
    }

    #[test]
    fn findings_name_the_field() {
        let found = config(
            "holidays: [{name: sale, dates: [2026-11-27], upper_window: 1}], \
             regressors: [{name: a, query: up}, {name: a, query: ' '}, {name: '', query: up, mode: both}, \
             {name: sale_+1, query: up}, {name: b, query: up}, {name: c, query: up}, {name: d, query: up}, \
             {name: e, query: up}, {name: f, query: up}]",
        )
        .unwrap_err();
        for expected in [
            "c.yaml: forecasts[0].regressors: are 9; at most 8 are followed",
            "c.yaml: forecasts[0].regressors[1].name: \"a\" is empty or used twice",
            "c.yaml: forecasts[0].regressors[1].query: is empty",
            "c.yaml: forecasts[0].regressors[2].name: \"\" is empty or used twice",
            "c.yaml: forecasts[0].regressors[2].mode: \"both\" is no mode; use additive or multiplicative",
            "c.yaml: forecasts[0].regressors[3].name: \"sale_+1\" is the name of a holiday",
        ] {
            assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}\n{found:#?}");
        }
        assert_eq!(found.len(), 6, "{found:#?}");
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let found = config("regressors: [{name: a, query: up, modus: additive}]").unwrap_err();
        assert!(found[0].contains("forecasts[0].regressors[0].modus"), "{found:?}");
    }
}
