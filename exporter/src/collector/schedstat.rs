//! `/proc/schedstat` → seconds for which processes ran and waited, and their turns, per CPU.

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use super::devices::Devices;
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "schedstat",
    about: "Seconds for which processes ran and waited on each CPU",
    by_default: true,
    new: |host, _: &Filters| {
        // A CPU and its domains are one record, which grows with both.
        let file = host.own_proc_file("schedstat", Shape::Records { longest: usize::MAX >> 1 });
        Box::new(Schedstat { file, cpus: Devices::new() })
    },
};

/// Families of columns 7 to 9 of a CPU's line, with the places behind the point.
const FAMILIES: [(&str, &str, u32); 3] = [
    ("node_schedstat_running_seconds_total", "Seconds for which the CPU ran a process.", 9),
    ("node_schedstat_waiting_seconds_total", "Seconds for which processes waited for this CPU.", 9),
    ("node_schedstat_timeslices_total", "Turns of processes on this CPU.", 0),
];

#[derive(Debug)]
struct Schedstat {
    file: KeptFile,
    cpus: Devices<Cpu>,
}

#[derive(Debug)]
struct Cpu {
    labels: Labels,
    values: [u64; FAMILIES.len()],
}

impl Collector for Schedstat {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        self.cpus.begin();
        for line in lines(host.read_alone(&mut self.file)?) {
            let Some((cpu, values)) = parse(line)? else { continue };
            let cpu = self.cpus.entry(cpu, |cpu| Cpu { labels: Labels::new(&[("cpu", cpu)]), values });
            cpu.values = values;
        }
        self.cpus.finish();
        for (at, (name, help, places)) in FAMILIES.into_iter().enumerate() {
            page.family(name, help, Kind::Counter);
            for cpu in self.cpus.iter() {
                page.labelled(name, &cpu.labels, Number::Decimal { digits: cpu.values[at], places });
            }
        }
        Ok(())
    }
}

/// Returns a CPU's number and values; `None` for every other line.
#[expect(clippy::type_complexity, reason = "a name for it would say less")]
fn parse(line: &[u8]) -> Result<Option<(&[u8], [u64; FAMILIES.len()])>, Malformed> {
    let Some(rest) = line.strip_prefix(b"cpu") else { return Ok(None) };
    let fail = || Malformed::new("a CPU with nine counts in /proc/schedstat", line);
    let mut words = words(rest);
    let cpu = words.next().filter(|cpu| cpu.iter().all(u8::is_ascii_digit)).ok_or_else(fail)?;
    let mut words = words.skip(6);
    let mut values = [0; FAMILIES.len()];
    for value in &mut values {
        *value = words.next().and_then(integer).ok_or_else(fail)?;
    }
    Ok(Some((cpu, values)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const SCHEDSTAT: &str = "version 15\ntimestamp 15819019232\ncpu0 498494191 0 3533438552 2553969831 3853684107 2465731542 \
                             2045936778163039 343796328169361 4767485306\ndomain0 00000000,00000003 212499247 210112015\n\
                             cpu1 518377256 0 4155211005 2778589869 10466382 2867629021 1 20 300\n";

    #[test]
    fn nanoseconds_become_seconds() {
        assert_eq!(
            Fixture::new(&ENTRY, &[("proc/schedstat", SCHEDSTAT)]).samples().unwrap(),
            [
                "node_schedstat_running_seconds_total{cpu=\"0\"} 2045936.778163039",
                "node_schedstat_running_seconds_total{cpu=\"1\"} 0.000000001",
                "node_schedstat_waiting_seconds_total{cpu=\"0\"} 343796.328169361",
                "node_schedstat_waiting_seconds_total{cpu=\"1\"} 0.00000002",
                "node_schedstat_timeslices_total{cpu=\"0\"} 4767485306",
                "node_schedstat_timeslices_total{cpu=\"1\"} 300",
            ]
        );
    }

    #[test]
    fn broken_lines_are_errors_and_no_file_is_no_data() {
        for line in ["cpu0 1 2 3", "cpu0 1 2 3 4 5 6 7 8 x", "cpux 1 2 3 4 5 6 7 8 9"] {
            assert!(Fixture::new(&ENTRY, &[("proc/schedstat", line)]).samples().is_err(), "{line}");
        }
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, text in "cpu[0-9 ]{0,60}") {
            let _ = (parse(&line), parse(text.as_bytes()));
        }
    }
}
