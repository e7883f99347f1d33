//! The mount table and statvfs → `node_filesystem_*` per mounted filesystem.

mod mounts;
mod space;

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use self::mounts::Mount;
use self::space::{Answer, Guarded, Space, space_of};
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, ProcFile, Shape};

pub(super) const ENTRY: Entry = Entry {
    name: "filesystem",
    about: "Space and files of mounted filesystems",
    by_default: true,
    new: |host, filters: &Filters| {
        Box::new(Filesystem {
            // The mounts as the first process sees them, which are the host's where its /proc is mounted into a container.
            mountinfo: host.proc_file("1/mountinfo", Shape::MountTable),
            own_mountinfo: host.proc_file("self/mountinfo", Shape::MountTable),
            filters: filters.clone(),
            table: Vec::new(),
            mounts: Vec::new(),
            guarded: Guarded::new(space_of),
        })
    },
};

#[derive(Debug)]
struct Filesystem {
    mountinfo: ProcFile,
    own_mountinfo: ProcFile,
    filters: Filters,
    /// The mount table as it was when `mounts` was made of it.
    table: Vec<u8>,
    mounts: Vec<Mount>,
    guarded: Guarded,
}

impl Collector for Filesystem {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        self.read_mounts(host)?;
        let answers = self.guarded.ask(&self.mounts);
        // Labels of a mount whose filesystem did not answer say why.
        let failed: Vec<Option<Labels>> = self
            .mounts
            .iter()
            .zip(&answers)
            .map(|(mount, answer)| match answer {
                Answer::Space(_) => None,
                Answer::Failed(error) => Some(mount.labels_with_error(&error.to_string())),
                Answer::Late => Some(mount.labels_with_error("mountpoint timeout")),
            })
            .collect();
        let space = |at: usize| match &answers[at] {
            Answer::Space(space) => Some(space),
            Answer::Failed(_) | Answer::Late => None,
        };
        let family = |page: &mut Page<'_>, name: &str, help: &str, value: &dyn Fn(usize) -> Option<Number>| {
            let mut samples = (0..self.mounts.len()).filter_map(|at| Some((at, value(at)?))).peekable();
            if samples.peek().is_some() {
                page.family(name, help, Kind::Gauge);
            }
            for (at, value) in samples {
                page.labelled(name, failed[at].as_ref().unwrap_or(&self.mounts[at].labels), value);
            }
        };
        let flag = |flag: bool| Some(Number::Integer(u64::from(flag)));
        let bytes = |at: usize, blocks: fn(&Space) -> u64| space(at).map(|space| space.bytes(blocks(space)));
        let count = |at: usize, count: fn(&Space) -> u64| space(at).map(|space| Number::Integer(count(space)));

        family(page, "node_filesystem_size_bytes", "Size.", &|at| bytes(at, |space| space.blocks));
        family(page, "node_filesystem_free_bytes", "Free space.", &|at| bytes(at, |space| space.free));
        let help = "Free space for users other than root.";
        family(page, "node_filesystem_avail_bytes", help, &|at| bytes(at, |space| space.available));
        family(page, "node_filesystem_files", "Inodes.", &|at| count(at, |space| space.files));
        family(page, "node_filesystem_files_free", "Free inodes.", &|at| count(at, |space| space.files_free));
        let help = "Whether it is mounted read-only.";
        family(page, "node_filesystem_readonly", help, &|at| {
            flag(space(at).is_some_and(|space| space.read_only) || self.mounts[at].read_only)
        });
        let help = "Whether asking for its space failed or took too long.";
        family(page, "node_filesystem_device_error", help, &|at| flag(space(at).is_none()));
        if !self.mounts.is_empty() {
            let name = "node_filesystem_mount_info";
            page.family(name, "Always 1; numbers of the device are in the labels.", Kind::Gauge);
            for mount in &self.mounts {
                page.labelled(name, &mount.info, Number::Integer(1));
            }
        }
        Ok(())
    }
}

impl Filesystem {
    fn read_mounts(&mut self, host: &mut Host) -> Result<(), CollectError> {
        // The first process belongs to root, and its mounts may be hidden from other users.
        let file = if host.read(self.mountinfo).is_ok() { self.mountinfo } else { self.own_mountinfo };
        let table = host.read(file)?;
        if *table == *self.table {
            return Ok(());
        }
        // Not kept before it is understood, so that a broken table is an error at every scrape.
        let copy = table.to_vec();
        self.mounts = mounts::read(&copy, &self.filters, host)?;
        self.table = copy;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    const TABLE: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n22 27 0:21 / /proc rw - proc proc rw\n";

    #[test]
    fn the_root_has_a_size_and_proc_is_left_out() {
        let mut fixture = Fixture::new(&ENTRY, &[("proc/1/mountinfo", TABLE)]);
        for _ in 0..2 {
            let samples = fixture.samples().unwrap();
            assert_eq!(samples.len(), 8, "{samples:#?}");
            let labels = "{device=\"/dev/vda\",mountpoint=\"/\",fstype=\"ext4\"}";
            assert!(samples[0].starts_with(&format!("node_filesystem_size_bytes{labels} ")), "{samples:#?}");
            assert!(samples[6] == format!("node_filesystem_device_error{labels} 0"), "{samples:#?}");
            assert!(samples[7].ends_with("{device=\"/dev/vda\",major=\"254\",minor=\"0\",mountpoint=\"/\"} 1"));
            let size: f64 = samples[0].rsplit_once(' ').unwrap().1.parse().unwrap();
            assert!(size > 1e6);
        }
    }

    #[test]
    fn a_mount_that_cannot_be_asked_is_an_error_of_its_own() {
        let table = format!("{TABLE}30 27 0:9 / /no/such/place ro - ext4 /dev/gone rw\n");
        let samples = Fixture::new(&ENTRY, &[("proc/1/mountinfo", &table)]).samples().unwrap();
        let gone: Vec<&String> = samples.iter().filter(|line| line.contains("/dev/gone")).collect();
        assert_eq!(gone.len(), 3, "{gone:#?}");
        assert!(gone[0].starts_with("node_filesystem_readonly") && gone[0].ends_with(" 1"));
        assert!(gone[1].starts_with("node_filesystem_device_error") && gone[1].ends_with(" 1"));
        assert!(gone[1].contains("device_error=\"No such file or directory"), "{gone:#?}");
        assert_eq!(samples.iter().filter(|line| line.contains("/dev/vda")).count(), 8);
    }

    #[test]
    fn a_changed_table_is_read_again_and_a_broken_one_is_an_error() {
        let mut fixture = Fixture::new(&ENTRY, &[("proc/self/mountinfo", TABLE)]);
        assert_eq!(fixture.samples().unwrap().len(), 8);
        fixture.write("proc/self/mountinfo", "");
        assert_eq!(fixture.page().unwrap(), "");
        fixture.write("proc/self/mountinfo", "27 1 254:0 / /\n");
        assert!(fixture.samples().is_err());
        assert!(fixture.samples().is_err());
    }
}
