//! The program as its users run it, judged by the parts that read it: promtool, the OpenMetrics parser of the Python
//! client, a real Prometheus, and node_exporter beside it.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::process::find_program;
use cloudpulse_testkit::prometheus::{Prometheus, PrometheusOptions, promtool, run_with_stdin};

use support::{Exporter, get};

const WAIT: Duration = Duration::from_secs(30);
/// Leaves out what comes and goes with the tests that run beside these: their mounts, and the devices of containers.
const STEADY: [&str; 3] = [
    "--collector.netdev.device-exclude=^(veth|br-|docker).*$",
    "--collector.filesystem.mount-points-exclude=^/(dev|proc|sys|run|tmp|var/lib/docker)($|/)",
    "--collector.filesystem.fs-types-exclude=^(autofs|cgroup2?|devpts|devtmpfs|fuse|nsfs|overlay|proc|squashfs|sysfs)$",
];
/// The same of what node_exporter does not have.
const NO_CONTAINERS: &str = "--no-collector.container";
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

fn samples(page: &str) -> usize {
    page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count()
}

fn families(page: &str) -> usize {
    page.lines().filter(|line| line.starts_with("# TYPE ")).count()
}

#[tokio::test]
async fn both_formats_pass_their_strict_reader() {
    let exporter = Exporter::start(&[&STEADY[..], &[NO_CONTAINERS]].concat()).await;
    let text = exporter.text().await;
    let (_, openmetrics) = exporter.get("/metrics", OPENMETRICS).await;
    assert!(openmetrics.ends_with("\n# EOF\n"));
    assert_eq!((samples(&text), families(&text)), (samples(&openmetrics), families(&openmetrics)));
    assert!(samples(&text) > 100, "{text}");

    // Names that are node_exporter's own are linted, there as here; any other finding is a fault.
    let lint = promtool(&["check", "metrics"], text.as_bytes()).await.unwrap();
    assert!(matches!(lint.code, Some(0 | 3)), "{lint:?}");
    for line in lint.stdout.lines().chain(lint.stderr.lines()) {
        let has_prefix = |prefixes: &[&str]| prefixes.iter().any(|prefix| line.starts_with(prefix));
        let is_naming = line.ends_with("metric names should be written in 'snake_case' not 'camelCase'")
            && has_prefix(&["node_memory_", "node_netstat_", "node_sockstat_"]);
        let is_unit = line.ends_with("use base unit \"bytes\" instead of \"bits\"") && has_prefix(&["node_entropy_"]);
        assert!(is_naming || is_unit, "{line}");
    }

    let parser = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
        families = list(parse(sys.stdin.read()))\n\
        print(len(families), sum(len(family.samples) for family in families))\n";
    let parsed =
        run_with_stdin(Command::new("/usr/bin/python3").args(["-c", parser]), openmetrics.as_bytes()).await.unwrap();
    assert!(
        !parsed.stderr.contains("ModuleNotFoundError"),
        "the Python package prometheus_client is missing: apt-get install python3-prometheus-client"
    );
    let counted = format!("{} {}", families(&openmetrics), samples(&openmetrics));
    assert_eq!((parsed.code, parsed.stdout.trim()), (Some(0), counted.as_str()), "{}", parsed.stderr);
}

#[tokio::test]
async fn prometheus_scrapes_every_sample() {
    let exporter = Exporter::start(&[&STEADY[..], &[NO_CONTAINERS]].concat()).await;
    let config = format!(
        "global: {{scrape_interval: 250ms}}\nscrape_configs: [{{job_name: node, static_configs: [{{targets: ['{}']}}]}}]\n",
        exporter.address
    );
    let options = PrometheusOptions { config, ..PrometheusOptions::default() };
    let prometheus = Prometheus::start(options).await.unwrap();
    prometheus.wait_for("up", WAIT, |samples| samples.iter().any(|(_, up)| *up == 1.0)).await.unwrap();
    let scraped = prometheus.wait_for_any("scrape_samples_scraped", WAIT).await.unwrap()[0].1;
    assert_eq!(scraped, samples(&exporter.text().await) as f64);
    let rates = "sum(rate(node_cpu_seconds_total[5s])) > 0";
    prometheus.wait_for_any(rates, WAIT).await.unwrap();
    // It asked for OpenMetrics, where the family of a counter has no `_total`.
    let types = prometheus.get("/api/v1/metadata", &[("metric", "node_cpu_seconds".to_owned())]).await.unwrap();
    assert_eq!(types["node_cpu_seconds"][0]["type"], "counter");
}

