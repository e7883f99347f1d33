//! `/sys/fs/bcache/<uuid>` → `node_bcache_*`: disks that are a cache for others.

use std::path::{Path, PathBuf};

use cloudpulse_common::exposition::Kind::{Counter, Gauge};
use cloudpulse_common::exposition::{Number, Page};

use super::class::numbered;
use super::family::{Described, Gathered};
use super::{CollectError, Collector, Entry};
use crate::attributes::{Attributes, LONGEST, names, uuids};
use crate::config::Filters;
use crate::host::Host;
use crate::parse::lines;

pub(super) const ENTRY: Entry = Entry {
    name: "bcache",
    about: "Disks that are a cache for others",
    by_default: true,
    new: |host, _: &Filters| Box::new(Bcache { folder: host.roots().sysfs.join("fs/bcache") }),
};

/// Sets of caches, and devices of each.
const MOST: usize = 256;

#[rustfmt::skip]
const FAMILIES: [Described; 26] = [
    ("node_bcache_average_key_size_sectors", "Average data per key of the index.", Gauge),
    ("node_bcache_btree_cache_size_bytes", "Memory that caches the index.", Gauge),
    ("node_bcache_cache_available_percent", "Percentage of the cache without data that is still to be written.", Gauge),
    ("node_bcache_congested", "How congested the cache is.", Gauge),
    ("node_bcache_root_usage_percent", "Percentage of the index' root that is in use.", Gauge),
    ("node_bcache_tree_depth", "Depth of the index.", Gauge),
    ("node_bcache_active_journal_entries", "Entries of the journal that the index does not have yet.", Gauge),
    ("node_bcache_btree_nodes", "Nodes of the index.", Gauge),
    ("node_bcache_btree_read_average_duration_seconds", "Average time that reading a node took.", Gauge),
    ("node_bcache_cache_read_races_total", "Reads whose data was replaced meanwhile.", Counter),
    ("node_bcache_dirty_target_bytes", "How much data may wait to be written to the disk behind.", Gauge),
    ("node_bcache_writeback_rate", "Bytes a second that are written back.", Gauge),
    ("node_bcache_writeback_rate_proportional_term", "Part of it that follows the distance from the target.", Gauge),
    ("node_bcache_writeback_rate_integral_term", "Part of it that follows that distance's sum.", Gauge),
    ("node_bcache_writeback_change", "Last change of it.", Gauge),
    ("node_bcache_dirty_data_bytes", "Data that is still to be written to the disk behind.", Gauge),
    ("node_bcache_bypassed_bytes_total", "Data that went past the cache.", Counter),
    ("node_bcache_cache_hits_total", "Requests that the cache had.", Counter),
    ("node_bcache_cache_misses_total", "Requests that the cache did not have.", Counter),
    ("node_bcache_cache_bypass_hits_total", "Requests past the cache that it had.", Counter),
    ("node_bcache_cache_bypass_misses_total", "Requests past the cache that it did not have.", Counter),
    ("node_bcache_cache_miss_collisions_total", "Data that came into the cache by another way meanwhile.", Counter),
    ("node_bcache_cache_readaheads_total", "Reads ahead.", Counter),
    ("node_bcache_io_errors", "Errors of the cache, of which old ones fade.", Gauge),
    ("node_bcache_metadata_written_bytes_total", "Bytes written to the cache that are no data.", Counter),
    ("node_bcache_written_bytes_total", "Bytes of data written to the cache.", Counter),
];
/// Files of a set, in the order of the first families.
const SET: [&str; 10] = [
    "average_key_size",
    "btree_cache_size",
    "cache_available_percent",
    "congested",
    "root_usage_percent",
    "tree_depth",
    "internal/active_journal_entries",
    "internal/btree_nodes",
    "internal/btree_read_average_duration_us",
    "internal/cache_read_races",
];
/// The one of them that has microseconds.
const MICROSECONDS: usize = 8;
/// Lines of `writeback_rate_debug`, in the order of the families from the eleventh.
const DEBUG: [&str; 5] = ["target:", "rate:", "proportional:", "integral:", "change:"];
/// Files of a disk behind the cache, in the order of the families behind those.
const BEHIND: [&str; 8] = [
    "dirty_data",
    "stats_total/bypassed",
    "stats_total/cache_hits",
    "stats_total/cache_misses",
    "stats_total/cache_bypass_hits",
    "stats_total/cache_bypass_misses",
    "stats_total/cache_miss_collisions",
    "stats_total/cache_readaheads",
];
/// Files of a cache, in the order of the last families.
const CACHE: [&str; 3] = ["io_errors", "metadata_written", "written"];

#[derive(Debug)]
struct Bcache {
    folder: PathBuf,
}

impl Collector for Bcache {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let mut gathered = Gathered::new(&FAMILIES);
        for name in &uuids(&self.folder, MOST)? {
            gather(&self.folder.join(name), name, &mut gathered);
        }
        gathered.write(page);
        Ok(())
    }
}

