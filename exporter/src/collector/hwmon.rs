//! `/sys/class/hwmon` → temperatures, fans, voltages, currents and power of sensor chips.

mod sensor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use self::sensor::{Meaning, clean, meaning, split};
use super::class::text;
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::{Attributes, LONGEST, names};
use crate::config::Filters;
use crate::filter::Filter;
use crate::host::Host;
use crate::parse::{Scale, scaled};

pub(super) const ENTRY: Entry = Entry {
    name: "hwmon",
    about: "Temperatures, fans, voltages and power from sensor chips",
    by_default: true,
    new: |host, filters: &Filters| {
        Box::new(Hwmon {
            folder: host.roots().sysfs.join("class/hwmon"),
            filter: filters.hwmon_chips.clone(),
            list: Vec::new(),
            age: 0,
            chips: Vec::new(),
            readings: Vec::new(),
        })
    },
};

/// Chips, and files of each.
const MOST: usize = 1024;
/// Scrapes after which chips are looked at anew though none came or went: a driver may add sensors.
const OLDEST: u32 = 60;

#[derive(Debug)]
struct Hwmon {
    folder: PathBuf,
    filter: Filter,
    /// What the folder listed when the readings were made.
    list: Vec<String>,
    age: u32,
    chips: Vec<Attributes>,
    /// Sorted by family.
    readings: Vec<Reading>,
}

/// A sample.
#[derive(Debug)]
struct Reading {
    family: String,
    help: &'static str,
    kind: Kind,
    labels: Labels,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Always 1.
    One,
    /// File `at` of a chip.
    File { chip: usize, at: usize, file: String, scale: Scale },
}

impl Collector for Hwmon {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let list = names(&self.folder, MOST, |_| true)?;
        if self.list != list || self.age >= OLDEST {
            self.list = list;
            self.look();
        }
        self.age += 1;
        let mut buffer = [0; LONGEST];
        for readings in self.readings.chunk_by(|a, b| a.family == b.family) {
            let Some(first) = readings.first() else { continue };
            let mut family = Family::new(&first.family, first.help, first.kind);
            for Reading { labels, source, .. } in readings {
                let number = match source {
                    Source::One => Some(Number::Integer(1)),
                    Source::File { chip, at, file, scale } => {
                        let content = self.chips[*chip].read(*at, file, &mut buffer);
                        content.and_then(|content| scaled(content, *scale))
                    }
                };
                if let Some(number) = number {
                    family.labelled(page, labels, number);
                }
            }
        }
        Ok(())
    }
}

impl Hwmon {
    /// Looks which sensors there are.
    fn look(&mut self) {
        self.age = 0;
        self.chips.clear();
        self.readings.clear();
        let chips: Vec<Chip> = self.list.iter().map(|name| Chip::new(&self.folder.join(name), name)).collect();
        for chip in &chips {
            let label = chip.label(&chips);
            if self.filter.accepts(&label) {
                self.add(chip, &label);
            }
        }
        self.readings.sort_by(|a, b| a.family.cmp(&b.family));
    }

    fn add(&mut self, chip: &Chip, label: &str) {
        let one = |family: &str, help, labels: &[(&str, &str)]| Reading {
            family: family.to_owned(),
            help,
            kind: Kind::Gauge,
            labels: Labels::new(labels),
            source: Source::One,
        };
        if !chip.name.is_empty() {
            let labels = [("chip", label), ("chip_name", &*chip.name)];
            self.readings.push(one(
                "node_hwmon_chip_names",
                "Always 1; the chip's own name is in the labels.",
                &labels,
            ));
        }
        let sensors = chip.sensors();
        let mut files = Attributes::new(chip.folder.clone(), sensors.values().map(BTreeMap::len).sum());
        let mut next = 0;
        for ((kind, number), elements) in &sensors {
            let sensor = format!("{kind}{number}");
            for (element, file) in elements {
                let at = next;
                next += 1;
                let Some(meaning) = meaning(kind, element, elements.contains_key("")) else { continue };
                let Meaning { family, kind, scale, help } = meaning;
                let labels = if element == "label" {
                    let called = text(files.read(at, file, &mut [0; LONGEST]));
                    let labels = [("chip", label), ("sensor", &*sensor), ("label", &*called)];
                    self.readings.push(one(&family, help, &labels));
                    continue;
                } else {
                    Labels::new(&[("chip", label), ("sensor", &sensor)])
                };
                let source = Source::File { chip: self.chips.len(), at, file: file.clone(), scale };
                self.readings.push(Reading { family, help, kind, labels, source });
            }
        }
        self.chips.push(files);
    }
}

/// A chip as its folder describes it.
#[derive(Debug)]
struct Chip {
    folder: PathBuf,
    /// Name of its folder, which depends on the order in which drivers were loaded.
    entry: String,
    /// Its own name; empty where it has none.
    name: String,
    /// What it is called by its device, else by its name.
    base: String,
}

impl Chip {
    fn new(folder: &Path, entry: &str) -> Self {
        let name = clean(&text(Attributes::new(folder.to_owned(), 1).read(0, "name", &mut [0; LONGEST])));
        let base = by_device(folder).filter(|base| !base.is_empty());
        let named = || if name.is_empty() { clean(entry) } else { name.clone() };
        Self { folder: folder.to_owned(), entry: entry.to_owned(), base: base.unwrap_or_else(named), name }
    }

    /// Returns what tells it apart from all the others, such as `platform_coretemp_0`.
    fn label(&self, all: &[Self]) -> String {
        let same = |other: &&Self| other.base == self.base;
        if all.iter().filter(same).count() < 2 {
            return self.base.clone();
        }
        // Several chips of one device.
        let is_own =
            !self.name.is_empty() && all.iter().filter(same).filter(|other| other.name == self.name).count() < 2;
        let entry = clean(&self.entry);
        format!("{}_{}", self.base, if is_own { &self.name } else { &entry })
    }

    /// Returns the files by sensor, a kind with a number, and element. The device's own take the place of the chip's.
    fn sensors(&self) -> BTreeMap<(&'static str, u32), BTreeMap<String, String>> {
        let mut sensors: BTreeMap<_, BTreeMap<String, String>> = BTreeMap::new();
        for inner in ["", "device/"] {
            for file in names(&self.folder.join(inner), MOST, |_| true).unwrap_or_default() {
                if let Some((kind, number, element)) = split(&file) {
                    let elements = sensors.entry((kind, number)).or_default();
                    elements.insert(element.to_owned(), format!("{inner}{file}"));
                }
            }
        }
        sensors
    }
}

/// Returns bus and name of the device that the chip is part of.
fn by_device(folder: &Path) -> Option<String> {
    let device = std::fs::canonicalize(folder.join("device")).ok()?;
    let part =
        |path: &Path| path.file_name().map(|name| clean(&name.to_string_lossy())).filter(|name| !name.is_empty());
    let name = part(&device)?;
    Some(match device.parent().and_then(part) {
        Some(bus) => format!("{bus}_{name}"),
        None => name,
    })
}

#[cfg(test)]
mod tests;
