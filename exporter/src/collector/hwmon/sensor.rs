//! Names of sensor files → what they mean, as node_exporter has it.

use cloudpulse_common::exposition::Kind;

use crate::parse::Scale;

/// Kinds of sensors, as their files begin.
const KINDS: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// How a file is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) family: String,
    pub(super) kind: Kind,
    pub(super) scale: Scale,
    pub(super) help: &'static str,
}

/// Returns kind, number and element of a sensor's file: `temp1_input` is `temp`, 1 and `input`, `pwm1` has no element.
pub(super) fn split(file: &str) -> Option<(&'static str, u32, &str)> {
    let digits = file.find(|c: char| c.is_ascii_digit()).unwrap_or(file.len());
    let kind = KINDS.into_iter().find(|kind| *kind == &file[..digits])?;
    let rest = &file[digits..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number = if end == 0 { 0 } else { rest[..end].parse().ok()? };
    match (&rest[end..], rest[end..].strip_prefix('_')) {
        ("", _) => Some((kind, number, "")),
        (_, Some(element)) if !element.is_empty() => Some((kind, number, element)),
        _ => None,
    }
}

/// Returns how an element of a sensor is shown; `None` for what is not. `has_plain` says that there is a file without an
/// element, whose family has the plain name.
pub(super) fn meaning(kind: &str, element: &str, has_plain: bool) -> Option<Meaning> {
    let gauge = |family: String, scale, help| Some(Meaning { family, kind: Kind::Gauge, scale, help });
    if element == "label" {
        return gauge(
            "node_hwmon_sensor_label".to_owned(),
            Scale::WHOLE,
            "Always 1; what the sensor measures is in the labels.",
        );
    }
    match kind {
        "beep_enable" => {
            return gauge("node_hwmon_beep_enabled".to_owned(), Scale::WHOLE, "Whether the chip may beep.");
        }
        "vrm" => {
            let help = "Version of the voltage regulator.";
            return gauge("node_hwmon_voltage_regulator_version".to_owned(), Scale::WHOLE, help);
        }
        "update_interval" => {
            let help = "Seconds between two measurements.";
            return gauge("node_hwmon_update_interval_seconds".to_owned(), Scale::MILLI, help);
        }
        _ => {}
    }
    let name = match element {
        "input" if has_plain => format!("node_hwmon_{kind}_input"),
        "input" | "" => format!("node_hwmon_{kind}"),
        element => format!("node_hwmon_{kind}_{}", clean(element)),
    };
    match (kind, element) {
        (_, "fault") => gauge(name, Scale::WHOLE, "Whether the sensor is broken."),
        (_, "alarm") => gauge(name, Scale::WHOLE, "Whether the sensor gives alarm."),
        (_, "beep") => gauge(name + "_enabled", Scale::WHOLE, "Whether the sensor may beep."),
        ("in" | "cpu", _) => gauge(name + "_volts", Scale::MILLI, "Volts."),
        ("temp", element) if element != "type" => gauge(name + "_celsius", Scale::MILLI, "Degrees Celsius."),
        ("curr", _) => gauge(name + "_amps", Scale::MILLI, "Amperes."),
        ("energy", _) => Some(Meaning {
            family: name + "_joule_total",
            kind: Kind::Counter,
            scale: Scale::MICRO,
            help: "Joules used.",
        }),
        ("power", "accuracy") => gauge(name, Scale::MICRO, "Accuracy of the measurement, as a ratio."),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            gauge(name + "_seconds", Scale::MILLI, "Seconds over which the average is taken.")
        }
        ("power", _) => gauge(name + "_watt", Scale::MICRO, "Watts."),
        ("humidity", _) => gauge(name, Scale::MICRO, "Humidity, as a ratio."),
        ("fan", "input" | "min" | "max" | "target") => gauge(name + "_rpm", Scale::WHOLE, "Rotations per minute."),
        ("freq", "input") => gauge(name + "_freq_mhz", Scale::MICRO, "Megahertz."),
        _ => gauge(name, Scale::WHOLE, "What the file of the sensor says."),
    }
}

/// Returns text as part of a name: in small letters, everything but letters, digits and colons an underscore.
pub(super) fn clean(text: &str) -> String {
    let lower = text.to_lowercase();
    let keep = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' { c } else { '_' };
    let replaced: String = lower.chars().map(keep).collect();
    replaced.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_are_split_into_kind_number_and_element() {
        for (file, expected) in [
            ("temp1_input", Some(("temp", 1, "input"))),
            ("in0_max_alarm", Some(("in", 0, "max_alarm"))),
            ("pwm12", Some(("pwm", 12, ""))),
            ("beep_enable", Some(("beep_enable", 0, ""))),
            ("update_interval", Some(("update_interval", 0, ""))),
            ("pwm1_auto_point1_temp", Some(("pwm", 1, "auto_point1_temp"))),
            ("temp1x", None),
            ("temp1_", None),
            ("temp99999999999_input", None),
            ("uevent", None),
            ("", None),
        ] {
            assert_eq!(split(file), expected, "{file}");
        }
    }

    #[test]
    fn families_are_those_of_node_exporter() {
        for (kind, element, family) in [
            ("temp", "input", "node_hwmon_temp_celsius"),
            ("temp", "crit_alarm", "node_hwmon_temp_crit_alarm_celsius"),
            ("temp", "alarm", "node_hwmon_temp_alarm"),
            ("temp", "type", "node_hwmon_temp_type"),
            ("fan", "input", "node_hwmon_fan_rpm"),
            ("fan", "min", "node_hwmon_fan_min_rpm"),
            ("fan", "div", "node_hwmon_fan_div"),
            ("in", "beep", "node_hwmon_in_beep_enabled"),
            ("pwm", "", "node_hwmon_pwm"),
            ("power", "average_interval_min", "node_hwmon_power_average_interval_min_seconds"),
            ("power", "average", "node_hwmon_power_average_watt"),
            ("energy", "input", "node_hwmon_energy_joule_total"),
            ("vrm", "", "node_hwmon_voltage_regulator_version"),
        ] {
            assert_eq!(meaning(kind, element, false).unwrap().family, family, "{kind} {element}");
        }
        assert_eq!(meaning("fan", "input", true).unwrap().family, "node_hwmon_fan_input_rpm");
    }

    proptest! {
        #[test]
        fn any_name_is_taken_or_left(file in "\\PC*", element in "\\PC+") {
            let _ = split(&file);
            let family = meaning("pwm", &element, true).unwrap().family;
            prop_assert!(family.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':'));
        }
    }
}
