//! `/proc/mdstat` → state and disks of software RAIDs.

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "mdadm",
    about: "State and disks of software RAIDs",
    by_default: true,
    new: |host, _: &Filters| {
        // A RAID is one record, with all its disks.
        let file = host.own_proc_file("mdstat", Shape::Records { longest: usize::MAX >> 1 });
        Box::new(Mdadm { file })
    },
};

const MOST: usize = 1024;
/// What a RAID can be doing, as a label says it and as [`Raid::activity`] does.
const STATES: [(&str, &str); 5] = [
    ("active", "active"),
    ("inactive", "inactive"),
    ("recovering", "recovering"),
    ("resync", "resyncing"),
    ("check", "checking"),
];

#[derive(Debug)]
struct Mdadm {
    file: KeptFile,
}

#[derive(Debug, PartialEq, Eq)]
struct Raid {
    name: String,
    activity: String,
    /// Disks that work, that failed, that wait to take the place of another, and that there must be.
    active: u64,
    failed: u64,
    spare: u64,
    required: u64,
    /// In KiB.
    blocks: u64,
    synced: u64,
}

impl Collector for Mdadm {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let raids = parse(host.read_alone(&mut self.file)?)?;
        let mut family = |name: &str, help: &str, value: fn(&Raid) -> u64| {
            let mut family = Family::gauge(name, help);
            for raid in &raids {
                family.labelled(page, &Labels::new(&[("device", &raid.name)]), Number::Integer(value(raid)));
            }
        };
        family("node_md_blocks", "KiB of the RAID.", |raid| raid.blocks);
        family("node_md_blocks_synced", "KiB of the RAID that are in order on all disks.", |raid| raid.synced);
        family("node_md_disks_required", "Disks that the RAID must have.", |raid| raid.required);
        let mut family = Family::gauge("node_md_disks", "Disks of the RAID that work, failed, or are spare.");
        for raid in &raids {
            for (state, disks) in [("active", raid.active), ("failed", raid.failed), ("spare", raid.spare)] {
                family.labelled(
                    page,
                    &Labels::new(&[("device", &raid.name), ("state", state)]),
                    Number::Integer(disks),
                );
            }
        }
        let mut family = Family::gauge("node_md_state", "1 for what the RAID does, 0 for all else.");
        for raid in &raids {
            for (state, activity) in STATES {
                let labels = Labels::new(&[("device", &raid.name), ("state", state)]);
                family.labelled(page, &labels, Number::Integer((raid.activity == activity).into()));
            }
        }
        Ok(())
    }
}

fn parse(content: &[u8]) -> Result<Vec<Raid>, Malformed> {
    let mut raids = Vec::new();
    let mut lines = lines(content).peekable();
    while let Some(line) = lines.next() {
        let is_raid = line.first().is_some_and(|first| !first.is_ascii_whitespace());
        if !is_raid || line.starts_with(b"Personalities") || line.starts_with(b"unused") || raids.len() == MOST {
            continue;
        }
        let status = lines.next().unwrap_or_default();
        let mut details = Vec::new();
        while let Some(detail) = lines.next_if(|line| line.first().is_some_and(u8::is_ascii_whitespace)) {
            details.push(detail);
        }
        raids.push(raid(line, status, &details)?);
    }
    Ok(raids)
}

fn raid(line: &[u8], status: &[u8], details: &[&[u8]]) -> Result<Raid, Malformed> {
    let fail = || Malformed::new("a RAID in /proc/mdstat", line);
    let mut parts = words(line);
    let (name, _, activity) = (parts.next(), parts.next(), parts.next());
    let (name, activity) = name.zip(activity).ok_or_else(fail)?;
    let count = |wanted: &[u8]| words(line).filter(|word| word.ends_with(wanted)).count() as u64;
    let blocks = words(status).next().and_then(integer).ok_or_else(|| Malformed::new("blocks of a RAID", status))?;
    let has = |wanted: &[u8]| words(line).any(|word| word == wanted);
    let (required, active) = if has(b"raid0") || has(b"linear") {
        let disks = words(line).filter(|word| word.contains(&b'[')).count() as u64;
        (disks, disks)
    } else if has(b"inactive") {
        (0, 0)
    } else {
        // [required/active] [UU_]
        words(status).find_map(disks).ok_or_else(|| Malformed::new("disks of a RAID", status))?
    };
    let mut raid = Raid {
        name: String::from_utf8_lossy(name).into_owned(),
        activity: String::from_utf8_lossy(activity).into_owned(),
        active,
        failed: count(b"(F)"),
        spare: count(b"(S)"),
        required,
        blocks,
        synced: blocks,
    };
    for detail in details {
        let text = String::from_utf8_lossy(detail);
        let doing =
            [("recovery", "recovering"), ("reshape", "reshaping"), ("check", "checking"), ("resync", "resyncing")];
        let Some((_, activity)) = doing.into_iter().find(|(word, _)| text.contains(word)) else { continue };
        activity.clone_into(&mut raid.activity);
        raid.synced = if text.contains("PENDING") || text.contains("DELAYED") {
            0
        } else {
            // (synced/all)
            let synced = words(detail).find_map(|word| word.strip_prefix(b"("));
            let synced = synced.and_then(|word| word.split(|byte| *byte == b'/').next()).and_then(integer);
            synced.ok_or_else(|| Malformed::new("progress of a RAID", detail))?
        };
        break;
    }
    Ok(raid)
}

