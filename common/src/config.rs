//! YAML in; a checked value or *all* findings out, each with file and field path.
//!
//! The shape comes from serde types with `deny_unknown_fields`. serde stops at the first fault; here each faulty entry is
//! noted, taken out, and the rest is read again, so that one run shows everything that is wrong.

use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use serde_yaml::Value;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, as the user named it.
    pub file: String,
    /// Path of the field, such as `spec.metrics[0].query`; empty for the file as a whole.
    pub path: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            write!(f, "{}: {}: {}", self.file, self.path, self.message)
        }
    }
}

/// All findings of one or more files; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} found:",
            if self.0.len() == 1 { "1 error".to_owned() } else { format!("{} errors", self.0.len()) }
        )?;
        for finding in &self.0 {
            write!(f, "\n  {finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

/// Faults of one file beyond this number are not looked for.
const MAX_FINDINGS: usize = 50;

/// Reads a file's text.
///
/// # Errors
/// One finding that says what could not be read.
pub fn read(path: &Path) -> Result<String, Findings> {
    std::fs::read_to_string(path).map_err(|error| {
        Findings(vec![Finding {
            file: path.display().to_string(),
            path: String::new(),
            message: format!("cannot be read: {error}"),
        }])
    })
}

/// Reads the one YAML document in `text` as `T`. `file` is used in findings only.
///
/// # Errors
/// All faults of shape.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Findings> {
    let mut findings = Vec::new();
    let value = parse_value(file, text, &mut findings).into_iter().next().unwrap_or(Value::Null);
    match from_value(file, value, &mut findings) {
        Some(parsed) if findings.is_empty() => Ok(parsed),
        _ => Err(Findings(findings)),
    }
}

/// Reads all documents in `text`; a syntax error is added to `findings` and ends the reading.
pub fn parse_value(file: &str, text: &str, findings: &mut Vec<Finding>) -> Vec<Value> {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        match <Value as serde::Deserialize>::deserialize(document) {
            Ok(value) => documents.push(value),
            Err(error) => {
                findings.push(Finding { file: file.to_owned(), path: String::new(), message: error.to_string() });
                break;
            }
        }
    }
    documents
}

/// Reads `value` as `T`, adding every fault of shape to `findings`. Returns `None` where nothing usable is left; what is
/// returned beside findings lacks the faulty entries and is good for further checks only.
pub fn from_value<T: DeserializeOwned>(file: &str, mut value: Value, findings: &mut Vec<Finding>) -> Option<T> {
    let mut removed = Removed::default();
    for _ in 0..MAX_FINDINGS {
        let error = match serde_path_to_error::deserialize::<_, T>(value.clone()) {
            Ok(parsed) => return Some(parsed),
            Err(error) => error,
        };
        let segments: Vec<Segment> = error.path().iter().cloned().collect();
        let path = removed.original_path(&segments);
        let message = error.inner().to_string();
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
        if !missing.is_some_and(|(field, _)| removed.fields.contains(&join(&path, field))) {
            findings.push(Finding { file: file.to_owned(), path: path.clone(), message: explain(&message, &path) });
        }
        if !remove(&mut value, &segments) {
            return None;
        }
        removed.note(&segments, path);
    }
    None
}

/// What was taken out so far, in the paths of the user's file.
#[derive(Default)]
struct Removed {
    fields: Vec<String>,
    elements: Vec<(String, usize)>,
}

impl Removed {
    /// The path in the user's file: elements that were taken out of a list before are counted again.
    fn original_path(&self, segments: &[Segment]) -> String {
        let mut path = String::new();
        for segment in segments {
            match segment {
                Segment::Map { key } => path = join(&path, key),
                Segment::Enum { variant } => path = join(&path, variant),
                Segment::Seq { index } => {
                    let mut gone: Vec<usize> =
                        self.elements.iter().filter(|(list, _)| *list == path).map(|(_, at)| *at).collect();
                    gone.sort_unstable();
                    let at = gone.iter().fold(*index, |at, removed| at + usize::from(*removed <= at));
                    path = format!("{path}[{at}]");
                }
                Segment::Unknown => {}
            }
        }
        path
    }

