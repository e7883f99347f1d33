//! Label selectors in Kubernetes' grammar: text in; what they let through out. Pure.

use std::collections::BTreeMap;

/// A parsed label selector; empty lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    text: String,
}

impl Selector {
    /// Returns whether a series with these labels is meant.
    pub fn matches(&self, _labels: &BTreeMap<String, String>) -> bool {
        self.text.is_empty()
    }
}
