//! The language of the external metrics API: paths and queries in, what is asked out; values and errors in, JSON documents
//! out. Pure.
//!
//! The documents are those of `k8s.io/apiserver` and `k8s.io/metrics`, whose clients are strict: an empty resource list, say,
//! is an error of kubectl.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use cloudpulse_policy::time::Timestamp;
use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::Serializer;

use crate::external::GROUP_VERSION;
use crate::external::Item;

/// The API group.
pub const GROUP: &str = "external.metrics.k8s.io";
/// The API version.
pub const VERSION: &str = "v1beta1";

const JSON: &str = "application/json";
/// What a path may be long; a longer one is nothing that is served, and is not worth a review.
const LONGEST_PATH: usize = 1024;
/// What Kubernetes allows a name to be long.
const LONGEST_NAME: usize = 253;
/// Larger values do not fit a quantity in thousandths.
const LARGEST: f64 = 9.2e15;

macro_rules! aggregated {
    ($version:literal) => {
        concat!(
            r#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/"#,
            $version,
            r#"","metadata":{},"items":[{"metadata":{"name":"external.metrics.k8s.io","creationTimestamp":null},"#,
            r#""versions":[{"version":"v1beta1","freshness":"Current","resources":[{"resource":"externalmetrics","#,
            r#""responseKind":{"group":"","version":"","kind":"ExternalMetricValueList"},"scope":"Namespaced","#,
            r#""singularResource":"","verbs":["get"]}]}]}]}"#
        )
    };
}

macro_rules! group {
    ($head:literal) => {
        concat!(
            $head,
            r#""name":"external.metrics.k8s.io","#,
            r#""versions":[{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}],"#,
            r#""preferredVersion":{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}}"#
        )
    };
}

const RESOURCES: &str = concat!(
    r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"external.metrics.k8s.io/v1beta1","#,
    r#""resources":[{"name":"externalmetrics","singularName":"","namespaced":true,"kind":"ExternalMetricValueList","#,
    r#""verbs":["get"]}]}"#
);
const API_GROUP: &str = group!(r#"{"kind":"APIGroup","apiVersion":"v1","#);
const GROUPS: &str = concat!(r#"{"kind":"APIGroupList","apiVersion":"v1","groups":["#, group!("{"), "]}");

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint<'r> {
    /// Whether the server lives; anybody may ask.
    Probe,
    /// Discovery of groups, plain or aggregated.
    Groups,
    /// Discovery of the group's versions.
    Group,
    /// Discovery of the version's resources.
    Resources,
    /// Values of a metric.
    Metric {
        /// Namespace of the HPA that asks.
        namespace: Cow<'r, str>,
        /// Name of the metric, in lower case: what is authorised is what is looked up.
        name: String,
    },
    /// Nothing that is served.
    Unknown,
}

impl<'r> Endpoint<'r> {
    /// Returns what `path`, still percent-encoded, means.
    pub fn of(path: &'r str) -> Self {
        if path.len() > LONGEST_PATH {
            return Self::Unknown;
        }
        match path {
            "/healthz" | "/readyz" | "/livez" => return Self::Probe,
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/apis") else { return Self::Unknown };
        let mut segments = rest.strip_prefix('/').unwrap_or(rest).trim_end_matches('/').split('/');
        if !rest.is_empty() && !rest.starts_with('/') {
            return Self::Unknown;
        }
        let parts: [Option<&str>; 6] = std::array::from_fn(|_| segments.next());
        match parts {
            [Some(""), None, ..] => Self::Groups,
            [Some(GROUP), None, ..] => Self::Group,
            [Some(GROUP), Some(VERSION), None, ..] => Self::Resources,
            [Some(GROUP), Some(VERSION), Some("namespaces"), Some(namespace), Some(name), None] => {
                Self::metric(namespace, name).unwrap_or(Self::Unknown)
            }
            _ => Self::Unknown,
        }
    }

    fn metric(namespace: &'r str, name: &'r str) -> Option<Self> {
        let [namespace, name] = [namespace, name].map(|text| percent_decode_str(text).decode_utf8().ok());
        let (namespace, name) = (namespace?, name?.to_lowercase());
        let sound = |text: &str| {
            !text.is_empty()
                && text.len() <= LONGEST_NAME
                && text != "."
                && text != ".."
                && !text.contains(|c: char| c == '/' || c == '%' || c.is_control())
        };
        // Kubernetes takes these two for parts of the namespace itself.
        let of_namespace = matches!(name.as_str(), "status" | "finalize");
        (sound(&namespace) && sound(&name) && !of_namespace).then_some(Self::Metric { namespace, name })
    }
}

/// What is read of a request's query; other list options mean nothing to a metric.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options<'r> {
    /// The label selector as text; empty where none was given.
    pub selector: Cow<'r, str>,
    /// Whether a stream of changes is asked for.
    pub watch: bool,
}

impl<'r> Options<'r> {
    /// Reads a query.
    pub fn of(query: Option<&'r str>) -> Self {
        let mut selector = None;
        let mut watch = None;
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "labelSelector" => selector = selector.or(Some(value)),
                "watch" => watch = watch.or(Some(!value.eq_ignore_ascii_case("false") && value != "0")),
                _ => {}
            }
        }
        Self { selector: selector.unwrap_or_default(), watch: watch.unwrap_or_default() }
    }
}

