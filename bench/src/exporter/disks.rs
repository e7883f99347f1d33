//! How both grow with disks: real block devices of the kernel, in memory (zram), each written to once so that its counters have
//! something to say.

use std::path::Path;

use anyhow::Context as _;

use super::{Args, Programs, compare, is_root};
use crate::table;

/// Each read of it makes a disk and says its number.
const ADD: &str = "/sys/class/zram-control/hot_add";
const REMOVE: &str = "/sys/class/zram-control/hot_remove";
/// The devices that node_exporter leaves out by default, but for zram.
const FILTER: &str = "--collector.diskstats.device-exclude=^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$";
const ROUNDS: u32 = 3;
const SCRAPES: u32 = 50;

/// Measures both with each number of disks.
pub(super) async fn run(programs: &Programs, args: &Args) -> anyhow::Result<()> {
    if args.disks.is_empty() {
        return Ok(());
    }
    if !is_root() || !Path::new(ADD).exists() {
        table::line("SKIPPED: growth with disks needs root and the kernel's zram (modprobe zram)");
        return Ok(());
    }
    let args = Args { rounds: args.rounds.min(ROUNDS), scrapes: args.scrapes.min(SCRAPES), ..args.clone() };
    let flags = ["--web.disable-exporter-metrics".to_owned(), FILTER.to_owned()];
    let our_flags = ["--no-collector.container".to_owned()];
    let mut disks = Disks(Vec::new());
    for wanted in args.disks.clone() {
        disks.reach(wanted as usize)?;
        let what = format!("the default sets, ours without the collector of containers, with {wanted} zram disks");
        compare(&what, programs, &args, &flags, &our_flags, None).await?;
    }
    Ok(())
}

/// The numbers of the disks that were made. They go with this.
struct Disks(Vec<u32>);

impl Disks {
    fn reach(&mut self, wanted: usize) -> anyhow::Result<()> {
        while self.0.len() > wanted {
            self.remove_last();
        }
        while self.0.len() < wanted {
            let number = std::fs::read_to_string(ADD).with_context(|| format!("{ADD} makes no disk"))?;
            let number = number.trim().parse().with_context(|| format!("{ADD} said {number:?}"))?;
            self.0.push(number);
            std::fs::write(format!("/sys/block/zram{number}/disksize"), "1M")?;
            let device = format!("/dev/zram{number}");
            std::fs::write(&device, [7; 4096]).with_context(|| format!("{device} takes no block"))?;
        }
        Ok(())
    }

    fn remove_last(&mut self) {
        if let Some(number) = self.0.pop()
            && let Err(error) = std::fs::write(REMOVE, number.to_string())
        {
            table::line(&format!("zram{number} cannot be removed, so it stays: {error}"));
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        while !self.0.is_empty() {
            self.remove_last();
        }
    }
}
