//! `/proc/net/arp` → neighbours known per network device.

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::devices::Devices;
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::filter::Filter;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "arp",
    about: "Neighbours in the network by device",
    by_default: true,
    new: |host, filters: &Filters| {
        Box::new(Arp {
            file: host.own_proc_file("net/arp", Shape::Records { longest: 128 }),
            filter: filters.arp_devices.clone(),
            devices: Devices::new(),
        })
    },
};

#[derive(Debug)]
struct Arp {
    file: KeptFile,
    filter: Filter,
    /// `None` for a device that the filter leaves out.
    devices: Devices<Option<Device>>,
}

#[derive(Debug)]
struct Device {
    labels: Labels,
    entries: u64,
}

impl Collector for Arp {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let Self { file, filter, devices } = self;
        for device in devices.iter_mut().flatten() {
            device.entries = 0;
        }
        devices.begin();
        // A line of headings.
        for line in lines(host.read_alone(file)?).skip(1) {
            let device = devices.entry(parse(line)?, |name| {
                filter.accepts(name).then(|| Device { labels: Labels::new(&[("device", name)]), entries: 0 })
            });
            if let Some(device) = device {
                device.entries += 1;
            }
        }
        devices.finish();
        let mut family = Family::gauge("node_arp_entries", "Neighbours known by ARP.");
        for device in devices.iter().flatten() {
            family.labelled(page, &device.labels, Number::Integer(device.entries));
        }
        Ok(())
    }
}

/// Returns the device of a neighbour.
fn parse(line: &[u8]) -> Result<&[u8], Malformed> {
    words(line).nth(5).ok_or_else(|| Malformed::new("a neighbour with six columns in /proc/net/arp", line))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use regex_lite::Regex;

    const ARP: &str = "IP address       HW type     Flags       HW address            Mask     Device\n\
                       192.168.1.1      0x1         0x2         cc:aa:dd:ee:aa:bb     *        eth0\n\
                       192.168.1.2      0x1         0x0         00:00:00:00:00:00     *        eth1\n\
                       192.168.1.3      0x1         0x2         aa:cc:dd:ee:aa:bb     *        eth0\n";

    #[test]
    fn neighbours_are_counted_by_device() {
        let mut fixture = Fixture::new(&ENTRY, &[("proc/net/arp", ARP)]);
        for _ in 0..2 {
            let expected = ["node_arp_entries{device=\"eth0\"} 2", "node_arp_entries{device=\"eth1\"} 1"];
            assert_eq!(fixture.samples().unwrap(), expected);
        }
        fixture.write("proc/net/arp", ARP.lines().next().unwrap());
        assert_eq!(fixture.page().unwrap(), "");
        fixture.write("proc/net/arp", "heading\n1 2 3\n");
        assert!(fixture.page().is_err());
    }

    #[test]
    fn filters_choose_devices() {
        let filter = Filter { include: None, exclude: Some(Regex::new("0$").unwrap()) };
        let filters = Filters { arp_devices: filter, ..Filters::default() };
        let samples = Fixture::with_filters(&ENTRY, &[("proc/net/arp", ARP)], &filters).samples().unwrap();
        assert_eq!(samples, ["node_arp_entries{device=\"eth1\"} 1"]);
    }
}
