//! `/proc/net/dev` and `rx_nohandler` of sysfs → `node_network_{receive,transmit}_*_total` per device.

use std::path::PathBuf;

use cloudpulse_common::exposition::{Kind, Labels, Page};

use super::devices::Devices;
use super::{CollectError, Collector, Entry};
use crate::attributes::{Attributes, LONGEST};
use crate::config::Filters;
use crate::filter::Filter;
use crate::host::{Host, ProcFile, Shape};
use crate::parse::{Malformed, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "netdev",
    about: "Bytes, packets, errors and drops of network devices",
    by_default: true,
    new: |host, filters: &Filters| {
        Box::new(Netdev {
            dev: host.proc_file("net/dev", Shape::Records { longest: LONGEST_LINE }),
            class_net: host.roots().sysfs.join("class/net"),
            filter: filters.net_devices.clone(),
            devices: Devices::new(),
        })
    },
};

/// A name of 15 bytes, and 16 counts of at most 20 digits.
const LONGEST_LINE: usize = 512;

/// Columns of `/proc/net/dev`: eight received, eight transmitted.
pub(super) const COLUMNS: usize = 16;
const FAMILIES: [(&str, &str); COLUMNS] = [
    ("node_network_receive_bytes_total", "Bytes received."),
    ("node_network_receive_packets_total", "Packets received."),
    ("node_network_receive_errs_total", "Packets received with an error."),
    ("node_network_receive_drop_total", "Received packets that were dropped."),
    ("node_network_receive_fifo_total", "Receive errors for want of room in the queue."),
    ("node_network_receive_frame_total", "Packets received with a framing error."),
    ("node_network_receive_compressed_total", "Compressed packets received."),
    ("node_network_receive_multicast_total", "Multicast packets received."),
    ("node_network_transmit_bytes_total", "Bytes transmitted."),
    ("node_network_transmit_packets_total", "Packets transmitted."),
    ("node_network_transmit_errs_total", "Packets that could not be transmitted for an error."),
    ("node_network_transmit_drop_total", "Packets to be transmitted that were dropped."),
    ("node_network_transmit_fifo_total", "Transmit errors for want of room in the queue."),
    ("node_network_transmit_colls_total", "Collisions on the wire."),
    ("node_network_transmit_carrier_total", "Transmit errors for want of a carrier."),
    ("node_network_transmit_compressed_total", "Compressed packets transmitted."),
];
const NOHANDLER_FILE: &str = "rx_nohandler";
const NOHANDLER: (&str, &str) =
    ("node_network_receive_nohandler_total", "Packets received on an inactive device, so that nobody took them.");

#[derive(Debug)]
struct Netdev {
    dev: ProcFile,
    class_net: PathBuf,
    filter: Filter,
    /// `None` for a device that the filter leaves out.
    devices: Devices<Option<Device>>,
}

#[derive(Debug)]
struct Device {
    labels: Labels,
    columns: [u64; FAMILIES.len()],
    /// The one file [`NOHANDLER_FILE`].
    statistics: Attributes,
    nohandler: Option<u64>,
}

impl Collector for Netdev {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let Self { dev, class_net, filter, devices } = self;
        devices.begin();
        let mut buffer = [0; LONGEST];
        // Two lines of headings.
        for line in lines(host.read(*dev)?).skip(2) {
            let (name, columns) = parse(line)?;
            let device = devices.entry(name, |name| {
                filter.accepts(name).then(|| Device {
                    labels: Labels::new(&[("device", name)]),
                    columns,
                    statistics: Attributes::new(class_net.join(name).join("statistics"), 1),
                    nohandler: None,
                })
            });
            if let Some(device) = device {
                device.columns = columns;
                // Kernels before 4.6 do not have it, nor does a machine whose sysfs is not mounted.
                device.nohandler = device.statistics.read(0, NOHANDLER_FILE, &mut buffer).and_then(integer);
            }
        }
        devices.finish();

