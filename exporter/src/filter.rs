//! Which devices, mount points and filesystem types are exported.

use regex_lite::Regex;

/// A choice of names by regular expressions, which match anywhere unless they are anchored, as in node_exporter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Names that are chosen; all when absent.
    pub include: Option<Regex>,
    /// Names that are not chosen, looked at only without `include`.
    pub exclude: Option<Regex>,
}

impl Filter {
    /// Returns whether the name is chosen.
    pub fn accepts(&self, name: &str) -> bool {
        match (&self.include, &self.exclude) {
            (Some(include), _) => include.is_match(name),
            (None, Some(exclude)) => !exclude.is_match(name),
            (None, None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inclusion_takes_the_place_of_the_exclusion() {
        let regex = |text: &str| Some(Regex::new(text).unwrap());
        let filter = |include, exclude| Filter { include, exclude };
        assert!(filter(None, None).accepts("a"));
        assert!(!filter(None, regex("^a")).accepts("ab"));
        assert!(filter(None, regex("^a")).accepts("ba"));
        assert!(filter(regex("^a"), regex("b")).accepts("ab"));
        assert!(!filter(regex("^a$"), None).accepts("ab"));
    }
}
