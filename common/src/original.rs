//! Environment variables of the first CloudPulse: what became of each. A program says once at its start which of them are
//! set and do nothing any more, so that a setting is not lost without a word.
//!
//! `docs/migrate/original.md` has the same table; a test holds one to the other.

/// What became of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is read, and means what it meant.
    Kept(&'static str),
    /// Something else is set in its place.
    Renamed(&'static str),
    /// Nothing is, and why.
    Gone(&'static str),
}

/// A variable of the first CloudPulse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What became of it.
    pub fate: Fate,
    /// Whether other programs commonly have a variable of this name: alone it is no sign of the first CloudPulse.
    pub common: bool,
}

const fn kept(name: &'static str, text: &'static str) -> Variable {
    Variable { name, fate: Fate::Kept(text), common: true }
}

const fn renamed(name: &'static str, text: &'static str) -> Variable {
    Variable { name, fate: Fate::Renamed(text), common: false }
}

const fn gone(name: &'static str, text: &'static str) -> Variable {
    Variable { name, fate: Fate::Gone(text), common: false }
}

impl Variable {
    const fn common(self) -> Self {
        Self { common: true, ..self }
    }
}

/// Those that all programs read.
pub const ALL: [Variable; 2] =
    [kept("LOG_LEVEL", "all programs read it"), kept("LOG_FORMAT", "all programs read it: text, the default, or json")];

/// Those of the agent. Few words: what the exporter does not need costs it memory.
pub const EXPORTER: [Variable; 6] = [
    kept("NODE_ID", "the exporter reads it"),
    kept("PORT", "the exporter reads it; the dashboard's is gone with the dashboard"),
    renamed("AGENT_PORT", "PORT or LISTEN_ADDRESS"),
    renamed("METRICS_PORT", "PORT or LISTEN_ADDRESS"),
    gone("ENABLE_METRICS", "/metrics is what the exporter is for"),
    gone("ENABLE_METRICS_COLLECTION", "collectors have flags"),
];

/// Those of the ML service.
pub const PREDICTOR: [Variable; 20] = [
    renamed("AGENT_ENDPOINTS", "targets in scrape_configs of Prometheus, and CLOUDPULSE_PREDICTOR_PROMETHEUS"),
    renamed("FORECAST_INTERVAL_MINUTES", "forecasts[].interval of the configuration"),
    renamed("ML_SERVICE_HOST", "CLOUDPULSE_PREDICTOR_LISTEN"),
    renamed("ML_SERVICE_PORT", "CLOUDPULSE_PREDICTOR_LISTEN"),
    renamed("MODEL_SAVE_PATH", "CLOUDPULSE_PREDICTOR_STATE_DIR"),
    renamed("MODEL_RETRAIN_INTERVAL_HOURS", "forecasts[].lstm.fine_tune_interval of the configuration"),
    gone("MODEL_BACKUP_COUNT", "the last five states and networks are kept"),
    gone("LSTM_SEQUENCE_LENGTH", "the network comes trained, and its shape is part of the program"),
    gone("LSTM_HIDDEN_UNITS", "the network comes trained, and its shape is part of the program"),
    gone("LSTM_DROPOUT_RATE", "the network comes trained, and its shape is part of the program"),
    gone("LSTM_EPOCHS", "how fine-tuning learns is part of the program"),
    gone("LSTM_BATCH_SIZE", "how fine-tuning learns is part of the program"),
    gone("LSTM_VALIDATION_SPLIT", "the newest fifth of the history judges what was learnt"),
    gone("PROPHET_GROWTH_MODEL", "growth is linear, as it was"),
    gone("PROPHET_SEASONALITY_MODE", "the mode is what the history speaks for; that of a regressor can be chosen"),
    gone("PROPHET_YEARLY_SEASONALITY", "seasons are those that the history speaks for"),
    gone("PROPHET_WEEKLY_SEASONALITY", "seasons are those that the history speaks for"),
    gone("PROPHET_DAILY_SEASONALITY", "seasons are those that the history speaks for"),
    gone("ENABLE_FORECASTING", "forecasting is what the predictor is for"),
    gone(
        "ENABLE_ANOMALY_DETECTION",
        "the score is always there; forecasts[].anomaly of the configuration says what is an alarm",
    ),
];

/// Those of the dashboard, which also scaled and alerted.
pub const SCALER: [Variable; 37] = [
    gone("ML_SERVICE_URL", "forecasts come from Prometheus: CLOUDPULSE_SCALER_PROMETHEUS"),
    gone("CORS_ORIGIN", "no page of a browser asks the API; Grafana is the dashboard"),
    gone("DASHBOARD_PORT", "Grafana is the dashboard; the API's is in CLOUDPULSE_SCALER_LISTEN"),
    gone("DASHBOARD_HOST", "Grafana is the dashboard; the API's is in CLOUDPULSE_SCALER_LISTEN"),
    gone("NODE_ENV", "there is no Node").common(),
    gone("REDIS_HOST", "there is no Redis: Prometheus has the data").common(),
    gone("REDIS_PORT", "there is no Redis: Prometheus has the data").common(),
    gone("REDIS_PASSWORD", "there is no Redis: Prometheus has the data").common(),
    gone("REDIS_DB", "there is no Redis: Prometheus has the data").common(),
    gone("REDIS_TTL_SECONDS", "there is no Redis: Prometheus has the data").common(),
    renamed("ALERT_CPU_THRESHOLD", "CloudPulsePredictedHighCPU in rules/prometheus"),
    renamed("ALERT_MEMORY_THRESHOLD", "CloudPulsePredictedHighMemory in rules/prometheus"),
    renamed("ALERT_DISK_THRESHOLD", "CloudPulsePredictedDiskFull in rules/prometheus"),
    gone(
        "ALERT_NETWORK_THRESHOLD",
        "no number fits every network; write an alert on the forecast node-network-receive",
    ),
    renamed("SCALING_ENABLED", "spec.mode of a rule: observe touches nothing"),
    renamed("SCALE_UP_THRESHOLD", "spec.threshold of a rule, or metrics[].replicaCapacity"),
    renamed("SCALE_DOWN_THRESHOLD", "spec.threshold of a rule, or metrics[].replicaCapacity"),
    renamed("SCALE_UP_COOLDOWN_SECONDS", "spec.cooldown of a rule, or spec.behavior.scaleUp"),
    renamed("SCALE_DOWN_COOLDOWN_SECONDS", "spec.cooldown of a rule, or spec.behavior.scaleDown"),
    renamed("MIN_REPLICAS", "spec.minReplicas of a rule").common(),
    renamed("MAX_REPLICAS", "spec.maxReplicas of a rule").common(),
    gone("JWT_SECRET", "writing takes the token in CLOUDPULSE_SCALER_API_TOKEN_FILE, users are in --web.config.file")
        .common(),
    renamed("API_KEY", "CLOUDPULSE_SCALER_API_TOKEN_FILE").common(),
    renamed("ENABLE_AUTH", "--web.config.file"),
    gone("ENABLE_RATE_LIMITING", "a proxy before the API can; the original's own probes ran into it"),
    gone("RATE_LIMIT_WINDOW_MS", "a proxy before the API can"),
    gone("RATE_LIMIT_MAX_REQUESTS", "a proxy before the API can"),
    gone("LOG_FILE_PATH", "logs go to stderr"),
    gone("LOG_MAX_SIZE", "logs go to stderr"),
    gone("LOG_MAX_FILES", "logs go to stderr"),
    gone("LOG_COMPRESS", "logs go to stderr"),
    renamed("DEBUG", "LOG_LEVEL=debug").common(),
    gone("HOT_RELOAD", "rule files are read again by themselves").common(),
    gone("ENABLE_SWAGGER", "/api/v1/openapi.json is always there"),
    renamed("ENABLE_AUTO_SCALING", "spec.mode of a rule: observe touches nothing"),
    gone("ENABLE_ALERTING", "Prometheus alerts where it loads rules/prometheus"),
    gone("ENABLE_WEBHOOKS", "Alertmanager has web hooks"),
];

/// Logs, in one line, which of `variables` are set and do nothing any more. Says nothing where all of these are such as
/// other programs have too. Their values are not logged: there are secrets among them.
pub fn warn(variables: &[Variable]) {
    if let Some(said) = says(variables, |name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        tracing::warn!("set and without effect, see docs/migrate/original.md: {said}");
    }
}

fn says(variables: &[Variable], is_set: impl Fn(&str) -> bool) -> Option<String> {
    let mut said = String::new();
    let mut certain = false;
    for variable in variables {
        let (what, text) = match variable.fate {
            Fate::Kept(_) => continue,
            Fate::Renamed(text) => ("now ", text),
            Fate::Gone(text) => ("gone, ", text),
        };
        if is_set(variable.name) {
            certain |= !variable.common;
            for part in [if said.is_empty() { "" } else { "; " }, variable.name, " (", what, text, ")"] {
                said.push_str(part);
            }
        }
    }
    certain.then_some(said)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all() -> Vec<Variable> {
        [&ALL[..], &EXPORTER, &PREDICTOR, &SCALER].concat()
    }

    #[test]
    fn the_page_has_the_same_table() {
        let page = include_str!("../../docs/migrate/original.md");
        let mut rows: BTreeSet<&str> = page.lines().filter(|line| is_row(line)).collect();
        assert_eq!(rows.len(), 65, "64 variables of env.example, and PORT");
        for Variable { name, fate, .. } in all() {
            let (word, text) = match fate {
                Fate::Kept(text) => ("kept", text),
                Fate::Renamed(text) => ("renamed", text),
                Fate::Gone(text) => ("gone", text),
            };
            let row = format!("| `{name}` | {word} | {text} |");
            assert!(rows.remove(row.as_str()), "docs/migrate/original.md lacks the row\n{row}");
        }
        assert!(rows.is_empty(), "in the page, and not in the table of the code: {rows:#?}");
    }

    /// Rows that begin with the name of a variable.
    fn is_row(line: &str) -> bool {
        let name = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')).map(|(name, _)| name);
        name.is_some_and(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    }

    #[test]
    fn what_is_set_is_said_once_and_without_its_value() {
        let says = |set: &[&str]| says(&all(), |name| set.contains(&name));
        assert_eq!(says(&[]), None);
        assert_eq!(says(&["NODE_ID", "LOG_LEVEL", "PORT"]), None, "kept");
        assert_eq!(says(&["DEBUG", "NODE_ENV", "REDIS_HOST"]), None, "nothing of ours, most likely");
        assert_eq!(
            says(&["DEBUG", "MODEL_SAVE_PATH", "LOG_COMPRESS"]).unwrap(),
            "MODEL_SAVE_PATH (now CLOUDPULSE_PREDICTOR_STATE_DIR); LOG_COMPRESS (gone, logs go to stderr); \
             DEBUG (now LOG_LEVEL=debug)"
        );
    }
}