/// An answer: a status and a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, which is also the `code` of a Status document.
    pub code: StatusCode,
    /// The media type.
    pub content_type: &'static str,
    /// The document.
    pub body: Bytes,
}

impl Answer {
    const fn document(body: &'static str) -> Self {
        Self { code: StatusCode::OK, content_type: JSON, body: Bytes::from_static(body.as_bytes()) }
    }

    /// Returns what a probe is told.
    pub const fn healthy() -> Self {
        Self { code: StatusCode::OK, content_type: "text/plain; charset=utf-8", body: Bytes::from_static(b"ok") }
    }

    /// Returns the resources of the version.
    pub const fn resources() -> Self {
        Self::document(RESOURCES)
    }

    /// Returns the versions of the group.
    pub const fn group() -> Self {
        Self::document(API_GROUP)
    }

    /// Returns the groups: aggregated discovery where `accept` asks for a version of it that is known, else the plain list.
    /// What cannot be had in JSON is had in JSON all the same.
    pub fn groups(accept: &str) -> Self {
        for clause in accept.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            if parts.next() != Some(JSON) {
                continue;
            }
            let parts: Vec<&str> = parts.collect();
            let aggregated = parts.contains(&"g=apidiscovery.k8s.io") && parts.contains(&"as=APIGroupDiscoveryList");
            if !aggregated {
                return Self::document(GROUPS);
            }
            if parts.contains(&"v=v2") {
                let content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                return Self { content_type, ..Self::document(aggregated!("v2")) };
            }
            if parts.contains(&"v=v2beta1") {
                let content_type = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
                return Self { content_type, ..Self::document(aggregated!("v2beta1")) };
            }
        }
        Self::document(GROUPS)
    }

    /// Returns the values of `metric`.
    ///
    /// # Errors
    /// Where a value is none that a quantity can be.
    pub fn values(metric: &str, items: &[Arc<Item>]) -> Result<Self, NotAQuantity> {
        let items = items.iter().map(|item| Value::of(metric, item)).collect::<Result<Vec<_>, _>>()?;
        let list = ValueList { kind: "ExternalMetricValueList", api_version: GROUP_VERSION, metadata: Empty {}, items };
        Ok(Self { code: StatusCode::OK, content_type: JSON, body: json(&list) })
    }

    /// Returns a Status document. Its reason follows from the code.
    pub fn failure(code: StatusCode, message: &str) -> Self {
        Self::status(code, message, None)
    }

    /// Returns the answer to who may not do what was asked: to a metric, or to a path.
    pub fn forbidden(user: &str, verb: &str, on: &Endpoint<'_>, path: &str) -> Self {
        match on {
            Endpoint::Metric { namespace, name } => {
                let message = format!(
                    "{name}.{GROUP} is forbidden: User {user:?} cannot {verb} resource {name:?} in API group {GROUP:?} \
                     in the namespace {namespace:?}"
                );
                Self::status(StatusCode::FORBIDDEN, &message, Some(Details { group: GROUP, kind: name }))
            }
            _ => Self::failure(StatusCode::FORBIDDEN, &format!("forbidden: User {user:?} cannot {verb} path {path:?}")),
        }
    }

    fn status(code: StatusCode, message: &str, details: Option<Details<'_>>) -> Self {
        let reason = match code {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            _ => "InternalError",
        };
        let document = Status {
            kind: "Status",
            api_version: "v1",
            metadata: Empty {},
            status: "Failure",
            message,
            reason,
            details,
            code: code.as_u16(),
        };
        Self { code, content_type: JSON, body: json(&document) }
    }
}

/// A value that is NaN, infinite or negative. An HPA's arithmetic has no use for a load below zero, and what it cannot be is
/// not turned into a zero, by which the HPA would scale in: an error makes it keep its replicas.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the value {0} is no load: it must be finite and not negative")]
pub struct NotAQuantity(f64);

/// A quantity in thousandths, which is the finest that an HPA sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quantity {
    thousandths: i64,
}

impl Quantity {
    fn of(value: f64) -> Result<Self, NotAQuantity> {
        let thousandths = (value.min(LARGEST) * 1000.0).round();
        // A trifle below zero is what is left of a subtraction, and rounds to zero like one above it.
        if !value.is_finite() || thousandths < 0.0 {
            return Err(NotAQuantity(value));
        }
        Ok(Self { thousandths: thousandths as i64 })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.thousandths % 1000 == 0 {
            write!(f, "{}", self.thousandths / 1000)
        } else {
            write!(f, "{}m", self.thousandths)
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Writes a time as RFC 3339 with whole seconds, in UTC.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let seconds = at.unix_milliseconds().div_euclid(1000);
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ValueList<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: Vec<Value<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Value<'a> {
    metric_name: &'a str,
    metric_labels: &'a BTreeMap<String, String>,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<u64>,
    value: Quantity,
}

impl<'a> Value<'a> {
    fn of(metric: &'a str, item: &'a Item) -> Result<Self, NotAQuantity> {
        Ok(Self {
            metric_name: metric,
            metric_labels: &item.labels,
            timestamp: rfc3339(item.at),
            window: item.window.map(|window| window.as_secs()),
            value: Quantity::of(item.value)?,
        })
    }
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    message: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    code: u16,
}

#[derive(Serialize)]
struct Details<'a> {
    group: &'static str,
    kind: &'a str,
}

/// These documents hold nothing that JSON cannot say, so that nothing can go wrong.
fn json(document: &impl Serialize) -> Bytes {
    serde_json::to_vec(document).unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
