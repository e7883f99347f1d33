//! What no scrape may choke on, with the real thing each: ten thousand network devices, a hundred thousand tracked connections,
//! ten thousand mounts, sixteen MiB of metrics of others. A mount that hangs has its test in `process.rs`.
//!
//! They need root, for namespaces, and say so where they do not run. How long they take is printed and not judged.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "test code")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use support::Exporter;

/// A process in namespaces of its own, which go with it.
struct Namespace(Child);

impl Namespace {
    /// Runs a shell script in new namespaces and returns when it has said `ready`. `None` where this is not root.
    fn new(namespaces: &[&str], script: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOT TESTED: namespaces need root");
            return None;
        }
        let script = format!("set -e\n{script}\necho ready\nexec sleep infinity");
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["--kill-child", "sh", "-c", &script]).stdout(Stdio::piped());
        let mut this = Self(command.spawn().unwrap());
        let said = BufReader::new(this.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said: Vec<String> = said.take_while(|line| line != "ready").collect();
        let ended = this.0.try_wait().unwrap();
        assert!(ended.is_none(), "the script ended with {ended:?} and said {said:?}");
        Some(this)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a number of a file of the exporter's in /proc, such as `VmHWM:` in KiB.
fn of_proc(exporter: &mut Exporter, file: &str, key: &str) -> u64 {
    let path = format!("/proc/{}/{file}", exporter.program.process().pid());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn open_files(exporter: &mut Exporter) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", exporter.program.process().pid())).unwrap().count()
}

fn count(page: &str, family: &str) -> usize {
    page.lines().filter(|line| line.strip_prefix(family).is_some_and(|rest| rest.starts_with('{'))).count()
}

/// Scrapes twice, says how long the second took and what it cost, and returns its page.
async fn scrape(exporter: &mut Exporter, what: &str) -> String {
    exporter.text().await;
    let begin = Instant::now();
    let page = exporter.text().await;
    println!(
        "{what}: {:?} for {} bytes, {} KiB of memory at most, {} files open",
        begin.elapsed(),
        page.len(),
        of_proc(exporter, "status", "VmHWM:"),
        open_files(exporter)
    );
    page
}

#[tokio::test]
async fn ten_thousand_network_devices_are_shown_with_few_open_files() {
    const PAIRS: usize = 4_999;
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t sysfs sysfs {}\nfor at in $(seq {PAIRS}); do echo link add a$at type veth peer name b$at; done | ip -batch -",
        folder.path().display()
    );
    let Some(namespace) = Namespace::new(&["--net", "--mount"], &script) else { return };
    // Its devices are in its own net and in the sysfs that it mounted.
    let proc = format!("/proc/{}", namespace.pid());
    let (procfs, sysfs) =
        (format!("--path.procfs={proc}"), format!("--path.sysfs={proc}/root{}", folder.path().display()));
    let flags = ["--collector.disable-defaults", "--collector.netdev", "--collector.netclass", &procfs, &sysfs];
    let mut exporter = Exporter::start(&flags).await;
    let page = scrape(&mut exporter, "10,000 network devices").await;
    // The pairs, and lo.
    for family in ["node_network_up", "node_network_mtu_bytes", "node_network_receive_bytes_total"] {
        assert_eq!(count(&page, family), 2 * PAIRS + 1, "{family}");
    }
    assert!(open_files(&mut exporter) < 500, "{}", open_files(&mut exporter));
    // The page, twice while it grows, and some KiB for each device.
    let memory = of_proc(&mut exporter, "status", "VmHWM:") * 1024;
    assert!(memory < 4 * page.len() as u64 + (64 << 20), "{memory} for a page of {}", page.len());
}

