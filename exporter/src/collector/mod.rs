//! What every collector is, and the list of all of them.

mod arp;
mod bcache;
mod bonding;
mod btrfs;
mod class;
mod conntrack;
mod container;
mod cpu;
mod cpufreq;
mod devices;
mod diskstats;
mod dmi;
mod edac;
mod entropy;
mod family;
mod fibrechannel;
mod filefd;
mod filesystem;
mod hwmon;
mod infiniband;
mod ipvs;
mod loadavg;
mod mdadm;
mod meminfo;
mod netclass;
mod netdev;
mod netstat;
mod nfs;
mod nfsd;
mod nvme;
mod os;
mod powersupplyclass;
mod pressure;
mod processes;
mod rapl;
mod rpc;
mod schedstat;
mod selection;
mod selinux;
mod sockstat;
mod softnet;
mod stat;
mod systemd;
mod tapestats;
mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod vmstat;
mod watchdog;
mod xfs;
mod zfs;

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use cloudpulse_common::exposition::Page;

use crate::config::Filters;
use crate::host::Host;
use crate::parse::Malformed;

/// One subject of the machine.
pub trait Collector: Debug + Send {
    /// Writes all its families, each complete with its samples. What it wrote before an error is taken back.
    ///
    /// # Errors
    /// When what it reads is absent, unreadable or malformed.
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError>;
}

/// Why a collector has nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The kernel does not have this: no fault, and said once.
    #[error("the kernel has no {}", .0.display())]
    NoData(PathBuf),
    /// A file is there but cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// A file was read but not understood.
    #[error(transparent)]
    Content(#[from] Malformed),
}

/// A collector as the exporter knows it before it runs.
#[derive(Debug)]
pub struct Entry {
    /// Name in flags and in the label `collector`; node_exporter's, where it has the same.
    pub name: &'static str,
    /// What it exports, for `--help`.
    pub about: &'static str,
    /// Whether it runs unless it is turned off; else it runs when it is turned on.
    pub by_default: bool,
    /// Makes one that has not read anything yet.
    pub new: fn(&mut Host, &Filters) -> Box<dyn Collector>,
}

/// All collectors, in the order of the page.
pub const COLLECTORS: &[Entry] = &[
    arp::ENTRY,
    bcache::ENTRY,
    bonding::ENTRY,
    btrfs::ENTRY,
    conntrack::ENTRY,
    container::ENTRY,
    cpu::ENTRY,
    cpufreq::ENTRY,
    diskstats::ENTRY,
    dmi::ENTRY,
    edac::ENTRY,
    entropy::ENTRY,
    fibrechannel::ENTRY,
    filefd::ENTRY,
    filesystem::ENTRY,
    hwmon::ENTRY,
    infiniband::ENTRY,
    ipvs::ENTRY,
    loadavg::ENTRY,
    mdadm::ENTRY,
    meminfo::ENTRY,
    netclass::ENTRY,
    netdev::ENTRY,
    netstat::ENTRY,
    nfs::ENTRY,
    nfsd::ENTRY,
    nvme::ENTRY,
    os::ENTRY,
    powersupplyclass::ENTRY,
    pressure::ENTRY,
    processes::ENTRY,
    rapl::ENTRY,
    schedstat::ENTRY,
    selinux::ENTRY,
    sockstat::ENTRY,
    softnet::ENTRY,
    stat::ENTRY,
    systemd::ENTRY,
    tapestats::ENTRY,
    textfile::ENTRY,
    thermal_zone::ENTRY,
    time::ENTRY,
    timex::ENTRY,
    udp_queues::ENTRY,
    uname::ENTRY,
    vmstat::ENTRY,
    watchdog::ENTRY,
    xfs::ENTRY,
    zfs::ENTRY,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_sorted_and_fit_for_a_flag() {
        let names: Vec<&str> = COLLECTORS.iter().map(|entry| entry.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for entry in COLLECTORS {
            assert!(entry.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", entry.name);
            assert!(!entry.about.is_empty() && !entry.about.ends_with('.'), "{}", entry.about);
        }
    }

    /// Each collector has its file, and each file its entry.
    #[test]
    fn every_collector_is_a_file_of_its_name() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/collector");
        for entry in COLLECTORS {
            assert!(folder.join(format!("{}.rs", entry.name)).is_file(), "{}", entry.name);
        }
    }
}

/// Runs a collector on files of the test's own.
#[cfg(test)]
mod testing {
    use cloudpulse_common::exposition::{Format, Page};

    use super::{CollectError, Collector, Entry};
    use crate::config::Filters;
    use crate::host::{Host, Roots};

    /// A collector with its own machine.
    #[derive(Debug)]
    pub(crate) struct Fixture {
        pub(crate) folder: tempfile::TempDir,
        host: Host,
        collector: Box<dyn Collector>,
    }

    impl Fixture {
        /// Returns a machine that has the given files, such as `proc/stat`, and the default filters.
        pub(crate) fn new(entry: &Entry, files: &[(&str, &str)]) -> Self {
            Self::with_filters(entry, files, &Filters::default())
        }

        pub(crate) fn with_filters(entry: &Entry, files: &[(&str, &str)], filters: &Filters) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            let roots = Roots { procfs: at("proc"), sysfs: at("sys"), rootfs: "/".into(), udev_data: at("udev") };
            let mut host = Host::new(roots);
            let collector = (entry.new)(&mut host, filters);
            let fixture = Self { folder, host, collector };
            for (path, content) in files {
                fixture.write(path, content);
            }
            fixture
        }

        pub(crate) fn write(&self, path: &str, content: &str) {
            let path = self.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }

        /// Returns the samples of one scrape, without HELP and TYPE.
        pub(crate) fn samples(&mut self) -> Result<Vec<String>, CollectError> {
            let page = self.page()?;
            Ok(page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
        }

        /// Returns the page of one scrape.
        pub(crate) fn page(&mut self) -> Result<String, CollectError> {
            self.host.begin_scrape();
            let mut buffer = Vec::new();
            self.collector.collect(&mut self.host, &mut Page::new(&mut buffer, Format::Text))?;
            Ok(String::from_utf8(buffer).unwrap())
        }
    }
}
