//! Containers of a real Docker Compose on a real engine, as the exporter shows them.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use cloudpulse_testkit::docker::Docker;
use cloudpulse_testkit::prometheus::promtool;
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use support::Exporter;

const WAIT: Duration = Duration::from_secs(60);
const MIB: f64 = 1_048_576.0;
const HELD_MIB: f64 = 48.0;
const SENT_BYTES: f64 = 1_000_000.0;
const WRITTEN_BYTES: f64 = 8.0 * MIB;
const IMAGE: &str = "cloudpulse-test/worker:1";

/// Works, holds memory, takes and sends bytes, or sleeps, as its argument says.
const WORKER: &str = r#"
use std::io::{Read, Write};
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("busy") => loop { std::hint::spin_loop() },
        Some("hold") => {
            let memory: Vec<u8> = (0..48 << 20).map(|at| at as u8).collect();
            while std::hint::black_box(&memory).len() > 0 { std::thread::park() }
        }
        Some("take") => {
            let listener = std::net::TcpListener::bind("0.0.0.0:8080").unwrap();
            for stream in listener.incoming() { let _ = stream.unwrap().read_to_end(&mut Vec::new()); }
        }
        Some("write") => {
            let mut file = std::fs::File::create("/file").unwrap();
            file.write_all(&vec![1; 8 << 20]).unwrap();
            file.sync_all().unwrap();
        }
        Some("send") => loop {
            if let Ok(mut stream) = std::net::TcpStream::connect("take:8080") {
                stream.write_all(&vec![1; 1_000_000]).unwrap();
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        },
        _ => {}
    }
    loop { std::thread::park() }
}
"#;

/// The engine works again at the end, however the test ends: else it could not be ended itself.
struct Paused(Pid);

