//! `/proc/spl/kstat/zfs` → untyped `node_zfs_*`: caches, logs and pools of ZFS.

use std::path::PathBuf;

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::names;
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, Scale, integer, lines, scaled, words};

pub(super) const ENTRY: Entry = Entry {
    name: "zfs",
    about: "Caches, logs and pools of ZFS",
    by_default: true,
    new: |host, _: &Filters| {
        let folder = host.roots().procfs.join("spl/kstat/zfs");
        let file = |(_, name): &(&str, &str)| KeptFile::new(folder.join(name), SHAPE);
        Box::new(Zfs { files: FILES.iter().map(file).collect(), folder })
    },
};

/// Pools with their datasets: files that one scrape reads. Tens of thousands of datasets are known to exist.
const MOST: usize = 16_384;
/// No line is as long, but for that of a dataset's name, which is 256 bytes at most.
const SHAPE: Shape = Shape::Records { longest: 512 };

/// What the families of a file begin with, and the file.
const FILES: [(&str, &str); 11] = [
    ("abd", "abdstats"),
    ("arc", "arcstats"),
    ("dbuf", "dbufstats"),
    ("dmu_tx", "dmu_tx"),
    ("dnode", "dnodestats"),
    ("fm", "fm"),
    ("vdev_cache", "vdev_cache_stats"),
    ("vdev_mirror", "vdev_mirror_stats"),
    ("xuio", "xuio_stats"),
    ("zfetch", "zfetchstats"),
    ("zil", "zil"),
];
const STATES: [&str; 7] = ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];

#[derive(Debug)]
struct Zfs {
    folder: PathBuf,
    files: Vec<KeptFile>,
}

/// Families in the order in which they are first seen, each with its samples.
#[derive(Debug, Default)]
struct Found(Vec<(String, Kind, Samples)>);

type Samples = Vec<(Labels, Number)>;

impl Found {
    fn push(&mut self, name: &str, kind: Kind, labels: &[(&str, &str)], value: Number) {
        let at = self.0.iter().position(|(known, ..)| known == name).unwrap_or_else(|| {
            self.0.push((name.to_owned(), kind, Vec::new()));
            self.0.len() - 1
        });
        self.0[at].2.push((Labels::new(labels), value));
    }

    fn write(&self, help: &str, page: &mut Page<'_>) {
        for (name, kind, samples) in &self.0 {
            let mut family = Family::new(name, help, *kind);
            for (labels, value) in samples {
                family.labelled(page, labels, *value);
            }
        }
    }
}

impl Collector for Zfs {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let list = names(&self.folder, MOST, |_| true)?;
        for ((prefix, name), file) in FILES.iter().zip(&mut self.files) {
            // Files came with versions of ZFS, and went.
            if !list.iter().any(|known| known == name) {
                continue;
            }
            let content = host.read_alone(file)?;
            let Some(values) = values(content) else { return Err(Malformed::new("a table of kstat", content).into()) };
            for (key, value) in values {
                let family = format!("node_zfs_{prefix}_{}", key.replace('-', "_"));
                let help = format!("{key} of ZFS' {name}.");
                Family::new(&family, &help, Kind::Untyped).single(page, value);
            }
        }
        let (mut pools, mut datasets) = (Found::default(), Found::default());
        let mut left = MOST;
        for pool in list.iter().filter(|name| FILES.iter().all(|(_, file)| file != name)) {
            let folder = self.folder.join(pool);
            // What is no folder is no pool.
            let is_wanted = |name: &str| name == "io" || name == "state" || name.starts_with("objset-");
            let Ok(files) = names(&folder, left, is_wanted) else { continue };
            left -= files.len();
            for name in files {
                // A pool may be exported meanwhile.
                let Ok(content) = host.read_alone(&mut KeptFile::new(folder.join(&name), SHAPE)) else { continue };
                match name.as_str() {
                    "io" => read_io(content, pool, &mut pools),
                    "state" => read_state(content, pool, &mut pools),
                    _ => read_dataset(content, pool, &mut datasets),
                }
            }
        }
        pools.write("Of the pool, as ZFS counts it.", page);
        datasets.write("Of the dataset, as ZFS counts it.", page);
        Ok(())
    }
}

/// Returns the numbers below the heading; `None` without a heading.
fn values(content: &[u8]) -> Option<impl Iterator<Item = (&str, Number)>> {
    let mut rest = lines(content);
    rest.find(|line| words(line).eq([&b"name"[..], b"type", b"data"]))?;
    Some(rest.filter_map(|line| {
        let mut words = words(line);
        let (name, kind, value) = (words.next()?, words.next()?, words.next()?);
        // KSTAT_DATA_INT64 and KSTAT_DATA_UINT64; all others are text.
        let value = match kind {
            b"3" => scaled(value, Scale::WHOLE)?,
            b"4" => Number::Integer(integer(value)?),
            _ => return None,
        };
        Some((std::str::from_utf8(name).ok()?, value))
    }))
}

