//! Fields of files whose layout stays the same while the kernel runs: which of them the filter chooses is found out once.

use cloudpulse_common::exposition::{Kind, Page};
use regex_lite::Regex;

use crate::parse::{Scale, scaled};

/// Which fields are chosen, by group and name with an underscore between them.
#[derive(Debug)]
pub(crate) enum Choice {
    /// What is chosen where nothing else is asked for. No regular expression: the default one of netstat takes 300 KiB.
    Default(fn(&str) -> bool),
    /// A regular expression, compiled when it is needed, which is once.
    Pattern(Box<str>),
}

/// The chosen fields of one file.
#[derive(Debug)]
pub(crate) struct Selection {
    choice: Choice,
    /// Fields of the file when it was looked at; zero before.
    count: usize,
    chosen: Vec<Chosen>,
}

#[derive(Debug)]
struct Chosen {
    /// Place of the field in the file.
    position: usize,
    /// Length of the field's name, at the end of the family's.
    length: usize,
    family: Box<str>,
    help: Box<str>,
}

/// A field of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'c> {
    /// First part of its name; empty where it has one part.
    pub(crate) group: &'c [u8],
    pub(crate) name: &'c [u8],
    pub(crate) value: &'c [u8],
}

impl Selection {
    /// Returns the fields that `pattern` chooses, or those of `default` without one.
    pub(crate) fn new(pattern: Option<&Regex>, default: fn(&str) -> bool) -> Self {
        let choice = pattern.map_or(Choice::Default(default), |pattern| Choice::Pattern(pattern.as_str().into()));
        Self { choice, count: 0, chosen: Vec::new() }
    }

    /// Writes the chosen fields as untyped families `<prefix><group>_<name>`. `help` makes the HELP from group and name.
    pub(crate) fn write<'c>(
        &mut self,
        fields: impl Iterator<Item = Field<'c>> + Clone,
        prefix: &str,
        help: fn(&str, &str) -> String,
        page: &mut Page<'_>,
    ) {
        let begin = page.length();
        if !self.try_write(fields.clone(), page) {
            page.truncate(begin);
            self.choose(fields.clone(), prefix, help);
            self.try_write(fields, page);
        }
    }

    /// Returns whether the file was laid out as before.
    fn try_write<'c>(&self, fields: impl Iterator<Item = Field<'c>>, page: &mut Page<'_>) -> bool {
        let mut chosen = self.chosen.iter();
        let mut next = chosen.next();
        let mut count = 0;
        for (position, field) in fields.enumerate() {
            count = position + 1;
            let Some(wanted) = next.filter(|wanted| wanted.position == position) else { continue };
            next = chosen.next();
            if wanted.family.as_bytes()[wanted.family.len() - wanted.length..] != *field.name {
                return false;
            }
            // What is no number is no sample.
            if let Some(number) = scaled(field.value, Scale::WHOLE) {
                page.family(&wanted.family, &wanted.help, Kind::Untyped);
                page.unlabelled(&wanted.family, number);
            }
        }
        count == self.count
    }

    fn choose<'c>(&mut self, fields: impl Iterator<Item = Field<'c>>, prefix: &str, help: fn(&str, &str) -> String) {
        self.chosen.clear();
        self.count = 0;
        let pattern = match &self.choice {
            Choice::Default(_) => None,
            // It was one before.
            Choice::Pattern(pattern) => Regex::new(pattern).ok(),
        };
        for (position, field) in fields.enumerate() {
            self.count = position + 1;
            let (Ok(group), Ok(name)) = (std::str::from_utf8(field.group), std::str::from_utf8(field.name)) else {
                continue;
            };
            let key = if group.is_empty() { name.to_owned() } else { format!("{group}_{name}") };
            let is_name = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let is_chosen = match (&self.choice, &pattern) {
                (Choice::Default(is_default), _) => is_default(&key),
                (Choice::Pattern(_), pattern) => pattern.as_ref().is_some_and(|pattern| pattern.is_match(&key)),
            };
            if is_name && is_chosen {
                let family = format!("{prefix}{key}").into();
                self.chosen.push(Chosen { position, length: name.len(), family, help: help(group, name).into() });
            }
        }
        self.chosen.shrink_to_fit();
    }
}
