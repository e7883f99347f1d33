//! A real node_exporter and ours, on this machine and on a machine made of files: whatever families it has, ours has too, with
//! the same type, labels and values.
#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "support/machine.rs"]
mod machine;
mod support;
#[path = "support/systemd.rs"]
mod systemd;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::process::find_program;

use support::{Exporter, get};
use systemd::Systemd;

/// Families of node_exporter's default page that ours does not have, by prefix, each with the reason.
const NOT_DONE: [(&str, &str); 2] =
    [("go_", "ours is no Go program"), ("promhttp_", "of node_exporter's own HTTP handler")];
/// Where ours follow a newer node_exporter than 1.5, or the kernel: family, what is otherwise of it, and the reason.
const OTHERWISE: [(&str, &str, &str); 4] = [
    ("node_bcache_btree_read_average_duration_seconds", "", "a file of microseconds, which it takes for nanoseconds"),
    ("node_btrfs_allocation_ratio", "raid1c3", "a layout that 1.5 does not know"),
    ("node_nfsd_requests_total", "", "1.5 lacks two operations, so that the three behind have their values"),
    ("node_zfs_zpool_state", "suspended", "a state that 1.5 does not know"),
];
/// Labels of ours that node_exporter has since versions after 1.5, or that are empty there.
const NEWER_LABELS: [(&str, &str); 3] =
    [("node_disk_info", "rotational"), ("node_network_info", "adminstate"), ("node_nvme_info", "cntlid")];
/// Leaves out what comes and goes with the tests that run beside this one.
const STEADY: [&str; 6] = [
    "--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$",
    "--collector.netdev.device-exclude=^(veth|br-|docker).*$",
    "--collector.netclass.ignored-devices=^(veth|br-|docker).*$",
    "--collector.arp.device-exclude=^(veth|br-|docker).*$",
    "--collector.filesystem.mount-points-exclude=^/(dev|proc|sys|run|tmp|var/lib/docker)($|/)",
    "--collector.filesystem.fs-types-exclude=^(autofs|cgroup2?|devpts|devtmpfs|fuse|nsfs|overlay|proc|squashfs|sysfs)$",
];
/// Gauges that move between two scrapes, by prefix.
const MOVING: [&str; 21] = [
    "node_disk_io_now",
    "node_entropy_available_bits",
    "node_filefd_allocated",
    "node_filesystem_avail_bytes",
    "node_filesystem_files",
    "node_filesystem_free_bytes",
    "node_filesystem_size_bytes",
    "node_load",
    "node_memory_",
    "node_nf_conntrack_entries",
    "node_nf_conntrack_stat_",
    "node_procs_",
    "node_scrape_collector_",
    "node_sockstat_",
    "node_time_seconds",
    "node_timex_",
    "node_udp_queues",
    "node_arp_entries",
    "node_netstat_Tcp_CurrEstab",
    "node_cpu_scaling_frequency_hertz",
    // Of two programs.
    "process_",
];

/// A family: its type, and the value of each set of labels.
type Family = (String, BTreeMap<BTreeMap<String, String>, f64>);

fn read(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.insert(name.to_owned(), (kind.to_owned(), BTreeMap::new()));
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let suffixes = ["", "_bucket", "_sum", "_count"];
            let own = suffixes.into_iter().find_map(|suffix| {
                let family = name.strip_suffix(suffix)?;
                families.contains_key(family).then(|| (family.to_owned(), suffix))
            });
            let (family, suffix) = own.unwrap();
            let mut set = labels_of(labels);
            if !suffix.is_empty() {
                set.insert("(suffix)".to_owned(), suffix.to_owned());
            }
            families.get_mut(&family).unwrap().1.insert(set, value.parse().unwrap());
        }
    }
    families
}

/// Returns the labels that have a value.
fn labels_of(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text.trim_end_matches('}');
    while let Some((label, value)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = value.find(|c: char| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        });
        let (value, behind) = value.split_at(end.unwrap());
        if !value.is_empty() {
            labels.insert(label.to_owned(), value.to_owned());
        }
        rest = behind[1..].trim_start_matches(',');
    }
    labels
}