#[tokio::test]
async fn probes_choice_and_identity_work() {
    let mut exporter = Exporter::start(&["--no-collector.uname"]).await;
    for path in ["/", "/health", "/healthz", "/readyz"] {
        assert_eq!(exporter.get(path, "*/*").await.0, 200, "{path}");
    }
    let page = exporter.text().await;
    assert!(page.contains("\ncloudpulse_exporter_node_info{node_id=\"node-7\"} 1\n"), "{page}");
    assert!(page.contains("\nnode_exporter_build_info{") && page.contains("\ncloudpulse_exporter_build_info{version="));
    assert!(!page.contains("node_uname_info"));

    let (_, chosen) = exporter.get("/metrics?collect[]=cpu&collect[]=stat", "*/*").await;
    assert!(chosen.contains("node_cpu_seconds_total") && chosen.contains("node_forks_total"));
    assert!(!chosen.contains("node_load1") && !chosen.contains("collector=\"loadavg\""));
    assert_eq!(exporter.get("/metrics?collect[]=uname", "*/*").await.0, 400);

    exporter.program.process().signal(rustix::process::Signal::TERM).unwrap();
    let status = exporter.program.process().wait_exit(WAIT).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_broken_proc_is_said_once_and_costs_only_its_collectors() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("stat"), "cpu0 broken\n").unwrap();
    std::fs::write(folder.path().join("loadavg"), "0.1 0.2 0.3 1/2 3\n").unwrap();
    let flag = format!("--path.procfs={}", folder.path().display());
    // Few enough that all they say is in the end of the log.
    let chosen = ["cpu", "stat", "meminfo", "loadavg", "uname", "time"].map(|name| format!("--collector.{name}"));
    let mut flags = vec!["--collector.disable-defaults", &flag];
    flags.extend(chosen.iter().map(String::as_str));
    let mut exporter = Exporter::start(&flags).await;
    for _ in 0..3 {
        let page = exporter.text().await;
        for (collector, success) in [("cpu", 0), ("stat", 0), ("meminfo", 0), ("loadavg", 1), ("uname", 1), ("time", 1)]
        {
            let sample = format!("\nnode_scrape_collector_success{{collector=\"{collector}\"}} {success}\n");
            assert!(page.contains(&sample), "{sample} in {page}");
        }
        assert!(page.contains("\nnode_load1 0.1\n"));
    }
    let log = exporter.program.process().log_tail();
    let said = |collector: &str, message: &str| {
        log.lines()
            .filter(|line| line.contains(&format!("collector=\"{collector}\"")) && line.contains(message))
            .count()
    };
    assert_eq!(said("cpu", "collector failed"), 1, "{log}");
    assert_eq!(said("meminfo", "collector has no data"), 1, "{log}");
}

/// A FUSE filesystem whose program never answers: statvfs on it does not return.
#[tokio::test]
async fn a_mount_that_hangs_does_not_hold_up_the_scrape() {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "NOT TESTED: mounting needs root; the unit test of the same name in collector/filesystem/space.rs ran"
        );
        return;
    }
    let mut exporter = Exporter::start(&["--collector.disable-defaults", "--collector.filesystem"]).await;
    let folder = tempfile::Builder::new().prefix("hang").tempdir().unwrap();
    assert!(!exporter.text().await.contains(folder.path().to_str().unwrap()));

    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", std::os::fd::AsRawFd::as_raw_fd(&device));
    let options = std::ffi::CString::new(options).unwrap();
    rustix::mount::mount("hang", folder.path(), "fuse", rustix::mount::MountFlags::empty(), options.as_c_str())
        .unwrap();
    let mut pages = vec![exporter.text().await];
    let threads = |exporter: &mut Exporter| {
        std::fs::read_dir(format!("/proc/{}/task", exporter.program.process().pid())).unwrap().count()
    };
    let first = threads(&mut exporter);
    for _ in 0..20 {
        pages.push(exporter.text().await);
    }
    assert_eq!(threads(&mut exporter), first, "the one question that is open has the one thread");
    // With its device closed the filesystem fails at once, so that it can be unmounted and the folder removed.
    drop(device);
    let after = exporter.text().await;
    rustix::mount::unmount(folder.path(), rustix::mount::UnmountFlags::DETACH).unwrap();

    let mountpoint = format!("mountpoint=\"{}\"", folder.path().display());
    for page in pages {
        let late: Vec<&str> = page.lines().filter(|line| line.contains(&mountpoint)).collect();
        let error = late.iter().find(|line| line.starts_with("node_filesystem_device_error")).unwrap();
        assert!(error.ends_with(" 1") && error.contains("device_error=\"mountpoint timeout\""), "{late:#?}");
        assert!(!late.iter().any(|line| line.starts_with("node_filesystem_size_bytes")), "{late:#?}");
        assert!(page.contains("\nnode_filesystem_size_bytes{"), "the other mounts are there: {page}");
        assert!(page.contains("\nnode_scrape_collector_success{collector=\"filesystem\"} 1\n"));
    }
    assert!(after.contains(&mountpoint));
}

