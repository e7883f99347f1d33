//! `/proc/sys/kernel/random` → `node_entropy_*`.

use cloudpulse_common::exposition::{Kind, Page};

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, integer};

pub(super) const ENTRY: Entry = Entry {
    name: "entropy",
    about: "Entropy of the kernel's random numbers",
    by_default: true,
    new: |host, _: &Filters| {
        Box::new(Entropy {
            files: FAMILIES.map(|(file, ..)| host.own_proc_file(&format!("sys/kernel/random/{file}"), Shape::Value)),
        })
    },
};

const FAMILIES: [(&str, &str, &str); 2] = [
    ("entropy_avail", "node_entropy_available_bits", "Bits of entropy that are there."),
    ("poolsize", "node_entropy_pool_size_bits", "Bits of entropy that there can be."),
];

#[derive(Debug)]
struct Entropy {
    files: [KeptFile; 2],
}

impl Collector for Entropy {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        for (file, (_, name, help)) in self.files.iter_mut().zip(FAMILIES) {
            let content = host.read_alone(file)?;
            let bits = integer(content.trim_ascii()).ok_or_else(|| Malformed::new("a count of bits", content))?;
            page.family(name, help, Kind::Gauge);
            page.unlabelled(name, bits.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn bits_are_written() {
        let files = [("proc/sys/kernel/random/entropy_avail", "255\n"), ("proc/sys/kernel/random/poolsize", "256\n")];
        let samples = Fixture::new(&ENTRY, &files).samples().unwrap();
        assert_eq!(samples, ["node_entropy_available_bits 255", "node_entropy_pool_size_bits 256"]);
        assert!(Fixture::new(&ENTRY, &[files[0], (files[1].0, "x")]).samples().is_err());
        assert!(matches!(Fixture::new(&ENTRY, &files[..1]).samples(), Err(CollectError::NoData(_))));
    }
}