/// Both pages, theirs first, of the same moment.
struct Pages {
    theirs: BTreeMap<String, Family>,
    ours: BTreeMap<String, Family>,
    /// What ours said meanwhile.
    log: String,
}

async fn scrape_both(flags: &[&str], their_flags: &[&str]) -> Pages {
    scrape_both_with(flags, their_flags, &[]).await
}

async fn scrape_both_with(flags: &[&str], their_flags: &[&str], their_env: &[(&str, &str)]) -> Pages {
    let node_exporter =
        find_program(&["prometheus-node-exporter", "node_exporter"], "prometheus-node-exporter").unwrap();
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let listen = format!("--web.listen-address={address}");
    let all: Vec<&str> = flags.iter().chain(their_flags).copied().chain([listen.as_str()]).collect();
    let url = format!("http://{address}/metrics");
    let _theirs = Program::start(&node_exporter, &all, their_env, Some(&url)).await.unwrap();
    let mut exporter = Exporter::start(flags).await;
    // Ours later: its counters are not smaller. The first scrape of each is not the one that is compared.
    exporter.text().await;
    let theirs = get(&url, "text/plain").await.1;
    let ours = exporter.text().await;
    Pages { theirs: read(&theirs), ours: read(&ours), log: exporter.program.process().log_tail() }
}

impl Pages {
    /// Returns what ours lacks or has otherwise. `is_still` says that nothing moves.
    fn differences(&mut self, is_still: bool) -> Vec<String> {
        for (family, label) in NEWER_LABELS {
            if let Some((_, samples)) = self.ours.get_mut(family) {
                let strip = |mut labels: BTreeMap<String, String>| {
                    labels.remove(label);
                    labels
                };
                *samples = std::mem::take(samples).into_iter().map(|(labels, value)| (strip(labels), value)).collect();
            }
        }
        let mut found = Vec::new();
        for (name, (kind, theirs)) in &self.theirs {
            if NOT_DONE.iter().any(|(prefix, _)| name.starts_with(prefix)) {
                continue;
            }
            let Some((our_kind, ours)) = self.ours.get(name) else {
                found.push(format!("{name}: not there"));
                continue;
            };
            if our_kind != kind {
                found.push(format!("{name}: {our_kind} in place of {kind}"));
            }
            // What it says of the program is the program's own.
            if name == "node_exporter_build_info" {
                continue;
            }
            let is_scrape = name.starts_with("node_scrape_collector_");
            for (labels, value) in theirs {
                match ours.get(labels) {
                    // Collectors that ours does not have, which have nothing to show here.
                    None if is_scrape => {}
                    None => found.push(format!("{name}: without {labels:?}")),
                    Some(our_value) => {
                        let is_equal = our_value == value || (our_value - value).abs() <= 1e-9 * value.abs();
                        let is_near = !is_still && near(name, kind, *value, *our_value);
                        if !is_equal && !is_near && (!is_scrape || name.ends_with("success")) {
                            found.push(format!("{name} {labels:?}: {our_value} in place of {value}"));
                        }
                    }
                }
            }
            for labels in ours.keys().filter(|labels| !theirs.contains_key(*labels)) {
                if !is_scrape {
                    found.push(format!("{name}: {labels:?} is not there"));
                }
            }
        }
        found
    }
}

/// Returns whether two values of a moment apart can be of the same thing.
fn near(name: &str, kind: &str, theirs: f64, ours: f64) -> bool {
    if MOVING.iter().any(|prefix| name.starts_with(prefix)) {
        return !name.starts_with("node_scrape_collector_success");
    }
    match kind {
        // What the kernel counts of idle CPUs goes back a little now and then.
        _ if name == "node_cpu_seconds_total" => (ours - theirs).abs() < 30.0,
        "counter" | "untyped" => {
            let room = if name.ends_with("_seconds_total") { 30.0 } else { 1e9 };
            (theirs..=theirs * 1.1 + room).contains(&ours)
        }
        _ => false,
    }
}

