//! System calls of a scrape, counted by strace.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use cloudpulse_testkit::process::find_program;
use rustix::process::{Pid, Signal, kill_process};

use super::side::{Side, TEXT};
use crate::table;

const SCRAPES: u32 = 5;

/// Returns how many system calls a scrape takes; `None`, said, where strace is missing or may not trace.
pub(super) async fn per_scrape(side: &mut Side) -> anyhow::Result<Option<f64>> {
    let Ok(strace) = find_program(&["strace"], "strace") else {
        table::line("SKIPPED: strace is not installed (Debian: strace), so that system calls are not counted");
        return Ok(None);
    };
    let folder = tempfile::tempdir()?;
    let counts = folder.path().join("counts");
    let mut tracer = Command::new(strace)
        .args(["-f", "-c", "-o"])
        .arg(&counts)
        .args(["-p", &side.pid().to_string()])
        .stderr(Stdio::null())
        .spawn()?;
    // It has attached once the kernel names a tracer.
    for _ in 0..100 {
        if side.status("TracerPid:")? > 0.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let is_traced = side.status("TracerPid:")? > 0.0;
    for _ in 0..SCRAPES {
        side.scrape(TEXT).await?;
    }
    // One that has ended cannot be signalled, which shows below.
    let _ = kill_process(Pid::from_child(&tracer), Signal::INT);
    tracer.wait()?;
    if !is_traced {
        table::line("SKIPPED: strace may not trace here, so that system calls are not counted");
        return Ok(None);
    }
    let text = std::fs::read_to_string(&counts)?;
    Ok(Some(total(&text).context("strace wrote no total")? / f64::from(SCRAPES)))
}

/// Returns the calls of the last line of strace's table: `100.00 0.000123 5 1234 12 total`.
fn total(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.trim_end().ends_with("total"))?;
    // Share, seconds, microseconds a call, calls, and errors where there were any.
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_number_of_calls() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n 60.00    0.000100           1       100           read\n\
                    100.00    0.000166           1       126        12 total\n";
        assert_eq!(total(text), Some(126.0));
        assert_eq!(total("nothing"), None);
    }
}