/// Returns the two counts of `[required/active]`.
fn disks(word: &[u8]) -> Option<(u64, u64)> {
    let inner = word.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let slash = memchr::memchr(b'/', inner)?;
    Some((integer(&inner[..slash])?, integer(&inner[slash + 1..])?))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const MDSTAT: &str = "Personalities : [linear] [raid0] [raid1] [raid6] [raid5] [raid10]
md3 : active raid6 sda1[8] sdh1[7] sdd1[3] sdd2[9](F)
      5853468288 blocks super 1.2 level 6, 64k chunk, algorithm 2 [8/7] [UUUUUUU_]

md127 : active raid1 sdi2[0] sdj2[1]
      312319552 blocks [2/2] [UU]
      bitmap: 0/3 pages [0KB], 65536KB chunk

md0 : active raid1 sdi1[0] sdj1[1](S)
      248896 blocks [2/1] [U_]
      [=>...................]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec

md9 : active (auto-read-only) raid1 sdc1[1] sdd1[2]
      2095104 blocks super 1.2 [2/2] [UU]
      \tresync=PENDING

md4 : inactive raid1 sda3[0](F) sdb3[1](S)
      4883648 blocks

md6 : active raid0 sdb2[2] sda2[0]
      3186688 blocks super 1.2 512k chunks

unused devices: <none>
";

    #[test]
    fn every_kind_of_raid_is_read() {
        let raid = |name: &str, activity: &str, [active, failed, spare, required, blocks, synced]: [u64; 6]| Raid {
            name: name.to_owned(),
            activity: activity.to_owned(),
            active,
            failed,
            spare,
            required,
            blocks,
            synced,
        };
        assert_eq!(
            parse(MDSTAT.as_bytes()).unwrap(),
            [
                raid("md3", "active", [7, 1, 0, 8, 5_853_468_288, 5_853_468_288]),
                raid("md127", "active", [2, 0, 0, 2, 312_319_552, 312_319_552]),
                raid("md0", "recovering", [1, 0, 1, 2, 248_896, 16_775_552]),
                raid("md9", "resyncing", [2, 0, 0, 2, 2_095_104, 0]),
                raid("md4", "inactive", [0, 1, 1, 0, 4_883_648, 4_883_648]),
                raid("md6", "active", [2, 0, 0, 2, 3_186_688, 3_186_688]),
            ]
        );
    }

    #[test]
    fn families_are_those_of_node_exporter() {
        let samples = Fixture::new(&ENTRY, &[("proc/mdstat", MDSTAT)]).samples().unwrap();
        for sample in [
            "node_md_disks{device=\"md3\",state=\"failed\"} 1",
            "node_md_disks_required{device=\"md3\"} 8",
            "node_md_blocks_synced{device=\"md0\"} 16775552",
            "node_md_state{device=\"md0\",state=\"recovering\"} 1",
            "node_md_state{device=\"md0\",state=\"active\"} 0",
            "node_md_state{device=\"md9\",state=\"resync\"} 1",
        ] {
            assert!(samples.iter().any(|line| line == sample), "{sample} in {samples:#?}");
        }
        assert_eq!(samples.len(), 6 * 11);
        let none = "Personalities :\nunused devices: <none>\n";
        assert_eq!(Fixture::new(&ENTRY, &[("proc/mdstat", none)]).page().unwrap(), "");
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
    }

    #[test]
    fn broken_raids_are_errors() {
        for content in ["md0 :\n 1 blocks\n", "md0 : active raid1 a[0]\n", "md0 : active raid1 a[0]\n 5 blocks [x/2]\n"]
        {
            assert!(parse(content.as_bytes()).is_err(), "{content}");
        }
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(content: Vec<u8>, text in "(md[0-9] : active raid1 \\PC{0,20}\n( [0-9]* \\PC{0,20}\n)*)*") {
            let _ = (parse(&content), parse(text.as_bytes()));
        }
    }
}
