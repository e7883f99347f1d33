//! `/sys/class/scsi_tape/st*/stats` → `node_tape_*` per tape drive.

use cloudpulse_common::exposition::{Kind, Labels, Page};
use regex_lite::Regex;

use super::class::{Attribute, Class, numbered};
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::Host;
use crate::parse::Scale;

pub(super) const ENTRY: Entry = Entry {
    name: "tapestats",
    about: "What tape drives did",
    by_default: true,
    new: |host, filters: &Filters| {
        Box::new(Tapes {
            class: Class::new(host.roots().sysfs.join("class/scsi_tape"), &ATTRIBUTES),
            ignored: filters.tapes_ignored.clone(),
        })
    },
};

/// Each drive has seven further names, for its ways of being opened.
const MOST: usize = 4096;

const NANO: Scale = Scale::divided(9);

const fn seconds(file: &'static str, family: &'static str, help: &'static str) -> Attribute {
    Attribute { file, family, help, kind: Kind::Counter, scale: NANO }
}

#[rustfmt::skip]
const ATTRIBUTES: [Attribute; 10] = [
    Attribute::gauge("stats/in_flight", "node_tape_io_now", "Requests that are being worked on.", Scale::WHOLE),
    seconds("stats/io_ns", "node_tape_io_time_seconds_total", "Time spent on all requests, winding among them."),
    Attribute::counter("stats/other_cnt", "node_tape_io_others_total", "Requests that neither read nor wrote."),
    Attribute::counter("stats/read_byte_cnt", "node_tape_read_bytes_total", "Bytes read."),
    Attribute::counter("stats/read_cnt", "node_tape_reads_completed_total", "Reads."),
    seconds("stats/read_ns", "node_tape_read_time_seconds_total", "Time spent on reads."),
    Attribute::counter("stats/resid_cnt", "node_tape_residual_total", "Reads and writes that moved less than was asked."),
    Attribute::counter("stats/write_byte_cnt", "node_tape_written_bytes_total", "Bytes written."),
    Attribute::counter("stats/write_cnt", "node_tape_writes_completed_total", "Writes."),
    seconds("stats/write_ns", "node_tape_write_time_seconds_total", "Time spent on writes."),
];

#[derive(Debug)]
struct Tapes {
    class: Class,
    ignored: Regex,
}

impl Collector for Tapes {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let ignored = &self.ignored;
        self.class.list(MOST, 0, |name, _| {
            let is_shown = numbered(name, "st").is_some() && !ignored.is_match(name);
            is_shown.then(|| Labels::new(&[("device", name)]))
        })?;
        self.class.write(page);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn drives_are_shown_and_not_their_further_names() {
        let files = [
            ("sys/class/scsi_tape/st0/stats/in_flight", "1\n"),
            ("sys/class/scsi_tape/st0/stats/io_ns", "9247011087720\n"),
            ("sys/class/scsi_tape/nst0/stats/in_flight", "1\n"),
            ("sys/class/scsi_tape/st0a/stats/in_flight", "1\n"),
            ("sys/class/scsi_tape/st1/stats/in_flight", "2\n"),
        ];
        let filters = Filters { tapes_ignored: Regex::new("^st1$").unwrap(), ..Filters::default() };
        let mut fixture = Fixture::with_filters(&ENTRY, &files, &filters);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                ["node_tape_io_now{device=\"st0\"} 1", "node_tape_io_time_seconds_total{device=\"st0\"} 9247.01108772"]
            );
        }
        assert!(matches!(Fixture::new(&ENTRY, &[]).page(), Err(CollectError::NoData(_))));
    }
}
