//! The file of `--external-metrics.config`: YAML in; checked metrics out, or all that is wrong with it.
//!
//! ```yaml
//! metrics:
//!   - name: queue_depth                 # as the HPA asks for it, in lower case
//!     query: sum(queue_messages_ready{<<.LabelMatchers>>}) by (<<.GroupBy>>)
//!     namespaces: [shop]                # who may ask; all where absent
//!     namespaced: true                  # narrow the query to the namespace that asks; the default
//!     namespaceLabel: namespace         # by this label; the default
//!     aggregate: none                   # none | sum | max | avg | single
//!     maxAge: 1m                        # a value is served for so long while Prometheus does not answer
//!     window: 2m                        # what the API says of the time that the value is of; absent where it is of now
//! ```

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloudpulse_common::config;
use cloudpulse_common::config::Findings;
use cloudpulse_common::duration::PromDuration;
use serde::Deserialize;
use serde::Serialize;
use serde_yaml::Value;

use super::name::PREFIXES;
use super::template::Template;
use super::template::is_label;
use crate::rule::Check;

/// Label that a query is narrowed to the namespace by.
pub(crate) const DEFAULT_NAMESPACE_LABEL: &str = "namespace";
/// As four turns that failed.
const DEFAULT_MAX_AGE: PromDuration = PromDuration::from_secs(60);
/// What Kubernetes allows for a name.
const MAX_NAME: usize = 253;

/// The file's shape.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct File {
    /// The metrics.
    pub(crate) metrics: Option<Vec<Shape>>,
}

/// A metric as it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Shape {
    pub(crate) name: Option<String>,
    pub(crate) query: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespaces: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespaced: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aggregate: Option<Aggregate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_age: Option<PromDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<PromDuration>,
}

/// What becomes of several series.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Aggregate {
    /// All are given; an HPA sums them.
    #[default]
    None,
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// Their mean.
    Avg,
    /// It is an error.
    Single,
}

/// A metric that PromQL gives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueryMetric {
    /// Its name, in lower case.
    pub(crate) name: String,
    /// The query.
    pub(crate) query: Template,
    /// The namespaces that may ask; `None` for all.
    pub(crate) namespaces: Option<BTreeSet<String>>,
    /// The label that the query is narrowed to the namespace by; `None` where it is not.
    pub(crate) namespace_label: Option<String>,
    /// What becomes of several series.
    pub(crate) aggregate: Aggregate,
    /// How old a value may be.
    pub(crate) max_age: Duration,
    /// The time that a value is of.
    pub(crate) window: Option<Duration>,
}

/// The metrics of a file by their names.
pub(crate) type QueryMetrics = BTreeMap<String, Arc<QueryMetric>>;

/// Reads a file. One without metrics is allowed.
///
/// # Errors
/// All findings.
pub(crate) fn load(path: &Path) -> Result<QueryMetrics, Findings> {
    parse(&path.display().to_string(), &config::read(path)?)
}

/// Reads the text of a file; `file` is used in findings only.
///
/// # Errors
/// All findings.
pub(crate) fn parse(file: &str, text: &str) -> Result<QueryMetrics, Findings> {
    let mut findings = Vec::new();
    let value = config::parse_value(file, text, &mut findings).into_iter().next().unwrap_or(Value::Null);
    let shape = if value.is_null() { Some(File::default()) } else { config::from_value(file, value, &mut findings) };
    let mut metrics = QueryMetrics::new();
    for (number, shape) in shape.and_then(|File { metrics }| metrics).unwrap_or_default().into_iter().enumerate() {
        let mut check = Check::new(file, &mut findings);
        let place = format!("metrics[{number}]");
        let Some(metric) = metric(&mut check, &place, shape) else { continue };
        if metrics.contains_key(&metric.name) {
            check.add(format!("{place}.name"), format!("{:?} is there twice", metric.name));
        }
        metrics.insert(metric.name.clone(), Arc::new(metric));
    }
    if findings.is_empty() { Ok(metrics) } else { Err(Findings(findings)) }
}

fn metric(check: &mut Check<'_>, place: &str, shape: Shape) -> Option<QueryMetric> {
    let Shape { name, query, namespaces, namespaced, namespace_label, aggregate, max_age, window } = shape;
    let name = check.required_text(&format!("{place}.name"), name);
    if let Some(Err(message)) = name.as_deref().map(check_name) {
        check.add(format!("{place}.name"), message);
    }
    let narrowed = namespaced.unwrap_or(true);
    let at = format!("{place}.query");
    let query = check.required_text(&at, query).and_then(|text| match Template::parse(text.trim()) {
        Ok(query) => Some(query),
        Err(message) => {
            check.add(&at, message);
            None
        }
    });
    if narrowed && query.as_ref().is_some_and(|query| !query.has_matchers()) {
        let message = "has no <<.LabelMatchers>>, so that every namespace would get the values of all; where that is meant, \
                       say namespaced: false";
        check.add(&at, message);
    }
    if namespaces.as_ref().is_some_and(Vec::is_empty) {
        check.add(format!("{place}.namespaces"), "is empty, so that nobody may ask; leave it out for all namespaces");
    }
    let label = namespace_label.unwrap_or_else(|| DEFAULT_NAMESPACE_LABEL.to_owned());
    if !is_label(&label) {
        check.add(format!("{place}.namespaceLabel"), format!("no label of Prometheus can be named {label:?}"));
    }
    let max_age = max_age.unwrap_or(DEFAULT_MAX_AGE).0;
    if max_age < Duration::from_secs(1) {
        check.add(format!("{place}.maxAge"), "must be at least 1s");
    }
    Some(QueryMetric {
        name: name?,
        query: query?,
        namespaces: namespaces.map(|names| names.into_iter().collect()),
        namespace_label: narrowed.then_some(label),
        aggregate: aggregate.unwrap_or_default(),
        max_age,
        window: window.map(|window| window.0),
    })
}

