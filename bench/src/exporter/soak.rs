//! A day of scrapes in minutes: memory, open files and threads meanwhile.
//!
//! What a day brings is there too, only quicker: a file of metrics that is replaced each minute of the day, and, for root, a
//! network device and a mount that come and go. What only time brings, such as a clock that is set, is not.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::side::{OPENMETRICS, Side, TEXT, quantile};
use super::{is_root, shown};
use crate::table;

/// Parts of the run, of which each is a line: the hours of a day.
const PARTS: u32 = 24;
/// A file is replaced after so many scrapes, and a device comes or goes after ten times as many.
const CHANGE: u32 = 60;
/// How much more the second half may take than the first: what memory's own grain is.
const FLAT: f64 = 1.02;

/// Scrapes our default set and prints what it took.
pub(super) async fn run(ours: &Path, scrapes: u32, rate: u32) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut coming = ComingAndGoing { folder: folder.path(), is_there: false };
    coming.replace_file(0)?;
    let flags = [
        "--web.disable-exporter-metrics".to_owned(),
        format!("--collector.textfile.directory={}", shown(folder.path())),
    ];
    let mut side = Side::start("cloudpulse", ours, &flags).await?;
    if !is_root() {
        table::line("SKIPPED: a device and a mount that come and go need root");
    }
    table::line(&format!(
        "exporter: {scrapes} scrapes of the default set at up to {rate}/s, every other one in OpenMetrics"
    ));
    let heading = ["scrapes", "RSS, MiB", "highest, MiB", "open files", "threads", "CPU per scrape, us", "p99, us"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let mut memory = Vec::new();
    let begin = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    let mut done = 0;
    for part in 1..=PARTS {
        let until = u32::try_from(u64::from(scrapes) * u64::from(part) / u64::from(PARTS))?;
        let (from, before) = (done, side.cpu()?);
        let mut latencies = Vec::new();
        while done < until {
            ticks.tick().await;
            let accept = if done.is_multiple_of(2) { TEXT } else { OPENMETRICS };
            latencies.push(side.scrape(accept).await?.as_secs_f64() * 1e6);
            done += 1;
            if done.is_multiple_of(CHANGE) {
                coming.replace_file(done)?;
            }
            if done.is_multiple_of(10 * CHANGE) && is_root() {
                coming.change_devices()?;
            }
        }
        let cpu = (side.cpu()? - before).as_secs_f64() * 1e6 / f64::from((done - from).max(1));
        let rss = side.status("VmRSS:")?;
        memory.push(rss);
        rows.push(vec![
            done.to_string(),
            format!("{:.3}", rss / 1024.0),
            format!("{:.3}", side.status("VmHWM:")? / 1024.0),
            side.open_files()?.to_string(),
            side.status("Threads:")?.to_string(),
            format!("{cpu:.0}"),
            format!("{:.0}", quantile(&latencies, 0.99)),
        ]);
    }
    table::print(&rows);
    let (first, second) = memory.split_at(memory.len() / 2);
    let highest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let growth = highest(second) / highest(first);
    let verdict = if growth <= FLAT { "flat" } else { "IT GROWS" };
    let took = begin.elapsed().as_secs_f64();
    table::line(&format!(
        "  the second half took {growth:.3} of the first half's memory at most: {verdict}; {took:.0} s"
    ));
    Ok(())
}

/// What changes on the machine.
struct ComingAndGoing<'f> {
    folder: &'f Path,
    is_there: bool,
}

impl ComingAndGoing<'_> {
    /// Puts another file of metrics in place by a rename.
    fn replace_file(&self, value: u32) -> anyhow::Result<()> {
        let (new, name) = (self.folder.join("new"), self.folder.join("jobs.prom"));
        std::fs::write(&new, format!("# TYPE jobs_total counter\njobs_total{{name=\"backup\"}} {value}\n"))?;
        Ok(std::fs::rename(new, name)?)
    }

    fn change_devices(&mut self) -> anyhow::Result<()> {
        let place = self.folder.join("mount");
        std::fs::create_dir_all(&place)?;
        if self.is_there {
            cloudpulse_testkit::process::run(Command::new("ip").args(["link", "del", "cpsoak0"]))?;
            cloudpulse_testkit::process::run(Command::new("umount").arg(&place))?;
        } else {
            let link = ["link", "add", "cpsoak0", "type", "veth", "peer", "name", "cpsoak1"];
            cloudpulse_testkit::process::run(Command::new("ip").args(link))?;
            cloudpulse_testkit::process::run(Command::new("mount").args(["-t", "tmpfs", "cpsoak"]).arg(&place))?;
        }
        self.is_there = !self.is_there;
        Ok(())
    }
}

impl Drop for ComingAndGoing<'_> {
    fn drop(&mut self) {
        if self.is_there {
            let _ = self.change_devices();
        }
    }
}
