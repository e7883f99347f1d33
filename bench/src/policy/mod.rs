//! The scaling policy on traces, beside an HPA and simple forecasts, all at equal replica-hours.
//!
//! Each policy is replayed at many settings; what counts is its violation minutes where it costs as much as the reactive
//! HPA at 70 or 80 %.

mod measure;
mod picture;
mod report;
mod traces;

use std::path::{Path, PathBuf};

use cloudpulse_replay::peaks::PeakSource;
use rayon::prelude::*;

use crate::table;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Minutes that a replica takes to start, each; the bars are those of 2.
    #[arg(long, value_delimiter = ',', default_value = "1,2,5", value_name = "MINUTES,…")]
    start_delays: Vec<i64>,
    /// The six public request traces alone, without the eighteen harder ones.
    #[arg(long)]
    public_only: bool,
    /// Also draw each trace's curve of violations over replica-hours, a file for each trace and start delay.
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
}

/// Replays all policies on all traces and prints the tables. `peaks` says how a load's peaks are forecast.
///
/// # Errors
/// When the folder is there and none of the traces is in it.
pub(crate) fn run(folder: &Path, args: &Args, peaks: PeakSource<'_>) -> anyhow::Result<()> {
    table::line("\nScaling policy on traces: violation minutes at the replica-hours of a reactive HPA");
    if !folder.is_dir() {
        table::line(&format!("SKIPPED: {} is not there; name a folder with --traces", folder.display()));
        return Ok(());
    }
    let names = traces::PUBLIC.iter().chain(traces::HARDER.iter().filter(|_| !args.public_only));
    let mut all = Vec::new();
    for name in names {
        match traces::load(folder, name) {
            Some(trace) => all.push(trace),
            None => table::line(&format!("  SKIPPED: {name}.csv is not there, or holds no load")),
        }
    }
    anyhow::ensure!(!all.is_empty(), "{} holds none of the traces", folder.display());
    for minutes in &args.start_delays {
        // One trace after the other on each thread: their lengths differ, so the next free thread takes the next trace.
        let measured: Vec<measure::Measured<'_>> =
            all.par_iter().with_max_len(1).map(|trace| measure::measure(trace, minutes * 60, peaks)).collect();
        report::print(*minutes, &measured);
        if let Some(folder) = &args.plot {
            std::fs::create_dir_all(folder)?;
            for one in &measured {
                let name = one.trace.name.replace('/', "_");
                picture::write(*minutes, one, &folder.join(format!("{name}_{minutes}m.svg")))?;
            }
        }
    }
    Ok(())
}
