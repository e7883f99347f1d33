//! `pretrain`: a seed in; a file of weights, trained on synthetic series alone, out.

use std::path::PathBuf;

use anyhow::Context as _;
use cloudpulse_forecast::ensemble::Ensemble;
use cloudpulse_forecast::series::Series;
use cloudpulse_lstm::corpus::{self, Corpus};
use cloudpulse_lstm::device::{self, Wanted};
use cloudpulse_lstm::training::{self, Course, Fitted, Worth};
use cloudpulse_lstm::{Weights, member, store};
use rayon::prelude::*;

/// Validation series are those of this seed, which no training seed reaches.
const VALIDATION_SEED: u64 = 1 << 40;
/// Training seeds are this far apart.
const SEED_STRIDE: u64 = 1 << 24;
/// Series whose windows are made at once: progress is said after each.
const LOT: usize = 250;
/// Names of the horizons in the table.
const HORIZONS: [&str; corpus::QUERIES] = ["1 step", "5m", "10m", "15m", "30m", "1h", "3h", "6h", "24h"];

/// Makes the weights of the bundled LSTM again: generates synthetic series, shows each to the pool of models as it would
/// grow, and trains the network that mixes the pool's forecasts. No real series is involved. The defaults make the bundled
/// weights, in about ten minutes on two cores and with 2 GB of memory; the same seed gives the same weights on the same kind of
/// processor.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write (safetensors).
    #[arg(long, value_name = "FILE", default_value = "lstm.safetensors")]
    out: PathBuf,
    /// Synthetic series to train on.
    #[arg(long, value_name = "N", default_value_t = 4500)]
    series: u64,
    /// Windows of each.
    #[arg(long, value_name = "N", default_value_t = 40)]
    windows: usize,
    /// Series that are held back for validation.
    #[arg(long, value_name = "N", default_value_t = 250)]
    held_back: u64,
    /// Training steps, each on 256 windows.
    #[arg(long, value_name = "N", default_value_t = 12_000)]
    steps: usize,
    /// Seed of series and weights.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Leave the recurrent branch out, to learn what it brings.
    #[arg(long)]
    no_recurrence: bool,
    /// What computes the steps: auto, cpu or gpu.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: Wanted,
}

/// Trains and writes.
///
/// # Errors
/// When the file cannot be written, or no series is asked for.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let Args { out, series, windows, held_back, steps, seed, no_recurrence, device } = args;
    let device = device::choose(*device)?;
    say(format_args!("training on {device}"));
    anyhow::ensure!(
        *series > 0 && *held_back > 0 && *windows > 0 && *steps > 0,
        "nothing to train on: use numbers above 0"
    );
    let (ensemble, recurrent) = (Ensemble::default(), !no_recurrence);
    let valid = windows_of(&ensemble, VALIDATION_SEED, *held_back, *windows);
    let train = windows_of(&ensemble, seed.wrapping_mul(SEED_STRIDE), *series, *windows);
    anyhow::ensure!(!train.is_empty() && !valid.is_empty(), "the series have no window: use more series");
    say(format_args!("{} windows to train on, {} held back", train.len(), valid.len()));
    let start = Weights::init(member::shape(&ensemble, recurrent), *seed)?;
    say(format_args!("{} weights", start.values().len()));
    let watch = |worth: &Worth| {
        let loss = worth.quantile_loss;
        say(format_args!(
            "step {:>6}: quantile loss {loss:.4} of persistence's error on the windows held back",
            worth.step
        ));
        true
    };
    let course = Course::pretraining(*steps, *seed);
    let Fitted { weights, worth, lost_device } = training::fit(start, &train, &valid, &course, device.engine(), watch)?;
    if let Some(why) = lost_device {
        say(format_args!("the GPU failed on the way, and the CPU went on: {why}"));
    }
    say(format_args!(
        "absolute error as a share of persistence's, held back: the combination without, and the network alone"
    ));
    for (name, [combination, network]) in HORIZONS.iter().zip(&worth.errors) {
        say(format_args!("  {name:>6}  {combination:.3}  {network:.3}"));
    }
    let mut notes = member::notes(&ensemble, recurrent);
    notes.extend(
        [
            ("generator", cloudpulse_synthetic::VERSION.to_string()),
            ("seed", seed.to_string()),
            ("series", series.to_string()),
            ("windows", train.len().to_string()),
            ("step", worth.step.to_string()),
            ("quantile_loss", format!("{:.4}", worth.quantile_loss)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    std::fs::write(out, store::save(&weights, &notes)?).with_context(|| format!("cannot write {}", out.display()))?;
    say(format_args!("wrote {} (step {}, quantile loss {:.4})", out.display(), worth.step, worth.quantile_loss));
    Ok(())
}

fn windows_of(ensemble: &Ensemble, first: u64, series: u64, windows: usize) -> Corpus {
    let mut corpus = Corpus::default();
    let seeds: Vec<u64> = (first..first + series).collect();
    for lot in seeds.chunks(LOT) {
        let parts: Vec<Corpus> = lot.par_iter().map(|seed| of_seed(ensemble, *seed, windows)).collect();
        parts.into_iter().for_each(|part| corpus.append(part));
        say(format_args!("{} windows of {} series", corpus.len(), lot[lot.len() - 1] - first + 1));
    }
    corpus
}

fn of_seed(ensemble: &Ensemble, seed: u64, windows: usize) -> Corpus {
    let made = cloudpulse_synthetic::series(seed);
    match Series::new(made.start_seconds, made.step_seconds, made.values) {
        Ok(series) => {
            let origins = corpus::origins(&series, windows, seed);
            corpus::windows(ensemble, &series, &origins, &[series.len()]).pop().unwrap_or_default()
        }
        Err(_) => Corpus::default(),
    }
}

/// Progress goes to the error stream: a person waits for minutes.
fn say(text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    // Whoever closed the stream does not want to read it.
    let _unread = writeln!(std::io::stderr(), "{text}");
}
