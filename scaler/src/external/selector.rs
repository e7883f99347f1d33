//! Label selectors in Kubernetes' grammar: text in; what they let through out. Pure.
//!
//! The grammar, the rules for keys and values and the meaning of absent labels are those of
//! `k8s.io/apimachinery/pkg/labels`, so that a selector means here what it means to `kubectl get --selector`.

mod parse;
mod valid;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

/// A longer text is refused unread: ten labels with the longest keys and values are shorter.
pub const MAX_BYTES: usize = 4096;

/// A parsed label selector: requirements that must all hold, each once, in the order of their keys. Empty lets everything
/// through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One requirement of a selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    /// The label's name.
    pub key: String,
    /// What is asked of it.
    pub condition: Condition,
}

/// What a requirement asks of its label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The label is there with one of these values; at least one.
    In(BTreeSet<String>),
    /// The label has none of these values, or is not there; at least one.
    NotIn(BTreeSet<String>),
    /// The label is a whole number above this.
    Above(i64),
    /// The label is a whole number below this.
    Below(i64),
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse requirement: {0}")]
pub struct ParseSelectorError(String);

impl Selector {
    /// Reads a selector, such as `app=web,tier in (a,b),!canary`.
    ///
    /// # Errors
    /// What was found in place of what, the key or value that is not valid, or that the text is too long.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        if text.len() > MAX_BYTES {
            return Err(ParseSelectorError(format!("{} bytes are more than {MAX_BYTES}", text.len())));
        }
        Ok(Self::new(parse::requirements(text)?))
    }

    fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort();
        requirements.dedup();
        Self { requirements }
    }

    /// Returns whether a series with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels.get(&requirement.key)))
    }

    /// Returns whether everything is let through.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Returns the requirements, in the order of their keys.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Returns whether a requirement names this key.
    pub fn names(&self, key: &str) -> bool {
        self.requirements.iter().any(|requirement| requirement.key == key)
    }

    /// Returns the value that the label `key` must have; `None` where several are allowed or any.
    pub fn required_value(&self, key: &str) -> Option<&str> {
        self.requirements.iter().filter(|requirement| requirement.key == key).find_map(|one| match &one.condition {
            Condition::In(values) if values.len() == 1 => values.first().map(String::as_str),
            _ => None,
        })
    }
}

impl Requirement {
    /// Returns whether the requirement holds for a series whose label `key` has this value; `None` where it is absent.
    pub fn holds(&self, value: Option<&String>) -> bool {
        match (&self.condition, value) {
            (Condition::Exists, value) => value.is_some(),
            (Condition::DoesNotExist, value) => value.is_none(),
            (Condition::NotIn(_), None) => true,
            (Condition::In(_) | Condition::Above(_) | Condition::Below(_), None) => false,
            (Condition::In(values), Some(value)) => values.contains(value),
            (Condition::NotIn(values), Some(value)) => !values.contains(value),
            (Condition::Above(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value > *bound),
            (Condition::Below(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value < *bound),
        }
    }
}

/// The canonical text: two selectors of the same requirements have the same.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, requirement) in self.requirements.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, condition } = self;
        match condition {
            Condition::Exists => write!(f, "{key}"),
            Condition::DoesNotExist => write!(f, "!{key}"),
            Condition::In(values) => write_values(f, key, "=", "in", values),
            Condition::NotIn(values) => write_values(f, key, "!=", "notin", values),
            Condition::Above(bound) => write!(f, "{key}>{bound}"),
            Condition::Below(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

fn write_values(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    one: &str,
    many: &str,
    values: &BTreeSet<String>,
) -> fmt::Result {
    if values.len() == 1 {
        return values.iter().try_for_each(|value| write!(f, "{key}{one}{value}"));
    }
    write!(f, "{key} {many} (")?;
    for (number, value) in values.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(f, "{comma}{value}")?;
    }
    f.write_str(")")
}

#[cfg(test)]
mod tests;
