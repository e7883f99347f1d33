//! `/proc/self` → `process_*`: what the exporter itself uses.

use std::path::Path;

use cloudpulse_common::exposition::{Kind, Number, Page};
use rustix::process::{Resource, getrlimit};

use crate::attributes::names;
use crate::host::{KeptFile, Shape};
use crate::parse::{integer, lines, words};

/// Files of its own process, never those of the host's /proc that may be mounted elsewhere.
#[derive(Debug)]
pub(crate) struct Process {
    stat: KeptFile,
    system_stat: KeptFile,
    /// Unix time; does not change.
    started: Option<Number>,
}

/// Names, HELP and values, the last absent where they cannot be read.
type Values = [(&'static str, &'static str, Kind, Option<Number>); 7];

impl Process {
    pub(crate) fn new() -> Self {
        let file = |path: &str, shape| KeptFile::new(path.into(), shape);
        Self {
            stat: file("/proc/self/stat", Shape::Value),
            system_stat: file("/proc/stat", Shape::Whole),
            started: None,
        }
    }

    /// Writes the families. What cannot be read is absent.
    pub(crate) fn write(&mut self, page: &mut Page<'_>) {
        for (name, help, kind, value) in self.values() {
            if let Some(value) = value {
                page.family(name, help, kind);
                page.unlabelled(name, value);
            }
        }
    }

    fn values(&mut self) -> Values {
        let stat = self.stat.read().ok().and_then(parse);
        let page_size = rustix::param::page_size() as u64;
        let whole = |value: Option<u64>| value.map(Number::Integer);
        if let (None, Some(stat)) = (self.started, &stat) {
            self.started = boot_time(&mut self.system_stat).map(|boot| {
                let digits = boot.saturating_mul(100).saturating_add(stat.started);
                Number::Decimal { digits, places: 2 }
            });
            self.system_stat = KeptFile::new("/proc/stat".into(), Shape::Whole);
        }
        let ticks = stat.as_ref().map(|stat| Number::Decimal { digits: stat.ticks, places: 2 });
        let limit = |resource| Number::Integer(getrlimit(resource).current.unwrap_or(u64::MAX));
        let open = open_files(Path::new("/proc/self/fd"));
        let resident = stat.as_ref().and_then(|stat| stat.pages.checked_mul(page_size));
        let open_help = "Files that the exporter has open.";
        [
            ("process_cpu_seconds_total", "Seconds of CPU that the exporter used.", Kind::Counter, ticks),
            ("process_max_fds", "Files that the exporter may have open.", Kind::Gauge, Some(limit(Resource::Nofile))),
            ("process_open_fds", open_help, Kind::Gauge, whole(open)),
            ("process_resident_memory_bytes", "Memory of the exporter.", Kind::Gauge, whole(resident)),
            ("process_start_time_seconds", "Unix time at which the exporter started.", Kind::Gauge, self.started),
            (
                "process_virtual_memory_bytes",
                "Addresses that the exporter uses.",
                Kind::Gauge,
                whole(stat.map(|stat| stat.bytes)),
            ),
            (
                "process_virtual_memory_max_bytes",
                "Addresses that the exporter may use; the largest of 64 bits without a limit.",
                Kind::Gauge,
                Some(limit(Resource::As)),
            ),
        ]
    }
}

/// A process's line.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Hundredths of a second of CPU.
    ticks: u64,
    /// Hundredths of a second from boot to start.
    started: u64,
    /// Of addresses.
    bytes: u64,
    /// Of memory.
    pages: u64,
}

fn parse(stat: &[u8]) -> Option<Stat> {
    // The name may hold anything.
    let mut fields = [0; 22];
    for (field, word) in fields.iter_mut().zip(words(stat[memchr::memrchr(b')', stat)? + 1..].trim_ascii())) {
        // The state is no number, and a group may be negative; neither is looked at.
        *field = integer(word).unwrap_or_default();
    }
    // Numbered from the state, which is the third field.
    let field = |number: usize| fields[number - 3];
    Some(Stat { ticks: field(14) + field(15), started: field(22), bytes: field(23), pages: field(24) })
        .filter(|stat| stat.pages > 0)
}

/// Returns how many files are open. Kernels from 6.2 on have it as the size of the folder; a listing costs a microsecond for
/// each file.
fn open_files(folder: &Path) -> Option<u64> {
    let size = std::fs::metadata(folder).ok()?.len();
    // Without the folder itself, which is open while it is listed.
    let listed = || names(folder, usize::MAX, |_| true).ok().map(|names| names.len().saturating_sub(1) as u64);
    if size > 0 { Some(size) } else { listed() }
}

fn boot_time(stat: &mut KeptFile) -> Option<u64> {
    integer(lines(stat.read().ok()?).find_map(|line| line.strip_prefix(b"btime "))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_fields_of_a_process_are_read() {
        let stat = b"7 (a) b) S 1 2 3 0 -1 5 6 7 8 9 100 11 12 13 20 0 1 0 4567 8192000 250 18446744073709551615 1\n";
        assert_eq!(parse(stat), Some(Stat { ticks: 111, started: 4567, bytes: 8_192_000, pages: 250 }));
        assert_eq!((parse(b"7 (a S 1"), parse(b"7 (a) S 1")), (None, None));
    }

    #[test]
    fn this_process_has_all_values() {
        let mut process = Process::new();
        for _ in 0..2 {
            for (name, _, _, value) in process.values() {
                assert!(value.is_some(), "{name}");
            }
        }
    }

    #[test]
    fn open_files_are_counted() {
        let count = || open_files(Path::new("/proc/self/fd")).unwrap();
        // Standard input, output and error, and what the other tests have open.
        assert!(count() >= 3);
        assert_eq!(open_files(Path::new("/no/such/folder")), None);
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(content: Vec<u8>) {
            let _ = parse(&content);
        }
    }
}