/// Checks that an HPA can ask for a metric of this name and no other metric has it.
fn check_name(name: &str) -> Result<(), String> {
    let small = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    if name.chars().any(|letter| letter.is_ascii_uppercase()) {
        return Err(format!("is {name:?}; it must be in lower case, because an HPA asks in lower case"));
    }
    if let Some(prefix) = PREFIXES.iter().find(|prefix| name.starts_with(**prefix)) {
        return Err(format!("begins with {prefix}, as only metrics of the scaler itself may"));
    }
    if ["status", "finalize"].contains(&name) {
        return Err(format!("{name:?} means something else to Kubernetes"));
    }
    let fits = name.starts_with(small)
        && name.len() <= MAX_NAME
        && name.chars().all(|letter| small(letter) || matches!(letter, '-' | '_' | '.' | ':'));
    if !fits {
        return Err(format!(
            "is {name:?}; it must begin with a letter or digit and have up to {MAX_NAME} letters, digits, '-', '_', '.' and ':'"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_its_defaults() {
        let text = "
metrics:
  - {name: queue_depth, query: 'sum(q{<<.LabelMatchers>>})'}
  - {name: all, query: sum(q), namespaced: false, namespaces: [shop], aggregate: max, maxAge: 2m, window: 1m}
  - {name: own, query: 'q{<<.LabelMatchers>>}', namespaceLabel: kubernetes_namespace}
";
        let metrics = parse("f.yaml", text).unwrap();
        let first = &metrics["queue_depth"];
        assert_eq!((first.namespace_label.as_deref(), first.max_age), (Some("namespace"), Duration::from_secs(60)));
        assert_eq!((first.aggregate, &first.namespaces, first.window), (Aggregate::None, &None, None));
        let second = &metrics["all"];
        assert_eq!((second.namespace_label.as_deref(), second.window), (None, Some(Duration::from_secs(60))));
        assert_eq!(metrics["own"].namespace_label.as_deref(), Some("kubernetes_namespace"));
        for empty in ["", "# nothing\n", "metrics: []", "{}"] {
            assert!(parse("f.yaml", empty).unwrap().is_empty());
        }
    }

    #[test]
    fn all_that_is_wrong_is_found_at_once() {
        let text = "
metrics:
  - {name: Web, query: 'q{<<.Series>>}'}
  - {query: 'q{<<.LabelMatchers>>}', maxAge: 0s}
  - {name: a, query: q, nmespaces: [x]}
  - {name: b, query: ' ', aggregate: median, namespaces: []}
  - {name: cloudpulse-rule-x, query: 'q{<<.LabelMatchers>>}', namespaceLabel: a-b}
  - {name: c/d, query: 'q{<<.LabelMatchers>>}'}
  - {name: status, query: 'q{<<.LabelMatchers>>}'}
  - {name: e, query: 'q{<<.LabelMatchers>>}'}
  - {name: e, query: 'q{<<.LabelMatchers>>}'}
";
        let found = parse("f.yaml", text).unwrap_err().0;
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        for expected in [
            "f.yaml: metrics[0].name: is \"Web\"; it must be in lower case",
            "metrics[0].query: has <<.Series>>, which is not supported",
            "metrics[1].name: is missing",
            "metrics[1].maxAge: must be at least 1s",
            "metrics[2].nmespaces: unknown field \"nmespaces\"; did you mean \"namespaces\"?",
            "metrics[2].query: has no <<.LabelMatchers>>",
            "metrics[3].query: is empty",
            "metrics[3].aggregate: unknown variant `median`",
            "metrics[3].namespaces: is empty",
            "metrics[4].name: begins with cloudpulse-rule-",
            "metrics[4].namespaceLabel: no label of Prometheus",
            "metrics[5].name: is \"c/d\"",
            "metrics[6].name: \"status\" means something else",
            "metrics[8].name: \"e\" is there twice",
        ] {
            assert!(found.iter().any(|finding| finding.contains(expected)), "{expected}: {found:#?}");
        }
        assert_eq!(found.len(), 14, "{found:#?}");
    }
}
