//! A folder of sysfs with a folder for each device → a family for each file that devices have.

use std::path::{Path, PathBuf};

use cloudpulse_common::exposition::{Kind, Labels, Page};

use super::CollectError;
use super::devices::Devices;
use super::family::Family;
use crate::attributes::{Attributes, LONGEST, names};
use crate::parse::{Scale, scaled};

/// A file that each device of a class may have, and what is shown of it.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) file: &'static str,
    pub(crate) family: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) scale: Scale,
}

impl Attribute {
    pub(crate) const fn gauge(file: &'static str, family: &'static str, help: &'static str, scale: Scale) -> Self {
        Self { file, family, help, kind: Kind::Gauge, scale }
    }

    pub(crate) const fn counter(file: &'static str, family: &'static str, help: &'static str) -> Self {
        Self { file, family, help, kind: Kind::Counter, scale: Scale::WHOLE }
    }
}

/// The devices in a folder.
#[derive(Debug)]
pub(crate) struct Class {
    folder: PathBuf,
    attributes: &'static [Attribute],
    /// `None` for a name that is no device.
    devices: Devices<Option<Device>>,
}

/// A device of a class.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: Box<str>,
    pub(crate) labels: Labels,
    pub(crate) files: Attributes,
}

impl Class {
    pub(crate) const fn new(folder: PathBuf, attributes: &'static [Attribute]) -> Self {
        Self { folder, attributes, devices: Devices::new() }
    }

    /// Looks which devices there are, at most `most`. `label` returns the labels of a new one by its name and folder, or
    /// `None` for a name that is none; `further` files are kept beside those of the table.
    pub(crate) fn list(
        &mut self,
        most: usize,
        further: usize,
        label: impl Fn(&str, &Path) -> Option<Labels>,
    ) -> Result<(), CollectError> {
        let Self { folder, attributes, devices } = self;
        let names = names(folder, most, |_| true)?;
        devices.begin();
        for name in &names {
            devices.entry(name.as_bytes(), |name| {
                let folder = folder.join(name);
                let labels = label(name, &folder)?;
                let files = Attributes::new(folder, attributes.len() + further);
                Some(Device { name: name.into(), labels, files })
            });
        }
        devices.finish();
        Ok(())
    }

    /// Writes the families of the table.
    pub(crate) fn write(&mut self, page: &mut Page<'_>) {
        let mut buffer = [0; LONGEST];
        for (at, attribute) in self.attributes.iter().enumerate() {
            let mut family = Family::new(attribute.family, attribute.help, attribute.kind);
            for device in self.devices.iter_mut().flatten() {
                let content = device.files.read(at, attribute.file, &mut buffer);
                if let Some(number) = content.and_then(|content| scaled(content, attribute.scale)) {
                    family.labelled(page, &device.labels, number);
                }
            }
        }
    }

    /// Returns the devices, sorted by name.
    pub(crate) fn devices(&mut self) -> impl Iterator<Item = &mut Device> {
        self.devices.iter_mut().flatten()
    }
}

/// Returns the label value of a file's content; what is no UTF-8 is replaced.
pub(crate) fn text(content: Option<&[u8]>) -> String {
    String::from_utf8_lossy(content.unwrap_or_default()).into_owned()
}

/// Returns what follows `prefix`, where that is a number.
pub(crate) fn numbered<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let number = name.strip_prefix(prefix)?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}
