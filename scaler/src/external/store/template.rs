//! Queries with the placeholders of prometheus-adapter: text in; PromQL for a namespace and a selector out. Pure.
//!
//! The placeholders are those of a Go template between `<<` and `>>` that make sense for external metrics:
//!
//! | placeholder | becomes |
//! |---|---|
//! | `<<.LabelMatchers>>` | the selector and the namespace as label matchers, joined with commas |
//! | `<<.GroupBy>>` | nothing, as for every external metric |
//! | `<<index .LabelValuesByName "x">>`, `<<.LabelValuesByName.x>>` | the values that the selector names for `x`, joined with `\|` |
//!
//! Kubernetes allows letters, digits, `-`, `_` and `.` in a value and in a namespace's name, so none can end a literal of
//! PromQL; they are escaped nevertheless. A value with a dot is no pattern here, as it is in the adapter.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::external::selector::Condition;
use crate::external::selector::Selector;
use crate::rule::quoted;

/// A query that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    LabelMatchers,
    GroupBy,
    Values { label: String },
}

impl Template {
    /// Reads a query.
    ///
    /// # Errors
    /// The placeholder that is not known, or not closed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trim = false;
        while let Some((before, behind)) = rest.split_once("<<") {
            let (inside, after) = behind.split_once(">>").ok_or("has a << without a >>")?;
            // A hyphen at the mark takes the white space away on its side.
            let (inside, trim_before) = match inside.strip_prefix("- ") {
                Some(inside) => (inside, true),
                None => (inside, false),
            };
            let (inside, trim_after) = match inside.strip_suffix(" -") {
                Some(inside) => (inside, true),
                None => (inside, false),
            };
            let before = if trim { before.trim_start() } else { before };
            let before = if trim_before { before.trim_end() } else { before };
            parts.push(Part::Text(before.to_owned()));
            parts.push(placeholder(inside.trim())?);
            (rest, trim) = (after, trim_after);
        }
        parts.push(Part::Text(if trim { rest.trim_start() } else { rest }.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { parts })
    }

    /// Returns whether the selector and the namespace narrow what the query gives.
    pub(crate) fn has_matchers(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::LabelMatchers | Part::Values { .. }))
    }

    /// Returns the query for a selector, and a namespace as (label, name) where it counts.
    ///
    /// # Errors
    /// What of the selector PromQL cannot say.
    pub(crate) fn render(&self, selector: &Selector, namespace: Option<(&str, &str)>) -> Result<String, String> {
        let mut matchers = Vec::new();
        let mut values_by_name: BTreeMap<&str, String> = BTreeMap::new();
        for requirement in selector.requirements() {
            let key = requirement.key.as_str();
            if !is_label(key) {
                return Err(format!("no label of Prometheus can be named {key:?}"));
            }
            let (operator, value, raw) = match &requirement.condition {
                Condition::Exists => ("!=", String::new(), String::new()),
                Condition::DoesNotExist => ("=", String::new(), String::new()),
                Condition::In(values) => matcher(values, "=", "=~"),
                Condition::NotIn(values) => matcher(values, "!=", "!~"),
                Condition::Above(_) | Condition::Below(_) => {
                    return Err(format!("PromQL has no label matcher for {requirement}"));
                }
            };
            matchers.push(format!("{key}{operator}{}", quoted(&value)));
            values_by_name.insert(key, raw);
        }
        if let Some((label, name)) = namespace {
            matchers.push(format!("{label}={}", quoted(name)));
            values_by_name.insert(label, name.to_owned());
        }
        let matchers = matchers.join(",");
        let mut query = String::new();
        for part in &self.parts {
            query.push_str(match part {
                Part::Text(text) => text,
                Part::LabelMatchers => &matchers,
                Part::GroupBy => "",
                Part::Values { label } => values_by_name.get(label.as_str()).map_or("", String::as_str),
            });
        }
        Ok(query)
    }
}

fn placeholder(inside: &str) -> Result<Part, String> {
    let values_of = |label: &str| is_label(label).then(|| Part::Values { label: label.to_owned() });
    let known = match inside {
        ".LabelMatchers" => Some(Part::LabelMatchers),
        ".GroupBy" => Some(Part::GroupBy),
        _ => match inside.strip_prefix(".LabelValuesByName.") {
            Some(label) => values_of(label),
            None => inside
                .strip_prefix("index")
                .and_then(|rest| rest.trim_start().strip_prefix(".LabelValuesByName"))
                .and_then(|rest| rest.trim().strip_prefix('"')?.strip_suffix('"'))
                .and_then(values_of),
        },
    };
    known.ok_or_else(|| {
        format!(
            "has <<{inside}>>, which is not supported; known are <<.LabelMatchers>>, <<.GroupBy>> and \
             <<index .LabelValuesByName \"label\">>"
        )
    })
}

