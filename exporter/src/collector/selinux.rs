//! `/sys/fs/selinux` → whether SELinux is on, and whether it enforces.

use cloudpulse_common::exposition::{Number, Page};

use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Scale, lines, scaled};

pub(super) const ENTRY: Entry = Entry {
    name: "selinux",
    about: "Whether SELinux is on",
    by_default: true,
    new: |host, _: &Filters| {
        Box::new(Selinux {
            enforce: host.sys_file("fs/selinux/enforce"),
            config: KeptFile::new(host.path_of("/etc/selinux/config"), Shape::Value),
        })
    },
};

#[derive(Debug)]
struct Selinux {
    enforce: KeptFile,
    config: KeptFile,
}

impl Collector for Selinux {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let current = match host.read_alone(&mut self.enforce) {
            Ok(content) => Some(scaled(content.trim_ascii(), Scale::WHOLE)),
            Err(CollectError::NoData(_)) => None,
            Err(error) => return Err(error),
        };
        let enabled = Number::Integer(current.is_some().into());
        Family::gauge("node_selinux_enabled", "Whether SELinux is on.").single(page, enabled);
        let Some(current) = current else { return Ok(()) };
        if let Some(mode) = host.read_alone(&mut self.config).ok().and_then(configured) {
            let mut family =
                Family::gauge("node_selinux_config_mode", "What is configured: 1 enforces, 0 only says, -1 is off.");
            family.single(page, mode);
        }
        if let Some(mode) = current {
            Family::gauge("node_selinux_current_mode", "What is done now: 1 enforces, 0 only says.").single(page, mode);
        }
        Ok(())
    }
}

/// Returns the mode that the configuration asks for.
fn configured(content: &[u8]) -> Option<Number> {
    lines(content).find_map(|line| match line.trim_ascii().strip_prefix(b"SELINUX=")? {
        b"enforcing" => Some(Number::Integer(1)),
        b"permissive" => Some(Number::Integer(0)),
        _ => Some(Number::Float(-1.0)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn a_machine_without_it_says_so() {
        assert_eq!(Fixture::new(&ENTRY, &[]).samples().unwrap(), ["node_selinux_enabled 0"]);
        let samples = Fixture::new(&ENTRY, &[("sys/fs/selinux/enforce", "1")]).samples().unwrap();
        assert_eq!(samples.first().map(String::as_str), Some("node_selinux_enabled 1"));
        assert_eq!(samples.last().map(String::as_str), Some("node_selinux_current_mode 1"));
        let modes =
            ["enforcing", "permissive", "disabled"].map(|mode| configured(format!("#x\nSELINUX={mode}\n").as_bytes()));
        assert_eq!(modes, [Some(Number::Integer(1)), Some(Number::Integer(0)), Some(Number::Float(-1.0))]);
        assert_eq!(configured(b"SELINUXTYPE=targeted\n"), None);
    }
}
