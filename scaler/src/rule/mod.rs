//! Rule files: paths in; checked rules out, or every fault of every file with its field.
//!
//! A file holds one or more YAML documents, each a `ScalingRule` in the full form or in the original's. After this module
//! nothing of a rule is validated again.

mod behavior;
mod bounds;
mod check;
mod full;
pub mod lint;
mod original;
pub(crate) mod quantity;
pub(crate) mod schema;
pub(crate) mod shape;
mod sources;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use cloudpulse_common::config;
use cloudpulse_common::config::Finding;
use cloudpulse_common::config::Findings;
use cloudpulse_common::duration::PromDuration;
use cloudpulse_policy::policy::Policy;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

use crate::target::TargetConfig;

pub(crate) use crate::rule::check::Check;
pub(crate) use crate::rule::original::quoted;

use crate::rule::shape::Document;
use crate::rule::shape::Metadata;

/// API group and version of a rule.
pub const API_VERSION: &str = "cloudpulse.io/v1";
/// Kind of a rule.
pub const KIND: &str = "ScalingRule";

/// A checked rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique name: `name`, or `namespace/name` where there is a namespace.
    pub name: String,
    /// What is scaled.
    pub target: TargetConfig,
    /// How.
    pub policy: Policy,
    /// Where the policy's metrics come from, in their order.
    pub queries: Vec<MetricQuery>,
    /// How the rule was written.
    pub form: Form,
}

/// How a rule was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All of it.
    Full,
    /// As the original had it: a threshold, an action, a number.
    Original,
}

/// Where a metric of a policy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricQuery {
    /// Name of the metric in the policy.
    pub name: String,
    /// PromQL that gives exactly one series: the load on the whole workload.
    pub query: String,
    /// A sample older than this is stale.
    pub max_age: Duration,
    /// Where it is told how much of the load could be read.
    pub sources: Sources,
    /// The predictor's forecast of the same load.
    pub forecast: Option<ForecastQuery>,
}

/// Series of 1 for each source of a load that could be read and 0 for each that could not, as `up`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// Not asked for.
    Unknown,
    /// PromQL that the rule names; without an answer the load counts as incomplete.
    Named(String),
    /// PromQL taken from the job in the query; without an answer nothing is known, as where loads are written remotely.
    Derived(String),
}

/// A forecast of the predictor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForecastQuery {
    /// Its name in the predictor's configuration.
    pub name: String,
    /// The horizon of the peak.
    pub horizon: Horizon,
    /// A forecast made longer ago than this is stale.
    pub max_age: Duration,
}

/// Which of the published horizons is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Horizon {
    /// This one.
    Fixed(PromDuration),
    /// The shortest that is at least the lead time and one turn.
    Auto,
}

/// Returns the rules of files, and of the `.yaml` and `.yml` files of folders, in the order of their names.
///
/// # Errors
/// All findings of all files. No rule at all in what is named is a finding, and so are two rules of one name or, in the full form, for
/// one target.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Rule>, Findings> {
    let mut findings = Vec::new();
    let mut rules = Vec::new();
    for path in paths {
        for file in files(path, &mut findings) {
            match config::read(&file) {
                Ok(text) => parse_file(&file.display().to_string(), &text, &mut rules, &mut findings),
                Err(Findings(found)) => findings.extend(found),
            }
        }
    }
    check_together(&rules, &mut findings);
    if rules.is_empty() && findings.is_empty() && !paths.is_empty() {
        let file = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        findings.push(Finding { file, path: String::new(), message: "no scaling rule is in there".to_owned() });
    }
    if findings.is_empty() { Ok(rules.into_iter().map(|(_, rule)| rule).collect()) } else { Err(Findings(findings)) }
}

fn files(path: &Path, findings: &mut Vec<Finding>) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("cannot be read: {error}");
            findings.push(Finding { file: path.display().to_string(), path: String::new(), message });
            return Vec::new();
        }
    };
    let is_yaml = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_yaml).collect();
    files.sort();
    files
}

