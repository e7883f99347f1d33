//! `/sys/class/net` → state and settings of network devices.

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::class::{Attribute, Class, text};
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::LONGEST;
use crate::config::Filters;
use crate::host::Host;
use crate::parse::{Scale, scaled};

pub(super) const ENTRY: Entry = Entry {
    name: "netclass",
    about: "State, speed and settings of network devices",
    by_default: true,
    new: |host, filters: &Filters| {
        let class = Class::new(host.roots().sysfs.join("class/net"), ATTRIBUTES);
        Box::new(Netclass { class, ignored: filters.netclass_ignored.clone() })
    },
};

/// More devices than this are not looked at.
const MOST: usize = 10_000;

const fn gauge(file: &'static str, family: &'static str, help: &'static str) -> Attribute {
    Attribute::gauge(file, family, help, Scale::WHOLE)
}

const ATTRIBUTES: &[Attribute] = &[
    gauge("addr_assign_type", "node_network_address_assign_type", "How the device got its address."),
    gauge("carrier", "node_network_carrier", "Whether the link is there."),
    Attribute::counter("carrier_changes", "node_network_carrier_changes_total", "Times that the link came or went."),
    Attribute::counter("carrier_up_count", "node_network_carrier_up_changes_total", "Times that the link came."),
    Attribute::counter("carrier_down_count", "node_network_carrier_down_changes_total", "Times that the link went."),
    gauge("dev_id", "node_network_device_id", "Tells devices apart that share an address."),
    gauge("dormant", "node_network_dormant", "Whether the device waits for something outside."),
    gauge("flags", "node_network_flags", "The bits of IFF_*."),
    gauge("ifindex", "node_network_iface_id", "Number of the device."),
    gauge("iflink", "node_network_iface_link", "Number of the device that this one is linked to."),
    gauge("link_mode", "node_network_iface_link_mode", "Mode of the link."),
    gauge("mtu", "node_network_mtu_bytes", "Bytes of the largest packet."),
    gauge("name_assign_type", "node_network_name_assign_type", "How the device got its name."),
    gauge("netdev_group", "node_network_net_dev_group", "Group of the device."),
    // Megabits; -1 where it is not known.
    Attribute::gauge("speed", "node_network_speed_bytes", "Bytes a second of the link.", Scale::times(125_000)),
    gauge("tx_queue_len", "node_network_transmit_queue_length", "Packets that the queue has room for."),
    gauge("type", "node_network_protocol_type", "Kind of the device, as ARPHRD_* numbers it."),
];
/// Place of `flags`, which the table has too.
const FLAGS: usize = 7;

/// Files with text, numbered after those of the table.
const ADDRESS: usize = ATTRIBUTES.len();
const BROADCAST: usize = ADDRESS + 1;
const DUPLEX: usize = ADDRESS + 2;
const OPERSTATE: usize = ADDRESS + 3;
const ALIAS: usize = ADDRESS + 4;
const TEXTS: usize = 5;

#[derive(Debug)]
struct Netclass {
    class: Class,
    ignored: regex_lite::Regex,
}

impl Collector for Netclass {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let Self { class, ignored } = self;
        class.list(MOST, TEXTS, |name, folder| {
            // The folder holds files of the bonding driver too.
            let is_device = !ignored.is_match(name) && folder.is_dir();
            is_device.then(|| Labels::new(&[("device", name)]))
        })?;
        let mut up = Family::gauge("node_network_up", "Whether the device is in operation.");
        let mut buffer = [0; LONGEST];
        for device in class.devices() {
            let is_up = device.files.read(OPERSTATE, "operstate", &mut buffer) == Some(b"up");
            up.labelled(page, &device.labels, Number::Integer(is_up.into()));
        }
        let mut info = Family::gauge("node_network_info", "Always 1; what is no number is in the labels.");
        for device in class.devices() {
            let mut read = |at, file| text(device.files.read(at, file, &mut buffer));
            let labels = [
                ("address", read(ADDRESS, "address")),
                ("adminstate", admin_state(read(FLAGS, "flags").as_bytes()).to_owned()),
                ("broadcast", read(BROADCAST, "broadcast")),
                ("device", device.name.to_string()),
                ("duplex", read(DUPLEX, "duplex")),
                ("ifalias", read(ALIAS, "ifalias")),
                ("operstate", read(OPERSTATE, "operstate")),
            ];
            info.info(page, &labels.each_ref().map(|(name, value)| (*name, value.as_str())));
        }
        class.write(page);
        Ok(())
    }
}

