//! `/etc/os-release` → the distribution and its version.

use std::path::PathBuf;
use std::time::SystemTime;

use cloudpulse_common::exposition::{Labels, Number, Page};
use jiff::civil::Date;
use jiff::tz::Offset;

use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::decimal;

pub(super) const ENTRY: Entry = Entry {
    name: "os",
    about: "Distribution and version of the operating system",
    by_default: true,
    new: |host, _: &Filters| {
        let paths = ["/etc/os-release", "/usr/lib/os-release"].map(|path| host.path_of(path));
        Box::new(Os { paths, known: None })
    },
};

/// Keys of the file, and labels.
const LABELS: [(&str, &str); 12] = [
    ("BUILD_ID", "build_id"),
    ("ID", "id"),
    ("ID_LIKE", "id_like"),
    ("IMAGE_ID", "image_id"),
    ("IMAGE_VERSION", "image_version"),
    ("NAME", "name"),
    ("PRETTY_NAME", "pretty_name"),
    ("VARIANT", "variant"),
    ("VARIANT_ID", "variant_id"),
    ("VERSION", "version"),
    ("VERSION_CODENAME", "version_codename"),
    ("VERSION_ID", "version_id"),
];

#[derive(Debug)]
struct Os {
    paths: [PathBuf; 2],
    /// What the file said, and when it was last changed.
    known: Option<(Option<SystemTime>, Release)>,
}

#[derive(Debug)]
struct Release {
    info: Labels,
    version_labels: Labels,
    version: Option<Number>,
    /// Unix time.
    support_end: Option<f64>,
}

impl Collector for Os {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let metadata = |path: &PathBuf| std::fs::metadata(path).ok();
        let Some((path, metadata)) = self.paths.iter().find_map(|path| Some((path, metadata(path)?))) else {
            return Err(CollectError::NoData(self.paths[0].clone()));
        };
        let changed = metadata.modified().ok();
        let release = match self.known.take() {
            Some((then, release)) if then == changed => release,
            _ => Release::new(KeptFile::new(path.clone(), Shape::Whole).read()?),
        };
        Family::gauge("node_os_info", "Always 1; the operating system is in the labels.").labelled(
            page,
            &release.info,
            Number::Integer(1),
        );
        if let Some(version) = release.version {
            Family::gauge("node_os_version", "The first two parts of the version.").labelled(
                page,
                &release.version_labels,
                version,
            );
        }
        if let Some(end) = release.support_end {
            let mut family = Family::gauge(
                "node_os_support_end_timestamp_seconds",
                "Unix time at which support for the system ends.",
            );
            family.single(page, Number::Float(end));
        }
        self.known = Some((changed, release));
        Ok(())
    }
}

impl Release {
    fn new(content: &[u8]) -> Self {
        let content = String::from_utf8_lossy(content);
        let value = |key: &str| {
            let found = content.lines().rev().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            unquoted(found.unwrap_or_default())
        };
        let values = LABELS.map(|(key, _)| value(key));
        let labels: Vec<(&str, &str)> =
            LABELS.into_iter().map(|(_, label)| label).zip(values.iter().map(String::as_str)).collect();
        let some: Vec<(&str, &str)> =
            labels.iter().copied().filter(|(label, _)| ["id", "id_like", "name"].contains(label)).collect();
        let end: Option<Date> = value("SUPPORT_END").parse().ok();
        let end = end.and_then(|date| Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok());
        Self {
            info: Labels::new(&labels),
            version_labels: Labels::new(&some),
            version: version(&value("VERSION_ID")),
            support_end: end.map(|end| end.as_second() as f64),
        }
    }
}

/// Returns the number that a version begins with: 22.04 of `22.04.1`. A version of zero is none.
fn version(text: &str) -> Option<Number> {
    let mut points = 0;
    let end = text.find(|c: char| {
        points += usize::from(c == '.');
        !(c.is_ascii_digit() || c == '.') || points > 1
    });
    let number = text[..end.unwrap_or(text.len())].trim_end_matches('.');
    decimal(number.as_bytes()).filter(|_| number.bytes().any(|byte| byte.is_ascii_digit() && byte != b'0'))
}

/// Returns a value as a shell would read it.
fn unquoted(text: &str) -> String {
    let text = text.trim();
    let inner = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    if let Some(literal) = inner('\'') {
        return literal.to_owned();
    }
    let mut value = String::with_capacity(text.len());
    let mut characters = inner('"').unwrap_or(text).chars();
    while let Some(c) = characters.next() {
        value.push(if c == '\\' { characters.next().unwrap_or(c) } else { c });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloudpulse_common::exposition::Format;
    use proptest::prelude::*;

    fn page(os: &mut Os) -> String {
        let mut buffer = Vec::new();
        os.collect(&mut Host::new(crate::host::Roots::default()), &mut Page::new(&mut buffer, Format::Text)).unwrap();
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn the_release_is_shown_and_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("os-release");
        let mut os = Os { paths: [folder.path().join("none"), path.clone()], known: None };
        std::fs::write(
            &path,
            "# comment\nNAME=\"Ubuntu \\\"x\\\"\"\nID=ubuntu\nID_LIKE='debian'\nVERSION_ID=\"20.04\"\nSUPPORT_END=2024-06-30\n",
        )
        .unwrap();
        let first = page(&mut os);
        assert!(
            first.contains(
                "\nnode_os_info{id=\"ubuntu\",id_like=\"debian\",name=\"Ubuntu \\\"x\\\"\",version_id=\"20.04\"} 1\n"
            ),
            "{first}"
        );
        assert!(
            first.contains("\nnode_os_version{id=\"ubuntu\",id_like=\"debian\",name=\"Ubuntu \\\"x\\\"\"} 20.04\n"),
            "{first}"
        );
        assert!(first.contains("\nnode_os_support_end_timestamp_seconds 1719705600\n"), "{first}");
        assert_eq!(page(&mut os), first);
        std::fs::write(&path, "ID=arch\n").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let second = page(&mut os);
        assert!(second.ends_with("\nnode_os_info{id=\"arch\"} 1\n"), "{second}");
    }

    #[test]
    fn versions_are_their_first_two_parts() {
        let number = |digits, places| Some(Number::Decimal { digits, places });
        assert_eq!(version("22.04.1"), number(2204, 2));
        assert_eq!(version("12"), Some(Number::Integer(12)));
        assert_eq!((version("9."), version("8 x")), (Some(Number::Integer(9)), Some(Number::Integer(8))));
        assert_eq!((version("rolling"), version(""), version("0")), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_file_is_read(content: Vec<u8>, text in "\\PC*") {
            let _ = Release::new(&content);
            let _ = (version(&text), unquoted(&text));
        }
    }
}