/// A line of names, and one of numbers.
fn read_io(content: &[u8], pool: &str, found: &mut Found) {
    let mut rest = lines(content);
    let Some(heading) = rest.find(|line| words(line).next() == Some(b"nread")) else { return };
    for (name, value) in words(heading).zip(rest.flat_map(words)) {
        if let Some(value) = integer(value) {
            let name = format!("node_zfs_zpool_{}", String::from_utf8_lossy(name).replace('-', "_"));
            found.push(&name, Kind::Untyped, &[("zpool", pool)], Number::Integer(value));
        }
    }
}

fn read_state(content: &[u8], pool: &str, found: &mut Found) {
    let actual = content.trim_ascii();
    for state in STATES {
        let is_actual = Number::Integer(actual.eq_ignore_ascii_case(state.as_bytes()).into());
        found.push("node_zfs_zpool_state", Kind::Gauge, &[("zpool", pool), ("state", state)], is_actual);
    }
}

fn read_dataset(content: &[u8], pool: &str, found: &mut Found) {
    let name = lines(content).find_map(|line| {
        let rest = line.strip_prefix(b"dataset_name")?.trim_ascii_start();
        // The type, and then a name that may have spaces.
        Some(String::from_utf8_lossy(rest.strip_prefix(b"7")?.trim_ascii()))
    });
    let (Some(dataset), Some(values)) = (name, values(content)) else { return };
    for (key, value) in values {
        let name = format!("node_zfs_zpool_dataset_{}", key.replace('-', "_"));
        found.push(&name, Kind::Untyped, &[("zpool", pool), ("dataset", &dataset)], value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const ARC: &str =
        "6 1 0x01 91 4368 5266997922 97951858082072\nname type data\nhits 4 8772612\nmemory 3 -92\nx 7 y\n";
    const OBJSET: &str = "23 1 0x01 7 2160 2215 66\nname type data\ndataset_name 7 tank/my data\nwrites 4 3\n";

    #[test]
    fn tables_pools_and_datasets_are_shown() {
        let files = [
            ("proc/spl/kstat/zfs/arcstats", ARC),
            ("proc/spl/kstat/zfs/fm", "0 1\nname type data\nerpt-dropped 4 18\n"),
            ("proc/spl/kstat/zfs/tank/io", "12 3 0x00 1 80\nnread nwritten reads\n1884160 3206144 22\n"),
            ("proc/spl/kstat/zfs/tank/state", "DEGRADED\n"),
            ("proc/spl/kstat/zfs/tank/objset-0x36", OBJSET),
            ("proc/spl/kstat/zfs/tank/txgs", "x\n"),
            ("proc/spl/kstat/zfs/dbgmsg", "x\n"),
        ];
        let samples = Fixture::new(&ENTRY, &files).samples().unwrap();
        let expected = [
            "node_zfs_arc_hits 8772612",
            "node_zfs_arc_memory -92",
            "node_zfs_fm_erpt_dropped 18",
            "node_zfs_zpool_nread{zpool=\"tank\"} 1884160",
            "node_zfs_zpool_nwritten{zpool=\"tank\"} 3206144",
            "node_zfs_zpool_reads{zpool=\"tank\"} 22",
            "node_zfs_zpool_state{zpool=\"tank\",state=\"online\"} 0",
            "node_zfs_zpool_state{zpool=\"tank\",state=\"degraded\"} 1",
        ];
        assert_eq!(samples[..expected.len()], expected);
        let last = "node_zfs_zpool_dataset_writes{zpool=\"tank\",dataset=\"tank/my data\"} 3";
        assert_eq!((samples.len(), samples.last().map(String::as_str)), (expected.len() + 5 + 1, Some(last)));
    }

    #[test]
    fn a_machine_without_it_has_no_data_and_a_broken_table_is_an_error() {
        assert!(matches!(Fixture::new(&ENTRY, &[]).page(), Err(CollectError::NoData(_))));
        let mut broken = Fixture::new(&ENTRY, &[("proc/spl/kstat/zfs/zil", "nothing\n")]);
        assert!(matches!(broken.page(), Err(CollectError::Content(_))));
    }

    proptest! {
        #[test]
        fn any_content_is_read(content: Vec<u8>, text in "(name type data\n|nread [a-z 0-9]{0,20}\n|dataset_name 7 x\n|a [347] [0-9-]{0,20}\n)*") {
            for content in [&content[..], text.as_bytes()] {
                let _ = values(content).map(Iterator::count);
                let mut found = Found::default();
                read_io(content, "p", &mut found);
                read_state(content, "p", &mut found);
                read_dataset(content, "p", &mut found);
            }
        }
    }
}