/// Families with their type and, per sample, the names of its labels.
fn shape(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().0 = kind.to_owned();
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let mut names: Vec<&str> = Vec::new();
            let mut rest = labels.trim_end_matches('}');
            while let Some((label, value)) = rest.split_once("=\"") {
                let end = value.find('"').unwrap();
                // An empty value is no label.
                if end > 0 {
                    names.push(label);
                }
                rest = value[end + 1..].trim_start_matches(',');
            }
            names.sort_unstable();
            families.get_mut(name).unwrap().1.insert(names.join(","));
        }
    }
    families
}

#[tokio::test]
async fn families_types_and_labels_are_those_of_node_exporter() {
    let node_exporter =
        find_program(&["prometheus-node-exporter", "node_exporter"], "prometheus-node-exporter").unwrap();
    let collectors = [
        "--web.disable-exporter-metrics",
        "--collector.disable-defaults",
        "--collector.cpu",
        "--collector.diskstats",
        "--collector.filesystem",
        "--collector.loadavg",
        "--collector.meminfo",
        "--collector.netdev",
        "--collector.stat",
        "--collector.time",
        "--collector.uname",
    ];
    // The same filters for both: distributions patch node_exporter's defaults.
    let flags: Vec<&str> = collectors.into_iter().chain(STEADY).collect();
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let listen = format!("--web.listen-address={address}");
    let their_flags: Vec<&str> = flags.iter().copied().chain([listen.as_str()]).collect();
    let url = format!("http://{address}/metrics");
    let _theirs = Program::start(&node_exporter, &their_flags, &[], Some(&url)).await.unwrap();
    let exporter = Exporter::start(&flags).await;

    let (mut theirs, mut ours) = (shape(&get(&url, "text/plain").await.1), shape(&exporter.text().await));
    // Of its HTTP handler, and of no collector.
    theirs.retain(|name, _| !name.starts_with("promhttp_"));
    // Ours alone, or of versions of node_exporter after 1.5.
    ours.retain(|name, _| !name.starts_with("cloudpulse_") && name != "node_filesystem_mount_info");
    for page in [&mut theirs, &mut ours] {
        let names = |page: &mut BTreeMap<String, (String, BTreeSet<String>)>, family: &str, newer: &str| {
            let Some((_, labels)) = page.get_mut(family) else { return };
            *labels = labels
                .iter()
                .map(|set| set.split(',').filter(|name| *name != newer).collect::<Vec<_>>().join(","))
                .collect();
        };
        names(page, "node_disk_info", "rotational");
        names(page, "node_exporter_build_info", "tags");
    }
    let difference: Vec<String> = theirs
        .keys()
        .chain(ours.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|name| theirs.get(*name) != ours.get(*name))
        .map(|name| format!("{name}: node_exporter {:?}, ours {:?}", theirs.get(name), ours.get(name)))
        .collect();
    assert!(difference.is_empty(), "{difference:#?}");
    assert!(theirs.len() > 80, "{}", theirs.len());
}

#[tokio::test]
async fn health_says_whether_it_answers() {
    let mut exporter = Exporter::start(&[]).await;
    let address = exporter.address.clone();
    let ask = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudpulse-exporter"));
        command.args(["health", "--web.listen-address", &address]).args(more);
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(ask(&[]), (Some(0), format!("http://{address}/healthz: ok\n"), String::new()));
    assert_eq!(ask(&["--ready"]), (Some(0), format!("http://{address}/readyz: ready\n"), String::new()));
    exporter.program.process().stop().unwrap();
    let refused = format!("cloudpulse-exporter: http://{address}/healthz: nobody listens there\n");
    assert_eq!(ask(&[]), (Some(1), String::new(), refused));
}