        let devices = || self.devices.iter().flatten();
        if devices().next().is_none() {
            return Ok(());
        }
        for (column, (name, help)) in FAMILIES.into_iter().enumerate() {
            page.family(name, help, Kind::Counter);
            for device in devices() {
                page.labelled(name, &device.labels, device.columns[column].into());
            }
        }
        if devices().any(|device| device.nohandler.is_some()) {
            let (name, help) = NOHANDLER;
            page.family(name, help, Kind::Counter);
            for device in devices() {
                if let Some(packets) = device.nohandler {
                    page.labelled(name, &device.labels, packets.into());
                }
            }
        }
        Ok(())
    }
}

/// Returns name and counts of a device.
pub(super) fn parse(line: &[u8]) -> Result<(&[u8], [u64; COLUMNS]), Malformed> {
    let fail = || Malformed::new("a device with 16 counts in /proc/net/dev", line);
    // The last colon: an alias such as eth0:1 has one in its name, a count has none.
    let colon = memchr::memrchr(b':', line).ok_or_else(fail)?;
    let name = line[..colon].trim_ascii();
    let mut words = words(&line[colon + 1..]);
    let mut columns = [0; FAMILIES.len()];
    for column in &mut columns {
        *column = words.next().and_then(integer).ok_or_else(fail)?;
    }
    if name.is_empty() || words.next().is_some() {
        return Err(fail());
    }
    Ok((name, columns))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;
    use regex_lite::Regex;

    const DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 4378452    8013    0    0    0     0          0         0  4378452    8013    0    0    0     0       0          0
eth0:1:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
";

    #[test]
    fn every_column_has_its_family() {
        let mut fixture =
            Fixture::new(&ENTRY, &[("proc/net/dev", DEV), ("sys/class/net/lo/statistics/rx_nohandler", "17\n")]);
        let samples = fixture.samples().unwrap();
        assert_eq!(samples.len(), 33);
        for (column, (name, _)) in FAMILIES.into_iter().enumerate() {
            assert_eq!(samples[2 * column + 1], format!("{name}{{device=\"eth0:1\"}} {}", column + 1));
        }
        assert_eq!(samples[0], "node_network_receive_bytes_total{device=\"lo\"} 4378452");
        assert_eq!(samples[32], "node_network_receive_nohandler_total{device=\"lo\"} 17");
    }

    #[test]
    fn a_device_that_vanishes_is_not_on_the_next_page() {
        let mut fixture = Fixture::new(&ENTRY, &[("proc/net/dev", DEV)]);
        assert_eq!(fixture.samples().unwrap().len(), 32);
        let without_lo: Vec<&str> = DEV.lines().filter(|line| !line.contains("lo:")).collect();
        fixture.write("proc/net/dev", &without_lo.join("\n"));
        let samples = fixture.samples().unwrap();
        assert_eq!(samples.len(), 16);
        assert!(samples.iter().all(|line| line.contains("eth0:1")));
    }

    #[test]
    fn filters_choose_devices() {
        let filter = Filter { include: None, exclude: Some(Regex::new("^(lo|eth.*)$").unwrap()) };
        let filters = Filters { net_devices: filter, ..Filters::default() };
        let mut fixture = Fixture::with_filters(&ENTRY, &[("proc/net/dev", DEV)], &filters);
        assert_eq!(fixture.page().unwrap(), "");
    }

    #[test]
    fn broken_lines_are_errors() {
        for line in [
            "eth0 1 2 3",
            "eth0: 1 2 3",
            ": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
            "a: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 -1",
        ] {
            let error = Fixture::new(&ENTRY, &[("proc/net/dev", &format!("\n\n{line}\n"))]).samples().unwrap_err();
            assert!(matches!(error, CollectError::Content(_)), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, counts in "[0-9 :]{0,60}") {
            let _ = parse(&line);
            let _ = parse(counts.as_bytes());
        }
    }
}
