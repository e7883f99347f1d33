//! `/proc/stat`, the lines of the whole system → interrupts, context switches, forks, processes, boot time.

use cloudpulse_common::exposition::{Kind, Page};

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, ProcFile, Shape};
use crate::parse::{Malformed, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "stat",
    about: "Interrupts, context switches, forks, running and blocked processes, boot time",
    by_default: true,
    new: |host, _: &Filters| Box::new(Stat { stat: host.proc_file("stat", Shape::Whole) }),
};

/// First word of a line of `/proc/stat`, and its family. Of `intr` only the sum is taken.
const FIELDS: [(&[u8], &str, &str, Kind); 6] = [
    (b"intr", "node_intr_total", "Interrupts serviced.", Kind::Counter),
    (b"ctxt", "node_context_switches_total", "Context switches.", Kind::Counter),
    (b"btime", "node_boot_time_seconds", "Unix time at which the machine was booted.", Kind::Gauge),
    (b"processes", "node_forks_total", "Forks.", Kind::Counter),
    (b"procs_running", "node_procs_running", "Processes that are running or could run.", Kind::Gauge),
    (b"procs_blocked", "node_procs_blocked", "Processes that wait for I/O.", Kind::Gauge),
];

#[derive(Debug)]
struct Stat {
    stat: ProcFile,
}

impl Collector for Stat {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        for (field, value) in parse(host.read(self.stat)?)?.into_iter().enumerate() {
            let (_, name, help, kind) = FIELDS[field];
            // A line that this kernel does not have is absent, not zero.
            let Some(value) = value else { continue };
            page.family(name, help, kind);
            page.unlabelled(name, value.into());
        }
        Ok(())
    }
}

fn parse(content: &[u8]) -> Result<[Option<u64>; FIELDS.len()], Malformed> {
    let mut values = [None; FIELDS.len()];
    for line in lines(content) {
        // Most of the file is in lines of CPUs and interrupts.
        if line.starts_with(b"cpu") {
            continue;
        }
        let mut words = words(line);
        let Some(first) = words.next() else { continue };
        if let Some(field) = FIELDS.iter().position(|(key, ..)| *key == first) {
            let value = words.next().and_then(integer);
            values[field] = Some(value.ok_or_else(|| Malformed::new("a count in /proc/stat", line))?);
        }
    }
    if values == [None; FIELDS.len()] {
        return Err(Malformed::new("counts of the system in /proc/stat", content));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "cpu  1 0 1 1 8 0 1 1 0 0\ncpu0 1 0 1 1 8 0 1 1 0 0\nintr 614443 0 0 6 0\nctxt 851827\n\
                        btime 1795503580\nprocesses 23148\nprocs_running 3\nprocs_blocked 0\nsoftirq 318151 0 44012\n";

    #[test]
    fn the_counts_of_the_system_are_written() {
        assert_eq!(
            Fixture::new(&ENTRY, &[("proc/stat", STAT)]).samples().unwrap(),
            [
                "node_intr_total 614443",
                "node_context_switches_total 851827",
                "node_boot_time_seconds 1795503580",
                "node_forks_total 23148",
                "node_procs_running 3",
                "node_procs_blocked 0",
            ]
        );
    }

    #[test]
    fn a_count_that_is_none_is_an_error_and_a_missing_one_is_absent() {
        assert!(Fixture::new(&ENTRY, &[("proc/stat", "ctxt many\n")]).samples().is_err());
        assert!(Fixture::new(&ENTRY, &[("proc/stat", "")]).samples().is_err());
        assert_eq!(
            Fixture::new(&ENTRY, &[("proc/stat", "ctxt 1\n")]).samples().unwrap(),
            ["node_context_switches_total 1"]
        );
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(content: Vec<u8>, rest in "[0-9 \n]{0,60}") {
            let _ = parse(&content);
            let _ = parse(format!("intr{rest}").as_bytes());
        }
    }
}
