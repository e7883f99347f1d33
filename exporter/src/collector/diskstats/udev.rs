//! udev's database file of a block device → the info families of a disk.

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use crate::host::Host;
use crate::parse::lines;

/// What udev and sysfs know of a disk, ready to be written.
#[derive(Debug)]
pub(super) struct Udev {
    info: Labels,
    filesystem: Option<Labels>,
    device_mapper: Option<Labels>,
    /// Values of [`ATA`], with the label of the device.
    ata: [Option<f64>; ATA.len()],
    device: Labels,
}

/// Property, family and its HELP.
const ATA: [(&str, &str, &str); 3] = [
    ("ID_ATA_WRITE_CACHE", "node_disk_ata_write_cache", "Whether the ATA disk has a write cache."),
    (
        "ID_ATA_WRITE_CACHE_ENABLED",
        "node_disk_ata_write_cache_enabled",
        "Whether the write cache of the ATA disk is on.",
    ),
    (
        "ID_ATA_ROTATION_RATE_RPM",
        "node_disk_ata_rotation_rate_rpm",
        "Rotations per minute of the ATA disk; 0 for an SSD.",
    ),
];

impl Udev {
    /// Reads what is known of a disk; on a machine without udev that is little more than its numbers.
    pub(super) fn read(host: &Host, device: &str, major: u64, minor: u64) -> Self {
        let database = host.udev_block_device(major, minor).unwrap_or_default();
        let mut queue = host.sys_file(&format!("block/{device}/queue/rotational"));
        let rotational = queue.read().map(|content| String::from_utf8_lossy(content.trim_ascii()).into_owned());
        Self::new(device, major, minor, &database, rotational.as_deref().unwrap_or_default())
    }

    fn new(device: &str, major: u64, minor: u64, database: &[u8], rotational: &str) -> Self {
        let properties = parse(database);
        let get = |name: &str| properties.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
        let serial = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"].map(get);
        let serial = serial.into_iter().find(|serial| !serial.is_empty()).unwrap_or_default();
        let info = Labels::new(&[
            ("device", device),
            ("major", &major.to_string()),
            ("minor", &minor.to_string()),
            ("path", get("ID_PATH")),
            ("wwn", get("ID_WWN")),
            ("model", get("ID_MODEL")),
            ("serial", serial),
            ("revision", get("ID_REVISION")),
            ("rotational", rotational),
        ]);
        let filesystem = Labels::new(&[
            ("device", device),
            ("type", get("ID_FS_TYPE")),
            ("usage", get("ID_FS_USAGE")),
            ("uuid", get("ID_FS_UUID")),
            ("version", get("ID_FS_VERSION")),
        ]);
        let device_mapper = Labels::new(&[
            ("device", device),
            ("name", get("DM_NAME")),
            ("uuid", get("DM_UUID")),
            ("vg_name", get("DM_VG_NAME")),
            ("lv_name", get("DM_LV_NAME")),
            ("lv_layer", get("DM_LV_LAYER")),
        ]);
        let is_ata = !get("ID_ATA").is_empty();
        Self {
            info,
            filesystem: (!get("ID_FS_TYPE").is_empty()).then_some(filesystem),
            device_mapper: (!get("DM_NAME").is_empty()).then_some(device_mapper),
            ata: ATA.map(|(property, ..)| get(property).parse().ok().filter(|_| is_ata)),
            device: Labels::new(&[("device", device)]),
        }
    }
}

/// Writes the info families of all disks.
pub(super) fn write(disks: &[&Udev], page: &mut Page<'_>) {
    let mut family = |name: &str, help: &str, value: &dyn Fn(&Udev) -> Option<(&Labels, f64)>| {
        let mut samples = disks.iter().filter_map(|disk| value(disk)).peekable();
        if samples.peek().is_some() {
            page.family(name, help, Kind::Gauge);
        }
        for (labels, value) in samples {
            page.labelled(name, labels, Number::Float(value));
        }
    };
    family("node_disk_info", "Always 1; what is known of the device is in the labels.", &|disk| {
        Some((&disk.info, 1.0))
    });
    family("node_disk_filesystem_info", "Always 1; the filesystem of the device is in the labels.", &|disk| {
        disk.filesystem.as_ref().map(|labels| (labels, 1.0))
    });
    family("node_disk_device_mapper_info", "Always 1; the mapped device is in the labels.", &|disk| {
        disk.device_mapper.as_ref().map(|labels| (labels, 1.0))
    });
    for (index, (_, name, help)) in ATA.into_iter().enumerate() {
        family(name, help, &|disk| disk.ata[index].map(|value| (&disk.device, value)));
    }
}

/// Returns the device's properties: the lines `E:KEY=value`.
fn parse(database: &[u8]) -> Vec<(String, String)> {
    lines(database)
        .filter_map(|line| line.strip_prefix(b"E:"))
        .filter_map(|property| {
            let text = String::from_utf8_lossy(property);
            text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_properties_are_taken() {
        let properties = parse(b"S:link\nE:A=1=2\nE:B\nI:5\nE:C=");
        assert_eq!(properties, [("A".to_owned(), "1=2".to_owned()), ("C".to_owned(), String::new())]);
    }

    proptest! {
        #[test]
        fn any_database_is_read(database: Vec<u8>) {
            let _ = Udev::new("sda", 8, 0, &database, "0");
        }
    }
}
