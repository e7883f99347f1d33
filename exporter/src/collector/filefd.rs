//! `/proc/sys/fs/file-nr` → open files of the whole system and their limit.

use cloudpulse_common::exposition::{Kind, Page};

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, integer, words};

pub(super) const ENTRY: Entry = Entry {
    name: "filefd",
    about: "Open files and their limit",
    by_default: true,
    new: |host, _: &Filters| Box::new(Filefd { file: host.own_proc_file("sys/fs/file-nr", Shape::Value) }),
};

#[derive(Debug)]
struct Filefd {
    file: KeptFile,
}

impl Collector for Filefd {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let content = host.read_alone(&mut self.file)?;
        let mut words = words(content.trim_ascii());
        let (allocated, _, maximum) = (words.next(), words.next(), words.next());
        let numbers = allocated.and_then(integer).zip(maximum.and_then(integer));
        let (allocated, maximum) =
            numbers.ok_or_else(|| Malformed::new("three counts in /proc/sys/fs/file-nr", content))?;
        for (name, help, value) in [
            ("node_filefd_allocated", "Open files of all processes.", allocated),
            ("node_filefd_maximum", "Open files that all processes may have.", maximum),
        ] {
            page.family(name, help, Kind::Gauge);
            page.unlabelled(name, value.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn the_first_and_the_last_count_are_written() {
        // The last as a 64-bit kernel has it by default.
        let content = "1024\t0\t9223372036854775807\n";
        let samples = Fixture::new(&ENTRY, &[("proc/sys/fs/file-nr", content)]).samples().unwrap();
        assert_eq!(samples, ["node_filefd_allocated 1024", "node_filefd_maximum 9223372036854775807"]);
        for content in ["", "1\t0", "1\t0\tx"] {
            assert!(Fixture::new(&ENTRY, &[("proc/sys/fs/file-nr", content)]).samples().is_err(), "{content}");
        }
    }
}