    fn note(&mut self, segments: &[Segment], path: String) {
        if let Some(Segment::Seq { .. }) = segments.last()
            && let Some((list, index)) = path.strip_suffix(']').and_then(|open| open.rsplit_once('['))
            && let Ok(index) = index.parse()
        {
            self.elements.push((list.to_owned(), index));
        }
        self.fields.push(path);
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// serde's words, less the position in a document that was taken apart, and with the nearest field for a misspelt one.
fn explain(message: &str, path: &str) -> String {
    let (Some(rest), Some((_, expected))) = (message.strip_prefix("unknown field `"), message.split_once("expected "))
    else {
        let own = path.rsplit_once(' ').map_or(path, |(_, field)| field);
        return message.strip_prefix(&format!("{own}: ")).unwrap_or(message).to_owned();
    };
    let Some((field, _)) = rest.split_once('`') else { return message.to_owned() };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let nearest = known.iter().map(|name| (distance(field, name), *name)).min();
    match nearest {
        Some((far, name)) if far <= 1 + field.len() / 3 => format!("unknown field {field:?}; did you mean {name:?}?"),
        _ if known.is_empty() => format!("unknown field {field:?}"),
        _ => format!("unknown field {field:?}; known are {}", known.join(", ")),
    }
}

/// Levenshtein distance, without regard to case.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.to_lowercase(), right.to_lowercase());
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

/// Takes the entry at the path out of `value`; false where there is none.
fn remove(value: &mut Value, path: &[Segment]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    if matches!(last, Segment::Enum { .. }) {
        return remove(value, parents);
    }
    let mut at = value;
    for segment in parents {
        let next = match segment {
            Segment::Map { key } => at.get_mut(key.as_str()),
            Segment::Seq { index } => at.get_mut(*index),
            Segment::Enum { .. } | Segment::Unknown => Some(at),
        };
        match next {
            Some(child) => at = child,
            None => return false,
        }
    }
    match last {
        Segment::Map { key } => at.as_mapping_mut().is_some_and(|map| map.shift_remove(key.as_str()).is_some()),
        Segment::Seq { index } => at.as_sequence_mut().is_some_and(|list| {
            let there = *index < list.len();
            if there {
                list.remove(*index);
            }
            there
        }),
        Segment::Enum { .. } | Segment::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duration::PromDuration;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read through Debug")]
    struct Inner {
        name: String,
        #[serde(default)]
        step: PromDuration,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read through Debug")]
    struct Outer {
        #[serde(default)]
        replicas: u32,
        #[serde(default)]
        list: Vec<Inner>,
    }

    fn messages(text: &str) -> Vec<String> {
        parse::<Outer>("f.yaml", text).unwrap_err().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_fault_is_found_in_one_go() {
        let text = "replicsa: 3\nreplicas: many\nlist:\n- {name: a, step: 5 minutes}\n- {name: [1], colour: red}\n- {name: z, step: 1}\n";
        let found = messages(text);
        assert_eq!(found.len(), 6, "{found:#?}");
        assert!(found.iter().any(|m| m.contains("replicsa: unknown field \"replicsa\"; did you mean \"replicas\"?")));
        assert!(found.iter().any(|m| m.contains("f.yaml: replicas: invalid type: string \"many\"")), "{found:#?}");
        assert!(found.iter().any(|m| m.contains("list[0].step: \"5 minutes\" is no duration")), "{found:#?}");
        assert!(found.iter().any(|m| m.contains("list[1].name: invalid type: sequence")), "{found:#?}");
        assert!(found.iter().any(|m| m.contains("list[1].colour: unknown field \"colour\"")), "{found:#?}");
    }

    #[test]
    fn a_list_keeps_its_numbers() {
        assert_eq!(
            messages("list: [{}, {name: a}, {nam: b}]\nreplicas: -1"),
            [
                "f.yaml: list[0]: missing field `name`",
                "f.yaml: list[2].nam: unknown field \"nam\"; did you mean \"name\"?",
                "f.yaml: list[2]: missing field `name`",
                "f.yaml: replicas: invalid value: integer `-1`, expected u32",
            ]
        );
    }

    #[test]
    fn a_missing_field_is_said_once() {
        assert_eq!(messages("list: [{step: 5m}]"), ["f.yaml: list[0]: missing field `name`"]);
    }

    #[test]
    fn bad_syntax_names_its_line() {
        let found = messages("list:\n- name: a\n b: c\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("line 3"), "{found:?}");
    }

    #[test]
    fn a_good_file_is_read() {
        assert!(parse::<Outer>("f.yaml", "replicas: 2\nlist: [{name: a, step: 5m}]").is_ok());
    }
}
