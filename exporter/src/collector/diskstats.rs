//! `/proc/diskstats` → `node_disk_*` per block device, with what udev knows of it.

mod udev;

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use self::udev::Udev;
use super::devices::Devices;
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::filter::Filter;
use crate::host::{Host, ProcFile, Shape};
use crate::parse::{Malformed, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "diskstats",
    about: "Reads, writes and their time per block device",
    by_default: true,
    new: |host, filters: &Filters| {
        Box::new(Diskstats {
            diskstats: host.proc_file("diskstats", Shape::Records { longest: LONGEST_LINE }),
            filter: filters.disks.clone(),
            disks: Devices::new(),
            scrapes: 0,
        })
    },
};

/// Two numbers, a name of 31 bytes, and 17 counts of at most 20 digits.
const LONGEST_LINE: usize = 512;

/// udev's files are read again every so many scrapes, which at the usual 15 s is every five minutes: they change only when
/// udev learns of a device late, and reading them costs as much as everything else here.
const UDEV_EVERY: u32 = 20;

/// What a column counts.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Count,
    /// 512 bytes whatever the device, as the kernel documents; exported as bytes.
    Sectors,
    /// Exported as seconds.
    Milliseconds,
}

/// Columns of `/proc/diskstats` after the name, as Documentation/admin-guide/iostats.rst of the kernel has them. Kernels
/// before 4.18 end after the eleventh, before 5.5 after the fifteenth.
const FAMILIES: [(&str, &str, Kind, Unit); 17] = [
    ("node_disk_reads_completed_total", "Reads completed.", Kind::Counter, Unit::Count),
    ("node_disk_reads_merged_total", "Reads merged with an adjacent one.", Kind::Counter, Unit::Count),
    ("node_disk_read_bytes_total", "Bytes read.", Kind::Counter, Unit::Sectors),
    ("node_disk_read_time_seconds_total", "Seconds spent by all reads.", Kind::Counter, Unit::Milliseconds),
    ("node_disk_writes_completed_total", "Writes completed.", Kind::Counter, Unit::Count),
    ("node_disk_writes_merged_total", "Writes merged with an adjacent one.", Kind::Counter, Unit::Count),
    ("node_disk_written_bytes_total", "Bytes written.", Kind::Counter, Unit::Sectors),
    ("node_disk_write_time_seconds_total", "Seconds spent by all writes.", Kind::Counter, Unit::Milliseconds),
    ("node_disk_io_now", "Requests in flight.", Kind::Gauge, Unit::Count),
    (
        "node_disk_io_time_seconds_total",
        "Seconds with at least one request in flight.",
        Kind::Counter,
        Unit::Milliseconds,
    ),
    (
        "node_disk_io_time_weighted_seconds_total",
        "Seconds with requests in flight, times their number.",
        Kind::Counter,
        Unit::Milliseconds,
    ),
    ("node_disk_discards_completed_total", "Discards completed.", Kind::Counter, Unit::Count),
    ("node_disk_discards_merged_total", "Discards merged with an adjacent one.", Kind::Counter, Unit::Count),
    ("node_disk_discarded_sectors_total", "Sectors discarded.", Kind::Counter, Unit::Count),
    ("node_disk_discard_time_seconds_total", "Seconds spent by all discards.", Kind::Counter, Unit::Milliseconds),
    ("node_disk_flush_requests_total", "Flush requests completed.", Kind::Counter, Unit::Count),
    (
        "node_disk_flush_requests_time_seconds_total",
        "Seconds spent by all flush requests.",
        Kind::Counter,
        Unit::Milliseconds,
    ),
];

#[derive(Debug)]
struct Diskstats {
    diskstats: ProcFile,
    filter: Filter,
    /// `None` for a device that the filter leaves out.
    disks: Devices<Option<Disk>>,
    scrapes: u32,
}

#[derive(Debug)]
struct Disk {
    labels: Labels,
    name: String,
    row: Row,
    udev: Option<Udev>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    major: u64,
    minor: u64,
    values: [u64; FAMILIES.len()],
    columns: usize,
}

impl Collector for Diskstats {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let Self { diskstats, filter, disks, scrapes } = self;
        disks.begin();
        for line in lines(host.read(*diskstats)?) {
            let (name, row) = parse(line)?;
            let disk = disks.entry(name, |name| {
                let labels = Labels::new(&[("device", name)]);
                filter.accepts(name).then(|| Disk { labels, name: name.to_owned(), row, udev: None })
            });
            if let Some(disk) = disk {
                if (disk.row.major, disk.row.minor) != (row.major, row.minor) {
                    disk.udev = None;
                }
                disk.row = row;
            }
        }
        disks.finish();
        let read_again = scrapes.is_multiple_of(UDEV_EVERY);
        *scrapes = scrapes.wrapping_add(1);
        for disk in disks.iter_mut().flatten() {
            if disk.udev.is_none() || read_again {
                disk.udev = Some(Udev::read(host, &disk.name, disk.row.major, disk.row.minor));
            }
        }

        for (column, (name, help, kind, unit)) in FAMILIES.into_iter().enumerate() {
            let mut disks = disks.iter().flatten().filter(|disk| column < disk.row.columns).peekable();
            if disks.peek().is_some() {
                page.family(name, help, kind);
            }
            for disk in disks {
                page.labelled(name, &disk.labels, number(disk.row.values[column], unit));
            }
        }
        let known: Vec<&Udev> = disks.iter().flatten().filter_map(|disk| disk.udev.as_ref()).collect();
        udev::write(&known, page);
        Ok(())
    }
}

