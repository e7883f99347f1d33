//! Collects what is wrong with one document, with the path of each field.

use cloudpulse_common::config::Finding;
use cloudpulse_policy::Replicas;

use crate::rule::quantity::Quantity;

/// The findings of one document.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    file: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Check<'a> {
    /// Starts a check whose findings go to `findings`.
    pub(crate) fn new(file: &'a str, findings: &'a mut Vec<Finding>) -> Self {
        Self { file, findings }
    }

    /// Adds a finding.
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.findings.push(Finding { file: self.file.to_owned(), path: path.into(), message: message.into() });
    }

    /// Returns `value`; where it is absent, adds that it must be there, unless it was there in a wrong shape.
    pub(crate) fn required<T>(&mut self, path: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.was_faulty(path) {
            self.add(path, "is missing");
        }
        value
    }

    /// As [`Self::required`], and the text must not be blank.
    pub(crate) fn required_text(&mut self, path: &str, value: Option<String>) -> Option<String> {
        let text = self.required(path, value)?;
        if text.trim().is_empty() {
            self.add(path, "is empty");
            return None;
        }
        Some(text)
    }

    /// Returns the number where it is above zero, else adds a finding.
    pub(crate) fn positive(&mut self, path: &str, Quantity(value): Quantity) -> Option<f64> {
        if value > 0.0 {
            return Some(value);
        }
        self.add(path, format!("is {value}; it must be above 0"));
        None
    }

    /// Returns the number where it is not below zero, else adds a finding.
    pub(crate) fn not_negative(&mut self, path: &str, Quantity(value): Quantity) -> Option<f64> {
        if value >= 0.0 {
            return Some(value);
        }
        self.add(path, format!("is {value}; it must be at least 0"));
        None
    }

    /// Returns the number where it is above `low` (or equal, with `low_included`) and below or at `high`.
    pub(crate) fn ratio(&mut self, path: &str, Quantity(value): Quantity, range: Range) -> Option<f64> {
        let (fits, words) = match range {
            Range::Open => (value > 0.0 && value < 1.0, "between 0 and 1, both excluded"),
            Range::UpToOne => (value > 0.0 && value <= 1.0, "above 0 and at most 1"),
            Range::FromZero => ((0.0..1.0).contains(&value), "at least 0 and below 1"),
        };
        if fits {
            return Some(value);
        }
        self.add(path, format!("is {value}; it must be {words}"));
        None
    }

    /// Returns the replicas where they are at least one, else adds a finding.
    pub(crate) fn at_least_one(&mut self, path: &str, replicas: Replicas) -> Option<Replicas> {
        if replicas > 0 {
            return Some(replicas);
        }
        self.add(path, "is 0; it must be at least 1");
        None
    }

    fn was_faulty(&self, path: &str) -> bool {
        self.findings.iter().any(|finding| {
            finding.file == self.file
                && finding.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }
}

/// Which ratios are allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Range {
    /// 0 and 1 excluded.
    Open,
    /// 0 excluded, 1 allowed.
    UpToOne,
    /// 0 allowed, 1 excluded.
    FromZero,
}
