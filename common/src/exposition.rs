//! Values in, Prometheus exposition out: text format 0.0.4 and OpenMetrics 1.0, written straight into one buffer.
//!
//! There is no registry here: a page is written at each scrape from what is there, so that what has vanished is not on it.

mod described;
mod encode;

pub use described::Described;
use prometheus::proto::MetricType;

use encode::{escape, write_bound, write_integer, write_labels, write_number, write_value};

/// Exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns the best format for an `Accept` header: of OpenMetrics 1.0 and text, the one with the higher `q`; the
    /// first named at equal `q`; text where neither is named.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best: Option<(f32, Self)> = None;
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let mut quality = 1.0_f32;
            let mut version = None;
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("q", value)) => quality = value.trim().parse().unwrap_or(0.0),
                    Some(("version", value)) => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            let format = match (media, version) {
                ("application/openmetrics-text", None | Some("1.0.0")) => Self::OpenMetrics,
                ("text/plain" | "text/*" | "*/*", _) => Self::Text,
                _ => continue,
            };
            if quality > 0.0 && best.is_none_or(|(q, _)| quality > q) {
                best = Some((quality, format));
            }
        }
        best.map_or(Self::Text, |(_, format)| format)
    }

    /// Returns the value of the `Content-Type` header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, with `_bucket`, `_sum` and `_count` samples.
    Histogram,
    /// Quantiles, with `_sum` and `_count` samples.
    Summary,
    /// Not known.
    Untyped,
}

/// A value in the form in which it is cheapest to write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Any value.
    Float(f64),
    /// A whole number.
    Integer(u64),
    /// `digits` / 10^`places`: what the kernel counts in hundredths or thousandths, written exactly.
    Decimal {
        /// All digits, without the point.
        digits: u64,
        /// How many of them stand behind the point; at most 19.
        places: u32,
    },
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Integer(value)
    }
}

/// Labels rendered once, to be written at every scrape by [`Page::labelled`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels(Box<[u8]>);

impl Labels {
    /// Renders labels; values may hold any text. An empty value is left out: to Prometheus that is the same.
    pub fn new(labels: &[(&str, &str)]) -> Self {
        let mut rendered = Vec::with_capacity(32);
        write_labels(&mut rendered, labels.iter().copied().filter(|(_, value)| !value.is_empty()));
        rendered.push(b' ');
        Self(rendered.into())
    }
}

/// A page being written.
#[derive(Debug)]
pub struct Page<'b> {
    buffer: &'b mut Vec<u8>,
    format: Format,
}

impl<'b> Page<'b> {
    /// Starts a page at the end of `buffer`.
    pub fn new(buffer: &'b mut Vec<u8>, format: Format) -> Self {
        Self { buffer, format }
    }

