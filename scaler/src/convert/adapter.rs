//! prometheus-adapter's configuration: its text in; metrics in our form, and what of it they cannot say, out. Pure.
//!
//! The meaning of each field was read from prometheus-adapter v0.12.0: the series query only finds series by their names,
//! and its matchers are not part of the query for a value; filters and `name.matches` match anywhere in a name.

use cloudpulse_common::config;
use cloudpulse_common::config::Finding;
use regex::Regex;
use serde::Deserialize;
use serde_yaml::Value;

use crate::external::store::config::DEFAULT_NAMESPACE_LABEL;
use crate::external::store::config::File;
use crate::external::store::config::Shape;
use crate::external::store::config::parse;
use crate::external::store::template::Template;
use crate::rule::Check;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    rules: Option<Vec<Value>>,
    resource_rules: Option<Value>,
    external_rules: Option<Vec<Rule>>,
}

/// A rule for external metrics.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Rule {
    series_query: Option<String>,
    #[serde(default)]
    series_filters: Vec<Filter>,
    #[serde(default)]
    resources: Resources,
    #[serde(default)]
    name: Name,
    metrics_query: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Filter {
    is: Option<String>,
    is_not: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Resources {
    template: Option<String>,
    #[serde(default)]
    overrides: std::collections::BTreeMap<String, Resource>,
    namespaced: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Resource {
    group: Option<String>,
    resource: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Name {
    matches: Option<String>,
    #[serde(rename = "as")]
    written: Option<String>,
}

/// Which series a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Names {
    /// The one of this name.
    One(String),
    /// Those that this selector gives.
    Several(String),
}

/// Reads a configuration, or a ConfigMap that holds one. What is not for external metrics is lost.
pub(super) fn read(file: &str, text: &str, lost: &mut Vec<Finding>) -> Vec<Rule> {
    let document = config::parse_value(file, text, lost).into_iter().find(|document| !document.is_null());
    let document = match document {
        Some(document) if document.get("kind").and_then(Value::as_str) == Some("ConfigMap") => {
            let inside = document.get("data").and_then(|data| data.get("config.yaml")).and_then(Value::as_str);
            let Some(inside) = inside else {
                Check::new(file, lost).add("data", "has no config.yaml");
                return Vec::new();
            };
            config::parse_value(file, inside, lost).into_iter().next()
        }
        document => document,
    };
    let Some(config) = document.and_then(|document| config::from_value::<Config>(file, document, lost)) else {
        return Vec::new();
    };
    let mut check = Check::new(file, lost);
    if let Some(rules) = config.rules.filter(|rules| !rules.is_empty()) {
        check.add("rules", format!("{} rules are for custom metrics, which are not served", rules.len()));
    }
    if config.resource_rules.is_some() {
        check.add("resourceRules", "are for resource metrics, which are not served; metrics-server does");
    }
    config.external_rules.unwrap_or_default()
}

impl Rule {
    /// Returns which series the rule is for; `None` where it does not say.
    pub(super) fn names(&self) -> Option<Names> {
        let query = self.series_query.as_deref().map(str::trim).filter(|query| !query.is_empty())?;
        let (name, inside) = query.split_once('{').unwrap_or((query, ""));
        let name = name.trim();
        if !name.is_empty() {
            return Some(Names::One(name.to_owned()));
        }
        // The name as an equality; all else is asked for.
        let of_name = Regex::new(r#"^\s*__name__\s*=\s*"([a-zA-Z_:][a-zA-Z0-9_:]*)"\s*[,}]"#).ok()?;
        Some(
            of_name
                .captures(inside)
                .map_or_else(|| Names::Several(query.to_owned()), |found| Names::One(found[1].to_owned())),
        )
    }

    /// Adds the metrics of `series` to `metrics`; what is different in ours is a note, what it cannot say is lost.
    pub(super) fn metrics(
        &self,
        at: &str,
        series: &[String],
        metrics: &mut Vec<Shape>,
        notes: &mut Vec<String>,
        lost: &mut Check<'_>,
    ) {
        let Some(query) = self.metrics_query.as_deref().map(str::trim).filter(|query| !query.is_empty()) else {
            lost.add(format!("{at}.metricsQuery"), "is missing");
            return;
        };
        let (Some(filters), Some((matches, written)), Some(namespace_label)) =
            (self.filters(at, lost), self.naming(at, lost), self.namespace_label(at, lost))
        else {
            return;
        };
        let mut found = 0;
        for name in series {
            let is_meant = |(filter, wanted): &(Regex, bool)| filter.is_match(name) == *wanted;
            let Some(captures) = matches.captures(name).filter(|_| filters.iter().all(is_meant)) else { continue };
            let mut asked = String::new();
            captures.expand(&written, &mut asked);
            found += 1;
            let lower = asked.to_lowercase();
            if lower != asked {
                notes.push(format!("{at}.name: {asked} is {lower} now, because HPAs ask in lower case"));
            }
            if metrics.iter().any(|metric| metric.name.as_deref() == Some(lower.as_str())) {
                lost.add(format!("{at}.name"), format!("{lower} is there already; {name} is left out"));
                continue;
            }
            let query = with_series(query, name);
            let has_matchers = Template::parse(&query).is_ok_and(|query| query.has_matchers());
            if !has_matchers {
                notes.push(format!(
                    "{at}.metricsQuery: has no place for a selector; the adapter passes over it, here it chooses among what \
                     the query gives"
                ));
            }
            let namespaced = namespace_label.is_some() && has_matchers;
            let shape = Shape {
                name: Some(lower),
                query: Some(query),
                namespaced: (!namespaced).then_some(false),
                namespace_label: namespace_label.clone().filter(|label| namespaced && label != DEFAULT_NAMESPACE_LABEL),
                ..Shape::default()
            };
            if usable(at, &shape, lost) {
                metrics.push(shape);
            }
        }
        if found == 0 {
            lost.add(format!("{at}.seriesQuery"), format!("no series is left of {}", series.join(", ")));
        }
    }

    fn filters(&self, at: &str, lost: &mut Check<'_>) -> Option<Vec<(Regex, bool)>> {
        let mut filters = Vec::new();
        for (number, Filter { is, is_not }) in self.series_filters.iter().enumerate() {
            let place = format!("{at}.seriesFilters[{number}]");
            let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
            let (pattern, wanted) = match (filled(is), filled(is_not)) {
                (Some(pattern), None) => (pattern, true),
                (None, Some(pattern)) => (pattern, false),
                _ => {
                    lost.add(place, "must have one of is and isNot");
                    return None;
                }
            };
            filters.push((regex(&place, &pattern, lost)?, wanted));
        }
        Some(filters)
    }

    /// The pattern of series' names, and how a metric is named after it.
    fn naming(&self, at: &str, lost: &mut Check<'_>) -> Option<(Regex, String)> {
        let pattern = self.name.matches.as_deref().filter(|pattern| !pattern.is_empty()).unwrap_or(".*");
        let matches = regex(&format!("{at}.name.matches"), pattern, lost)?;
        let written = match (self.name.written.as_deref().filter(|written| !written.is_empty()), matches.captures_len())
        {
            (Some(written), _) => written.to_owned(),
            (None, 1) => "$0".to_owned(),
            (None, 2) => "$1".to_owned(),
            (None, _) => {
                lost.add(format!("{at}.name.as"), "is missing, and name.matches has several groups");
                return None;
            }
        };
        Some((matches, written))
    }

    /// The label of the namespace, `None` in it where the query is not narrowed to one.
    fn namespace_label(&self, at: &str, lost: &mut Check<'_>) -> Option<Option<String>> {
        if self.resources.namespaced == Some(false) {
            return Some(None);
        }
        let is_namespace = |one: &&Resource| {
            one.group.as_deref().unwrap_or_default().is_empty()
                && matches!(one.resource.as_deref(), Some("namespace" | "namespaces"))
        };
        let overrides: Vec<&String> =
            self.resources.overrides.iter().filter(|(_, one)| is_namespace(one)).map(|(label, _)| label).collect();
        match overrides.as_slice() {
            [label] => return Some(Some((*label).clone())),
            [] => {}
            several => {
                let several = several.iter().map(|label| label.as_str()).collect::<Vec<_>>().join(", ");
                lost.add(format!("{at}.resources.overrides"), format!("{several} are all said to be the namespace"));
                return None;
            }
        }
        let Some(template) = self.resources.template.as_deref().filter(|template| !template.is_empty()) else {
            let message = "does not say which label is the namespace, so that the adapter fails too; where the query is for \
                           all namespaces, say namespaced: false";
            lost.add(format!("{at}.resources"), message);
            return None;
        };
        let spaceless = template.replace("<< ", "<<").replace(" >>", ">>");
        let label = spaceless.replace("<<.Resource>>", "namespace").replace("<<.Group>>", "");
        if label.contains("<<") {
            lost.add(format!("{at}.resources.template"), "has more than <<.Resource>> and <<.Group>> in it");
            return None;
        }
        Some(Some(label))
    }
}

fn regex(place: &str, pattern: &str, lost: &mut Check<'_>) -> Option<Regex> {
    match Regex::new(pattern) {
        Ok(regex) => Some(regex),
        Err(error) => {
            lost.add(place, format!("{pattern:?} cannot be read: {error}"));
            None
        }
    }
}

/// Puts the name of the series in its place.
fn with_series(query: &str, series: &str) -> String {
    let mut text = String::new();
    let mut rest = query;
    while let Some((before, behind)) = rest.split_once("<<") {
        let Some((inside, after)) = behind.split_once(">>") else { break };
        text.push_str(before);
        if inside.trim() == ".Series" {
            text.push_str(series);
        } else {
            text.push_str(&format!("<<{inside}>>"));
        }
        rest = after;
    }
    text + rest
}

/// Whether the scaler takes the metric; what it says against it is lost.
fn usable(at: &str, shape: &Shape, lost: &mut Check<'_>) -> bool {
    let file = File { metrics: Some(vec![shape.clone()]) };
    let text = serde_yaml::to_string(&file).unwrap_or_default();
    match parse("", &text) {
        Ok(_) => true,
        Err(findings) => {
            for Finding { path, message, .. } in findings.0 {
                let field = match path.strip_prefix("metrics[0].") {
                    Some("query") => "metricsQuery",
                    Some("namespaceLabel") => "resources",
                    _ => "name",
                };
                lost.add(format!("{at}.{field}"), message);
            }
            false
        }
    }
}

#[cfg(test)]
mod tests;