/// Reads the documents of one file; empty ones are skipped.
fn parse_file(file: &str, text: &str, rules: &mut Vec<(String, Rule)>, findings: &mut Vec<Finding>) {
    let documents = config::parse_value(file, text, findings);
    let several = documents.len() > 1;
    for (number, document) in documents.into_iter().enumerate().filter(|(_, document)| !document.is_null()) {
        let place = if several { format!("{file} (document {})", number + 1) } else { file.to_owned() };
        if let Some(rule) = parse_document(&place, document, findings) {
            rules.push((place, rule));
        }
    }
}

/// Returns the rule of an object in a cluster. Its `spec` is held to the same checks as a file's.
///
/// # Errors
/// All findings; their file is the object's name.
pub fn from_object(namespace: &str, name: &str, spec: &serde_json::Value) -> Result<Rule, Findings> {
    let place = format!("{KIND} {namespace}/{name}");
    let mut findings = Vec::new();
    let document = serde_json::json!({
        "apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    });
    let rule = match serde_yaml::to_value(document) {
        Ok(mut document) => {
            if shape::is_original(&document) {
                remove_defaults(&mut document);
            }
            parse_document(&place, document, &mut findings)
        }
        Err(error) => {
            findings.push(Finding { file: place, path: "spec".to_owned(), message: error.to_string() });
            None
        }
    };
    rule.filter(|_| findings.is_empty()).ok_or(Findings(findings))
}

/// Takes away what the CustomResourceDefinition's defaults add to the original's form, which does not have these fields.
fn remove_defaults(document: &mut Value) {
    if let Some(Value::Mapping(spec)) = document.get_mut("spec") {
        for (field, default) in [("mode", Value::from("floor")), ("minReplicas", Value::from(1))] {
            if spec.get(field) == Some(&default) {
                spec.remove(field);
            }
        }
    }
}

fn parse_document(file: &str, document: Value, findings: &mut Vec<Finding>) -> Option<Rule> {
    if shape::is_original(&document) {
        let (name, spec) = envelope(file, document, findings)?;
        original::check(name, spec?, &mut Check::new(file, findings))
    } else {
        let (name, spec) = envelope(file, document, findings)?;
        full::check(name, spec?, &mut Check::new(file, findings))
    }
}

/// Checks what both forms share. The name stands in for a missing one so that the rest can be checked.
fn envelope<Spec: DeserializeOwned>(
    file: &str,
    document: Value,
    findings: &mut Vec<Finding>,
) -> Option<(Name, Option<Spec>)> {
    let Document { api_version, kind, metadata, spec } = config::from_value(file, document, findings)?;
    let mut check = Check::new(file, findings);
    for (path, value, expected) in [("apiVersion", api_version, API_VERSION), ("kind", kind, KIND)] {
        if let Some(value) = check.required(path, value)
            && value != expected
        {
            check.add(path, format!("is {value:?}; it must be {expected}"));
        }
    }
    let Metadata { name, namespace, .. } = metadata.unwrap_or_default();
    let name = check.required_text("metadata.name", name).unwrap_or_default();
    let name = namespace.as_ref().map_or(name.clone(), |namespace| format!("{namespace}/{name}"));
    Some((Name { namespace, name }, check.required("spec", spec)))
}

/// How a rule is called.
struct Name {
    namespace: Option<String>,
    /// With the namespace, where there is one.
    name: String,
}

/// What can only be seen over all rules.
fn check_together(rules: &[(String, Rule)], findings: &mut Vec<Finding>) {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut targets: HashMap<String, (&str, Form)> = HashMap::new();
    for (file, rule) in rules {
        if rule.name.is_empty() {
            continue;
        }
        if let Some(first) = names.insert(&rule.name, file) {
            Check::new(file, findings).add("metadata.name", format!("{:?} names a rule in {first} too", rule.name));
        }
        let Some(target) = rule.target.exclusive() else { continue };
        // The original's form takes two rules for one workload, one for each action.
        if let Some((first, form)) = targets.get(&target) {
            if (*form, rule.form) != (Form::Original, Form::Original) {
                Check::new(file, findings).add("spec.target", format!("{target} is scaled by rule {first:?} too"));
            }
        } else {
            targets.insert(target, (&rule.name, rule.form));
        }
    }
}

#[cfg(test)]
mod tests;
