//! The whole page of a machine made of files, in both formats, byte by byte.
//!
//! `UPDATE_GOLDEN=1 cargo test -p cloudpulse-exporter --test golden` writes the files anew; look at their difference.
#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "support/machine.rs"]
mod machine;

use std::path::{Path, PathBuf};

use cloudpulse_common::exposition::Format;
use cloudpulse_exporter::config::{Config, Containers, Filters};
use cloudpulse_exporter::host::Roots;
use cloudpulse_exporter::scrape::Scraper;

/// What a machine of all hardware has besides, or otherwise.
const FILES: [(&str, &str); 10] = [
    (
        "proc/stat",
        "cpu  30 3 15 240 9 0 6 0 3 0\ncpu0 10 1 5 80 3 0 2 0 1 0\ncpu1 20 2 10 160 6 0 4 0 2 0\nintr 1000 1 2 3\n\
         ctxt 2000\nbtime 1700000000\nprocesses 300\nprocs_running 2\nprocs_blocked 1\nsoftirq 5 1 2\n",
    ),
    ("proc/loadavg", "0.20 0.18 1.12 1/80 11206\n"),
    ("proc/meminfo", "MemTotal:  1000 kB\nMemAvailable:  600 kB\nActive(file):  12 kB\nHugePages_Total:  3\n"),
    (
        "proc/net/dev",
        "Inter-|   Receive   |  Transmit\n face |bytes |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  \
         eth0: 100 2 0 0 0 0 0 0 200 4 0 0 0 0 0 0\n",
    ),
    ("sys/class/net/eth0/statistics/rx_nohandler", "5\n"),
    ("proc/diskstats", "   8  0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n   8  1 sda1 1 2 3 4 5 6 7 8 9 10 11\n"),
    ("proc/sys/kernel/threads-max", "1000\n"),
    ("proc/sys/kernel/pid_max", "32768\n"),
    ("proc/1/stat", "1 (init) S 0 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 3 0 12345 1 1\n"),
    ("udev/b8:0", "E:ID_MODEL=Disk \"one\"\nE:ID_SERIAL=S\\1\n"),
];

/// A container of Docker on a machine with cgroups of version 1, and one of Podman on one with version 2.
const ID: &str = "4d5e6f00112233445566778899aabbccddeeff00112233445566778899aabbcc";
const PROCESS: [(&str, &str); 3] = [
    ("proc/stat", "cpu  1\nbtime 1700000000\n"),
    ("proc/4711/stat", "4711 (a) S 1 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1\n"),
    (
        "proc/4711/net/dev",
        "\n\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
    ),
];
const VERSION_1: [(&str, &str); 15] = [
    ("cpuacct/cgroup.procs", "4711\n"),
    ("cpuacct/cpuacct.usage", "42285123\n"),
    ("cpuacct/cpuacct.stat", "user 3\nsystem 1\n"),
    ("cpu/cpu.stat", "nr_periods 40\nnr_throttled 4\nthrottled_time 1500000000\n"),
    ("cpu/cpu.cfs_quota_us", "50000\n"),
    ("cpu/cpu.cfs_period_us", "100000\n"),
    ("cpu/cpu.shares", "1024\n"),
    ("memory/memory.usage_in_bytes", "1000000\n"),
    ("memory/memory.stat", "total_cache 400000\ntotal_rss 500000\ntotal_swap 0\ntotal_inactive_file 300000\n"),
    ("memory/memory.max_usage_in_bytes", "2000000\n"),
    ("memory/memory.failcnt", "7\n"),
    ("memory/memory.limit_in_bytes", "67108864\n"),
    ("blkio/blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\n8:0 Write 8192\nTotal 12288\n"),
    ("blkio/blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\nTotal 3\n"),
    ("pids/pids.current", "3\n"),
];
const VERSION_2: [(&str, &str); 14] = [
    // A manager keeps the container's processes in a group below its own.
    ("cgroup.procs", ""),
    (
        "cpu.stat",
        "usage_usec 42285\nuser_usec 30000\nsystem_usec 12285\nnr_periods 40\nnr_throttled 4\nthrottled_usec 1500000\n",
    ),
    ("cpu.max", "50000 100000\n"),
    ("cpu.weight", "39\n"),
    ("memory.current", "1000000\n"),
    ("memory.stat", "anon 500000\nfile 400000\ninactive_file 300000\n"),
    ("memory.peak", "2000000\n"),
    ("memory.max", "max\n"),
    ("memory.swap.current", "0\n"),
    ("io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"),
    ("pids.current", "3\n"),
    (
        "cpu.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4\n",
    ),
    (
        "memory.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
    ),
    (
        "io.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000001\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    ),
];

/// Time, uname, os and selinux are the machine's own; a filesystem needs one that is mounted; a container one that runs; paths of
/// rapl and textfile are those of the folder. All have tests of their own.
const COLLECTORS: [&str; 29] = [
    "arp",
    "bonding",
    "conntrack",
    "cpu",
    "cpufreq",
    "diskstats",
    "dmi",
    "edac",
    "entropy",
    "filefd",
    "hwmon",
    "loadavg",
    "mdadm",
    "meminfo",
    "netclass",
    "netdev",
    "netstat",
    "nvme",
    "powersupplyclass",
    "pressure",
    "processes",
    "schedstat",
    "sockstat",
    "softnet",
    "stat",
    "thermal_zone",
    "udp_queues",
    "vmstat",
    "xfs",
];

fn scraper(folder: &Path) -> Scraper {
    machine::make_machine(folder);
    let files: Vec<(String, &str)> = FILES.iter().map(|(path, content)| ((*path).to_owned(), *content)).collect();
    scraper_of(folder, &files, &COLLECTORS)
}

fn scraper_of(folder: &Path, files: &[(String, &str)], collectors: &[&'static str]) -> Scraper {
    for (path, content) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let at = |name: &str| folder.join(name);
    Scraper::new(Config {
        health: None,
        listen: Vec::new(),
        node_id: "node-1".to_owned(),
        collectors: collectors.to_vec(),
        filters: Filters {
            // No engine is asked: what it says has a test with a real one.
            containers: Containers { socket: Some(PathBuf::new()), ..Containers::default() },
            ..Filters::default()
        },
        own_metrics: false,
        roots: Roots { procfs: at("proc"), sysfs: at("sys"), rootfs: "/".into(), udev_data: at("udev") },
        web_config_file: None,
        log: cloudpulse_common::telemetry::LogArgs {
            log_level: "info".to_owned(),
            log_format: cloudpulse_common::telemetry::LogFormat::Text,
        },
    })
}

fn check(mut scraper: Scraper, format: Format, name: &str) {
    let pages: Vec<String> = (0..2)
        .map(|_| {
            let page = String::from_utf8(scraper.scrape(format, |_| true)).unwrap();
            let without_duration = |line: &str| match line.split_once("} ") {
                Some((series, _)) if series.contains("duration_seconds{") || series.contains("last_seen{") => {
                    format!("{series}}} SECONDS\n")
                }
                _ => format!("{line}\n"),
            };
            page.lines().map(without_duration).collect()
        })
        .collect();
    assert_eq!(pages[0], pages[1], "two scrapes of an unchanged machine are the same");
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &pages[0]).unwrap();
    }
    assert_eq!(pages[0], std::fs::read_to_string(&file).unwrap(), "{}", file.display());
}

