//! The whole page of a machine made of files, in both formats, byte by byte.
//!
//! `UPDATE_GOLDEN=1 cargo test -p cloudpulse-exporter --test golden` writes the files anew; look at their difference.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::{Path, PathBuf};

use cloudpulse_common::exposition::Format;
use cloudpulse_exporter::config::{Config, Filters};
use cloudpulse_exporter::host::Roots;
use cloudpulse_exporter::scrape::Scraper;

const FILES: [(&str, &str); 7] = [
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
    ("udev/b8:0", "E:ID_MODEL=Disk \"one\"\nE:ID_SERIAL=S\\1\n"),
];

fn scraper(folder: &Path) -> Scraper {
    for (path, content) in FILES {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let at = |name: &str| folder.join(name);
    Scraper::new(Config {
        listen: Vec::new(),
        node_id: "node-1".to_owned(),
        // Time and uname are the machine's own; a filesystem needs one that is mounted; all three have tests of their own.
        collectors: vec!["cpu", "diskstats", "loadavg", "meminfo", "netdev", "stat"],
        filters: Filters::default(),
        roots: Roots { procfs: at("proc"), sysfs: at("sys"), rootfs: "/".into(), udev_data: at("udev") },
        log: cloudpulse_common::telemetry::LogArgs {
            log_level: "info".to_owned(),
            log_format: cloudpulse_common::telemetry::LogFormat::Text,
        },
    })
}

fn check(format: Format, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut scraper = scraper(folder.path());
    let pages: Vec<String> = (0..2)
        .map(|_| {
            let page = String::from_utf8(scraper.scrape(format, |_| true)).unwrap();
            let without_duration = |line: &str| match line.split_once("} ") {
                Some((series, _)) if series.contains("duration_seconds{") => format!("{series}}} SECONDS\n"),
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
    check(Format::Text, "page.txt");
}

#[test]
fn the_openmetrics_page_is_as_agreed() {
    check(Format::OpenMetrics, "page.om");
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
