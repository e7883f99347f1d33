//! What chooses alerts: `name=value` in the words of a command line in; a matcher in Alertmanager's two notations out.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// Its value, or a regular expression for all of it.
    pub value: String,
    /// Whether it is an expression.
    pub is_regex: bool,
    /// Whether the label has to match, or must not.
    #[serde(default = "yes")]
    pub is_equal: bool,
}

/// Alertmanager leaves it out where it is older than the field.
fn yes() -> bool {
    true
}

impl Matcher {
    /// Returns the condition that a label has exactly this value.
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), value: value.to_owned(), is_regex: false, is_equal: true }
    }

    const fn operator(&self) -> &'static str {
        match (self.is_equal, self.is_regex) {
            (true, false) => "=",
            (false, false) => "!=",
            (true, true) => "=~",
            (false, true) => "!~",
        }
    }
}

/// A text that is no matcher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMatcher {
    /// No operator is in it.
    #[error("{0:?} is no matcher; write it as name=value, name!=value, name=~regex or name!~regex")]
    Operator(String),
    /// What stands before the operator is no label.
    #[error("{0:?} is no name of a label, which has letters, digits and _")]
    Name(String),
    /// The expression is none.
    #[error("{0:?} is no regular expression: {1}")]
    Regex(String, String),
}

impl FromStr for Matcher {
    type Err = NoMatcher;

    /// Quotes around the value are taken away, so that what Prometheus shows can be pasted.
    fn from_str(text: &str) -> Result<Self, NoMatcher> {
        let none = || NoMatcher::Operator(text.to_owned());
        let at = text.find(['=', '!']).ok_or_else(none)?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let (is_equal, is_regex, value) =
            [("=~", true, true), ("!~", false, true), ("!=", false, false), ("=", true, false)]
                .into_iter()
                .find_map(|(operator, equal, regex)| Some((equal, regex, rest.strip_prefix(operator)?)))
                .ok_or_else(none)?;
        let starts = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
        if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(NoMatcher::Name(name.to_owned()));
        }
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        if is_regex && let Err(error) = regex::Regex::new(value) {
            let error = error.to_string();
            return Err(NoMatcher::Regex(value.to_owned(), error.lines().last().unwrap_or_default().to_owned()));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned(), is_regex, is_equal })
    }
}

/// As Alertmanager reads it in a filter.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(f, "{}{}\"{value}\"", self.name, self.operator())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_read_and_written() {
        for (text, expected) in [
            ("instance=a:9100", "instance=\"a:9100\""),
            ("instance = \"a:9100\"", "instance=\"a:9100\""),
            ("rule!=shop/web", "rule!=\"shop/web\""),
            ("instance=~web-.+", "instance=~\"web-.+\""),
            ("mountpoint!~/|/boot", "mountpoint!~\"/|/boot\""),
            ("query=a=b", "query=\"a=b\""),
            ("path=C:\\x \"y\"", "path=\"C:\\\\x \\\"y\\\"\""),
            ("team=", "team=\"\""),
        ] {
            assert_eq!(text.parse::<Matcher>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_matcher_says_why() {
        let of = |text: &str| text.parse::<Matcher>().unwrap_err().to_string();
        assert!(of("instance").contains("name=value"));
        assert!(of("instance!a").contains("name=value"));
        assert!(of("a-b=c").contains("no name"));
        assert!(of("=c").contains("no name"));
        assert!(of("1a=c").contains("no name"));
        assert!(of("instance=~(").contains("no regular expression"));
    }
}
