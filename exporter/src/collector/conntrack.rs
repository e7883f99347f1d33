//! `/proc/sys/net/netfilter` and `/proc/net/stat/nf_conntrack` → tracked connections, their limit and what went wrong.
//! The table of connections itself is never read.

use cloudpulse_common::exposition::{Kind, Page};

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, hexadecimal, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "conntrack",
    about: "Tracked connections and their limit",
    by_default: true,
    new: |host, _: &Filters| {
        Box::new(Conntrack {
            counts: COUNTS.map(|(file, ..)| host.own_proc_file(&format!("sys/net/netfilter/{file}"), Shape::Value)),
            stat: host.own_proc_file("net/stat/nf_conntrack", Shape::Records { longest: 512 }),
        })
    },
};

const COUNTS: [(&str, &str, &str); 2] = [
    ("nf_conntrack_count", "node_nf_conntrack_entries", "Connections that are tracked."),
    ("nf_conntrack_max", "node_nf_conntrack_entries_limit", "Connections that can be tracked."),
];

/// Columns of the statistics, which all are gauges in node_exporter too.
const COLUMNS: [(&str, &str, &str); 8] = [
    ("found", "node_nf_conntrack_stat_found", "Searches of the table that found an entry."),
    ("invalid", "node_nf_conntrack_stat_invalid", "Packets that cannot be tracked."),
    ("ignore", "node_nf_conntrack_stat_ignore", "Packets of connections that were tracked already."),
    ("insert", "node_nf_conntrack_stat_insert", "Entries inserted."),
    ("insert_failed", "node_nf_conntrack_stat_insert_failed", "Entries that could not be inserted."),
    ("drop", "node_nf_conntrack_stat_drop", "Packets dropped because they could not be tracked."),
    ("early_drop", "node_nf_conntrack_stat_early_drop", "Entries dropped to make room for others."),
    ("search_restart", "node_nf_conntrack_stat_search_restart", "Searches begun anew because the table was resized."),
];

#[derive(Debug)]
struct Conntrack {
    counts: [KeptFile; COUNTS.len()],
    stat: KeptFile,
}

impl Collector for Conntrack {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let mut gauge = |name: &str, help: &str, value: u64| {
            page.family(name, help, Kind::Gauge);
            page.unlabelled(name, value.into());
        };
        for (file, (_, name, help)) in self.counts.iter_mut().zip(COUNTS) {
            let content = host.read_alone(file)?;
            let count =
                integer(content.trim_ascii()).ok_or_else(|| Malformed::new("a count of connections", content))?;
            gauge(name, help, count);
        }
        // Not every kernel keeps them.
        let sums = match host.read_alone(&mut self.stat) {
            Ok(content) => parse(content)?,
            Err(CollectError::NoData(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        for ((_, name, help), sum) in COLUMNS.into_iter().zip(sums) {
            if let Some(sum) = sum {
                gauge(name, help, sum);
            }
        }
        Ok(())
    }
}

/// Returns the sums over all CPUs; `None` for a column that this kernel does not have.
fn parse(content: &[u8]) -> Result<[Option<u64>; COLUMNS.len()], Malformed> {
    let fail = || Malformed::new("a table of hexadecimal counts in /proc/net/stat/nf_conntrack", content);
    let mut rows = lines(content);
    let names = rows.next().ok_or_else(fail)?;
    let column = |name: &str| words(names).position(|word| word == name.as_bytes());
    let columns = COLUMNS.map(|(name, ..)| column(name));
    let mut sums = columns.map(|column| column.map(|_| 0_u64));
    for row in rows {
        for (sum, column) in sums.iter_mut().zip(columns) {
            let (Some(sum), Some(column)) = (sum, column) else { continue };
            *sum = sum.wrapping_add(words(row).nth(column).and_then(hexadecimal).ok_or_else(fail)?);
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "entries  searched found new invalid ignore delete chainlength insert insert_failed drop early_drop\n\
                        00000021  00000000 0000000a 00000000 00000003 0000588a 00000000 00000000 00000000 00000000 00000001 00000002\n\
                        00000021  00000000 00000001 00000000 00000002 000056a4 00000000 00000000 00000000 00000000 00000002 00000001\n";
    const COUNT: (&str, &str) = ("proc/sys/net/netfilter/nf_conntrack_count", "123\n");
    const MAX: (&str, &str) = ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n");

    #[test]
    fn counts_are_summed_over_the_cpus() {
        assert_eq!(
            Fixture::new(&ENTRY, &[COUNT, MAX, ("proc/net/stat/nf_conntrack", STAT)]).samples().unwrap(),
            [
                "node_nf_conntrack_entries 123",
                "node_nf_conntrack_entries_limit 65536",
                "node_nf_conntrack_stat_found 11",
                "node_nf_conntrack_stat_invalid 5",
                "node_nf_conntrack_stat_ignore 44846",
                "node_nf_conntrack_stat_insert 0",
                "node_nf_conntrack_stat_insert_failed 0",
                "node_nf_conntrack_stat_drop 3",
                "node_nf_conntrack_stat_early_drop 3",
            ]
        );
    }

    #[test]
    fn a_kernel_without_tracking_has_no_data_and_one_without_statistics_has_counts() {
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
        assert_eq!(Fixture::new(&ENTRY, &[COUNT, MAX]).samples().unwrap().len(), 2);
        let broken = STAT.replace("0000000a", "x");
        assert!(Fixture::new(&ENTRY, &[COUNT, MAX, ("proc/net/stat/nf_conntrack", &broken)]).samples().is_err());
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(content: Vec<u8>, text in "found drop\n([0-9a-f ]*\n)*") {
            let _ = (parse(&content), parse(text.as_bytes()));
        }
    }
}
