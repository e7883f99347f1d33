//! Numbers as Kubernetes writes them: `120`, `"0.8"`, `500m`, `2k`, `1Gi`.

use serde::Deserialize;
use serde::Deserializer;
use serde::de;

/// A number, written as a number or as a Kubernetes quantity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantity(pub(crate) f64);

const SUFFIXES: [(&str, f64); 15] = [
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
];

/// Returns the number that `text` stands for; `None` where it is no finite number.
fn parse(text: &str) -> Option<f64> {
    let plain = text.parse::<f64>().ok();
    let value = plain.or_else(|| {
        let (number, factor) =
            SUFFIXES.iter().rev().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)))?;
        Some(number.parse::<f64>().ok()? * factor)
    });
    value.filter(|value| value.is_finite())
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number such as 120, \"0.8\", 500m or 2k")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Quantity, E> {
                if value.is_finite() {
                    Ok(Quantity(value))
                } else {
                    Err(E::invalid_value(de::Unexpected::Float(value), &self))
                }
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
                Ok(Quantity(value as f64))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
                Ok(Quantity(value as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                parse(text).map(Quantity).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_writes() {
        for (yaml, value) in [
            ("120", 120.0),
            ("\"0.8\"", 0.8),
            ("1.5", 1.5),
            ("500m", 0.5),
            ("2k", 2000.0),
            ("1Gi", 1_073_741_824.0),
            ("-3", -3.0),
            ("1e3", 1000.0),
        ] {
            assert_eq!(serde_yaml::from_str::<Quantity>(yaml).unwrap(), Quantity(value), "{yaml}");
        }
        for yaml in ["many", "\"\"", ".nan", ".inf", "m", "12x", "[1]", "\"NaN\"", "\"inf\""] {
            assert!(serde_yaml::from_str::<Quantity>(yaml).is_err(), "{yaml}");
        }
    }
}
