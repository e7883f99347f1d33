//! Names of forecasts and rules as names of metrics: anything in; what an HPA can ask for out. Pure.

/// Prefix of the metrics of forecasts.
pub const FORECAST_PREFIX: &str = "cloudpulse-forecast-";
/// Prefix of the replicas that rules want.
pub const RULE_PREFIX: &str = "cloudpulse-rule-";
/// Prefix of the loads of rules.
pub const LOAD_PREFIX: &str = "cloudpulse-load-";

/// All prefixes, which no other metric may have.
pub(super) const PREFIXES: [&str; 3] = [FORECAST_PREFIX, RULE_PREFIX, LOAD_PREFIX];

/// Returns the name in lower case, because HPAs ask in lower case, with `-` for what is no letter, digit, `-` or `.`.
pub fn mapped(name: &str) -> String {
    letters(name).collect()
}

/// Returns whether [`mapped`] makes `asked` of `name`.
pub(super) fn is(name: &str, asked: &str) -> bool {
    letters(name).eq(asked.chars())
}

fn letters(name: &str) -> impl Iterator<Item = char> {
    name.chars().map(|letter| match letter.to_ascii_lowercase() {
        letter if letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '.') => letter,
        _ => '-',
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_can_be_asked_for() {
        for (name, expected) in [("web", "web"), ("Web_Requests", "web-requests"), ("a.b-1", "a.b-1"), ("ü/x", "--x")]
        {
            assert_eq!(mapped(name), expected);
            assert!(is(name, expected));
        }
        assert!(!is("web", "web2") && !is("web", "we"));
    }
}