#[test]
fn the_text_page_is_as_agreed() {
    let folder = tempfile::tempdir().unwrap();
    check(scraper(folder.path()), Format::Text, "page.txt");
}

#[test]
fn the_openmetrics_page_is_as_agreed() {
    let folder = tempfile::tempdir().unwrap();
    check(scraper(folder.path()), Format::OpenMetrics, "page.om");
}

fn check_containers(files: Vec<(String, &str)>, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<(String, &str)> =
        PROCESS.iter().map(|(path, content)| ((*path).to_owned(), *content)).chain(files).collect();
    let devices = folder.path().join("sys/dev/block");
    std::fs::create_dir_all(&devices).unwrap();
    std::os::unix::fs::symlink("../../devices/virtual/block/sda", devices.join("8:0")).unwrap();
    check(scraper_of(folder.path(), &files, &["container"]), Format::Text, name);
}

#[test]
fn containers_in_cgroups_of_version_1_are_shown_as_agreed() {
    let files = VERSION_1.iter().map(|(path, content)| {
        let (controller, file) = path.split_once('/').unwrap();
        (format!("sys/fs/cgroup/{controller}/docker/{ID}/{file}"), *content)
    });
    check_containers(files.collect(), "container-v1.txt");
}

#[test]
fn containers_in_cgroups_of_version_2_are_shown_as_agreed() {
    let scope = format!("sys/fs/cgroup/machine.slice/libpod-{ID}.scope");
    let files = VERSION_2.iter().map(|(file, content)| (format!("{scope}/{file}"), *content));
    let others = [
        ("sys/fs/cgroup/cgroup.controllers".to_owned(), "cpu io memory pids\n"),
        (format!("{scope}/container/cgroup.procs"), "4711\n"),
        (format!("sys/fs/cgroup/machine.slice/libpod-conmon-{ID}.scope/cgroup.procs"), "4710\n"),
    ];
    check_containers(files.chain(others).collect(), "container-v2.txt");
}

#[test]
fn a_broken_file_costs_its_collector_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut scraper = scraper(folder.path());
    let mut page = || String::from_utf8(scraper.scrape(Format::Text, |_| true)).unwrap();
    let count = |page: &str, name: &str| page.lines().filter(|line| line.starts_with(name)).count();
    assert!(page().contains("node_scrape_collector_success{collector=\"meminfo\"} 1"));

    std::fs::write(folder.path().join("proc/meminfo"), "MemTotal:  1000 kB\nnonsense\n").unwrap();
    std::fs::remove_file(folder.path().join("proc/loadavg")).unwrap();
    let broken = page();
    assert!(broken.contains("node_scrape_collector_success{collector=\"meminfo\"} 0"));
    assert_eq!(count(&broken, "node_memory"), 0, "what was written before the broken line is taken back");
    assert!(broken.contains("node_scrape_collector_success{collector=\"cpu\"} 1"));
    assert_eq!(count(&broken, "node_cpu_seconds_total"), 16);

    std::fs::write(folder.path().join("proc/meminfo"), "MemTotal:  1000 kB\n").unwrap();
    assert!(page().contains("\nnode_memory_MemTotal_bytes 1024000\n"));
}