/// The operator, its value, and the values as they are.
fn matcher(values: &BTreeSet<String>, one: &'static str, many: &'static str) -> (&'static str, String, String) {
    let raw = values.iter().map(String::as_str).collect::<Vec<_>>().join("|");
    if values.len() == 1 {
        return (one, raw.clone(), raw);
    }
    (many, values.iter().map(|value| literal(value)).collect::<Vec<_>>().join("|"), raw)
}

/// A regular expression that matches the value alone. Of the letters that Kubernetes allows, only the dot means something.
fn literal(value: &str) -> Cow<'_, str> {
    if value.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')) {
        return Cow::Borrowed(value);
    }
    let escape = |letter: char| match letter {
        letter if letter.is_alphanumeric() || matches!(letter, '-' | '_') => letter.to_string(),
        letter => format!("\\{letter}"),
    };
    Cow::Owned(value.chars().map(escape).collect())
}

/// Whether Prometheus can have a label of this name.
pub(crate) fn is_label(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, selector: &str, namespace: Option<(&str, &str)>) -> Result<String, String> {
        Template::parse(template).unwrap().render(&Selector::parse(selector).unwrap(), namespace)
    }

    #[test]
    fn a_selector_becomes_label_matchers() {
        for (selector, expected) in [
            ("", ""),
            ("a=b", r#"a="b""#),
            ("a!=b,c", r#"a!="b",c!="""#),
            ("!a", r#"a="""#),
            ("a in (x,y)", r#"a=~"x|y""#),
            ("a in (x)", r#"a="x""#),
            ("a notin (x,y)", r#"a!~"x|y""#),
            ("a in (1.5,2.5)", r#"a=~"1\\.5|2\\.5""#),
            ("a=1.5", r#"a="1.5""#),
            ("a=", r#"a="""#),
        ] {
            assert_eq!(render("m{<<.LabelMatchers>>}", selector, None), Ok(format!("m{{{expected}}}")), "{selector}");
        }
        let namespaced = render("sum(m{<<.LabelMatchers>>}) by (<<.GroupBy>>)", "a=b", Some(("namespace", "shop")));
        assert_eq!(namespaced.as_deref(), Ok(r#"sum(m{a="b",namespace="shop"}) by ()"#));
    }

    #[test]
    fn values_can_be_named_alone() {
        let template = r#"m{q=~"<<index .LabelValuesByName "queue">>",n="<< .LabelValuesByName.ns >>"}"#;
        let rendered = render(template, "queue in (a,b)", Some(("ns", "shop")));
        assert_eq!(rendered.as_deref(), Ok(r#"m{q=~"a|b",n="shop"}"#));
        // A selector does not choose the namespace.
        let rendered = render(template, "ns=other", Some(("ns", "shop")));
        assert_eq!(rendered.as_deref(), Ok(r#"m{q=~"",n="shop"}"#));
    }

    #[test]
    fn hyphens_at_the_marks_take_white_space_away() {
        assert_eq!(render("a  <<- .GroupBy ->>  b", "", None).as_deref(), Ok("ab"));
        assert_eq!(render("a <<.GroupBy>> b", "", None).as_deref(), Ok("a  b"));
    }

    #[test]
    fn what_promql_cannot_say_is_refused() {
        for (selector, words) in [("a>1", "a>1"), ("a.b=c", "\"a.b\""), ("x.io/a", "x.io/a"), ("1a", "1a")] {
            let error = render("m{<<.LabelMatchers>>}", selector, None).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_unknown_placeholder_is_said() {
        for (text, words) in [
            ("<<.Series>>{}", "<<.Series>>"),
            ("<<.LabelMatchers", "without a >>"),
            ("<<range .GroupBySlice>>", "range"),
            ("<<index .LabelValuesByName \"a.b\">>", "a.b"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_value_never_ends_its_literal() {
        let hostile = ["\"} or vector(1) #", "a\\", "a\nb", "`", ".*|b", "'", "$x", "{{", ")"];
        for value in hostile {
            // No such value gets through the parser: the last line of defence is asked on its own.
            let values = BTreeSet::from([value.to_owned(), "a".to_owned()]);
            let (_, pattern, _) = matcher(&values, "=", "=~");
            for text in [quoted(value), quoted(&pattern)] {
                let inside = &text[1..text.len() - 1];
                let mut letters = inside.chars();
                while let Some(letter) = letters.next() {
                    assert!(letter != '"' && letter != '\n', "{text}");
                    if letter == '\\' {
                        assert!(letters.next().is_some(), "{text}");
                    }
                }
            }
        }
    }
}
