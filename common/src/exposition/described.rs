//! Collectors of the prometheus crate in; what they can show out, for the reference.

use prometheus::core::Collector;
use prometheus::proto::MetricType;

use super::Kind;

/// A family that a program can show, whether or not it has samples now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Name, without the prefix of the registry.
    pub name: String,
    /// HELP text.
    pub help: String,
    /// Type.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: Vec<String>,
}

impl Described {
    /// Returns the families of the collectors, in their order.
    pub fn of(collectors: &[Box<dyn Collector>]) -> Vec<Self> {
        let mut described = Vec::with_capacity(collectors.len());
        for collector in collectors {
            for (family, about) in collector.collect().into_iter().zip(collector.desc()) {
                described.push(Self {
                    name: about.fq_name.clone(),
                    help: about.help.clone(),
                    kind: match family.get_field_type() {
                        MetricType::COUNTER => Kind::Counter,
                        MetricType::GAUGE => Kind::Gauge,
                        MetricType::HISTOGRAM => Kind::Histogram,
                        MetricType::SUMMARY => Kind::Summary,
                        MetricType::UNTYPED => Kind::Untyped,
                    },
                    labels: about.variable_labels.clone(),
                });
            }
        }
        described
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounterVec, Opts};

    use super::*;

    #[test]
    fn a_family_without_samples_is_described_too() {
        let counter = IntCounterVec::new(Opts::new("a_total", "Of a."), &["x", "y"]).unwrap();
        let times = HistogramVec::new(HistogramOpts::new("b_seconds", "Of b."), &["x"]).unwrap();
        let gauge = Gauge::new("c", "Of c.").unwrap();
        let described = Described::of(&[Box::new(counter), Box::new(times), Box::new(gauge)]);
        let short = |it: &Described| (it.name.clone(), it.help.clone(), it.kind, it.labels.join(","));
        assert_eq!(
            described.iter().map(short).collect::<Vec<_>>(),
            [
                ("a_total".to_owned(), "Of a.".to_owned(), Kind::Counter, "x,y".to_owned()),
                ("b_seconds".to_owned(), "Of b.".to_owned(), Kind::Histogram, "x".to_owned()),
                ("c".to_owned(), "Of c.".to_owned(), Kind::Gauge, String::new()),
            ]
        );
    }
}
