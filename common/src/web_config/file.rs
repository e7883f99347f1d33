//! The file: its text in; checked settings, or all findings, out.

use std::collections::BTreeMap;
use std::path::Path;

use axum::http::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer};
use serde_yaml::Value;
use std::sync::Arc;

use super::files::{Reader, Seen};
use super::tls::{self, Tls};
use super::users::Users;
use crate::config::{Finding, Findings, from_value, parse_value};

/// What a web config file asks for.
pub(super) struct Settings {
    /// `None` is plain HTTP.
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    /// Set on each answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Without one anybody may pass.
    pub(super) users: Users,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    http_server_config: Option<Http>,
    basic_auth_users: Option<BTreeMap<String, Secret>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Http {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

/// A text that no finding repeats.
#[derive(Default)]
pub(super) struct Secret(pub(super) String);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("must be a text; put it in quotes")),
        }
    }
}

/// The headers that may be set, each with its values where they are few.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// Takes findings.
pub(super) struct Report {
    file: String,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(path: &Path) -> Self {
        Self { file: path.display().to_string(), findings: Vec::new() }
    }

    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.findings.push(Finding { file: self.file.clone(), path: path.into(), message: message.into() });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Reads a web config file and the files that it names. What was read is told in any case.
pub(super) fn load(path: &Path) -> (Result<Settings, Findings>, Seen) {
    let mut reader = Reader::new();
    let mut report = Report::new(path);
    let settings = read(path, &mut reader, &mut report);
    let result = match settings {
        Some(settings) if report.is_empty() => Ok(settings),
        _ => Err(Findings(report.findings)),
    };
    (result, reader.into_seen())
}

fn read(path: &Path, reader: &mut Reader, report: &mut Report) -> Option<Settings> {
    let text = match reader.read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            report.add("", "is no UTF-8 text");
            return None;
        }
        Err(error) => {
            report.add("", format!("cannot be read: {error}"));
            return None;
        }
    };
    let documents = parse_value(&report.file, &text, &mut report.findings);
    if documents.len() > 1 {
        report.add("", "holds several documents; only one is read");
    }
    let file = match documents.into_iter().next() {
        None | Some(Value::Null) => File::default(),
        Some(value) => from_value(&report.file, value, &mut report.findings)?,
    };
    let http = file.http_server_config.unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let tls = match file.tls_server_config {
        Some(tls) if !tls.is_empty() => {
            tls::server_config(&tls, http.http2.unwrap_or(true), folder, reader, report).map(Arc::new)
        }
        _ => None,
    };
    let headers = http.headers.unwrap_or_default();
    let headers = headers.iter().filter_map(|(name, value)| header(name, value, report)).collect();
    let users = file.basic_auth_users.unwrap_or_default().into_iter().map(|(name, hash)| (name, hash.0)).collect();
    match Users::new(users) {
        Ok(users) => Some(Settings { tls, headers, users }),
        Err(wrong) => {
            for (name, why) in wrong {
                report.add(format!("basic_auth_users.{name}"), why);
            }
            None
        }
    }
}

fn header(name: &str, value: &str, report: &mut Report) -> Option<(HeaderName, HeaderValue)> {
    let field = format!("http_server_config.headers.{name}");
    let Some((_, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        report.add(field, format!("cannot be set; these can: {}", HEADERS.map(|(name, _)| name).join(", ")));
        return None;
    };
    if !values.is_empty() && !values.contains(&value) {
        report.add(field, format!("{value:?} is none of its values: {}", values.join(", ")));
        return None;
    }
    match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        (Ok(name), Ok(value)) => Some((name, value)),
        _ => {
            report.add(field, "is no value of a header");
            None
        }
    }
}
