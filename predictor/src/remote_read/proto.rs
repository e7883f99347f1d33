//! Messages of Prometheus' remote-read protocol (package `prometheus`, files `remote.proto` and `types.proto`).

/// What Prometheus asks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadRequest {
    /// One result is answered for each.
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
}

/// One selector over a range of time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Query {
    /// First millisecond, included.
    #[prost(int64, tag = "1")]
    pub start_timestamp_ms: i64,
    /// Last millisecond, included.
    #[prost(int64, tag = "2")]
    pub end_timestamp_ms: i64,
    /// All must match.
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<LabelMatcher>,
}

/// A condition on one label.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LabelMatcher {
    /// How it is compared.
    #[prost(enumeration = "MatcherType", tag = "1")]
    pub kind: i32,
    /// Label.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Value or regular expression.
    #[prost(string, tag = "3")]
    pub value: String,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MatcherType {
    /// `=`
    Equal = 0,
    /// `!=`
    NotEqual = 1,
    /// `=~`
    Regex = 2,
    /// `!~`
    NotRegex = 3,
}

/// The answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadResponse {
    /// In the order of the queries.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<QueryResult>,
}

/// Answer to one query.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryResult {
    /// Matching series, sorted by labels.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// One series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// In ascending time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

/// One label.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Label {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// One sample.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Sample {
    /// Value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Unix time in milliseconds.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}
