//! `/proc/pressure` → seconds for which processes waited for CPU, memory and I/O.

use cloudpulse_common::exposition::{Kind, Number, Page};
use rustix::io::Errno;

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "pressure",
    about: "Seconds for which processes waited for CPU, memory and I/O",
    by_default: true,
    new: |host, _: &Filters| {
        Box::new(Pressure {
            files: RESOURCES.map(|(resource, ..)| host.own_proc_file(&format!("pressure/{resource}"), Shape::Value)),
        })
    },
};

type Family = (&'static str, &'static str);

/// File, the family of its line `some` and that of its line `full`.
const RESOURCES: [(&str, Option<Family>, Option<Family>); 4] = [
    (
        "cpu",
        Some(("node_pressure_cpu_waiting_seconds_total", "Seconds for which some process waited for a CPU.")),
        // What `full` says of the whole machine is always zero.
        None,
    ),
    (
        "io",
        Some(("node_pressure_io_waiting_seconds_total", "Seconds for which some process waited for I/O.")),
        Some(("node_pressure_io_stalled_seconds_total", "Seconds for which all processes waited for I/O.")),
    ),
    (
        "memory",
        Some(("node_pressure_memory_waiting_seconds_total", "Seconds for which some process waited for memory.")),
        Some(("node_pressure_memory_stalled_seconds_total", "Seconds for which all processes waited for memory.")),
    ),
    (
        "irq",
        None,
        Some(("node_pressure_irq_stalled_seconds_total", "Seconds for which all processes waited for interrupts.")),
    ),
];

#[derive(Debug)]
struct Pressure {
    files: [KeptFile; RESOURCES.len()],
}

impl Collector for Pressure {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let mut absent = None;
        let mut found = false;
        for (file, (_, some, full)) in self.files.iter_mut().zip(RESOURCES) {
            let (waiting, stalled) = match host.read_alone(file) {
                Ok(content) => parse(content)?,
                // A kernel that was started without pressure, or is too old for that of interrupts.
                Err(error) if is_absent(&error) => {
                    absent.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            found = true;
            for (family, microseconds) in [(some, waiting), (full, stalled)] {
                let (Some((name, help)), Some(digits)) = (family, microseconds) else { continue };
                page.family(name, help, Kind::Counter);
                page.unlabelled(name, Number::Decimal { digits, places: 6 });
            }
        }
        match absent.filter(|_| !found) {
            None => Ok(()),
            Some(CollectError::Read { path, .. }) => Err(CollectError::NoData(path)),
            Some(error) => Err(error),
        }
    }
}

fn is_absent(error: &CollectError) -> bool {
    match error {
        CollectError::NoData(_) => true,
        CollectError::Read { source, .. } => source.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()),
        CollectError::Content(_) => false,
    }
}

/// Returns the microseconds of the lines `some` and `full`.
fn parse(content: &[u8]) -> Result<(Option<u64>, Option<u64>), Malformed> {
    let (mut some, mut full) = (None, None);
    for line in lines(content) {
        let fail = || Malformed::new("a line `some|full ... total=microseconds` in /proc/pressure", line);
        let mut words = words(line);
        let total = match words.next() {
            Some(b"some") => &mut some,
            Some(b"full") => &mut full,
            _ => return Err(fail()),
        };
        let value = words.find_map(|word| word.strip_prefix(b"total="));
        *total = Some(value.and_then(integer).ok_or_else(fail)?);
    }
    Ok((some, full))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const BOTH: &str = "some avg10=1.85 avg60=1.08 avg300=1.08 total=82452090\nfull avg10=1.80 avg60=0.96 avg300=0.61 \
                        total=125839\n";

    #[test]
    fn microseconds_become_seconds() {
        let irq = BOTH.lines().nth(1).unwrap();
        let files = [("cpu", BOTH), ("io", BOTH), ("memory", BOTH), ("irq", irq)]
            .map(|(file, content)| (format!("proc/pressure/{file}"), content));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        assert_eq!(
            Fixture::new(&ENTRY, &files).samples().unwrap(),
            [
                "node_pressure_cpu_waiting_seconds_total 82.45209",
                "node_pressure_io_waiting_seconds_total 82.45209",
                "node_pressure_io_stalled_seconds_total 0.125839",
                "node_pressure_memory_waiting_seconds_total 82.45209",
                "node_pressure_memory_stalled_seconds_total 0.125839",
                "node_pressure_irq_stalled_seconds_total 0.125839",
            ]
        );
        assert_eq!(Fixture::new(&ENTRY, &files[..1]).samples().unwrap().len(), 1);
    }

    #[test]
    fn a_kernel_without_it_has_no_data_and_a_broken_line_is_an_error() {
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
        for content in ["some avg10=1\n", "some total=x\n", "any total=1\n"] {
            assert!(Fixture::new(&ENTRY, &[("proc/pressure/io", content)]).samples().is_err(), "{content}");
        }
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(content: Vec<u8>, text in "(some|full)? ?(total=)?[0-9]{0,25}") {
            let _ = (parse(&content), parse(text.as_bytes()));
        }
    }
}
