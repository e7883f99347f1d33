//! `/sys/devices/system/cpu/cpu*/cpufreq` → frequencies of each CPU, their limits and the governor that chooses them.

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::class::{Attribute, Class, numbered};
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::LONGEST;
use crate::config::Filters;
use crate::host::Host;
use crate::parse::Scale;

pub(super) const ENTRY: Entry = Entry {
    name: "cpufreq",
    about: "Frequency of each CPU",
    by_default: true,
    new: |host, _: &Filters| {
        let folder = host.roots().sysfs.join("devices/system/cpu");
        Box::new(Cpufreq { class: Class::new(folder, ATTRIBUTES) })
    },
};

/// More CPUs than any kernel is built for.
const MOST: usize = 8192;

/// The kernel counts in kHz.
const fn hertz(file: &'static str, family: &'static str, help: &'static str) -> Attribute {
    Attribute::gauge(file, family, help, Scale::KILO)
}

const ATTRIBUTES: &[Attribute] = &[
    hertz("cpufreq/cpuinfo_cur_freq", "node_cpu_frequency_hertz", "Frequency of the CPU as the hardware says it."),
    hertz("cpufreq/cpuinfo_min_freq", "node_cpu_frequency_min_hertz", "Lowest frequency that the CPU can have."),
    hertz("cpufreq/cpuinfo_max_freq", "node_cpu_frequency_max_hertz", "Highest frequency that the CPU can have."),
    hertz("cpufreq/scaling_cur_freq", "node_cpu_scaling_frequency_hertz", "Frequency that the governor chose."),
    hertz("cpufreq/scaling_min_freq", "node_cpu_scaling_frequency_min_hertz", "Lowest that the governor may choose."),
    hertz("cpufreq/scaling_max_freq", "node_cpu_scaling_frequency_max_hertz", "Highest that the governor may choose."),
];
/// Files with text, numbered after those of the table.
const AVAILABLE: usize = ATTRIBUTES.len();
const GOVERNOR: usize = AVAILABLE + 1;

#[derive(Debug)]
struct Cpufreq {
    class: Class,
}

impl Collector for Cpufreq {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        self.class.list(MOST, 2, |name, folder| {
            let cpu = numbered(name, "cpu")?;
            folder.join("cpufreq").is_dir().then(|| Labels::new(&[("cpu", cpu)]))
        })?;
        self.class.write(page);
        let mut family =
            Family::gauge("node_cpu_scaling_governor", "1 for the governor that is in use, 0 for the others.");
        let (mut current, mut all) = ([0; LONGEST], [0; LONGEST]);
        for device in self.class.devices() {
            let Some(current) = device.files.read(GOVERNOR, "cpufreq/scaling_governor", &mut current) else { continue };
            let all = device.files.read(AVAILABLE, "cpufreq/scaling_available_governors", &mut all);
            let cpu = &device.name["cpu".len()..];
            for governor in String::from_utf8_lossy(all.unwrap_or_default()).split_whitespace() {
                let labels = Labels::new(&[("cpu", cpu), ("governor", governor)]);
                family.labelled(page, &labels, Number::Integer((governor.as_bytes() == current).into()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn kilohertz_become_hertz() {
        let folder = "sys/devices/system/cpu";
        let files = [
            (format!("{folder}/cpu0/cpufreq/scaling_cur_freq"), "1219917\n"),
            (format!("{folder}/cpu0/cpufreq/cpuinfo_max_freq"), "3700000\n"),
            (format!("{folder}/cpu0/cpufreq/cpuinfo_cur_freq"), "<unknown>\n"),
            (format!("{folder}/cpu0/cpufreq/scaling_governor"), "powersave\n"),
            (format!("{folder}/cpu0/cpufreq/scaling_available_governors"), "performance powersave\n"),
            (format!("{folder}/cpu10/cpufreq/scaling_cur_freq"), "1\n"),
            (format!("{folder}/cpu2/online"), "0\n"),
            (format!("{folder}/cpufreq/policy0/scaling_cur_freq"), "5\n"),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        let mut fixture = Fixture::new(&ENTRY, &files);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                [
                    "node_cpu_frequency_max_hertz{cpu=\"0\"} 3700000000",
                    "node_cpu_scaling_frequency_hertz{cpu=\"0\"} 1219917000",
                    "node_cpu_scaling_frequency_hertz{cpu=\"10\"} 1000",
                    "node_cpu_scaling_governor{cpu=\"0\",governor=\"performance\"} 0",
                    "node_cpu_scaling_governor{cpu=\"0\",governor=\"powersave\"} 1",
                ]
            );
        }
    }
}
