//! `/sys/fs/btrfs/<uuid>` → `node_btrfs_*`: how each Btrfs filesystem has parcelled out its disks.

use std::path::{Path, PathBuf};

use cloudpulse_common::exposition::Kind::{Counter, Gauge};
use cloudpulse_common::exposition::{Number, Page};

use super::class::text;
use super::family::{Described, Gathered};
use super::{CollectError, Collector, Entry};
use crate::attributes::{Attributes, LONGEST, names, uuids};
use crate::config::Filters;
use crate::host::Host;
use crate::parse::{Scale, integer, lines, scaled, words};

pub(super) const ENTRY: Entry = Entry {
    name: "btrfs",
    about: "Space of Btrfs filesystems by kind of data and layout",
    by_default: true,
    new: |host, _: &Filters| Box::new(Btrfs { folder: host.roots().sysfs.join("fs/btrfs") }),
};

/// Filesystems, and disks and layouts of each.
const MOST: usize = 1024;

const FAMILIES: [Described; 11] = [
    ("node_btrfs_info", "Always 1; name of the filesystem.", Gauge),
    ("node_btrfs_global_rsv_size_bytes", "Size of the global reserve.", Gauge),
    ("node_btrfs_reserved_bytes", "Space that is reserved for a kind of data.", Gauge),
    ("node_btrfs_used_bytes", "Space in use, by kind of data and layout.", Gauge),
    ("node_btrfs_size_bytes", "Space set apart, by kind of data and layout.", Gauge),
    ("node_btrfs_allocation_ratio", "Bytes on disks for each byte of data.", Gauge),
    ("node_btrfs_device_size_bytes", "Size of a disk of the filesystem.", Gauge),
    ("node_btrfs_commits_total", "Commits.", Counter),
    ("node_btrfs_last_commit_seconds", "Time that the last commit took.", Gauge),
    ("node_btrfs_max_commit_seconds", "Time that the longest commit took.", Gauge),
    ("node_btrfs_commit_seconds_total", "Time that all commits took.", Counter),
];
/// Lines of `commit_stats`, in the order of the last four families.
const COMMITS: [(&str, Scale); 4] = [
    ("commits", Scale::WHOLE),
    ("last_commit_ms", Scale::MILLI),
    ("max_commit_ms", Scale::MILLI),
    ("total_commit_ms", Scale::MILLI),
];
/// Kinds of data, each a folder with one for each layout, and a file.
const KINDS: [(&str, &str); 3] = [
    ("data", "allocation/data/bytes_reserved"),
    ("metadata", "allocation/metadata/bytes_reserved"),
    ("system", "allocation/system/bytes_reserved"),
];
/// Files of a filesystem, before those of the kinds.
const FILES: [&str; 4] = ["label", "metadata_uuid", "allocation/global_rsv_size", "commit_stats"];

#[derive(Debug)]
struct Btrfs {
    folder: PathBuf,
}

impl Collector for Btrfs {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let mut gathered = Gathered::new(&FAMILIES);
        for name in &uuids(&self.folder, MOST)? {
            gather(&self.folder.join(name), name, &mut gathered);
        }
        gathered.write(page);
        Ok(())
    }
}

