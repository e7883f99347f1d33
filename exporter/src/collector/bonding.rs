//! `/sys/class/net/bonding_masters` → devices that are bound together, and how many of them work.

use std::path::{Path, PathBuf};

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};

pub(super) const ENTRY: Entry = Entry {
    name: "bonding",
    about: "Network devices that are bound together",
    by_default: true,
    new: |host, _: &Filters| {
        let folder = host.roots().sysfs.join("class/net");
        Box::new(Bonding { masters: KeptFile::new(folder.join("bonding_masters"), Shape::Value), folder })
    },
};

/// Masters, and devices of each.
const MOST: usize = 1024;

#[derive(Debug)]
struct Bonding {
    folder: PathBuf,
    masters: KeptFile,
}

impl Collector for Bonding {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let masters = String::from_utf8_lossy(host.read_alone(&mut self.masters)?).into_owned();
        let mut bonds = Vec::new();
        for name in masters.split_whitespace().take(MOST) {
            let folder = self.folder.join(name);
            let list = text(&folder.join("bonding/slaves"))?;
            let (mut slaves, mut active) = (0, 0);
            for slave in list.split_whitespace().take(MOST) {
                let status = |prefix: &str| text(&folder.join(format!("{prefix}_{slave}/bonding_slave/mii_status")));
                // Older kernels have the second.
                let status = status("lower").or_else(|_| status("slave"))?;
                slaves += 1;
                active += u64::from(status.trim() == "up");
            }
            bonds.push((Labels::new(&[("master", name)]), slaves, active));
        }
        let mut family = Family::gauge("node_bonding_slaves", "Devices that are bound together.");
        for (labels, slaves, _) in &bonds {
            family.labelled(page, labels, Number::Integer(*slaves));
        }
        let mut family = Family::gauge("node_bonding_active", "Devices that are bound together and work.");
        for (labels, _, active) in &bonds {
            family.labelled(page, labels, Number::Integer(*active));
        }
        Ok(())
    }
}

/// Returns the content of a small file. Not kept open: few machines have a bond, and a bond has few devices.
fn text(path: &Path) -> Result<String, CollectError> {
    let mut file = KeptFile::new(path.to_owned(), Shape::Value);
    Ok(String::from_utf8_lossy(file.read()?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn devices_that_work_are_counted() {
        let files = [
            ("sys/class/net/bonding_masters", "bond0 dmz\n"),
            ("sys/class/net/bond0/bonding/slaves", "\n"),
            ("sys/class/net/dmz/bonding/slaves", "eth0 eth4\n"),
            ("sys/class/net/dmz/lower_eth0/bonding_slave/mii_status", "up\n"),
            ("sys/class/net/dmz/slave_eth4/bonding_slave/mii_status", "down\n"),
        ];
        assert_eq!(
            Fixture::new(&ENTRY, &files).samples().unwrap(),
            [
                "node_bonding_slaves{master=\"bond0\"} 0",
                "node_bonding_slaves{master=\"dmz\"} 2",
                "node_bonding_active{master=\"bond0\"} 0",
                "node_bonding_active{master=\"dmz\"} 1",
            ]
        );
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
        assert!(Fixture::new(&ENTRY, &files[..4]).samples().is_err(), "a device without its status");
    }
}