impl Paused {
    fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

fn inspect(docker: &Docker, format: &str, container: &str) -> String {
    docker.cli(&["inspect", "--format", format, container]).unwrap().trim().to_owned()
}

/// Returns labels and value of the samples of a family whose labels have all of `parts`.
fn samples<'p>(page: &'p str, family: &str, parts: &[&str]) -> Vec<(&'p str, f64)> {
    let of_family = page.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{')?.rsplit_once("} "));
    let chosen = of_family.filter(|(labels, _)| parts.iter().all(|part| labels.contains(part)));
    chosen.map(|(labels, value)| (labels, value.parse().unwrap())).collect()
}

/// Returns the value of the one sample of a service.
#[track_caller]
fn value(page: &str, family: &str, service: &str) -> f64 {
    let label = format!("container_label_com_docker_compose_service=\"{service}\"");
    let found = samples(page, family, &[&label, "container_label_com_docker_compose_project=\"cptestcgroup\""]);
    assert_eq!(found.len(), 1, "{family} of {service}: {found:#?}");
    found[0].1
}

/// Scrapes until the page is as it should be.
async fn wait_for(exporter: &Exporter, what: &str, is_so: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + WAIT;
    loop {
        let page = exporter.text().await;
        if is_so(&page) {
            return page;
        }
        assert!(Instant::now() < deadline, "{what}: {page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Returns a count from the cgroup of a container, of version 1 or 2.
fn from_cgroup(id: &str, version_1: &str, version_2: &str) -> f64 {
    let (controller, file) = version_1.split_once('/').unwrap();
    let old = Path::new("/sys/fs/cgroup").join(controller).join("docker").join(id).join(file);
    let new = Path::new("/sys/fs/cgroup/docker").join(id).join(version_2);
    let scope = Path::new("/sys/fs/cgroup/system.slice").join(format!("docker-{id}.scope")).join(version_2);
    let path = [old, new, scope].into_iter().find(|path| path.exists()).unwrap();
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// Returns the disk that a folder is on; `None` where it is on none, as in memory.
fn disk_of(folder: &Path) -> Option<String> {
    let device = std::fs::metadata(folder).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let disk = if device.join("partition").exists() { device.parent().unwrap() } else { &device };
    Some(format!("/dev/{}", disk.file_name().unwrap().to_str().unwrap()))
}

/// Returns how many descriptors of the exporter are of cgroups of these containers.
fn held(exporter: &mut Exporter, ids: &[String]) -> usize {
    let folder = format!("/proc/{}/fd", exporter.program.process().pid());
    let links = std::fs::read_dir(folder).unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| ids.iter().any(|id| link.to_string_lossy().contains(id))).count()
}

#[tokio::test]
async fn containers_of_compose_are_shown_as_they_are() {
    let mut docker = Docker::start().await.unwrap().expect(Docker::HOW_TO_GET_ONE);
    docker.build_image(IMAGE, WORKER).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let base = format!("image: '{IMAGE}', pull_policy: never, init: true");
    let socket = docker.socket().unwrap().to_owned();
    let disk = disk_of(socket.parent().unwrap());
    // Newer kernels count with version 1 only what is on a disk with a limit.
    let limit =
        disk.as_ref().map(|disk| format!(", blkio_config: {{device_write_bps: [{{path: {disk}, rate: 1gb}}]}}"));
    let limit = limit.unwrap_or_default();
    let compose = format!(
        "name: cptestcgroup\nservices:\n\
         \x20 busy: {{{base}, command: [busy], cpus: 0.25, labels: {{tier: batch}}}}\n\
         \x20 hold: {{{base}, command: [hold], mem_limit: 96m, cpu_shares: 512, network_mode: none}}\n\
         \x20 take: {{{base}, command: [take]}}\n\
         \x20 send: {{{base}, command: [send]}}\n\
         \x20 write: {{{base}, command: [write]{limit}}}\n\
         \x20 host: {{{base}, network_mode: host}}\n"
    );
    std::fs::write(folder.path().join("compose.yaml"), compose).unwrap();
    let flag = format!("--collector.container.docker-socket={}", socket.display());
    // Before there is a container: they are seen as they come.
    let mut exporter = Exporter::start(&["--collector.disable-defaults", "--collector.container", &flag]).await;
    exporter.text().await;
    docker.compose(&["up", "--detach"], folder.path()).unwrap();
    let services = ["busy", "hold", "take", "send", "write", "host"];
    let name = |service: &str| format!("cptestcgroup-{service}-1");
    let ids: Vec<String> = services.iter().map(|service| inspect(&docker, "{{.Id}}", &name(service))).collect();
    let id = |service: &str| ids[services.iter().position(|known| *known == service).unwrap()].as_str();

    // Names, images and labels.
    let project = "container_label_com_docker_compose_project=\"cptestcgroup\"";
    let named = |page: &str| samples(page, "container_memory_working_set_bytes", &[project]).len() == services.len();
    let page = wait_for(&exporter, "six named containers", named).await;
    for service in services {
        let parts = [
            format!("{}\"", id(service)),
            format!("name=\"{}\"", name(service)),
            format!("image=\"{IMAGE}\""),
            format!("container_label_com_docker_compose_service=\"{service}\""),
            "container_label_com_docker_compose_container_number=\"1\"".to_owned(),
        ];
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        for family in ["container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_last_seen"]
        {
            assert_eq!(samples(&page, family, &parts).len(), 1, "{family} of {service} in {page}");
        }
        let started = value(&page, "container_start_time_seconds", service);
        let moment =
            |format: &str| inspect(&docker, format, id(service)).parse::<Timestamp>().unwrap().as_second() as f64;
        // The time of the boot is known to the second.
        assert!(
            started >= moment("{{.Created}}") - 2.0 && started <= moment("{{.State.StartedAt}}") + 2.0,
            "{started}"
        );
    }
    assert!(!page.contains("tier"), "a label that was not asked for");

    // CPU, held between two readings of the kernel's own file.
    let seconds = |service: &str| match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        false => from_cgroup(id(service), "cpuacct/cpuacct.usage", "") / 1e9,
        // Its value stands behind a word there.
        true => f64::NAN,
    };
    let first = value(&page, "container_cpu_usage_seconds_total", "busy");
    let grown = |page: &str| value(page, "container_cpu_usage_seconds_total", "busy") >= first + 0.2;
    let page = wait_for(&exporter, "a busy container uses CPU", grown).await;
    for service in ["busy", "hold"] {
        let before = seconds(service);
        let shown = value(&exporter.text().await, "container_cpu_usage_seconds_total", service);
        let after = seconds(service);
        assert!(before.is_nan() || (before <= shown && shown <= after), "{service}: {before} {shown} {after}");
    }
    assert_eq!(value(&page, "container_spec_cpu_quota", "busy"), 25_000.0);
    assert_eq!(value(&page, "container_spec_cpu_period", "busy"), 100_000.0);
    assert_eq!(value(&page, "container_spec_cpu_shares", "busy"), 1024.0);
    assert_eq!(value(&page, "container_spec_cpu_shares", "hold"), 512.0);
    let is_throttled = |page: &str| value(page, "container_cpu_cfs_throttled_periods_total", "busy") > 0.0;
    let page = wait_for(&exporter, "it is held to its quota", is_throttled).await;
    assert!(value(&page, "container_cpu_cfs_throttled_seconds_total", "busy") > 0.0);
    let periods = "container_cpu_cfs_periods_total";
    assert!(value(&page, periods, "busy") > 0.0 && samples(&page, periods, &[id("hold")]).is_empty());

    // Memory, within what the container took, and as Docker says it.
    let full = |page: &str| value(page, "container_memory_rss", "hold") >= HELD_MIB * MIB;
    let page = wait_for(&exporter, "the memory is taken", full).await;
    let working_set = value(&page, "container_memory_working_set_bytes", "hold") / MIB;
    assert!((HELD_MIB..96.0).contains(&working_set), "{working_set}");
    let usage = value(&page, "container_memory_usage_bytes", "hold") / MIB;
    let of_kernel = from_cgroup(id("hold"), "memory/memory.usage_in_bytes", "memory.current") / MIB;
    assert!(usage >= working_set && (usage - of_kernel).abs() < 1.0, "{usage} {of_kernel}");
    assert_eq!(value(&page, "container_spec_memory_limit_bytes", "hold"), 96.0 * MIB);
    assert_eq!(value(&page, "container_spec_memory_limit_bytes", "busy"), 0.0);
    let of_docker = docker.cli(&["stats", "--no-stream", "--format", "{{.MemUsage}}", id("hold")]).unwrap();
    let of_docker: f64 = of_docker.split_once("MiB").unwrap().0.parse().unwrap();
    assert!((working_set - of_docker).abs() < 1.0, "{working_set} {of_docker}");
    assert!(value(&page, "container_threads", "hold") >= 2.0, "itself and its init");

    // The network, by the container's own device.
    let bytes = |page: &str, direction: &str, service: &str| {
        value(page, &format!("container_network_{direction}_bytes_total"), service)
    };
    let arrived =
        |page: &str| bytes(page, "receive", "take") >= SENT_BYTES && bytes(page, "transmit", "send") >= SENT_BYTES;
    let page = wait_for(&exporter, "what was sent is counted", arrived).await;
    assert!(bytes(&page, "transmit", "send") < 1.5 * SENT_BYTES && bytes(&page, "transmit", "take") < SENT_BYTES);
    let interface = samples(&page, "container_network_receive_bytes_total", &[id("take"), "interface=\"eth0\""]);
    assert_eq!(interface.len(), 1);
    for service in ["hold", "host"] {
        assert!(samples(&page, "container_network_receive_bytes_total", &[id(service)]).is_empty(), "{service}");
    }

    // The disk.
    if let Some(disk) = disk {
        let device = format!("device=\"{disk}\"");
        let written = |page: &str| {
            let found = samples(page, "container_fs_writes_bytes_total", &[id("write"), &device]);
            found.first().map_or(0.0, |(_, bytes)| *bytes)
        };
        let page = wait_for(&exporter, "what was written is counted", |page| written(page) >= WRITTEN_BYTES).await;
        assert!(written(&page) < 2.0 * WRITTEN_BYTES, "{}", written(&page));
        let writes = samples(&page, "container_fs_writes_total", &[id("write"), &device])[0].1;
        assert!((1.0..WRITTEN_BYTES / 4096.0).contains(&writes), "{writes}");
        let of_docker = docker.cli(&["stats", "--no-stream", "--format", "{{.BlockIO}}", id("write")]).unwrap();
        let of_docker: f64 = of_docker.trim().rsplit(' ').next().unwrap().strip_suffix("MB").unwrap().parse().unwrap();
        assert!((written(&page) / 1e6 / of_docker - 1.0).abs() < 0.02, "{} {of_docker}", written(&page));
    } else {
        eprintln!("NOT TESTED: writes, because the engine's folder is on no disk");
    }

    // Nothing to find fault with but what cAdvisor's own names have.
    let lint = promtool(&["check", "metrics"], page.as_bytes()).await.unwrap();
    let known = ["container_memory_failcnt counter metrics should have \"_total\" suffix"];
    for line in lint.stdout.lines().chain(lint.stderr.lines()) {
        assert!(known.contains(&line), "{line}");
    }

    // A chosen label, and a container that came before the exporter.
    let tier = Exporter::start(&[
        "--collector.disable-defaults",
        "--collector.container",
        &flag,
        "--collector.container.labels=tier",
    ])
    .await;
    let tiered = |page: &str| {
        // A name that comes leaves no gap.
        assert_eq!(samples(page, "container_network_receive_bytes_total", &[id("take")]).len(), 1, "{page}");
        samples(page, "container_last_seen", &[id("busy"), "container_label_tier=\"batch\""]).len() == 1
    };
    let page = wait_for(&tier, "the chosen label", tiered).await;
    assert!(samples(&page, "container_last_seen", &[project]).is_empty());

    // Gone at the next scrape, with its descriptors.
    assert!(held(&mut exporter, &ids) > 0);
    docker.cli(&["rm", "--force", id("send")]).unwrap();
    let page = exporter.text().await;
    assert!(!page.contains(id("send")) && page.contains(id("take")), "{page}");
    assert_eq!(held(&mut exporter, &[id("send").to_owned()]), 0);
    // Started anew: its counters begin again, under the same name.
    let before = value(&page, "container_cpu_usage_seconds_total", "busy");
    docker.cli(&["restart", "--time", "0", id("busy")]).unwrap();
    let page = exporter.text().await;
    assert!(value(&page, "container_cpu_usage_seconds_total", "busy") < before, "{page}");
    assert!(bytes(&page, "receive", "busy") >= 0.0);

    // An engine that hangs: what is known stays, what is not has its id alone, and nobody waits for it.
    if !docker.is_own() {
        eprintln!("NOT TESTED: the engine at {} was found running and is not ours to stop", docker.address());
        return;
    }
    let paused = Paused::new(docker.process().unwrap().pid());
    let known = exporter.text().await;
    assert!(value(&known, "container_memory_working_set_bytes", "take") > 0.0);
    let fresh = Exporter::start(&["--collector.disable-defaults", "--collector.container", &flag]).await;
    for _ in 0..3 {
        // The usual timeout of a scrape.
        let page = tokio::time::timeout(Duration::from_secs(10), fresh.text()).await.unwrap();
        let found = samples(&page, "container_memory_working_set_bytes", &[id("take")]);
        assert_eq!(found.len(), 1, "{page}");
        assert_eq!(found[0].0, format!("id=\"/docker/{}\"", id("take")));
        assert!(page.contains("\nnode_scrape_collector_success{collector=\"container\"} 1\n"));
    }
    drop(paused);
    let named =
        |page: &str| samples(page, "container_memory_working_set_bytes", &[project]).len() == services.len() - 1;
    wait_for(&fresh, "names, when the engine works again", named).await;

    docker.compose(&["down", "--timeout", "0"], folder.path()).unwrap();
    let page = exporter.text().await;
    assert!(ids.iter().all(|id| !page.contains(id)), "{page}");
    assert_eq!(held(&mut exporter, &ids), 0);
}
