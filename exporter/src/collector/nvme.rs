//! `/sys/class/nvme` → what each NVMe controller is.

use cloudpulse_common::exposition::{Labels, Page};

use super::class::{Class, text};
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::LONGEST;
use crate::config::Filters;
use crate::host::Host;

pub(super) const ENTRY: Entry = Entry {
    name: "nvme",
    about: "Model, firmware and state of NVMe controllers",
    by_default: true,
    new: |host, _: &Filters| Box::new(Nvme { class: Class::new(host.roots().sysfs.join("class/nvme"), &[]) }),
};

const MOST: usize = 4096;

/// Files, and their labels.
const TEXTS: [(&str, &str); 5] = [
    ("cntlid", "cntlid"),
    ("firmware_rev", "firmware_revision"),
    ("model", "model"),
    ("serial", "serial"),
    ("state", "state"),
];

#[derive(Debug)]
struct Nvme {
    class: Class,
}

impl Collector for Nvme {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        self.class.list(MOST, TEXTS.len(), |_, folder| folder.is_dir().then(|| Labels::new(&[])))?;
        let mut info = Family::gauge("node_nvme_info", "Always 1; what the controller is stands in the labels.");
        let mut buffer = [0; LONGEST];
        for device in self.class.devices() {
            let values: [String; TEXTS.len()] =
                std::array::from_fn(|at| text(device.files.read(at, TEXTS[at].0, &mut buffer)));
            let mut labels = vec![("device", &*device.name)];
            labels.extend(TEXTS.into_iter().map(|(_, label)| label).zip(values.iter().map(String::as_str)));
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
    fn a_controller_is_named() {
        let files = [
            ("sys/class/nvme/nvme0/firmware_rev", "1B2QEXP7\n"),
            ("sys/class/nvme/nvme0/model", "Samsung SSD 970 PRO 512GB               \n"),
            ("sys/class/nvme/nvme0/serial", "S680HF8N190894I     \n"),
            ("sys/class/nvme/nvme0/state", "live\n"),
        ];
        assert_eq!(
            Fixture::new(&ENTRY, &files).samples().unwrap(),
            ["node_nvme_info{device=\"nvme0\",firmware_revision=\"1B2QEXP7\",model=\"Samsung SSD 970 PRO 512GB\",\
              serial=\"S680HF8N190894I\",state=\"live\"} 1"]
        );
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
    }
}
