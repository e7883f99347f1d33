//! Label matchers with PromQL's meaning: an absent label is the empty string, regular expressions are anchored.

use cloudpulse_common::query::Labels;
use regex::Regex;

use super::ReadError;
use super::proto::{LabelMatcher, MatcherType};

/// Compiled regular expressions stay below this size.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Conditions that all must hold.
#[derive(Debug)]
pub(super) struct Matchers(Vec<(String, Condition)>);

#[derive(Debug)]
enum Condition {
    Equal(String, bool),
    Regex(Regex, bool),
}

impl Matchers {
    pub(super) fn new(matchers: &[LabelMatcher]) -> Result<Self, ReadError> {
        matchers
            .iter()
            .map(|matcher| {
                let wanted = matches!(matcher.kind(), MatcherType::Equal | MatcherType::Regex);
                let condition = match matcher.kind() {
                    MatcherType::Equal | MatcherType::NotEqual => Condition::Equal(matcher.value.clone(), wanted),
                    MatcherType::Regex | MatcherType::NotRegex => {
                        let regex = regex::RegexBuilder::new(&format!("^(?s:{})$", matcher.value))
                            .size_limit(MAX_REGEX_BYTES)
                            .build()
                            .map_err(|error| ReadError::Matcher {
                                name: matcher.name.clone(),
                                reason: error.to_string(),
                            })?;
                        Condition::Regex(regex, wanted)
                    }
                };
                Ok((matcher.name.clone(), condition))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(name, condition)| {
            let value = labels.get(name).map_or("", String::as_str);
            match condition {
                Condition::Equal(expected, wanted) => (value == expected) == *wanted,
                Condition::Regex(regex, wanted) => regex.is_match(value) == *wanted,
            }
        })
    }
}