/// Returns what the flags say of the will of the administrator.
fn admin_state(flags: &[u8]) -> &'static str {
    match scaled(flags, Scale::WHOLE) {
        Some(Number::Decimal { digits, .. }) if digits & 1 == 1 => "up",
        Some(_) => "down",
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    fn device(name: &str, values: &[(&str, &str)]) -> Vec<(String, String)> {
        values.iter().map(|(file, value)| (format!("sys/class/net/{name}/{file}"), format!("{value}\n"))).collect()
    }

    #[test]
    fn numbers_have_families_and_text_is_in_the_info() {
        let mut files = device(
            "eth0",
            &[
                ("address", "01:01:01:01:01:01"),
                ("broadcast", "ff:ff:ff:ff:ff:ff"),
                ("carrier_changes", "2"),
                ("dev_id", "0x20"),
                ("duplex", "full"),
                ("flags", "0x1303"),
                ("ifalias", ""),
                ("operstate", "up"),
                ("speed", "1000"),
            ],
        );
        files.extend(device("veth1", &[("flags", "0x1002"), ("operstate", "down"), ("speed", "-1"), ("mtu", "1500")]));
        files.push(("sys/class/net/bonding_masters".to_owned(), "bond0\n".to_owned()));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
        let mut fixture = Fixture::new(&ENTRY, &files);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                [
                    "node_network_up{device=\"eth0\"} 1",
                    "node_network_up{device=\"veth1\"} 0",
                    "node_network_info{address=\"01:01:01:01:01:01\",adminstate=\"up\",broadcast=\"ff:ff:ff:ff:ff:ff\",\
                     device=\"eth0\",duplex=\"full\",operstate=\"up\"} 1",
                    "node_network_info{adminstate=\"down\",device=\"veth1\",operstate=\"down\"} 1",
                    "node_network_carrier_changes_total{device=\"eth0\"} 2",
                    "node_network_device_id{device=\"eth0\"} 32",
                    "node_network_flags{device=\"eth0\"} 4867",
                    "node_network_flags{device=\"veth1\"} 4098",
                    "node_network_mtu_bytes{device=\"veth1\"} 1500",
                    "node_network_speed_bytes{device=\"eth0\"} 125000000",
                    "node_network_speed_bytes{device=\"veth1\"} -125000",
                ]
            );
        }
        std::fs::remove_dir_all(fixture.folder.path().join("sys/class/net/eth0")).unwrap();
        assert!(!fixture.page().unwrap().contains("eth0"), "what has vanished is not shown");
    }

    #[test]
    fn devices_can_be_ignored_and_no_folder_is_no_data() {
        let ignored = regex_lite::Regex::new("^lo$").unwrap();
        let filters = Filters { netclass_ignored: ignored, ..Filters::default() };
        let mut fixture = Fixture::with_filters(&ENTRY, &[("sys/class/net/lo/mtu", "65536\n")], &filters);
        assert_eq!(fixture.page().unwrap(), "");
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
    }

    /// The files that are kept open are bounded, and what is shown is not.
    #[test]
    fn very_many_devices_are_all_shown() {
        let files: Vec<String> = (0..500).map(|number| format!("sys/class/net/veth{number}/mtu")).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|path| (path.as_str(), "1500\n")).collect();
        let mut fixture = Fixture::new(&ENTRY, &files);
        for _ in 0..2 {
            let samples = fixture.samples().unwrap();
            assert_eq!(samples.iter().filter(|line| line.starts_with("node_network_mtu_bytes")).count(), 500);
        }
    }
}