#[tokio::test]
async fn this_machine_is_shown_as_node_exporter_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.prom"), "# TYPE backup_total counter\nbackup_total{x=\"y\"} 5\n").unwrap();
    let textfile = format!("--collector.textfile.directory={}", folder.path().display());
    let flags: Vec<&str> = STEADY.into_iter().chain([textfile.as_str()]).collect();
    let mut pages = scrape_both(&flags, &["--no-collector.systemd"]).await;
    let differences = pages.differences(false);
    let done = pages.theirs.keys().filter(|name| pages.ours.contains_key(*name)).count();
    println!("{done} of {} families of node_exporter's default page", pages.theirs.len());
    for (prefix, reason) in NOT_DONE {
        let count = pages.theirs.keys().filter(|name| name.starts_with(prefix)).count();
        println!("{count} families {prefix}* are not there: {reason}");
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(!pages.log.contains("failed"), "{}", pages.log);
    assert!(done > 200, "{done}");
}

#[tokio::test]
async fn a_machine_with_all_hardware_is_shown_as_node_exporter_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    machine::make_machine(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (procfs, sysfs) = (format!("--path.procfs={}", at("proc")), format!("--path.sysfs={}", at("sys")));
    let collectors = [
        "arp",
        "bcache",
        "bonding",
        "btrfs",
        "conntrack",
        "cpu",
        "cpufreq",
        "dmi",
        "edac",
        "entropy",
        "fibrechannel",
        "filefd",
        "hwmon",
        "infiniband",
        "ipvs",
        "loadavg",
        "mdadm",
        "meminfo",
        "netclass",
        "netstat",
        "nfs",
        "nfsd",
        "nvme",
        "powersupplyclass",
        "pressure",
        "rapl",
        "schedstat",
        "sockstat",
        "softnet",
        "stat",
        "tapestats",
        "thermal_zone",
        "udp_queues",
        "vmstat",
        "xfs",
        "zfs",
    ];
    let collectors = collectors.map(|name| format!("--collector.{name}"));
    let mut flags = vec!["--web.disable-exporter-metrics", "--collector.disable-defaults", &procfs, &sysfs];
    flags.extend(collectors.iter().map(String::as_str));
    let mut pages = scrape_both(&flags, &["--collector.cpu.guest"]).await;
    let mut differences = pages.differences(true);
    for (family, what, reason) in OTHERWISE {
        let before = differences.len();
        differences.retain(|difference| !(difference.starts_with(family) && difference.contains(what)));
        assert!(differences.len() < before, "{family} {what} is as in node_exporter: {reason}?");
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(!pages.log.contains("failed"), "{}", pages.log);
    let failed: Vec<_> = pages.theirs["node_scrape_collector_success"].1.iter().filter(|(_, ok)| **ok == 0.0).collect();
    assert!(failed.is_empty(), "node_exporter has no data of these: {failed:?}");
    for family in [
        "node_hwmon_temp_celsius",
        "node_md_disks",
        "node_rapl_package_joules_total",
        "node_edac_correctable_errors_total",
        "node_zfs_zpool_dataset_writes",
        "node_btrfs_size_bytes",
        "node_infiniband_port_data_received_bytes_total",
        "node_fibrechannel_rx_frames_total",
        "node_ipvs_backend_weight",
        "node_nfs_requests_total",
        "node_nfsd_requests_total",
        "node_tape_read_bytes_total",
        "node_bcache_dirty_data_bytes",
    ] {
        assert!(pages.theirs.contains_key(family), "{family}");
    }
}

#[tokio::test]
async fn a_real_systemd_is_shown_as_node_exporter_shows_it() {
    let Some(systemd) = Systemd::start() else { return };
    let address = format!("unix:path={}", systemd.path("bus").display());
    let bus = format!("--collector.systemd.bus-address={address}");
    let flags = [
        "--web.disable-exporter-metrics",
        "--collector.disable-defaults",
        "--collector.systemd",
        "--collector.systemd.enable-task-metrics",
        "--collector.systemd.enable-restarts-metrics",
        "--collector.systemd.enable-start-time-metrics",
        "--collector.systemd.unit-exclude=.+\\.(automount|device|scope|slice)",
    ];
    let ours: Vec<&str> = flags.into_iter().chain([bus.as_str()]).collect();
    let until = Instant::now() + Duration::from_secs(60);
    let mut door = None;
    loop {
        // A new one each time: one that a bus which is not there yet has made wait is no use here.
        let page = Exporter::start(&ours).await.text().await;
        door = door.or_else(|| UnixStream::connect(systemd.path("door")).ok());
        let is_settled = [
            "bad.service\",state=\"failed\",type=\"simple\"} 1",
            "timer_last_trigger",
            "accepted_connections_total{name=\"door.socket\"} 1",
        ]
        .into_iter()
        .all(|sample| page.contains(sample));
        if is_settled {
            break;
        }
        assert!(Instant::now() < until, "{page}\n{}", systemd.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // node_exporter knows that address by the environment alone.
    let mut pages = scrape_both_with(&flags, &[], &[("DBUS_SYSTEM_BUS_ADDRESS", &address)]).await;
    let exporter = Exporter::start(&ours).await;
    pages.ours = read(&exporter.text().await);
    let differences = pages.differences(true);
    let refused = "node_systemd_socket_refused_connections_total: counter in place of gauge";
    assert_eq!(differences, [refused]);
    for (family, count) in [
        ("node_systemd_unit_state", 60),
        ("node_systemd_unit_tasks_max", 1),
        ("node_systemd_service_restart_total", 4),
        ("node_systemd_timer_last_trigger_seconds", 1),
        ("node_systemd_socket_current_connections", 2),
        ("node_systemd_unit_start_time_seconds", 12),
    ] {
        assert!(pages.theirs[family].1.len() >= count, "{family}: {:?}", pages.theirs[family]);
    }
}

/// Files of metrics, good and bad.
const TEXTFILES: [(&str, &str); 9] = [
    ("a.prom", "# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total{name=\"a \\\"b\\\"\\n\\\\\"} 1\n"),
    (
        "b.prom",
        "# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total{name=\"c\"} 2.5e3\nplain NaN\nmore{} +Inf\n",
    ),
    (
        "c.prom",
        "# TYPE latency_seconds histogram\nlatency_seconds_bucket{le=\"1\"} 1\nlatency_seconds_bucket{le=\"2.5\"} 2\n\
         latency_seconds_bucket{le=\"+Inf\"} 3\nlatency_seconds_sum 7.5\nlatency_seconds_count 3\n",
    ),
    (
        "d.prom",
        "# TYPE size summary\nsize{x=\"y\",quantile=\"0.5\"} 5\nsize{x=\"y\",quantile=\"0.9\"} 9\nsize_sum{x=\"y\"} 20\n\
         size_count{x=\"y\"} 4\n",
    ),
    ("e.prom", "# a comment\n\n   spaced   {  a = \"b\" , }   3\n# TYPE nothing gauge\n# HELP nothing Nothing.\n"),
    ("f.prom", "good 1\nbad{\n"),
    ("g.prom", "timed 1 1700000000000\n"),
    ("h.prom", "first 1\nwithout_its_end 1"),
    ("i.txt", "other 1\n"),
];

#[tokio::test]
async fn files_of_metrics_are_shown_as_node_exporter_shows_them() {
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("--collector.textfile.directory={}", folder.path().display());
    let flags = ["--web.disable-exporter-metrics", "--collector.disable-defaults", "--collector.textfile", &directory];
    let own = "node_textfile_scrape_error";
    for (files, error) in [(&TEXTFILES[..5], 0.0), (&TEXTFILES[..], 1.0)] {
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let mut pages = scrape_both(&flags, &[]).await;
        // NaN is not equal to itself.
        for page in [&mut pages.theirs, &mut pages.ours] {
            let (kind, plain) = page.remove("plain").unwrap();
            assert!(kind == "untyped" && plain.into_values().all(f64::is_nan));
        }
        let differences = pages.differences(true);
        assert!(differences.is_empty(), "{differences:#?}");
        assert_eq!(pages.ours[own].1.values().copied().collect::<Vec<_>>(), [error]);
        let names = |page: &BTreeMap<String, Family>| -> Vec<String> {
            page.keys()
                .filter(|name| {
                    !name.starts_with("node_") && !name.contains("exporter") && !name.starts_with("promhttp_")
                })
                .cloned()
                .collect()
        };
        assert_eq!(names(&pages.ours), names(&pages.theirs));
        assert_eq!(names(&pages.ours).len(), 5, "{:?}", pages.ours.keys());
        assert_eq!(pages.ours["node_textfile_mtime_seconds"].1.len(), 5);
    }
}
