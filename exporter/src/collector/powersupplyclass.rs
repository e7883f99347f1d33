//! `/sys/class/power_supply` → batteries and mains: charge, voltage, state.

use cloudpulse_common::exposition::{Labels, Page};
use regex_lite::Regex;

use super::class::{Attribute, Class, text};
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::LONGEST;
use crate::config::Filters;
use crate::host::Host;
use crate::parse::Scale;

pub(super) const ENTRY: Entry = Entry {
    name: "powersupplyclass",
    about: "Batteries and power supplies",
    by_default: true,
    new: |host, filters: &Filters| {
        let class = Class::new(host.roots().sysfs.join("class/power_supply"), ATTRIBUTES);
        Box::new(PowerSupplies { class, ignored: filters.power_supplies_ignored.clone() })
    },
};

const MOST: usize = 256;

const fn property(file: &'static str, family: &'static str, scale: Scale) -> Attribute {
    Attribute::gauge(file, family, "The property of the power supply that its name says, in base units.", scale)
}

/// Properties, which a supply has some of.
const ATTRIBUTES: &[Attribute] = &[
    property("authentic", "node_power_supply_authentic", Scale::WHOLE),
    property("calibrate", "node_power_supply_calibrate", Scale::WHOLE),
    property("capacity", "node_power_supply_capacity", Scale::WHOLE),
    property("capacity_alert_max", "node_power_supply_capacity_alert_max", Scale::WHOLE),
    property("capacity_alert_min", "node_power_supply_capacity_alert_min", Scale::WHOLE),
    property("cycle_count", "node_power_supply_cyclecount", Scale::WHOLE),
    property("online", "node_power_supply_online", Scale::WHOLE),
    property("present", "node_power_supply_present", Scale::WHOLE),
    property("time_to_empty_now", "node_power_supply_time_to_empty_seconds", Scale::WHOLE),
    property("time_to_full_now", "node_power_supply_time_to_full_seconds", Scale::WHOLE),
    property("current_boot", "node_power_supply_current_boot", Scale::MICRO),
    property("current_max", "node_power_supply_current_max", Scale::MICRO),
    property("current_now", "node_power_supply_current_ampere", Scale::MICRO),
    property("energy_empty", "node_power_supply_energy_empty", Scale::MICRO),
    property("energy_empty_design", "node_power_supply_energy_empty_design", Scale::MICRO),
    property("energy_full", "node_power_supply_energy_full", Scale::MICRO),
    property("energy_full_design", "node_power_supply_energy_full_design", Scale::MICRO),
    property("energy_now", "node_power_supply_energy_watthour", Scale::MICRO),
    property("voltage_boot", "node_power_supply_voltage_boot", Scale::MICRO),
    property("voltage_max", "node_power_supply_voltage_max", Scale::MICRO),
    property("voltage_max_design", "node_power_supply_voltage_max_design", Scale::MICRO),
    property("voltage_min", "node_power_supply_voltage_min", Scale::MICRO),
    property("voltage_min_design", "node_power_supply_voltage_min_design", Scale::MICRO),
    property("voltage_now", "node_power_supply_voltage_volt", Scale::MICRO),
    property("voltage_ocv", "node_power_supply_voltage_ocv", Scale::MICRO),
    property("charge_control_limit", "node_power_supply_charge_control_limit", Scale::MICRO),
    property("charge_control_limit_max", "node_power_supply_charge_control_limit_max", Scale::MICRO),
    property("charge_counter", "node_power_supply_charge_counter", Scale::MICRO),
    property("charge_empty", "node_power_supply_charge_empty", Scale::MICRO),
    property("charge_empty_design", "node_power_supply_charge_empty_design", Scale::MICRO),
    property("charge_full", "node_power_supply_charge_full", Scale::MICRO),
    property("charge_full_design", "node_power_supply_charge_full_design", Scale::MICRO),
    property("charge_now", "node_power_supply_charge_ampere", Scale::MICRO),
    property("charge_term_current", "node_power_supply_charge_term_current", Scale::MICRO),
    property("constant_charge_current", "node_power_supply_constant_charge_current", Scale::MICRO),
    property("constant_charge_current_max", "node_power_supply_constant_charge_current_max", Scale::MICRO),
    property("constant_charge_voltage", "node_power_supply_constant_charge_voltage", Scale::MICRO),
    property("constant_charge_voltage_max", "node_power_supply_constant_charge_voltage_max", Scale::MICRO),
    property("precharge_current", "node_power_supply_precharge_current", Scale::MICRO),
    property("input_current_limit", "node_power_supply_input_current_limit", Scale::MICRO),
    property("power_now", "node_power_supply_power_watt", Scale::MICRO),
    property("temp", "node_power_supply_temp_celsius", Scale::divided(1)),
    property("temp_alert_max", "node_power_supply_temp_alert_max_celsius", Scale::divided(1)),
    property("temp_alert_min", "node_power_supply_temp_alert_min_celsius", Scale::divided(1)),
    property("temp_ambient", "node_power_supply_temp_ambient_celsius", Scale::divided(1)),
    property("temp_ambient_max", "node_power_supply_temp_ambient_max_celsius", Scale::divided(1)),
    property("temp_ambient_min", "node_power_supply_temp_ambient_min_celsius", Scale::divided(1)),
    property("temp_max", "node_power_supply_temp_max_celsius", Scale::divided(1)),
    property("temp_min", "node_power_supply_temp_min_celsius", Scale::divided(1)),
];

