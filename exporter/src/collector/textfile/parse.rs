//! Text format 0.0.4 → families. Strict: whatever is not understood makes the whole file an error.

use std::collections::HashSet;
use std::path::Path;

use cloudpulse_common::exposition::{Kind, series_prefix};

/// A family of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) help: String,
    /// The file said it; else it is made up, and another file's counts.
    has_help: bool,
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

/// A sample of a family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// With `_bucket`, `_sum` or `_count` where it has them.
    name: String,
    labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Sample {
    /// Returns whether the bound of a bucket or quantile is a number, where it has one.
    fn has_bounds(&self, kind: Kind) -> bool {
        let label = match kind {
            Kind::Histogram => "le",
            Kind::Summary => "quantile",
            Kind::Counter | Kind::Gauge | Kind::Untyped => return true,
        };
        self.labels.iter().filter(|(name, _)| name == label).all(|(_, bound)| bound.parse::<f64>().is_ok())
    }

    /// Returns name and labels, ready to be written. OpenMetrics wants bounds with a point.
    pub(super) fn series(&self, is_strict: bool) -> Vec<u8> {
        let bound = |name: &str, value: &str| {
            let is_bound = is_strict && ["le", "quantile"].contains(&name);
            let is_whole = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            if is_bound && is_whole { format!("{value}.0") } else { value.to_owned() }
        };
        let labels: Vec<(&str, String)> =
            self.labels.iter().map(|(name, value)| (name.as_str(), bound(name, value))).collect();
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        series_prefix(&self.name, &labels)
    }
}

impl Family {
    /// Takes the samples of the same family of another file.
    pub(super) fn merge(&mut self, other: Self) -> Result<(), String> {
        if self.kind != other.kind {
            return Err(format!("{} has another type in another file", self.name));
        }
        if self.has_help && other.has_help && self.help != other.help {
            return Err(format!("{} has another help text in another file", self.name));
        }
        if !self.has_help && other.has_help {
            (self.help, self.has_help) = (other.help, true);
        }
        let known: HashSet<Vec<u8>> = self.samples.iter().map(|sample| sample.series(false)).collect();
        let count = self.samples.len() + other.samples.len();
        self.samples.extend(other.samples.into_iter().filter(|sample| !known.contains(&sample.series(false))));
        if self.samples.len() < count {
            return Err(format!("{} has a series in two files", self.name));
        }
        Ok(())
    }

    /// Puts samples of one set of labels together, in the order in which they came. Only a histogram or summary of several
    /// files or groups needs that.
    pub(super) fn sort(&mut self) {
        if matches!(self.kind, Kind::Histogram | Kind::Summary) {
            let group = |sample: &Sample| {
                let labels = sample.labels.iter().filter(|(name, _)| name != "le" && name != "quantile");
                labels.cloned().collect::<Vec<_>>()
            };
            self.samples.sort_by_cached_key(group);
        }
    }
}

/// Returns the families of a file's text.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Family>, String> {
    let mut families: Vec<Family> = Vec::new();
    let mut series = HashSet::new();
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end: the file may not be whole".to_owned());
    }
    for (number, line) in text.split('\n').enumerate() {
        let line = line.trim_matches([' ', '\t']);
        let fail = |what: &str| format!("line {}: {what}", number + 1);
        if line.is_empty() {
            continue;
        }
        if let Some(comment) = line.strip_prefix('#') {
            describe(comment, path, &mut families).map_err(|what| fail(&what))?;
            continue;
        }
        let sample = sample(line).map_err(fail)?;
        if !series.insert(sample.series(false)) {
            return Err(fail("the series was there before"));
        }
        let at = owner(&families, &sample.name);
        let at = at.unwrap_or_else(|| family(&mut families, &sample.name, path));
        if !sample.has_bounds(families[at].kind) {
            return Err(fail("a bound that is no number"));
        }
        families[at].samples.push(sample);
    }
    families.retain(|family| !family.samples.is_empty());
    Ok(families)
}

/// Reads a comment, which may be HELP or TYPE of a family.
fn describe(comment: &str, path: &Path, families: &mut Vec<Family>) -> Result<(), String> {
    let (keyword, rest) = word(comment);
    if keyword != "HELP" && keyword != "TYPE" {
        return Ok(());
    }
    let (name, rest) = word(rest);
    if !is_name(name, true) {
        return Err(format!("{name:?} is no name of a metric"));
    }
    let at = family(families, name, path);
    let family = &mut families[at];
    if keyword == "HELP" {
        if family.has_help {
            return Err(format!("a second HELP of {name}"));
        }
        (family.help, family.has_help) = (unescaped(rest.trim_start_matches([' ', '\t']), false)?, true);
        return Ok(());
    }
    if !family.samples.is_empty() {
        return Err(format!("TYPE of {name} after its samples"));
    }
    family.kind = match rest.trim_matches([' ', '\t']) {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        "summary" => Kind::Summary,
        "untyped" | "" => Kind::Untyped,
        other => return Err(format!("{other:?} is no type of a metric")),
    };
    Ok(())
}

/// Returns the place of the family with this name, made if it was not there.
fn family(families: &mut Vec<Family>, name: &str, path: &Path) -> usize {
    families.iter().rposition(|family| family.name == name).unwrap_or_else(|| {
        let help = format!("Metric read from {}", path.display());
        families.push(Family {
            name: name.to_owned(),
            help,
            has_help: false,
            kind: Kind::Untyped,
            samples: Vec::new(),
        });
        families.len() - 1
    })
}

