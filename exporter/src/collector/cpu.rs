//! `/proc/stat`, the lines of the CPUs → `node_cpu_seconds_total`, `node_cpu_guest_seconds_total`; and from sysfs how often
//! they were slowed down ([`throttle`]).

mod throttle;

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use self::throttle::Throttles;
use super::devices::Devices;
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, ProcFile, Shape};
use crate::parse::{Malformed, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "cpu",
    about: "Seconds each CPU spent in each mode",
    by_default: true,
    new: |host, _: &Filters| Box::new(Cpu::new(host)),
};

/// Columns of a CPU's line, as proc_stat(5) names them; the last two are also part of `user` and `nice`.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const COLUMNS: usize = MODES.len() + GUEST_MODES.len();
const IDLE: usize = 3;

/// The kernel counts in hundredths of a second on every architecture that is still sold (`USER_HZ`).
const PLACES: u32 = 2;
/// Idle ticks that a counter may go back before it is taken for a CPU that was off and starts anew: three seconds, as in
/// node_exporter.
const RESTART_TICKS: u64 = 300;

#[derive(Debug)]
struct Cpu {
    stat: ProcFile,
    cpus: Devices<State>,
    throttles: Throttles,
}

#[derive(Debug)]
struct State {
    labels: [Labels; COLUMNS],
    /// The highest ticks seen per column. Idle and iowait go back a little now and then, which a rate would take for a
    /// restart and show as a spike.
    ticks: [u64; COLUMNS],
    columns: usize,
}

impl Cpu {
    fn new(host: &mut Host) -> Self {
        let throttles = Throttles::new(host.roots().sysfs.join("devices/system/cpu"));
        Self { stat: host.proc_file("stat", Shape::Whole), cpus: Devices::new(), throttles }
    }
}

impl Collector for Cpu {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        self.cpus.begin();
        for line in lines(host.read(self.stat)?) {
            let Some(row) = parse(line)? else { continue };
            self.cpus.entry(row.cpu, State::new).update(&row);
        }
        self.cpus.finish();

        page.family("node_cpu_seconds_total", "Seconds that the CPU spent in each mode.", Kind::Counter);
        for cpu in self.cpus.iter() {
            cpu.write(page, "node_cpu_seconds_total", 0..MODES.len());
        }
        if self.cpus.iter().any(|cpu| cpu.columns > MODES.len()) {
            let help = "Seconds that the CPU spent in guests, which mode user or nice holds too.";
            page.family("node_cpu_guest_seconds_total", help, Kind::Counter);
            for cpu in self.cpus.iter() {
                cpu.write(page, "node_cpu_guest_seconds_total", MODES.len()..COLUMNS);
            }
        }
        self.throttles.write(self.cpus.iter().count(), page);
        Ok(())
    }
}

impl State {
    fn new(cpu: &str) -> Self {
        let mode = |column: usize| MODES.get(column).unwrap_or_else(|| &GUEST_MODES[column - MODES.len()]);
        let labels = std::array::from_fn(|column| Labels::new(&[("cpu", cpu), ("mode", mode(column))]));
        Self { labels, ticks: [0; COLUMNS], columns: 0 }
    }

    fn update(&mut self, row: &Row<'_>) {
        let Row { cpu: _, ticks, columns } = *row;
        if self.ticks[IDLE].saturating_sub(ticks[IDLE]) >= RESTART_TICKS {
            self.ticks = [0; COLUMNS];
        }
        for (highest, ticks) in self.ticks.iter_mut().zip(ticks) {
            *highest = ticks.max(*highest);
        }
        self.columns = columns;
    }

    fn write(&self, page: &mut Page<'_>, name: &str, columns: std::ops::Range<usize>) {
        for column in columns.start..columns.end.min(self.columns) {
            page.labelled(name, &self.labels[column], Number::Decimal { digits: self.ticks[column], places: PLACES });
        }
    }
}

/// The line of one CPU.
#[derive(Debug)]
struct Row<'c> {
    cpu: &'c [u8],
    ticks: [u64; COLUMNS],
    /// How many columns there are; old kernels have fewer than ten.
    columns: usize,
}

