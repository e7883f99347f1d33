use proptest::prelude::*;

use super::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn every_operator_means_what_it_means_to_kubernetes() {
    // Selector, labels that match, labels that do not.
    let cases = [
        ("", "a=1", ""),
        ("a=b", "a=b", "x=1 a=c"),
        ("a==b", "a=b", "a=c"),
        ("a!=b", "a=c", "a=b"),
        ("a!=b", "x=1", "a=b"),
        ("a in (b,c)", "a=c", "x=1"),
        ("a in (b,c)", "a=b", "a=d"),
        ("a notin (b,c)", "x=1", "a=b"),
        ("a notin (b,c)", "a=d", "a=c"),
        ("a", "a=b", "x=1"),
        ("!a", "x=1", "a=b"),
        ("a>5", "a=6", "a=5"),
        ("a<5", "a=4", "a=5"),
        ("a>5", "a=10", "x=1"),
        ("a>5", "a=10", "a=ten"),
        ("a=", "a=", "x=1"),
        ("a=", "a=", "a=b"),
        ("a in (,b)", "a=", "a=c"),
        ("a,b=1", "a=0 b=1", "a=0"),
        (" a = b , ! c ", "a=b", "a=b c=1"),
    ];
    for (text, yes, no) in cases {
        let selector = selector(text);
        assert!(selector.matches(&labels(yes)), "{text} on {yes}");
        assert!(text.is_empty() || !selector.matches(&labels(no)), "{text} on {no}");
    }
}

#[test]
fn one_meaning_has_one_text() {
    for (text, canonical) in [
        ("", ""),
        ("  ", ""),
        ("b=2,a==1", "a=1,b=2"),
        ("a in (c,b,b)", "a in (b,c)"),
        ("a in (b)", "a=b"),
        ("a notin (b)", "a!=b"),
        ("a notin ()", "a!="),
        ("a in (,)", "a="),
        ("a in (x,,y)", "a in (,x,y)"),
        ("a>05", "a>5"),
        ("! a,a,a", "a,!a"),
        ("in in (in,notin)", "in in (in,notin)"),
        ("x.example/a=1", "x.example/a=1"),
        ("a=,b", "a=,b"),
    ] {
        let read = selector(text);
        assert_eq!(read.to_string(), canonical, "{text}");
        assert_eq!(selector(canonical), read, "{text}");
    }
}

#[test]
fn what_kubernetes_refuses_is_refused() {
    let long = "x".repeat(64);
    let cases = [
        ",",
        "a,",
        ",a",
        "a,,b",
        "a b",
        "a=b c",
        "a=b=c",
        "a===b",
        "a=!b",
        "a!==b",
        "!a=b",
        "!!a",
        "!",
        "=b",
        "a in",
        "a in b",
        "a in (b",
        "a in (b,",
        "a in (b c)",
        "a in (a,,)",
        "a in (=)",
        "a notin b",
        "a like b",
        "a>b",
        "a<",
        "a>1.5",
        "a>-1",
        "a>=1",
        "a=(b)",
        "(a)",
        "-a",
        "a_",
        "a=-b",
        "a=b/c",
        "a=\"b\"",
        "a=b\\",
        "a={b}",
        "a=b\u{0}",
        "a=ä",
        "ä",
        "/a",
        "a/",
        "a/b/c",
        "A.b/c",
        "-a/b",
        "a..b/c",
        &format!("{long}=1"),
        &format!("a={long}"),
        &format!("{}/a", "x".repeat(254)),
        &format!("a in ({})", "x,".repeat(MAX_BYTES)),
    ];
    for text in cases {
        assert!(Selector::parse(text).is_err(), "{text}: {:?}", Selector::parse(text));
    }
    let error = Selector::parse("a=b c").unwrap_err().to_string();
    assert_eq!(error, "unable to parse requirement: found 'c', expected: ',' or 'end of string'");
}

#[test]
fn the_longest_are_allowed() {
    let (name, prefix) = ("x".repeat(63), "x".repeat(253));
    selector(&format!("{prefix}/{name}={name}"));
}

#[test]
fn a_selector_tells_what_it_requires() {
    let read = selector("a=1,b in (1,2),!c,d!=1,e>5");
    assert_eq!(read.required_value("a"), Some("1"));
    for key in ["b", "c", "d", "e", "f"] {
        assert_eq!(read.required_value(key), None, "{key}");
    }
    assert!(read.names("e") && !read.names("f"));
    assert!(selector("").is_empty() && !read.is_empty());
    assert_eq!(read.requirements().len(), 5);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ab1=!,<>() in\"\\\\{}/._-]{0,40}|.{0,20}") {
        if let Ok(read) = Selector::parse(&text) {
            let again = Selector::parse(&read.to_string());
            prop_assert_eq!(again, Ok(read));
        }
    }

    /// Whatever gets through the parser, no value has a character that means something in PromQL.
    #[test]
    fn no_value_can_end_a_literal(text in "a(=|!=| in \\()[\"'`\\\\\n{}$a-z]{1,8}\\)?") {
        if let Ok(read) = Selector::parse(&text) {
            for requirement in read.requirements() {
                if let Condition::In(values) | Condition::NotIn(values) = &requirement.condition {
                    prop_assert!(values.iter().all(|value| value.chars().all(|letter| letter.is_ascii_alphanumeric())));
                }
            }
        }
    }
}
