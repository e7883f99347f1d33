//! `/sys/fs/xfs/*/stats/stats` → what each XFS filesystem did.

use std::path::PathBuf;

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::devices::Devices;
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::names;
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "xfs",
    about: "What XFS filesystems did",
    by_default: true,
    new: |host, _: &Filters| Box::new(Xfs { folder: host.roots().sysfs.join("fs/xfs"), devices: Devices::new() }),
};

const MOST: usize = 4096;

/// First word of a line, and the families of the counts behind it, as far as they are shown.
const LINES: [(&str, &[&str]); 8] = [
    (
        "extent_alloc",
        &[
            "node_xfs_extent_allocation_extents_allocated_total",
            "node_xfs_extent_allocation_blocks_allocated_total",
            "node_xfs_extent_allocation_extents_freed_total",
            "node_xfs_extent_allocation_blocks_freed_total",
        ],
    ),
    (
        "abt",
        &[
            "node_xfs_allocation_btree_lookups_total",
            "node_xfs_allocation_btree_compares_total",
            "node_xfs_allocation_btree_records_inserted_total",
            "node_xfs_allocation_btree_records_deleted_total",
        ],
    ),
    (
        "blk_map",
        &[
            "node_xfs_block_mapping_reads_total",
            "node_xfs_block_mapping_writes_total",
            "node_xfs_block_mapping_unmaps_total",
            "node_xfs_block_mapping_extent_list_insertions_total",
            "node_xfs_block_mapping_extent_list_deletions_total",
            "node_xfs_block_mapping_extent_list_lookups_total",
            "node_xfs_block_mapping_extent_list_compares_total",
        ],
    ),
    (
        "bmbt",
        &[
            "node_xfs_block_map_btree_lookups_total",
            "node_xfs_block_map_btree_compares_total",
            "node_xfs_block_map_btree_records_inserted_total",
            "node_xfs_block_map_btree_records_deleted_total",
        ],
    ),
    (
        "dir",
        &[
            "node_xfs_directory_operation_lookup_total",
            "node_xfs_directory_operation_create_total",
            "node_xfs_directory_operation_remove_total",
            "node_xfs_directory_operation_getdents_total",
        ],
    ),
    (
        "ig",
        &[
            "node_xfs_inode_operation_attempts_total",
            "node_xfs_inode_operation_found_total",
            "node_xfs_inode_operation_recycled_total",
            "node_xfs_inode_operation_missed_total",
            "node_xfs_inode_operation_duplicates_total",
            "node_xfs_inode_operation_reclaims_total",
            "node_xfs_inode_operation_attribute_changes_total",
        ],
    ),
    ("rw", &["node_xfs_write_calls_total", "node_xfs_read_calls_total"]),
    (
        "vnodes",
        &[
            "node_xfs_vnode_active_total",
            "node_xfs_vnode_allocate_total",
            "node_xfs_vnode_get_total",
            "node_xfs_vnode_hold_total",
            "node_xfs_vnode_release_total",
            "node_xfs_vnode_reclaim_total",
            "node_xfs_vnode_remove_total",
        ],
    ),
];
/// All families.
const FAMILIES: usize = 39;

#[derive(Debug)]
struct Xfs {
    folder: PathBuf,
    /// `None` for what is no filesystem.
    devices: Devices<Option<Device>>,
}

#[derive(Debug)]
struct Device {
    labels: Labels,
    file: KeptFile,
    counts: [Option<u64>; FAMILIES],
}

impl Collector for Xfs {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let Self { folder, devices } = self;
        // A kernel that has the filesystem has a folder with the sums over all, which node_exporter does not show.
        let list = match names(folder, MOST, |name| name != "stats") {
            Ok(list) => list,
            Err(CollectError::NoData(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        devices.begin();
        for name in &list {
            let device = devices.entry(name.as_bytes(), |name| {
                let folder = folder.join(name);
                folder.is_dir().then(|| Device {
                    labels: Labels::new(&[("device", name)]),
                    file: KeptFile::new(folder.join("stats/stats"), Shape::Whole),
                    counts: [None; FAMILIES],
                })
            });
            if let Some(device) = device {
                // It may be unmounted meanwhile.
                device.counts = host.read_alone(&mut device.file).map_or([None; FAMILIES], parse);
            }
        }
        devices.finish();
        for (at, name) in LINES.iter().flat_map(|(_, families)| families.iter()).enumerate() {
            let mut family =
                Family::counter(name, "What the filesystem did, as the kernel's xfs(5) statistics count it.");
            for device in devices.iter().flatten() {
                if let Some(count) = device.counts[at] {
                    family.labelled(page, &device.labels, Number::Integer(count));
                }
            }
        }
        Ok(())
    }
}

/// Returns the counts in the order of the families; `None` for one that is not there or no number.
fn parse(content: &[u8]) -> [Option<u64>; FAMILIES] {
    let mut counts = [None; FAMILIES];
    for line in lines(content) {
        let mut words = words(line);
        let first = words.next().unwrap_or_default();
        let mut at = 0;
        for (key, families) in LINES {
            if key.as_bytes() == first {
                for (count, word) in counts[at..at + families.len()].iter_mut().zip(words) {
                    *count = integer(word);
                }
                break;
            }
            at += families.len();
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const STATS: &str = "extent_alloc 92447 97589 92448 93751\nabt 0 0 0 0\nblk_map 1767055 188820 184891 92447 92448 2140766 0\n\
                         trans 706 944304 0\nrw 107739 94045\nvnodes 4 0 0 0 1 2 3 9\n";

    #[test]
    fn counts_are_written_by_filesystem() {
        assert_eq!(LINES.iter().map(|(_, families)| families.len()).sum::<usize>(), FAMILIES);
        let mut fixture =
            Fixture::new(&ENTRY, &[("sys/fs/xfs/sda1/stats/stats", STATS), ("sys/fs/xfs/stats/stats", STATS)]);
        for _ in 0..2 {
            let samples = fixture.samples().unwrap();
            for sample in [
                "node_xfs_extent_allocation_extents_freed_total{device=\"sda1\"} 92448",
                "node_xfs_block_mapping_extent_list_lookups_total{device=\"sda1\"} 2140766",
                "node_xfs_write_calls_total{device=\"sda1\"} 107739",
                "node_xfs_read_calls_total{device=\"sda1\"} 94045",
                "node_xfs_vnode_remove_total{device=\"sda1\"} 3",
            ] {
                assert!(samples.iter().any(|line| line == sample), "{sample} in {samples:#?}");
            }
            assert_eq!(samples.len(), 4 + 4 + 7 + 2 + 7);
        }
        assert_eq!(Fixture::new(&ENTRY, &[]).page().unwrap(), "");
    }

    proptest! {
        #[test]
        fn any_content_is_read(content: Vec<u8>, text in "((rw|vnodes|ig) [0-9x ]{0,40}\n)*") {
            let _ = (parse(&content), parse(text.as_bytes()));
        }
    }
}