    /// Returns the format of the page.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Writes HELP and TYPE of a family; its samples must follow before the next family. In OpenMetrics a counter's
    /// family loses `_total`, and a counter without `_total` is of type unknown.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) {
        let (family, type_name) = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => match name.strip_suffix("_total") {
                Some(family) => (family, "counter"),
                None => (name, "unknown"),
            },
            (Format::OpenMetrics, Kind::Untyped) => (name, "unknown"),
            (Format::Text, Kind::Untyped) => (name, "untyped"),
            (_, Kind::Counter) => (name, "counter"),
            (_, Kind::Gauge) => (name, "gauge"),
            (_, Kind::Histogram) => (name, "histogram"),
            (_, Kind::Summary) => (name, "summary"),
        };
        self.raw(b"# HELP ");
        self.raw(family.as_bytes());
        self.raw(b" ");
        let quotes = self.format == Format::OpenMetrics;
        escape(self.buffer, help, quotes);
        self.raw(b"\n# TYPE ");
        self.raw(family.as_bytes());
        self.raw(b" ");
        self.raw(type_name.as_bytes());
        self.raw(b"\n");
    }

    /// Writes one sample. Label values may hold any text.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.raw(name.as_bytes());
        write_labels(self.buffer, labels.iter().copied());
        self.raw(b" ");
        write_value(self.buffer, value);
        self.raw(b"\n");
    }

    /// Writes a sample whose name and labels were rendered before, as by [`series_prefix`].
    pub fn prefixed(&mut self, prefix: &[u8], value: f64) {
        self.raw(prefix);
        write_value(self.buffer, value);
        self.raw(b"\n");
    }

    /// Writes a whole number with a prefix that was rendered before.
    pub fn prefixed_integer(&mut self, prefix: &[u8], value: u64) {
        self.raw(prefix);
        write_integer(self.buffer, value);
        self.raw(b"\n");
    }

    /// Writes one sample whose labels were rendered before.
    pub fn labelled(&mut self, name: &str, labels: &Labels, value: Number) {
        self.raw(name.as_bytes());
        self.raw(&labels.0);
        write_number(self.buffer, value);
        self.raw(b"\n");
    }

    /// Writes one sample without labels.
    pub fn unlabelled(&mut self, name: &str, value: Number) {
        self.raw(name.as_bytes());
        self.raw(b" ");
        write_number(self.buffer, value);
        self.raw(b"\n");
    }

    /// Takes back what was written since the page had `length` bytes, as returned by [`Page::length`].
    pub fn truncate(&mut self, length: usize) {
        self.buffer.truncate(length);
    }

    /// Returns whether the page has a family that is called `name` in the text format.
    pub fn has_family(&self, name: &str) -> bool {
        let name = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Text => name,
        };
        let wanted = format!("\n# TYPE {name} ");
        self.buffer.windows(wanted.len()).any(|window| window == wanted.as_bytes())
    }

    /// Returns the length of the buffer in bytes.
    pub fn length(&self) -> usize {
        self.buffer.len()
    }

    /// Writes all families of a registry: counters, gauges and histograms.
    pub fn registry(&mut self, registry: &prometheus::Registry) {
        for family in registry.gather() {
            let name = family.name();
            let kind = match family.get_field_type() {
                MetricType::COUNTER => Kind::Counter,
                MetricType::GAUGE => Kind::Gauge,
                MetricType::HISTOGRAM => Kind::Histogram,
                MetricType::SUMMARY | MetricType::UNTYPED => continue,
            };
            self.family(name, family.help(), kind);
            for metric in family.get_metric() {
                let labels: Vec<(&str, &str)> = metric.get_label().iter().map(|l| (l.name(), l.value())).collect();
                match kind {
                    Kind::Counter => self.sample(name, &labels, metric.get_counter().get_value()),
                    Kind::Gauge | Kind::Summary | Kind::Untyped => {
                        self.sample(name, &labels, metric.get_gauge().get_value());
                    }
                    Kind::Histogram => self.histogram(name, &labels, metric.get_histogram()),
                }
            }
        }
    }

    /// Ends the page: `# EOF` in OpenMetrics.
    pub fn finish(mut self) {
        if self.format == Format::OpenMetrics {
            self.raw(b"# EOF\n");
        }
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &prometheus::proto::Histogram) {
        let bucket_name = format!("{name}_bucket");
        let bucket = |bound: f64, count: u64, buffer: &mut Vec<u8>| {
            let mut text = Vec::new();
            write_bound(&mut text, bound);
            let bound_text = String::from_utf8_lossy(&text);
            buffer.extend_from_slice(bucket_name.as_bytes());
            write_labels(buffer, labels.iter().copied().chain([("le", bound_text.as_ref())]));
            buffer.push(b' ');
            write_integer(buffer, count);
            buffer.push(b'\n');
        };
        for entry in histogram.get_bucket() {
            if entry.upper_bound().is_finite() {
                bucket(entry.upper_bound(), entry.cumulative_count(), self.buffer);
            }
        }
        bucket(f64::INFINITY, histogram.get_sample_count(), self.buffer);
        self.sample(&format!("{name}_sum"), labels, histogram.get_sample_sum());
        self.sample(&format!("{name}_count"), labels, histogram.get_sample_count() as f64);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
}