/// Returns the place of the family that a sample is of: its own name's, or that of the histogram or summary.
fn owner(families: &[Family], name: &str) -> Option<usize> {
    let own = families.iter().rposition(|family| family.name == name);
    own.or_else(|| {
        families.iter().rposition(|family| {
            let Some(suffix) = name.strip_prefix(family.name.as_str()) else { return false };
            match family.kind {
                Kind::Histogram => ["_bucket", "_sum", "_count"].contains(&suffix),
                Kind::Summary => ["_sum", "_count"].contains(&suffix),
                Kind::Counter | Kind::Gauge | Kind::Untyped => false,
            }
        })
    })
}

/// Reads `name{label="value",...} value`. A time behind it is refused, as node_exporter does.
fn sample(line: &str) -> Result<Sample, &'static str> {
    let end = line.find(['{', ' ', '\t']).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("no name of a metric");
    }
    let mut labels = Vec::new();
    let rest = rest.trim_start_matches([' ', '\t']);
    let rest = match rest.strip_prefix('{') {
        Some(rest) => read_labels(rest, &mut labels)?,
        None => rest,
    };
    let (value, rest) = word(rest);
    let value: f64 = value.parse().map_err(|_| "no value")?;
    if !word(rest).0.is_empty() {
        return Err("a time behind the value");
    }
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// Reads labels up to the closing brace, and returns what is behind it.
fn read_labels<'t>(mut rest: &'t str, labels: &mut Vec<(String, String)>) -> Result<&'t str, &'static str> {
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok(rest);
        }
        let equals = rest.find('=').ok_or("a label without a value")?;
        let name = rest[..equals].trim_matches([' ', '\t']);
        if !is_name(name, false) || name == "__name__" || labels.iter().any(|(known, _)| known == name) {
            return Err("a label whose name is wrong or there twice");
        }
        let quoted = rest[equals + 1..].trim_start_matches([' ', '\t']);
        let quoted = quoted.strip_prefix('"').ok_or("a value of a label without quotes")?;
        let mut escaped = false;
        let end = quoted.find(|c: char| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        });
        let (value, behind) = quoted.split_at(end.ok_or("a value of a label without its end")?);
        labels.push((name.to_owned(), unescaped(value, true)?));
        rest = behind[1..].trim_start_matches([' ', '\t']);
        rest = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.starts_with('}') => rest,
            None => return Err("neither a comma nor a brace behind a label"),
        };
    }
}

/// Returns the first word and what is behind it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    text.split_at(text.find([' ', '\t']).unwrap_or(text.len()))
}

fn is_name(name: &str, is_metric: bool) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || (is_metric && byte == b':');
    name.bytes().next().is_some_and(is_letter) && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

fn unescaped(text: &str, quotes: bool) -> Result<String, &'static str> {
    let mut value = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('\\') => value.push('\\'),
                Some('n') => value.push('\n'),
                Some('"') if quotes => value.push('"'),
                _ => return Err("a backslash that means nothing"),
            },
            c => value.push(c),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads text whose last line may lack its end.
    fn read(text: &str) -> Result<Vec<Family>, String> {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        parse(&format!("{text}{end}"), Path::new("/x.prom"))
    }

    #[test]
    fn families_samples_and_labels_are_read() {
        let families = read(
            "# HELP a_total Some \\\\ help\n# TYPE a_total counter\n a_total { x = \"q\\\"\\n\" , y=\"\" , } 1.5e3\n\
             # a comment\n\nb NaN\n",
        )
        .unwrap();
        assert_eq!((families[0].help.as_str(), families[0].kind), ("Some \\ help", Kind::Counter));
        assert_eq!(families[0].samples[0].series(false), b"a_total{x=\"q\\\"\\n\",y=\"\"} ");
        assert_eq!(families[0].samples[0].value, 1500.0);
        assert_eq!((families[1].help.as_str(), families[1].kind), ("Metric read from /x.prom", Kind::Untyped));
        assert!(families[1].samples[0].value.is_nan());
    }

    #[test]
    fn histograms_keep_their_parts_together() {
        let families = read(
            "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n\
             # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\nh_other 1\n",
        )
        .unwrap();
        let names: Vec<(&str, usize)> = families.iter().map(|f| (f.name.as_str(), f.samples.len())).collect();
        assert_eq!(names, [("h", 4), ("s", 3), ("h_other", 1)]);
        assert_eq!(families[0].samples[0].series(true), b"h_bucket{le=\"1.0\"} ");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "a",
            "a x",
            "a 1 1395066363000",
            "a 1\na 2",
            "a{x=\"1\"} 1\na{x=\"1\"} 1",
            "1a 1",
            "a{x=1} 1",
            "a{x=\"1} 1",
            "a{x=\"1\" y=\"2\"} 1",
            "a{x=\"1\",x=\"2\"} 1",
            "a{x=\"\\t\"} 1",
            "a{x:y=\"1\"} 1",
            "a 1\r",
            "# TYPE a thing\na 1",
            "# TYPE a gauge x\na 1",
            "# TYPE a histogram\na_bucket{le=\"x\"} 1",
            "# TYPE a summary\na{quantile=\"x\"} 1",
            "a 1\n# TYPE a gauge",
            "# HELP a 1\n# HELP a 2\na 1",
            "# HELP 1 x",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read("").unwrap(), []);
        assert!(parse("a 1\nb 1", Path::new("/x.prom")).is_err(), "cut off");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*", metric in "(# (TYPE|HELP) a [a-z]{0,9}\n|a(\\{[a-z=\",\\\\]{0,9}\\})? ?[0-9.]{0,4}\n)*") {
            let _ = (read(&text), read(&metric));
        }

        #[test]
        fn any_label_is_read_back(value in "[^\r\n]*") {
            let line = String::from_utf8(series_prefix("a", &[("x", &value)])).unwrap() + "1";
            prop_assert_eq!(&read(&line).unwrap()[0].samples[0].labels[0].1, &value);
        }
    }
}
