//! `/sys/class/dmi/id` → what the machine is, read once: it does not change while the machine runs.

use cloudpulse_common::exposition::{Labels, Page};

use super::class::text;
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::{Attributes, LONGEST};
use crate::config::Filters;
use crate::host::Host;

pub(super) const ENTRY: Entry = Entry {
    name: "dmi",
    about: "Vendor, model and firmware of the machine",
    by_default: true,
    new: |_: &mut Host, _: &Filters| Box::new(Dmi { labels: None }),
};

/// Labels; a file has the same name but for the last.
const NAMES: [&str; 20] = [
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "system_vendor",
];

#[derive(Debug)]
struct Dmi {
    labels: Option<Labels>,
}

impl Collector for Dmi {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        if self.labels.is_none() {
            let folder = host.roots().sysfs.join("class/dmi/id");
            // One look, not one for each file.
            if !folder.is_dir() {
                return Err(CollectError::NoData(folder));
            }
            let read = |file: &str| text(Attributes::new(folder.clone(), 1).read(0, file, &mut [0; LONGEST]));
            // Numbers of series can be read by root alone.
            let values = NAMES.map(|name| {
                let file = if name == "system_vendor" { "sys_vendor" } else { name };
                read(file)
            });
            let labels: Vec<(&str, &str)> = NAMES.into_iter().zip(values.iter().map(String::as_str)).collect();
            if labels.iter().all(|(_, value)| value.is_empty()) {
                return Err(CollectError::NoData(folder));
            }
            self.labels = Some(Labels::new(&labels));
        }
        if let Some(labels) = &self.labels {
            let mut family = Family::gauge("node_dmi_info", "Always 1; what the machine is stands in the labels.");
            family.labelled(page, labels, 1_u64.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn what_is_known_is_in_the_labels() {
        let files = [
            ("sys/class/dmi/id/bios_vendor", "Dell Inc.\n"),
            ("sys/class/dmi/id/product_name", "PowerEdge R6515\n"),
            ("sys/class/dmi/id/sys_vendor", "Dell Inc.\n"),
            ("sys/class/dmi/id/chassis_type", "23\n"),
        ];
        let mut fixture = Fixture::new(&ENTRY, &files);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                [
                    "node_dmi_info{bios_vendor=\"Dell Inc.\",product_name=\"PowerEdge R6515\",system_vendor=\"Dell Inc.\"} 1"
                ]
            );
        }
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
    }
}
