//! `/sys/devices/system/cpu/cpu*/thermal_throttle` → how often cores and packages were slowed down for their heat.

use std::path::PathBuf;

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::super::class::numbered;
use super::super::family::Family;
use crate::attributes::{Attributes, LONGEST, names};
use crate::parse::integer;

/// More CPUs than any kernel is built for.
const MOST: usize = 8192;
const FILES: [&str; 2] = ["thermal_throttle/core_throttle_count", "thermal_throttle/package_throttle_count"];

/// The counts of each core and package.
#[derive(Debug)]
pub(super) struct Throttles {
    folder: PathBuf,
    /// CPUs that were there when the list was made; looked at again when there are more or fewer.
    cpus: Option<usize>,
    cores: Vec<(Labels, Attributes)>,
    packages: Vec<(Labels, Attributes)>,
}

impl Throttles {
    /// Returns the counts below the folder of the CPUs. Nothing is read yet.
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder, cpus: None, cores: Vec::new(), packages: Vec::new() }
    }

    /// Writes the counts. `cpus` is how many are on.
    pub(super) fn write(&mut self, cpus: usize, page: &mut Page<'_>) {
        if self.cpus != Some(cpus) {
            self.look();
            self.cpus = Some(cpus);
        }
        let mut buffer = [0; LONGEST];
        let help = [
            "Times that the core was slowed down for its heat.",
            "Times that the package was slowed down for its heat.",
        ];
        let mut core = Family::counter("node_cpu_core_throttles_total", help[0]);
        let mut package = Family::counter("node_cpu_package_throttles_total", help[1]);
        for (list, file, family) in
            [(&mut self.cores, FILES[0], &mut core), (&mut self.packages, FILES[1], &mut package)]
        {
            for (labels, files) in list {
                if let Some(count) = files.read(0, file, &mut buffer).and_then(integer) {
                    family.labelled(page, labels, Number::Integer(count));
                }
            }
        }
    }

    /// Looks for the first CPU of each core and package that has the counts.
    fn look(&mut self) {
        let list = names(&self.folder, MOST, |name| numbered(name, "cpu").is_some()).unwrap_or_default();
        let (mut cores, mut packages) = (Vec::new(), Vec::new());
        self.cores.clear();
        self.packages.clear();
        for name in list {
            let folder = self.folder.join(name);
            let number =
                |file: &str| Attributes::new(folder.clone(), 1).read(0, file, &mut [0; LONGEST]).and_then(integer);
            let ids = number("topology/physical_package_id").zip(number("topology/core_id"));
            let Some((package, core)) = ids else { continue };
            let labels = (package.to_string(), core.to_string());
            if !cores.contains(&(package, core)) && number(FILES[0]).is_some() {
                cores.push((package, core));
                let labels = Labels::new(&[("core", &labels.1), ("package", &labels.0)]);
                self.cores.push((labels, Attributes::new(folder.clone(), 1)));
            }
            if !packages.contains(&package) && number(FILES[1]).is_some() {
                packages.push(package);
                self.packages.push((Labels::new(&[("package", &labels.0)]), Attributes::new(folder, 1)));
            }
        }
    }
}