/// Properties of text, numbered after those of the table; labels of the info.
const TEXTS: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];

#[derive(Debug)]
struct PowerSupplies {
    class: Class,
    ignored: Regex,
}

impl Collector for PowerSupplies {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let Self { class, ignored } = self;
        class.list(MOST, TEXTS.len(), |name, _| {
            (!ignored.is_match(name)).then(|| Labels::new(&[("power_supply", name)]))
        })?;
        class.write(page);
        let mut info = Family::gauge("node_power_supply_info", "Always 1; what is no number is in the labels.");
        let mut buffer = [0; LONGEST];
        for device in class.devices() {
            let values: [String; TEXTS.len()] =
                std::array::from_fn(|at| text(device.files.read(ATTRIBUTES.len() + at, TEXTS[at], &mut buffer)));
            let mut labels = vec![("power_supply", &*device.name)];
            labels.extend(TEXTS.into_iter().zip(values.iter().map(String::as_str)));
            info.info(page, &labels);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    const FILES: [(&str, &str); 7] = [
        ("sys/class/power_supply/AC/online", "0\n"),
        ("sys/class/power_supply/AC/type", "Mains\n"),
        ("sys/class/power_supply/BAT0/capacity", "98\n"),
        ("sys/class/power_supply/BAT0/voltage_now", "12229000\n"),
        ("sys/class/power_supply/BAT0/temp", "-15\n"),
        ("sys/class/power_supply/BAT0/status", "Discharging\n"),
        ("sys/class/power_supply/BAT0/uevent", "POWER_SUPPLY_NAME=BAT0\n"),
    ];

    #[test]
    fn properties_are_in_base_units() {
        let mut fixture = Fixture::new(&ENTRY, &FILES);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                [
                    "node_power_supply_capacity{power_supply=\"BAT0\"} 98",
                    "node_power_supply_online{power_supply=\"AC\"} 0",
                    "node_power_supply_voltage_volt{power_supply=\"BAT0\"} 12.229",
                    "node_power_supply_temp_celsius{power_supply=\"BAT0\"} -1.5",
                    "node_power_supply_info{power_supply=\"AC\",type=\"Mains\"} 1",
                    "node_power_supply_info{power_supply=\"BAT0\",status=\"Discharging\"} 1",
                ]
            );
        }
    }

    #[test]
    fn supplies_can_be_ignored() {
        let filters = Filters { power_supplies_ignored: Regex::new("^BAT").unwrap(), ..Filters::default() };
        let samples = Fixture::with_filters(&ENTRY, &FILES, &filters).samples().unwrap();
        assert_eq!(samples.len(), 2, "{samples:?}");
    }
}