fn number(value: u64, unit: Unit) -> Number {
    match unit {
        Unit::Count => Number::Integer(value),
        Unit::Sectors => value.checked_mul(512).map_or(Number::Float(value as f64 * 512.0), Number::Integer),
        Unit::Milliseconds => Number::Decimal { digits: value, places: 3 },
    }
}

/// Returns the name of a device and its row. Columns that later kernels may add are not read.
fn parse(line: &[u8]) -> Result<(&[u8], Row), Malformed> {
    let fail = || Malformed::new("a device with at least 11 counts in /proc/diskstats", line);
    let mut words = words(line);
    let major = words.next().and_then(integer).ok_or_else(fail)?;
    let minor = words.next().and_then(integer).ok_or_else(fail)?;
    let name = words.next().ok_or_else(fail)?;
    let mut row = Row { major, minor, values: [0; FAMILIES.len()], columns: 0 };
    for (value, word) in row.values.iter_mut().zip(words) {
        *value = integer(word).ok_or_else(fail)?;
        row.columns += 1;
    }
    if row.columns < 11 {
        return Err(fail());
    }
    Ok((name, row))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const DISKSTATS: &str = "   7       0 loop0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 77655 11881 8375890 61574 24426 49420 9188232 86090 2 14584 151534 8727 61 2712160 2022 2563 1847
   8       1 sda1 1 2 3 4 5 6 7 8 9 10 11
   8       0 sda 1 2 3 4 5 6 7 8 9 10 11
 259       1 nvme0n1p1 1 2 3 4 5 6 7 8 9 10 11
";

    #[test]
    fn counts_bytes_and_seconds_are_written() {
        let samples = Fixture::new(&ENTRY, &[("proc/diskstats", DISKSTATS)]).samples().unwrap();
        for sample in [
            "node_disk_reads_completed_total{device=\"vda\"} 77655",
            "node_disk_read_bytes_total{device=\"vda\"} 4288455680",
            "node_disk_read_time_seconds_total{device=\"vda\"} 61.574",
            "node_disk_io_now{device=\"vda\"} 2",
            "node_disk_io_time_seconds_total{device=\"vda\"} 14.584",
            "node_disk_io_time_weighted_seconds_total{device=\"vda\"} 151.534",
            "node_disk_discarded_sectors_total{device=\"vda\"} 2712160",
            "node_disk_flush_requests_time_seconds_total{device=\"vda\"} 1.847",
            "node_disk_written_bytes_total{device=\"sda\"} 3584",
            "node_disk_info{device=\"sda\",major=\"8\",minor=\"0\"} 1",
        ] {
            assert!(samples.iter().any(|line| line == sample), "{sample} in {samples:#?}");
        }
        // Partitions and loops are left out; the old kernel's row of sda ends after eleven columns.
        assert_eq!(samples.len(), 17 + 11 + 2, "{samples:#?}");
    }

    #[test]
    fn udev_describes_a_device() {
        let udev = "S:disk/by-id/x\nE:ID_MODEL=Fast\nE:ID_SERIAL_SHORT=S1\nE:ID_SERIAL=long_S1\nE:ID_WWN=0x5\nE:ID_PATH=pci-1\n\
                    E:ID_REVISION=2\nE:ID_FS_TYPE=ext4\nE:ID_FS_USAGE=filesystem\nE:ID_FS_UUID=u\nE:ID_FS_VERSION=1.0\n\
                    E:DM_NAME=vg-lv\nE:DM_UUID=LVM-1\nE:DM_VG_NAME=vg\nE:DM_LV_NAME=lv\nE:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=1\n\
                    E:ID_ATA_ROTATION_RATE_RPM=7200\n";
        let files = [("proc/diskstats", DISKSTATS), ("udev/b8:0", udev), ("sys/block/sda/queue/rotational", "1\n")];
        let samples = Fixture::new(&ENTRY, &files).samples().unwrap();
        for sample in [
            "node_disk_info{device=\"sda\",major=\"8\",minor=\"0\",path=\"pci-1\",wwn=\"0x5\",model=\"Fast\",serial=\"S1\",\
             revision=\"2\",rotational=\"1\"} 1",
            "node_disk_filesystem_info{device=\"sda\",type=\"ext4\",usage=\"filesystem\",uuid=\"u\",version=\"1.0\"} 1",
            "node_disk_device_mapper_info{device=\"sda\",name=\"vg-lv\",uuid=\"LVM-1\",vg_name=\"vg\",lv_name=\"lv\"} 1",
            "node_disk_ata_write_cache{device=\"sda\"} 1",
            "node_disk_ata_rotation_rate_rpm{device=\"sda\"} 7200",
        ] {
            assert!(samples.iter().any(|line| line == sample), "{sample} in {samples:#?}");
        }
    }

    #[test]
    fn a_device_that_vanishes_is_not_on_the_next_page() {
        let mut fixture = Fixture::new(&ENTRY, &[("proc/diskstats", DISKSTATS)]);
        fixture.samples().unwrap();
        fixture.write("proc/diskstats", "");
        assert_eq!(fixture.page().unwrap(), "");
    }

    #[test]
    fn broken_lines_are_errors() {
        for line in ["8 0 sda 1 2 3", "x 0 sda 1 2 3 4 5 6 7 8 9 10 11", "8 0 sda 1 2 3 4 5 6 7 8 9 10 x", "8 0"] {
            assert!(Fixture::new(&ENTRY, &[("proc/diskstats", line)]).samples().is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, counts in "[0-9 ]{0,90}", value: u64) {
            let _ = parse(&line);
            let _ = parse(counts.as_bytes());
            let _ = number(value, Unit::Sectors);
        }
    }
}
