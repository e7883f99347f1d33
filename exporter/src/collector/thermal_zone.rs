//! `/sys/class/thermal` → temperatures of zones, and how far cooling devices are in use.

use cloudpulse_common::exposition::{Labels, Page};

use super::class::{Attribute, Class, numbered, text};
use super::{CollectError, Collector, Entry};
use crate::attributes::{Attributes, LONGEST};
use crate::config::Filters;
use crate::host::Host;
use crate::parse::Scale;

pub(super) const ENTRY: Entry = Entry {
    name: "thermal_zone",
    about: "Temperatures and cooling devices of the platform",
    by_default: true,
    new: |host, _: &Filters| {
        let folder = host.roots().sysfs.join("class/thermal");
        Box::new(Thermal { zones: Class::new(folder.clone(), ZONE), coolers: Class::new(folder, COOLER) })
    },
};

/// Of each kind.
const MOST: usize = 1024;

const ZONE: &[Attribute] =
    &[Attribute::gauge("temp", "node_thermal_zone_temp", "Temperature of the zone in degrees Celsius.", Scale::MILLI)];
const COOLER: &[Attribute] = &[
    Attribute::gauge("cur_state", "node_cooling_device_cur_state", "How far the device cools.", Scale::WHOLE),
    Attribute::gauge("max_state", "node_cooling_device_max_state", "How far the device can cool.", Scale::WHOLE),
];

#[derive(Debug)]
struct Thermal {
    zones: Class,
    coolers: Class,
}

impl Collector for Thermal {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        for (class, prefix, label) in
            [(&mut self.zones, "thermal_zone", "zone"), (&mut self.coolers, "cooling_device", "name")]
        {
            class.list(MOST, 0, |name, folder| {
                let number = numbered(name, prefix)?;
                let mut buffer = [0; LONGEST];
                let kind = text(Attributes::new(folder.to_owned(), 1).read(0, "type", &mut buffer));
                Some(Labels::new(&[(label, number), ("type", &kind)]))
            })?;
            class.write(page);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn temperatures_are_degrees() {
        let files = [
            ("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
            ("sys/class/thermal/thermal_zone0/temp", "45500\n"),
            ("sys/class/thermal/thermal_zone1/type", "cold\n"),
            ("sys/class/thermal/thermal_zone1/temp", "-44000\n"),
            ("sys/class/thermal/thermal_zone2/type", "off\n"),
            ("sys/class/thermal/cooling_device0/type", "Processor\n"),
            ("sys/class/thermal/cooling_device0/cur_state", "-1\n"),
            ("sys/class/thermal/cooling_device0/max_state", "50\n"),
        ];
        assert_eq!(
            Fixture::new(&ENTRY, &files).samples().unwrap(),
            [
                "node_thermal_zone_temp{zone=\"0\",type=\"x86_pkg_temp\"} 45.5",
                "node_thermal_zone_temp{zone=\"1\",type=\"cold\"} -44",
                "node_cooling_device_cur_state{name=\"0\",type=\"Processor\"} -1",
                "node_cooling_device_max_state{name=\"0\",type=\"Processor\"} 50",
            ]
        );
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
    }
}