#[tokio::test]
async fn a_hundred_thousand_connections_cost_what_none_cost() {
    const CONNECTIONS: u64 = 100_000;
    // Packets to as many addresses of the machine itself, where a rule of the firewall wants them tracked.
    let script = format!(
        "ip link set lo up\niptables -A OUTPUT -m conntrack --ctstate INVALID -j DROP\n\
         /usr/bin/python3 -c 'import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for at in range({CONNECTIONS}):\n try: s.sendto(b\"x\", (f\"127.{{1 + (at >> 16)}}.{{at >> 8 & 255}}.{{at & 255}}\", 9))\n except OSError: pass'"
    );
    let limit = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap_or_default();
    if limit.trim().parse::<u64>().is_ok_and(|limit| limit < CONNECTIONS) {
        eprintln!("NOT TESTED: this kernel tracks {limit} connections at most");
        return;
    }
    let Some(namespace) = Namespace::new(&["--net"], &script) else { return };
    let target = namespace.pid().to_string();
    let enter = |command: &str| {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &target, "--net", "sh", "-c", command]);
        enter
    };
    // The files of connections are those of the namespace of whoever reads them.
    let binary = env!("CARGO_BIN_EXE_cloudpulse-exporter");
    let flags = "--web.listen-address=127.0.0.1:9100 --collector.disable-defaults --collector.conntrack";
    let mut exporter = enter(&format!("exec {binary} {flags}")).stderr(Stdio::null()).spawn().unwrap();
    let get = "curl --silent --fail --retry 50 --retry-delay 0 --retry-connrefused http://127.0.0.1:9100/metrics";
    let read = || {
        let io = std::fs::read_to_string(format!("/proc/{}/io", exporter.id())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse::<u64>().unwrap()
    };
    let scrape = || String::from_utf8(enter(get).output().unwrap().stdout).unwrap();
    scrape();
    let before = read();
    let page = scrape();
    let bytes = read() - before;
    exporter.kill().unwrap();
    exporter.wait().unwrap();
    let entries = page.lines().find_map(|line| line.strip_prefix("node_nf_conntrack_entries ")).unwrap();
    println!("100,000 tracked connections: {entries} on the page, {bytes} bytes read for it");
    assert!(entries.parse::<u64>().unwrap() >= CONNECTIONS, "{entries}");
    // Of the table one line alone has more than a hundred bytes.
    assert!(bytes < 64 << 10, "{bytes}");
}

#[tokio::test]
async fn ten_thousand_mounts_are_shown() {
    const MOUNTS: usize = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("m");
    // By the system call: as many runs of mount(8) take a minute.
    let script = format!(
        "/usr/bin/python3 -c 'import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nfor at in range({MOUNTS}):\n \
         path = f\"{}{{at}}\"\n os.mkdir(path)\n assert libc.mount(b\"x\", path.encode(), b\"tmpfs\", 0, b\"size=4k\") == 0, \
         os.strerror(ctypes.get_errno())'",
        at.display()
    );
    let Some(namespace) = Namespace::new(&["--mount"], &script) else { return };
    // A proc whose first process is the one that sees these mounts.
    let proc = folder.path().join("proc");
    std::fs::create_dir(&proc).unwrap();
    std::os::unix::fs::symlink(format!("/proc/{}", namespace.pid()), proc.join("1")).unwrap();
    let procfs = format!("--path.procfs={}", proc.display());
    let rootfs = format!("--path.rootfs=/proc/{}/root", namespace.pid());
    let flags = [
        "--collector.disable-defaults",
        "--collector.filesystem",
        "--collector.filesystem.mount-points-include=/m[0-9]+$",
        &procfs,
        &rootfs,
    ];
    let mut exporter = Exporter::start(&flags).await;
    let page = scrape(&mut exporter, "10,000 mounts").await;
    for family in ["node_filesystem_size_bytes", "node_filesystem_device_error"] {
        assert_eq!(count(&page, family), MOUNTS, "{family}");
    }
    // They were asked: each has a page of four KiB.
    assert!(page.contains("m9999\",fstype=\"tmpfs\"} 4096\n"), "{}", &page[..2000]);
    assert_eq!(of_proc(&mut exporter, "status", "Threads:"), 1);
}

#[tokio::test]
async fn sixteen_mib_of_metrics_are_shown_and_more_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut content = "# TYPE many gauge\n".to_owned();
    let mut samples = 0;
    while content.len() < (16 << 20) - 64 {
        content += &format!("many{{series=\"{samples:020}\"}} {samples}\n");
        samples += 1;
    }
    std::fs::write(folder.path().join("many.prom"), &content).unwrap();
    let directory = format!("--collector.textfile.directory={}", folder.path().display());
    let mut exporter = Exporter::start(&["--collector.disable-defaults", "--collector.textfile", &directory]).await;
    let page = scrape(&mut exporter, "16 MiB of metrics").await;
    assert_eq!(count(&page, "many"), samples);
    assert!(page.contains("\nnode_textfile_scrape_error 0\n"));
    std::fs::write(folder.path().join("more.prom"), &content).unwrap();
    let page = exporter.text().await;
    assert!(count(&page, "many") == samples && page.contains("\nnode_textfile_scrape_error 1\n"));
}
