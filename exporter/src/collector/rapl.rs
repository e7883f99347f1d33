//! `/sys/class/powercap` → joules that the package, the cores and the memory used.

use std::path::{Path, PathBuf};

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::class::text;
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::{Attributes, LONGEST, names};
use crate::config::Filters;
use crate::host::Host;
use crate::parse::integer;

pub(super) const ENTRY: Entry = Entry {
    name: "rapl",
    about: "Energy that the processor and the memory used",
    by_default: true,
    new: |host, _: &Filters| {
        Box::new(Rapl { folder: host.roots().sysfs.join("class/powercap"), list: Vec::new(), zones: Vec::new() })
    },
};

const MOST: usize = 1024;

#[derive(Debug)]
struct Rapl {
    folder: PathBuf,
    /// What the folder listed when the zones were made.
    list: Vec<String>,
    /// Sorted by family.
    zones: Vec<Zone>,
}

#[derive(Debug)]
struct Zone {
    family: String,
    labels: Labels,
    files: Attributes,
}

impl Collector for Rapl {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let list = names(&self.folder, MOST, |_| true)?;
        if self.list != list {
            self.zones = zones(&self.folder, &list);
            self.list = list;
        }
        let mut buffer = [0; LONGEST];
        let mut found = self.zones.is_empty();
        for zones in self.zones.chunk_by_mut(|a, b| a.family == b.family) {
            let name = zones.first().map(|zone| zone.family.clone()).unwrap_or_default();
            let mut family = Family::counter(&name, "Joules used.");
            for zone in zones {
                if let Some(digits) = zone.files.read(0, "energy_uj", &mut buffer).and_then(integer) {
                    family.labelled(page, &zone.labels, Number::Decimal { digits, places: 6 });
                    found = true;
                }
            }
        }
        // Since secrets were found to leak through it, only root may read this.
        if found { Ok(()) } else { Err(CollectError::NoData(self.folder.clone())) }
    }
}

/// Returns the zones among the names of the folder: those that have a name themselves.
fn zones(folder: &Path, list: &[String]) -> Vec<Zone> {
    let mut zones: Vec<Zone> = Vec::new();
    for name in list {
        let folder = folder.join(name);
        let mut files = Attributes::new(folder.clone(), 2);
        let called = text(files.read(1, "name", &mut [0; LONGEST]));
        let (Some((zone, index)), Some(path)) = (split(&called), folder.to_str()) else { continue };
        let family = format!("node_rapl_{zone}_joules_total");
        // Of zones without a number there may be several.
        let same = zones.iter().filter(|zone| zone.family == family).count();
        let index = index.map_or_else(|| same.to_string(), str::to_owned);
        let labels = Labels::new(&[("index", &index), ("path", path)]);
        zones.push(Zone { family, labels, files });
    }
    zones.sort_by(|a, b| a.family.cmp(&b.family));
    zones
}

/// Returns the zone as part of a name, and its number: `package-0` is `package` and 0, `dram` has none.
fn split(name: &str) -> Option<(String, Option<&str>)> {
    let (zone, index) = match name.split_once('-') {
        Some((zone, index)) if !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()) => {
            (zone, Some(index))
        }
        _ => (name, None),
    };
    let zone: String = zone.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    (!zone.is_empty()).then_some((zone, index))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn microjoules_become_joules() {
        let files = [
            ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
            ("sys/class/powercap/intel-rapl:0/energy_uj", "240422366267\n"),
            ("sys/class/powercap/intel-rapl:1/name", "package-1\n"),
            ("sys/class/powercap/intel-rapl:1/energy_uj", "5\n"),
            ("sys/class/powercap/intel-rapl:0:0/name", "core\n"),
            ("sys/class/powercap/intel-rapl:0:0/energy_uj", "118821284256\n"),
            ("sys/class/powercap/intel-rapl:1:0/name", "core\n"),
            ("sys/class/powercap/intel-rapl:1:0/energy_uj", "7\n"),
            ("sys/class/powercap/intel-rapl/enabled", "1\n"),
        ];
        let mut fixture = Fixture::new(&ENTRY, &files);
        let at = |name: &str| format!("{}/sys/class/powercap/{name}", fixture.folder.path().display());
        let expected = [
            format!("node_rapl_core_joules_total{{index=\"0\",path=\"{}\"}} 118821.284256", at("intel-rapl:0:0")),
            format!("node_rapl_core_joules_total{{index=\"1\",path=\"{}\"}} 0.000007", at("intel-rapl:1:0")),
            format!("node_rapl_package_joules_total{{index=\"0\",path=\"{}\"}} 240422.366267", at("intel-rapl:0")),
            format!("node_rapl_package_joules_total{{index=\"1\",path=\"{}\"}} 0.000005", at("intel-rapl:1")),
        ];
        for _ in 0..2 {
            assert_eq!(fixture.samples().unwrap(), expected);
        }
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
    }

    #[test]
    fn a_zone_may_have_a_number() {
        assert_eq!(split("package-10"), Some(("package".to_owned(), Some("10"))));
        assert_eq!(split("dram"), Some(("dram".to_owned(), None)));
        assert_eq!(split("package-0-die-1"), Some(("package_0_die_1".to_owned(), None)));
        assert_eq!(split(""), None);
    }
}
