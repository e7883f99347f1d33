//! `/sys/class/watchdog` → `node_watchdog_*`: what restarts the machine when it hangs.

use cloudpulse_common::exposition::{Labels, Page};

use super::class::{Attribute, Class, text};
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::LONGEST;
use crate::config::Filters;
use crate::host::Host;
use crate::parse::Scale;

pub(super) const ENTRY: Entry = Entry {
    name: "watchdog",
    about: "Watchdogs that restart the machine when it hangs",
    by_default: true,
    new: |host, _: &Filters| {
        Box::new(Watchdogs { class: Class::new(host.roots().sysfs.join("class/watchdog"), &ATTRIBUTES) })
    },
};

const MOST: usize = 64;

#[rustfmt::skip]
const ATTRIBUTES: [Attribute; 7] = [
    Attribute::gauge("bootstatus", "node_watchdog_bootstatus", "Why the machine was started last, as the driver codes it.", Scale::WHOLE),
    Attribute::gauge("fw_version", "node_watchdog_fw_version", "Version of the firmware.", Scale::WHOLE),
    Attribute::gauge("nowayout", "node_watchdog_nowayout", "Whether it cannot be stopped.", Scale::WHOLE),
    Attribute::gauge("timeleft", "node_watchdog_timeleft_seconds", "Time until it restarts the machine.", Scale::WHOLE),
    Attribute::gauge("timeout", "node_watchdog_timeout_seconds", "Time after which it restarts the machine.", Scale::WHOLE),
    Attribute::gauge("pretimeout", "node_watchdog_pretimeout_seconds", "Time by which it warns before.", Scale::WHOLE),
    Attribute::gauge("access_cs0", "node_watchdog_access_cs0", "Whether the second flash memory can be reached.", Scale::WHOLE),
];
/// Further files, each a label.
const LABELS: [&str; 5] = ["options", "identity", "state", "status", "pretimeout_governor"];

#[derive(Debug)]
struct Watchdogs {
    class: Class,
}

impl Collector for Watchdogs {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        self.class.list(MOST, LABELS.len(), |name, _| Some(Labels::new(&[("name", name)])))?;
        self.class.write(page);
        let mut info = Family::gauge("node_watchdog_info", "Always 1; what the watchdog is.");
        let mut buffer = [0; LONGEST];
        for device in self.class.devices() {
            let mut at = ATTRIBUTES.len();
            let values = LABELS.map(|file| {
                let value = text(device.files.read(at, file, &mut buffer));
                at += 1;
                value
            });
            let labels = LABELS.iter().zip(&values).map(|(label, value)| (*label, value.as_str()));
            let labels: Vec<(&str, &str)> = std::iter::once(("name", &*device.name)).chain(labels).collect();
            info.info(page, &labels);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn what_a_watchdog_says_is_shown() {
        let files = [
            ("sys/class/watchdog/watchdog0/bootstatus", "1\n"),
            ("sys/class/watchdog/watchdog0/timeout", "60\n"),
            ("sys/class/watchdog/watchdog0/timeleft", "-1\n"),
            ("sys/class/watchdog/watchdog0/identity", "Software Watchdog\n"),
            ("sys/class/watchdog/watchdog0/state", "active\n"),
            ("sys/class/watchdog/watchdog1/uevent", "\n"),
        ];
        let mut fixture = Fixture::new(&ENTRY, &files);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                [
                    "node_watchdog_bootstatus{name=\"watchdog0\"} 1",
                    "node_watchdog_timeleft_seconds{name=\"watchdog0\"} -1",
                    "node_watchdog_timeout_seconds{name=\"watchdog0\"} 60",
                    "node_watchdog_info{name=\"watchdog0\",identity=\"Software Watchdog\",state=\"active\"} 1",
                    "node_watchdog_info{name=\"watchdog1\"} 1",
                ]
            );
        }
        assert!(matches!(Fixture::new(&ENTRY, &[]).page(), Err(CollectError::NoData(_))));
    }
}