/// Returns `name{labels} `, ready for [`Page::prefixed`].
pub fn series_prefix(name: &str, labels: &[(&str, &str)]) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(name.len() + 32);
    prefix.extend_from_slice(name.as_bytes());
    write_labels(&mut prefix, labels.iter().copied());
    prefix.push(b' ');
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(format: Format, write: impl FnOnce(&mut Page<'_>)) -> String {
        let mut buffer = Vec::new();
        let mut page = Page::new(&mut buffer, format);
        write(&mut page);
        page.finish();
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn prometheus_asks_for_openmetrics_and_gets_it() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::negotiate(Some(prometheus_2)), Format::OpenMetrics);
        for (accept, format) in [
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/plain;version=0.0.4"), Format::Text),
            (Some("application/json"), Format::Text),
            (Some("application/openmetrics-text; version=0.0.1"), Format::Text),
            (Some("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.7"), Format::Text),
            (Some("application/openmetrics-text;version=1.0.0;q=0"), Format::Text),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn a_counter_loses_total_in_openmetrics_only() {
        let write = |page: &mut Page<'_>| {
            page.family("a_total", "Help with \\ and\nline", Kind::Counter);
            page.sample("a_total", &[("x", "q\"b\\c\nd")], 1.0);
        };
        assert_eq!(
            page(Format::Text, write),
            "# HELP a_total Help with \\\\ and\\nline\n# TYPE a_total counter\na_total{x=\"q\\\"b\\\\c\\nd\"} 1\n"
        );
        assert_eq!(
            page(Format::OpenMetrics, write),
            "# HELP a Help with \\\\ and\\nline\n# TYPE a counter\na_total{x=\"q\\\"b\\\\c\\nd\"} 1\n# EOF\n"
        );
    }

    #[test]
    fn a_family_is_known_by_its_name() {
        for format in [Format::Text, Format::OpenMetrics] {
            page(format, |page| {
                page.family("a_total", "A.", Kind::Counter);
                assert!(page.has_family("a_total") && !page.has_family("a_tot") && !page.has_family("b_total"));
            });
        }
    }

    #[test]
    fn values_are_what_prometheus_reads() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (-1.5, "-1.5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (1.5e300, "1.5e300"),
            (9_007_199_254_740_993_000.0, "9.007199254740993e18"),
        ] {
            let mut buffer = Vec::new();
            write_value(&mut buffer, value);
            assert_eq!(String::from_utf8(buffer).unwrap(), text);
        }
    }

    #[test]
    fn decimals_are_exact_and_short() {
        for (digits, places, text) in [
            (0, 2, "0"),
            (5, 2, "0.05"),
            (100, 2, "1"),
            (12_340, 3, "12.34"),
            (1, 3, "0.001"),
            (7, 0, "7"),
            (u64::MAX, 19, "1.8446744073709551615"),
        ] {
            let line =
                page(Format::Text, |page| page.labelled("m", &Labels::new(&[]), Number::Decimal { digits, places }));
            assert_eq!(line, format!("m {text}\n"));
        }
    }

    #[test]
    fn rendered_labels_leave_empty_ones_out() {
        let labels = Labels::new(&[("a", ""), ("b", "x\"y"), ("c", "")]);
        let line = page(Format::Text, |page| page.labelled("m", &labels, 2_u64.into()));
        assert_eq!(line, "m{b=\"x\\\"y\"} 2\n");
    }

    #[test]
    fn a_registry_is_written_with_buckets() {
        let registry = prometheus::Registry::new();
        let options = prometheus::HistogramOpts::new("t_seconds", "T.").buckets(vec![0.5, 1.0]);
        let histogram = prometheus::Histogram::with_opts(options).unwrap();
        histogram.observe(0.75);
        registry.register(Box::new(histogram)).unwrap();
        assert_eq!(
            page(Format::Text, |page| page.registry(&registry)),
            "# HELP t_seconds T.\n# TYPE t_seconds histogram\nt_seconds_bucket{le=\"0.5\"} 0\n\
             t_seconds_bucket{le=\"1.0\"} 1\nt_seconds_bucket{le=\"+Inf\"} 1\nt_seconds_sum 0.75\nt_seconds_count 1\n"
        );
    }

    proptest! {
        #[test]
        fn any_decimal_reads_back_as_its_quotient(digits in 0..1_u64 << 53, places in 0..7_u32) {
            let mut buffer = Vec::new();
            write_number(&mut buffer, Number::Decimal { digits, places });
            let value: f64 = String::from_utf8(buffer).unwrap().parse().unwrap();
            prop_assert_eq!(value, digits as f64 / 10_f64.powi(places as i32));
        }

        #[test]
        fn any_finite_value_reads_back_exactly(value in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
            let mut buffer = Vec::new();
            write_value(&mut buffer, value);
            let text = String::from_utf8(buffer).unwrap();
            prop_assert_eq!(text.parse::<f64>().unwrap(), value);
        }

        #[test]
        fn any_label_value_stays_on_its_line(value in "\\PC*|[\\\\\"\n]*") {
            let text = page(Format::Text, |page| page.sample("m", &[("l", &value)], 1.0));
            prop_assert_eq!(text.matches('\n').count(), 1);
            let inner = text.strip_prefix("m{l=\"").unwrap().strip_suffix("\"} 1\n").unwrap();
            prop_assert_eq!(inner.replace("\\\\", "\u{0}").replace("\\n", "\n").replace("\\\"", "\"").replace('\u{0}', "\\"), value);
        }
    }
}
