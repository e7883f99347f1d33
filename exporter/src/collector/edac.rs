//! `/sys/devices/system/edac/mc` → errors of memory that were corrected, and those that could not be.

use std::path::PathBuf;

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::class::numbered;
use super::devices::Devices;
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::{Attributes, LONGEST, names};
use crate::config::Filters;
use crate::host::Host;
use crate::parse::integer;

pub(super) const ENTRY: Entry = Entry {
    name: "edac",
    about: "Corrected and uncorrected errors of memory",
    by_default: true,
    new: |host, _: &Filters| {
        Box::new(Edac { folder: host.roots().sysfs.join("devices/system/edac/mc"), controllers: Devices::new() })
    },
};

/// Controllers, and rows of each.
const MOST: usize = 256;

/// Counts of a controller: its own, and those of no known row.
const COUNTS: [&str; 4] = ["ce_count", "ue_count", "ce_noinfo_count", "ue_noinfo_count"];
/// Families of a controller and of a row: first corrected, then uncorrected.
const CONTROLLER: [(&str, &str); 2] = [
    ("node_edac_correctable_errors_total", "Errors of memory that were corrected."),
    ("node_edac_uncorrectable_errors_total", "Errors of memory that could not be corrected."),
];
const ROW: [(&str, &str); 2] = [
    ("node_edac_csrow_correctable_errors_total", "Errors of memory that were corrected, by row."),
    ("node_edac_csrow_uncorrectable_errors_total", "Errors of memory that could not be corrected, by row."),
];

#[derive(Debug)]
struct Edac {
    folder: PathBuf,
    /// `None` for a name that is no controller.
    controllers: Devices<Option<Controller>>,
}

#[derive(Debug)]
struct Controller {
    labels: Labels,
    unknown: Labels,
    files: Attributes,
    /// Fixed, as is the memory of a machine.
    rows: Vec<(Labels, Attributes)>,
}

impl Collector for Edac {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let Self { folder, controllers } = self;
        // A machine without such memory has no controllers, which is no want of data in node_exporter either.
        let list = match names(folder, MOST, |name| name.starts_with("mc")) {
            Ok(list) => list,
            Err(CollectError::NoData(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        controllers.begin();
        for name in &list {
            controllers.entry(name.as_bytes(), |name| {
                let (number, folder) = (numbered(name, "mc")?, folder.join(name));
                let rows = names(&folder, MOST, |name| numbered(name, "csrow").is_some()).unwrap_or_default();
                let row = |name: &String| {
                    let row = name.trim_start_matches("csrow");
                    (Labels::new(&[("controller", number), ("csrow", row)]), Attributes::new(folder.join(name), 2))
                };
                Some(Controller {
                    labels: Labels::new(&[("controller", number)]),
                    unknown: Labels::new(&[("controller", number), ("csrow", "unknown")]),
                    rows: rows.iter().map(row).collect(),
                    files: Attributes::new(folder, COUNTS.len()),
                })
            });
        }
        controllers.finish();
        let mut buffer = [0; LONGEST];
        let mut count = |files: &mut Attributes, at: usize| {
            files.read(at, COUNTS[at], &mut buffer).and_then(integer).map(Number::Integer)
        };
        for at in 0..2 {
            let mut family = Family::counter(CONTROLLER[at].0, CONTROLLER[at].1);
            for controller in controllers.iter_mut().flatten() {
                if let Some(errors) = count(&mut controller.files, at) {
                    family.labelled(page, &controller.labels, errors);
                }
            }
            let mut family = Family::counter(ROW[at].0, ROW[at].1);
            for controller in controllers.iter_mut().flatten() {
                if let Some(errors) = count(&mut controller.files, at + 2) {
                    family.labelled(page, &controller.unknown, errors);
                }
                for (labels, files) in &mut controller.rows {
                    if let Some(errors) = count(files, at) {
                        family.labelled(page, labels, errors);
                    }
                }
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
    fn errors_are_counted_by_controller_and_row() {
        let files = [
            ("sys/devices/system/edac/mc/mc0/ce_count", "1\n"),
            ("sys/devices/system/edac/mc/mc0/ce_noinfo_count", "2\n"),
            ("sys/devices/system/edac/mc/mc0/ue_count", "5\n"),
            ("sys/devices/system/edac/mc/mc0/ue_noinfo_count", "6\n"),
            ("sys/devices/system/edac/mc/mc0/csrow0/ce_count", "3\n"),
            ("sys/devices/system/edac/mc/mc0/csrow0/ue_count", "4\n"),
            ("sys/devices/system/edac/mc/power/control", "auto\n"),
        ];
        let mut fixture = Fixture::new(&ENTRY, &files);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                [
                    "node_edac_correctable_errors_total{controller=\"0\"} 1",
                    "node_edac_csrow_correctable_errors_total{controller=\"0\",csrow=\"unknown\"} 2",
                    "node_edac_csrow_correctable_errors_total{controller=\"0\",csrow=\"0\"} 3",
                    "node_edac_uncorrectable_errors_total{controller=\"0\"} 5",
                    "node_edac_csrow_uncorrectable_errors_total{controller=\"0\",csrow=\"unknown\"} 6",
                    "node_edac_csrow_uncorrectable_errors_total{controller=\"0\",csrow=\"0\"} 4",
                ]
            );
        }
        assert_eq!(Fixture::new(&ENTRY, &[]).page().unwrap(), "");
    }
}
