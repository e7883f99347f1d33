//! `/proc/net/softnet_stat` → `node_softnet_*` per CPU.

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use super::devices::Devices;
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, hexadecimal, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "softnet",
    about: "Packets that each CPU took from the network",
    by_default: true,
    new: |host, _: &Filters| {
        Box::new(Softnet {
            file: host.own_proc_file("net/softnet_stat", Shape::Records { longest: 256 }),
            cpus: Devices::new(),
        })
    },
};

/// Column of the file, and its family.
const FAMILIES: [(usize, &str, &str, Kind); 7] = [
    (0, "node_softnet_processed_total", "Packets processed.", Kind::Counter),
    (1, "node_softnet_dropped_total", "Packets dropped because the queue was full.", Kind::Counter),
    (2, "node_softnet_times_squeezed_total", "Times that the processing ran out of its quota.", Kind::Counter),
    (8, "node_softnet_cpu_collision_total", "Collisions on the lock of a device.", Kind::Counter),
    (9, "node_softnet_received_rps_total", "Times that the CPU was woken to process packets.", Kind::Counter),
    (10, "node_softnet_flow_limit_count_total", "Times that the limit of a flow was reached.", Kind::Counter),
    (11, "node_softnet_backlog_len", "Packets in the queue.", Kind::Gauge),
];
/// The number of the CPU, which newer kernels say; older ones do not list CPUs that are off either.
const INDEX: usize = 12;
/// Columns of the oldest kernels.
const FEWEST: usize = 9;

#[derive(Debug)]
struct Softnet {
    file: KeptFile,
    cpus: Devices<Cpu>,
}

#[derive(Debug)]
struct Cpu {
    labels: Labels,
    values: [Option<u32>; FAMILIES.len()],
}

impl Collector for Softnet {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        self.cpus.begin();
        for (number, line) in lines(host.read_alone(&mut self.file)?).enumerate() {
            let (index, values) = parse(line)?;
            let cpu = index.map_or(number as u64, u64::from);
            // By its number in bytes: nothing is written for a CPU that is known.
            let cpu = self
                .cpus
                .entry(&cpu.to_ne_bytes(), |_| Cpu { labels: Labels::new(&[("cpu", &cpu.to_string())]), values });
            cpu.values = values;
        }
        self.cpus.finish();
        for (at, (_, name, help, kind)) in FAMILIES.into_iter().enumerate() {
            if self.cpus.iter().any(|cpu| cpu.values[at].is_some()) {
                page.family(name, help, kind);
            }
            for cpu in self.cpus.iter() {
                if let Some(value) = cpu.values[at] {
                    page.labelled(name, &cpu.labels, Number::Integer(value.into()));
                }
            }
        }
        Ok(())
    }
}

/// Returns the number of the CPU, where it is said, and the values.
fn parse(line: &[u8]) -> Result<(Option<u32>, [Option<u32>; FAMILIES.len()]), Malformed> {
    let fail = || Malformed::new("nine or more hexadecimal counts in /proc/net/softnet_stat", line);
    let (mut index, mut values) = (None, [None; FAMILIES.len()]);
    let mut columns = 0;
    for (column, word) in words(line).enumerate() {
        let value = hexadecimal(word).and_then(|value| u32::try_from(value).ok()).ok_or_else(fail)?;
        if column == INDEX {
            index = Some(value);
        } else if let Some(at) = FAMILIES.iter().position(|(wanted, ..)| *wanted == column) {
            values[at] = Some(value);
        }
        columns = column + 1;
    }
    if columns < FEWEST { Err(fail()) } else { Ok((index, values)) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const NEW: &str = "00015c73 00000002 00000003 00000000 00000000 00000000 00000000 00000000 00000005 00000006 00000007 00000008 \
                       00000001 00000000 00000000\n";
    const OLD: &str = "0000000a 0000000b 0000000c 00000000 00000000 00000000 00000000 00000000 0000000d\n";

    #[test]
    fn newer_kernels_have_more_columns_and_number_their_cpus() {
        let samples = Fixture::new(&ENTRY, &[("proc/net/softnet_stat", NEW)]).samples().unwrap();
        assert_eq!(
            samples,
            [
                "node_softnet_processed_total{cpu=\"1\"} 89203",
                "node_softnet_dropped_total{cpu=\"1\"} 2",
                "node_softnet_times_squeezed_total{cpu=\"1\"} 3",
                "node_softnet_cpu_collision_total{cpu=\"1\"} 5",
                "node_softnet_received_rps_total{cpu=\"1\"} 6",
                "node_softnet_flow_limit_count_total{cpu=\"1\"} 7",
                "node_softnet_backlog_len{cpu=\"1\"} 8",
            ]
        );
        let mut fixture = Fixture::new(&ENTRY, &[("proc/net/softnet_stat", &OLD.repeat(2))]);
        for _ in 0..2 {
            let samples = fixture.samples().unwrap();
            assert_eq!(samples.len(), 8, "{samples:#?}");
            assert_eq!(samples[7], "node_softnet_cpu_collision_total{cpu=\"1\"} 13");
        }
    }

    #[test]
    fn broken_lines_are_errors() {
        for line in ["1 2 3", "1 2 3 4 5 6 7 8 x", "1 2 3 4 5 6 7 8 100000000", "\n"] {
            assert!(Fixture::new(&ENTRY, &[("proc/net/softnet_stat", line)]).samples().is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, text in "[0-9a-f ]{0,120}") {
            let _ = (parse(&line), parse(text.as_bytes()));
        }
    }
}
