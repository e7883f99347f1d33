//! Kubernetes' rules for label keys and values: text in; what is wrong with it out. Pure.

/// Longest name and longest value.
const MAX_NAME: usize = 63;
/// Longest prefix of a key.
const MAX_PREFIX: usize = 253;

/// Checks a key: a name, or a DNS subdomain, a slash and a name.
pub(super) fn key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix
        && !is_subdomain(prefix)
    {
        let rule = "at most 253 lower case letters, digits, '-' and '.', each part beginning and ending with a letter or digit";
        return Err(format!("invalid label key {key:?}: the part before the slash must be a DNS subdomain: {rule}"));
    }
    if name.is_empty() || !is_name(name) {
        return Err(format!("invalid label key {key:?}: a name must be 1 to {MAX_NAME} {NAME_RULE}"));
    }
    Ok(())
}

/// Checks a value: empty or a name.
pub(super) fn value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_name(value) {
        return Ok(());
    }
    Err(format!("invalid label value {value:?}: a value must be empty or at most {MAX_NAME} {NAME_RULE}"))
}

const NAME_RULE: &str = "letters, digits, '-', '_' and '.', beginning and ending with a letter or digit";

fn is_name(text: &str) -> bool {
    let alphanumeric = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    text.len() <= MAX_NAME
        && alphanumeric(text.chars().next())
        && alphanumeric(text.chars().next_back())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
}

fn is_subdomain(text: &str) -> bool {
    let small = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let is_part = |part: &str| {
        part.starts_with(small) && part.ends_with(small) && part.chars().all(|letter| small(letter) || letter == '-')
    };
    text.len() <= MAX_PREFIX && text.split('.').all(is_part)
}
