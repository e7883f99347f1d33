//! `/proc/meminfo` → a gauge `node_memory_<key>` per line, in bytes where the kernel says kB.

use cloudpulse_common::exposition::{Format, Kind, Page};

use super::devices::Devices;
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, ProcFile, Shape};
use crate::parse::{Malformed, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "meminfo",
    about: "Memory statistics",
    by_default: true,
    new: |host, _: &Filters| {
        Box::new(Meminfo { meminfo: host.proc_file("meminfo", Shape::Whole), fields: Devices::new() })
    },
};

#[derive(Debug)]
struct Meminfo {
    meminfo: ProcFile,
    /// HELP, TYPE and name of each line's family: the same in both formats, since all are gauges.
    fields: Devices<Vec<u8>>,
}

impl Collector for Meminfo {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        self.fields.begin();
        let content = host.read(self.meminfo)?;
        for line in lines(content) {
            let (key, value, is_kib) = parse(line)?;
            let prefix = self.fields.entry(key, |key| prefix(key, is_kib));
            page.prefixed_integer(prefix, value);
        }
        self.fields.finish();
        if self.fields.iter().next().is_none() {
            return Err(Malformed::new("memory statistics in /proc/meminfo", content).into());
        }
        Ok(())
    }
}

/// Returns HELP, TYPE and name, up to the value.
fn prefix(key: &str, is_kib: bool) -> Vec<u8> {
    let mut name = format!("node_memory_{}", family_suffix(key));
    if is_kib {
        name.push_str("_bytes");
    }
    let mut prefix = Vec::new();
    let mut page = Page::new(&mut prefix, Format::Text);
    page.family(&name, &format!("Field {key} of /proc/meminfo."), Kind::Gauge);
    prefix.extend_from_slice(name.as_bytes());
    prefix.push(b' ');
    prefix
}

/// Returns the key as part of a name: `Active(anon)` becomes `Active_anon`.
fn family_suffix(key: &str) -> String {
    let key = key.strip_suffix(')').unwrap_or(key);
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Returns key, value (in bytes where it has a unit) and whether it has one.
fn parse(line: &[u8]) -> Result<(&[u8], u64, bool), Malformed> {
    let fail = || Malformed::new("a line `key: count [kB]` in /proc/meminfo", line);
    let colon = memchr::memchr(b':', line).filter(|at| *at > 0).ok_or_else(fail)?;
    let mut words = words(&line[colon + 1..]);
    let value = words.next().and_then(integer).ok_or_else(fail)?;
    match words.next() {
        None => Ok((&line[..colon], value, false)),
        Some(b"kB") => Ok((&line[..colon], value.checked_mul(1024).ok_or_else(fail)?, true)),
        Some(_) => Err(fail()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const MEMINFO: &str =
        "MemTotal:       24683656 kB\nActive(anon):       1540 kB\nHugePages_Total:       4\nDirectMap2M:     0 kB\n";

    #[test]
    fn kib_become_bytes_and_counts_stay_counts() {
        let mut fixture = Fixture::new(&ENTRY, &[("proc/meminfo", MEMINFO)]);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                [
                    "node_memory_MemTotal_bytes 25276063744",
                    "node_memory_Active_anon_bytes 1576960",
                    "node_memory_HugePages_Total 4",
                    "node_memory_DirectMap2M_bytes 0",
                ]
            );
        }
    }

    #[test]
    fn the_page_has_help_and_type() {
        assert_eq!(
            Fixture::new(&ENTRY, &[("proc/meminfo", "Slab: 1 kB\n")]).page().unwrap(),
            "# HELP node_memory_Slab_bytes Field Slab of /proc/meminfo.\n# TYPE node_memory_Slab_bytes gauge\n\
             node_memory_Slab_bytes 1024\n"
        );
    }

    #[test]
    fn broken_lines_are_errors() {
        for content in [
            "",
            "MemTotal 5 kB\n",
            "MemTotal: x kB\n",
            "MemTotal: 5 MB\n",
            ": 5 kB\n",
            "MemTotal: 18446744073709551615 kB\n",
        ] {
            assert!(Fixture::new(&ENTRY, &[("proc/meminfo", content)]).samples().is_err(), "{content:?}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, key in "\\PC*") {
            let _ = parse(&line);
            let suffix = family_suffix(&key);
            prop_assert!(suffix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        }
    }
}