/// Reads a filesystem. Nothing of it is kept open: hardly a machine has more than one.
fn gather(folder: &Path, name: &str, gathered: &mut Gathered) {
    let mut files = Attributes::new(folder.to_owned(), FILES.len() + KINDS.len());
    let mut buffer = [0; LONGEST];
    let label = text(files.read(0, FILES[0], &mut buffer));
    let uuid = text(files.read(1, FILES[1], &mut buffer));
    let uuid = if uuid.is_empty() { name } else { &uuid };
    let own = ("uuid", uuid);
    gathered.push(0, &[own, ("label", &label)], Number::Integer(1));
    if let Some(size) = files.read(2, FILES[2], &mut buffer).and_then(integer) {
        gathered.push(1, &[own], Number::Integer(size));
    }
    for line in files.read(3, FILES[3], &mut buffer).into_iter().flat_map(lines) {
        let mut words = words(line);
        let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
        let known = COMMITS.iter().position(|(name, _)| name.as_bytes() == key);
        if let Some((at, value)) = known.and_then(|at| Some((at, scaled(value, COMMITS[at].1)?))) {
            gathered.push(FAMILIES.len() - COMMITS.len() + at, &[own], value);
        }
    }
    let disks = names(&folder.join("devices"), MOST, |_| true).unwrap_or_default();
    // Links to block devices, whose sizes are in sectors.
    let mut sizes = Attributes::new(folder.join("devices"), disks.len());
    for (at, disk) in disks.iter().enumerate() {
        let size = sizes.read(at, &format!("{disk}/size"), &mut buffer);
        if let Some(size) = size.and_then(|size| scaled(size, Scale::times(512))) {
            gathered.push(6, &[own, ("device", disk)], size);
        }
    }
    for (at, (kind, file)) in KINDS.into_iter().enumerate() {
        let labels = [own, ("block_group_type", kind)];
        if let Some(bytes) = files.read(FILES.len() + at, file, &mut buffer).and_then(integer) {
            gathered.push(2, &labels, Number::Integer(bytes));
        }
        let folder = folder.join("allocation").join(kind);
        // Layouts come and go as a filesystem is balanced.
        for layout in names(&folder, MOST, is_layout).unwrap_or_default() {
            let mut files = Attributes::new(folder.join(&layout), 2);
            let labels = [own, ("block_group_type", kind), ("mode", &layout)];
            for (at, file) in ["used_bytes", "total_bytes"].into_iter().enumerate() {
                if let Some(bytes) = files.read(at, file, &mut buffer).and_then(integer) {
                    gathered.push(3 + at, &labels, Number::Integer(bytes));
                }
            }
            if let Some(ratio) = ratio(&layout, disks.len()) {
                gathered.push(5, &labels, Number::Float(ratio));
            }
        }
    }
}

/// Returns whether a name in the folder of a kind is a layout: all others there are files of these names.
fn is_layout(name: &str) -> bool {
    ratio(name, 3).is_some()
}

/// Returns how many bytes on disks a byte of data takes.
fn ratio(layout: &str, disks: usize) -> Option<f64> {
    let striped = |parity: usize| disks as f64 / disks.saturating_sub(parity) as f64;
    Some(match layout {
        "single" | "raid0" => 1.0,
        "dup" | "raid1" | "raid10" => 2.0,
        "raid1c3" => 3.0,
        "raid1c4" => 4.0,
        "raid5" => striped(1),
        "raid6" => striped(2),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn space_is_shown_by_kind_and_layout() {
        let at = "sys/fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d";
        let files = [
            (format!("{at}/label"), "fixture\n"),
            (format!("{at}/allocation/global_rsv_size"), "16777216\n"),
            (format!("{at}/allocation/data/bytes_reserved"), "7\n"),
            (format!("{at}/allocation/data/raid5/used_bytes"), "808189952\n"),
            (format!("{at}/allocation/data/raid5/total_bytes"), "2147483648\n"),
            (format!("{at}/devices/loop25/size"), "20971520\n"),
            (format!("{at}/devices/loop26/size"), "20971520\n"),
            (format!("{at}/devices/loop27/size"), "x\n"),
            (format!("{at}/commit_stats"), "commits 258051\nlast_commit_ms 1500\nmax_commit_ms 51462\nother 1\n"),
            ("sys/fs/btrfs/features/raid56".to_owned(), "0\n"),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        let mut fixture = Fixture::new(&ENTRY, &files);
        let uuid = "uuid=\"0abb23a9-579b-43e6-ad30-227ef47fcb9d\"";
        let expected = [
            format!("node_btrfs_info{{{uuid},label=\"fixture\"}} 1"),
            format!("node_btrfs_global_rsv_size_bytes{{{uuid}}} 16777216"),
            format!("node_btrfs_reserved_bytes{{{uuid},block_group_type=\"data\"}} 7"),
            format!("node_btrfs_used_bytes{{{uuid},block_group_type=\"data\",mode=\"raid5\"}} 808189952"),
            format!("node_btrfs_size_bytes{{{uuid},block_group_type=\"data\",mode=\"raid5\"}} 2147483648"),
            format!("node_btrfs_allocation_ratio{{{uuid},block_group_type=\"data\",mode=\"raid5\"}} 1.5"),
            format!("node_btrfs_device_size_bytes{{{uuid},device=\"loop25\"}} 10737418240"),
            format!("node_btrfs_device_size_bytes{{{uuid},device=\"loop26\"}} 10737418240"),
            format!("node_btrfs_commits_total{{{uuid}}} 258051"),
            format!("node_btrfs_last_commit_seconds{{{uuid}}} 1.5"),
            format!("node_btrfs_max_commit_seconds{{{uuid}}} 51.462"),
        ];
        for _ in 0..2 {
            assert_eq!(fixture.samples().unwrap(), expected);
        }
        assert_eq!(Fixture::new(&ENTRY, &[]).page().unwrap(), "");
    }
}
