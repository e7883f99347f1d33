//! How both grow with network devices, and ours with containers.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use cloudpulse_testkit::docker::Docker;
use cloudpulse_testkit::process::{find_program, run as run_command};

use super::side::{Side, TEXT, quantile};
use super::{Args, INTERVAL, Programs, WARM_UP, compare, is_root, shown};
use crate::table;

const IMAGE: &str = "cloudpulse-bench/idle:1";
const IDLE: &str = "fn main() { loop { std::thread::park() } }";
/// Rounds and scrapes of each number of devices: node_exporter takes a good part of a second for a scrape of 1,000.
const ROUNDS: u32 = 3;
const SCRAPES: u32 = 20;

/// Runs this program again in a network namespace of its own for each number of devices.
pub(super) fn veths(args: &Args) -> anyhow::Result<()> {
    if args.veths.is_empty() {
        return Ok(());
    }
    if !is_root() {
        table::line("SKIPPED: growth with network devices needs root, for a network namespace");
        return Ok(());
    }
    let unshare = find_program(&["unshare"], "util-linux")?;
    for veths in &args.veths {
        let (rounds, scrapes) = (args.rounds.min(ROUNDS).to_string(), args.scrapes.min(SCRAPES).to_string());
        let status = Command::new(&unshare)
            .args(["--net", "--mount"])
            .arg(std::env::current_exe()?)
            .args(["exporter", "--rounds", &rounds, "--scrapes", &scrapes, "--inside", &veths.to_string()])
            .status()?;
        ensure!(status.success(), "with {veths} network devices: {status}");
    }
    Ok(())
}

/// A network namespace in which the other ends of the devices are, as those of containers are. It goes with its process.
struct OtherEnds(Child);

impl Drop for OtherEnds {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the devices in the namespace of this process, and measures there.
pub(super) async fn inside(programs: &Programs, args: &Args, veths: u32) -> anyhow::Result<()> {
    let child = Command::new(find_program(&["unshare"], "util-linux")?).args(["--net", "sleep", "infinity"]).spawn()?;
    let other_ends = OtherEnds(child);
    let own = std::fs::read_link("/proc/self/ns/net")?;
    let pid = other_ends.0.id();
    // It is `unshare` at first, which is still here.
    for _ in 0..100 {
        if std::fs::read_link(format!("/proc/{pid}/ns/net"))? != own {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut batch = "link set lo up\n".to_owned();
    for at in 0..veths {
        batch += &format!("link add cpv{at} type veth peer name eth{at} netns {pid}\nlink set cpv{at} up\n");
    }
    let mut ip =
        Command::new(find_program(&["ip"], "iproute2")?).args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    ip.stdin.take().context("no stdin")?.write_all(batch.as_bytes())?;
    ensure!(ip.wait()?.success(), "the devices cannot be made");
    // What is mounted at /sys shows the devices of the namespace in which it was mounted.
    let folder = tempfile::tempdir()?;
    run_command(Command::new("mount").args(["-t", "sysfs", "sysfs"]).arg(folder.path()))?;
    let flags = ["--web.disable-exporter-metrics".to_owned(), format!("--path.sysfs={}", shown(folder.path()))];
    let what = format!("the default sets with {veths} veth devices");
    let result = compare(&what, programs, args, &flags, &[], None).await;
    run_command(Command::new("umount").arg("--lazy").arg(folder.path()))?;
    result
}

/// Shows what each number of containers costs ours; node_exporter shows none.
pub(super) async fn containers(ours: &Path, args: &Args) -> anyhow::Result<()> {
    if args.containers.is_empty() {
        return Ok(());
    }
    let Some(docker) = Docker::start().await? else {
        table::line(&format!("SKIPPED: growth with containers: {}", Docker::HOW_TO_GET_ONE));
        return Ok(());
    };
    docker.build_image(IMAGE, IDLE)?;
    table::line("exporter, the default set with containers; node_exporter shows none");
    let heading = ["containers", "CPU per scrape, us", "RSS, MiB", "latency p50, us", "samples on the page"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let mut running = Vec::new();
    for wanted in std::iter::once(0).chain(args.containers.iter().copied()) {
        while running.len() < wanted as usize {
            let id = docker.cli(&["run", "--detach", "--network", "none", IMAGE]);
            running.push(id?.trim().to_owned());
        }
        let mut flags = vec!["--web.disable-exporter-metrics".to_owned()];
        flags.extend(docker.socket().map(|socket| format!("--collector.container.docker-socket={}", shown(socket))));
        let mut side = Side::start("cloudpulse", ours, &flags).await?;
        for _ in 0..WARM_UP {
            side.scrape(TEXT).await?;
        }
        let round = side.round(args.scrapes, INTERVAL).await?;
        rows.push(vec![
            running.len().to_string(),
            format!("{:.0}", round.cpu_microseconds),
            format!("{:.2}", round.rss_kib / 1024.0),
            format!("{:.0}", quantile(&round.latencies_microseconds, 0.5)),
            side.samples.to_string(),
        ]);
    }
    table::print(&rows);
    for id in &running {
        docker.cli(&["rm", "--force", id])?;
    }
    Ok(())
}