/// Returns the row of one CPU; `None` for the line of their sum and for every other line.
fn parse(line: &[u8]) -> Result<Option<Row<'_>>, Malformed> {
    let Some(rest) = line.strip_prefix(b"cpu") else { return Ok(None) };
    let mut words = words(rest);
    let cpu = match words.next() {
        Some(cpu) if !rest.starts_with(b" ") => cpu,
        _ => return Ok(None),
    };
    let mut row = Row { cpu, ticks: [0; COLUMNS], columns: 0 };
    for (column, word) in row.ticks.iter_mut().zip(words) {
        *column = integer(word).ok_or_else(|| Malformed::new("ticks of a CPU in /proc/stat", line))?;
        row.columns += 1;
    }
    if integer(cpu).is_none() || row.columns <= IDLE {
        return Err(Malformed::new("number and ticks of a CPU in /proc/stat", line));
    }
    Ok(Some(row))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "cpu  48666 0 12511 182042 857 0 195 132 0 0\n\
                        cpu0 22132 1 5715 94047 168 2 81 65 7 3\n\
                        cpu12 5 0 6 7 8 0 9 0 0 0\n\
                        intr 614443 0 0\nctxt 851827\n";

    #[test]
    fn each_cpu_has_its_modes_in_seconds() {
        let samples = Fixture::new(&ENTRY, &[("proc/stat", STAT)]).samples().unwrap();
        assert_eq!(samples.len(), 20);
        for sample in [
            "node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 221.32",
            "node_cpu_seconds_total{cpu=\"0\",mode=\"steal\"} 0.65",
            "node_cpu_seconds_total{cpu=\"12\",mode=\"softirq\"} 0.09",
            "node_cpu_guest_seconds_total{cpu=\"0\",mode=\"user\"} 0.07",
            "node_cpu_guest_seconds_total{cpu=\"0\",mode=\"nice\"} 0.03",
        ] {
            assert!(samples.iter().any(|line| line == sample), "{sample} in {samples:#?}");
        }
    }

    #[test]
    fn what_an_old_kernel_lacks_is_absent_and_not_zero() {
        let samples = Fixture::new(&ENTRY, &[("proc/stat", "cpu0 1 2 3 4 5 6 7\n")]).samples().unwrap();
        assert_eq!(samples.len(), 7);
        assert!(samples.iter().all(|line| !line.contains("steal") && !line.contains("guest")), "{samples:?}");
    }

    #[test]
    fn a_small_step_back_is_held_and_a_large_one_is_a_new_start() {
        let mut fixture = Fixture::new(&ENTRY, &[]);
        let mut idle = |ticks: u64| {
            fixture.write("proc/stat", &format!("cpu0 10 0 0 {ticks} 0 0 0 0 0 0\n"));
            fixture.samples().unwrap().swap_remove(3)
        };
        assert!(idle(1000).ends_with(" 10"));
        assert!(idle(990).ends_with(" 10"));
        assert!(idle(700).ends_with(" 7"));
    }

    #[test]
    fn a_broken_line_is_an_error() {
        for line in ["cpu0 1 2 x 4\n", "cpu0 1 2\n", "cpufoo 1 2 3 4 5\n", "cpu0 1 2 3 99999999999999999999\n"] {
            let error = Fixture::new(&ENTRY, &[("proc/stat", line)]).samples().unwrap_err();
            assert!(matches!(error, CollectError::Content(_)), "{line}: {error}");
        }
    }

    #[test]
    fn cores_and_packages_are_counted_once() {
        let files: Vec<(String, &str)> = [("cpu0", "0", "7"), ("cpu1", "0", "8"), ("cpu2", "1", "9")]
            .into_iter()
            .flat_map(|(cpu, core, count)| {
                [
                    ("topology/physical_package_id", "0"),
                    ("topology/core_id", core),
                    ("thermal_throttle/core_throttle_count", count),
                    ("thermal_throttle/package_throttle_count", "30"),
                ]
                .map(|(file, value)| (format!("sys/devices/system/cpu/{cpu}/{file}"), value))
            })
            .chain([("proc/stat".to_owned(), "")])
            .collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, value)| (path.as_str(), *value)).collect();
        let mut fixture = Fixture::new(&ENTRY, &files);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                [
                    "node_cpu_core_throttles_total{core=\"0\",package=\"0\"} 7",
                    "node_cpu_core_throttles_total{core=\"1\",package=\"0\"} 9",
                    "node_cpu_package_throttles_total{package=\"0\"} 30",
                ]
            );
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, columns in "[0-9 ]{0,60}") {
            let _ = parse(&line);
            let _ = parse(format!("cpu{columns}").as_bytes());
        }
    }
}