/// Reads a set of caches. Nothing of it is kept open: hardly a machine has more than one.
fn gather(folder: &Path, uuid: &str, gathered: &mut Gathered) {
    let mut files = Attributes::new(folder.to_owned(), SET.len());
    let uuid = ("uuid", uuid);
    let mut buffer = [0; LONGEST];
    for (at, file) in SET.into_iter().enumerate() {
        if let Some(value) = files.read(at, file, &mut buffer).and_then(human) {
            let value = if at == MICROSECONDS { value / 1e6 } else { value };
            gathered.push(at, &[uuid], Number::Float(value));
        }
    }
    // Disks and caches are added and taken away while a set is in use.
    for name in names(folder, MOST, is_device).unwrap_or_default() {
        let is_cache = name.starts_with("cache");
        let (first, list, label) = match is_cache {
            true => (SET.len() + DEBUG.len() + BEHIND.len(), &CACHE[..], "cache_device"),
            false => (SET.len() + DEBUG.len(), &BEHIND[..], "backing_device"),
        };
        let labels = [uuid, (label, name.as_str())];
        let mut attributes = Attributes::new(folder.join(&name), list.len() + 1);
        for (at, file) in list.iter().enumerate() {
            if let Some(value) = attributes.read(at, file, &mut buffer).and_then(human) {
                // Kernels of today do not count the last of a disk, which is zero then.
                if is_cache || at + 1 < list.len() || value > 0.0 {
                    gathered.push(first + at, &labels, Number::Float(value));
                }
            }
        }
        if is_cache {
            continue;
        }
        let debug = attributes.read(list.len(), "writeback_rate_debug", &mut buffer).unwrap_or_default();
        for line in lines(debug) {
            for (at, key) in DEBUG.into_iter().enumerate() {
                let value = line.strip_prefix(key.as_bytes()).map(<[u8]>::trim_ascii);
                let value = value.map(|value| value.strip_suffix(b"/sec").unwrap_or(value)).and_then(human);
                if let Some(value) = value {
                    gathered.push(SET.len() + at, &labels, Number::Float(value));
                }
            }
        }
    }
}

fn is_device(name: &str) -> bool {
    ["bdev", "cache"].iter().any(|prefix| numbered(name, prefix).is_some())
}

/// Returns the value of a number such as `1.5M` as the kernel's bch_hprint writes it. What is behind the point there is not tenths:
/// it is a number up to 1023, divided by 100.
fn human(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let unit = text.chars().last().and_then(|last| "kMGTPEZY".find(last));
    let value = match unit {
        None => text.parse::<u64>().ok()? as f64,
        Some(unit) => {
            let (whole, rest) = text[..text.len() - 1].split_once('.').unwrap_or((&text[..text.len() - 1], "0"));
            let number = whole.parse::<u64>().ok()? as f64 + rest.parse::<u64>().ok()? as f64 / 10.24;
            (number * 1024_f64.powi(i32::try_from(unit).ok()? + 1)).trunc()
        }
    };
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        for (text, value) in [
            ("0", Some(0.0)),
            ("44.0k", Some(45_056.0)),
            ("-1M", Some(-1_048_576.0)),
            ("1.5", None),
            ("k", None),
            ("", None),
        ] {
            assert_eq!(human(text.as_bytes()), value, "{text}");
        }
        assert_eq!(human(b"1.1M"), Some((1_048_576.0 * (1.0 + 1.0 / 10.24_f64)).trunc()));
    }

    #[test]
    fn sets_disks_and_caches_are_shown() {
        let at = "sys/fs/bcache/deaddd54-c735-46d5-868e-f331c5fd7c74";
        let files = [
            (format!("{at}/tree_depth"), "0\n"),
            (format!("{at}/internal/btree_read_average_duration_us"), "1305\n"),
            (
                format!("{at}/bdev0/writeback_rate_debug"),
                "rate:\t\t1.0M/sec\ndirty:\t\t1.0G\nproportional:\t-1\nnext io:\t1ms\n",
            ),
            (format!("{at}/bdev0/dirty_data"), "20.0G\n"),
            (format!("{at}/bdev0/stats_total/cache_hits"), "546\n"),
            (format!("{at}/bdev0/stats_total/cache_readaheads"), "0\n"),
            (format!("{at}/cache0/io_errors"), "0\n"),
            (format!("{at}/cache0/written"), "9.0k\n"),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        let uuid = "uuid=\"deaddd54-c735-46d5-868e-f331c5fd7c74\"";
        let expected = [
            format!("node_bcache_tree_depth{{{uuid}}} 0"),
            format!("node_bcache_btree_read_average_duration_seconds{{{uuid}}} 0.001305"),
            format!("node_bcache_writeback_rate{{{uuid},backing_device=\"bdev0\"}} 1048576"),
            format!("node_bcache_writeback_rate_proportional_term{{{uuid},backing_device=\"bdev0\"}} -1"),
            format!("node_bcache_dirty_data_bytes{{{uuid},backing_device=\"bdev0\"}} 21474836480"),
            format!("node_bcache_cache_hits_total{{{uuid},backing_device=\"bdev0\"}} 546"),
            format!("node_bcache_io_errors{{{uuid},cache_device=\"cache0\"}} 0"),
            format!("node_bcache_written_bytes_total{{{uuid},cache_device=\"cache0\"}} 9216"),
        ];
        let mut fixture = Fixture::new(&ENTRY, &files);
        for _ in 0..2 {
            assert_eq!(fixture.samples().unwrap(), expected);
        }
        assert_eq!(Fixture::new(&ENTRY, &[]).page().unwrap(), "");
    }
}
