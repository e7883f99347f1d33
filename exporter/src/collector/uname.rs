//! The uname system call → `node_uname_info`.

use cloudpulse_common::exposition::{Kind, Page};
use rustix::system::uname;

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::Host;

pub(super) const ENTRY: Entry = Entry {
    name: "uname",
    about: "Kernel version and host name",
    by_default: true,
    new: |_: &mut Host, _: &Filters| Box::new(Uname),
};

#[derive(Debug)]
struct Uname;

impl Collector for Uname {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let uname = uname();
        let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
        page.family("node_uname_info", "Always 1; what uname says is in the labels.", Kind::Gauge);
        page.sample(
            "node_uname_info",
            &[
                ("domainname", &text(uname.domainname())),
                ("machine", &text(uname.machine())),
                ("nodename", &text(uname.nodename())),
                ("release", &text(uname.release())),
                ("sysname", &text(uname.sysname())),
                ("version", &text(uname.version())),
            ],
            1.0,
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn the_kernel_is_named() {
        let samples = Fixture::new(&ENTRY, &[]).samples().unwrap();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(samples[0].contains(&format!("release=\"{}\",sysname=\"Linux\"", release.trim())), "{samples:?}");
        assert!(samples[0].ends_with("} 1"));
    }
}
