//! The sources of a load: its query in; a query that tells which of them could be read out. Pure.

use crate::rule::Sources;
use crate::rule::quoted;

/// Returns `up` of the one job that the query names, as `job="web"`; unknown where it names none, or several.
pub(crate) fn of(query: &str) -> Sources {
    let mut jobs = jobs(query);
    jobs.dedup();
    match jobs.as_slice() {
        [job] => Sources::Derived(format!("up{{job={}}}", quoted(job))),
        _ => Sources::Unknown,
    }
}

/// The values of `job="…"` in ascending order. One with a backslash is not looked into.
fn jobs(query: &str) -> Vec<String> {
    let mut jobs = Vec::new();
    for (at, _) in query.match_indices("job") {
        let before = query[..at].chars().next_back();
        if before.is_some_and(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':' | '"' | '\'')) {
            continue;
        }
        let Some(rest) = query[at + 3..].trim_start().strip_prefix('=') else { continue };
        let rest = rest.trim_start();
        let Some(quote) = rest.chars().next().filter(|letter| matches!(letter, '"' | '\'' | '`')) else { continue };
        if let Some((value, _)) = rest[1..].split_once(quote)
            && !value.contains('\\')
        {
            jobs.push(value.to_owned());
        }
    }
    jobs.sort();
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_job_of_a_query_tells_its_sources() {
        let derived = |query: &str| match of(query) {
            Sources::Derived(query) => query,
            other => format!("{other:?}"),
        };
        assert_eq!(derived("sum(rate(requests_total{job=\"web\"}[1m]))"), "up{job=\"web\"}");
        assert_eq!(derived("sum(a{x=\"1\", job = 'web'}) + sum(b{job=\"web\"})"), "up{job=\"web\"}");
        for query in [
            "sum(rate(requests_total[1m]))",
            "sum(a{job=~\"web.*\"})",
            "sum(a{job!=\"web\"})",
            "sum(a{job=\"web\"}) + sum(b{job=\"db\"})",
            "sum(a{exported_job=\"web\"})",
            "sum(a{job=\"we\\\"b\"})",
            "sum by (job) (a)",
            "job",
        ] {
            assert_eq!(of(query), Sources::Unknown, "{query}");
        }
    }
}
