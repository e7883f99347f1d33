//! `models`: the networks that a predictor has fine-tuned, from its state folder; and a request for another.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use cloudpulse_forecast::ensemble::Ensemble;
use cloudpulse_lstm::member::{self, Member};
use cloudpulse_lstm::store;

use crate::config::is_name;
use crate::state::{self, NetworkHeader};

/// Deadline of a request to the predictor.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the fine-tuned networks in a state folder, the newest last. The last one that fits is in use.
    List(StateArgs),
    /// Show what a network was trained on and what it was worth.
    Show(ShowArgs),
    /// Ask a running predictor to fine-tune now, beside its cycles. It uses the outcome only where that is better.
    Retrain(RetrainArgs),
}

/// Where the networks are.
#[derive(Debug, clap::Args)]
pub struct StateArgs {
    /// State folder of the predictor.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_STATE_DIR", value_name = "FOLDER")]
    state_dir: PathBuf,
}

/// Which network.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// State folder of the predictor; not needed for the bundled network.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_STATE_DIR", value_name = "FOLDER", required_unless_present = "bundled")]
    state_dir: Option<PathBuf>,
    /// The network that comes with the program.
    #[arg(long, conflicts_with_all = ["forecast", "number"])]
    bundled: bool,
    /// Forecast whose network it is.
    #[arg(value_name = "FORECAST", required_unless_present = "bundled")]
    forecast: Option<String>,
    /// Its number; the newest where absent.
    #[arg(value_name = "NUMBER")]
    number: Option<u64>,
}

/// Which predictor is asked.
#[derive(Debug, clap::Args)]
pub struct RetrainArgs {
    /// Base URL of the predictor.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_URL", default_value = "http://127.0.0.1:9101", value_name = "URL")]
    url: String,
    /// File with its API token.
    #[arg(long, env = "CLOUDPULSE_PREDICTOR_API_TOKEN_FILE", value_name = "FILE")]
    api_token_file: PathBuf,
    /// Forecast to fine-tune; all where absent.
    #[arg(value_name = "FORECAST")]
    forecast: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the folder or the network is not there, or the predictor refuses or does not answer.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(args) => list(&args),
        Command::Show(args) => show(&args),
        Command::Retrain(args) => retrain(&args).await,
    }
}

fn list(StateArgs { state_dir }: &StateArgs) -> anyhow::Result<()> {
    let said = || format!("state folder {}", state_dir.display());
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<20} {:>6} {:<20} {:>6} {:>7} {:>8} {:>8} {:>8}  fits",
        "forecast", "number", "made at", "series", "windows", "bundled", "before", "tuned"
    )?;
    for forecast in state::list_forecasts(state_dir).with_context(said)? {
        for (number, network) in state::list_networks(state_dir, &forecast).with_context(said)? {
            let (header, weights) = match network {
                Ok(network) => network,
                Err(fault) => {
                    writeln!(out, "{forecast:<20} {number:>6} damaged: {fault}")?;
                    continue;
                }
            };
            let NetworkHeader { made_at, series, windows, losses: [bundled, before, tuned], .. } = header;
            let fits = fault(&weights).map_or("yes", |_| "no");
            writeln!(
                out,
                "{forecast:<20} {number:>6} {:<20} {series:>6} {:>7} {bundled:>8.4} {before:>8.4} {tuned:>8.4}  {fits}",
                time(made_at),
                windows.iter().sum::<usize>(),
            )?;
        }
    }
    writeln!(out, "Losses: quantile loss on the newest windows as a share of persistence's error; lower is better.")?;
    Ok(())
}

fn show(ShowArgs { state_dir, bundled, forecast, number }: &ShowArgs) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if *bundled {
        return notes(&mut out, member::bundled_bytes());
    }
    let (Some(state_dir), Some(forecast)) = (state_dir, forecast) else { return Ok(()) };
    let networks =
        state::list_networks(state_dir, forecast).with_context(|| format!("state folder {}", state_dir.display()))?;
    let found = match number {
        Some(number) => networks.into_iter().find(|(own, _)| own == number),
        None => networks.into_iter().next_back(),
    };
    let which = number.map_or_else(|| "a network".to_owned(), |number| format!("network {number}"));
    let (number, network) = found.with_context(|| {
        format!("{} holds no {which} of forecast {forecast:?}; see models list", state_dir.display())
    })?;
    let (header, weights) = network.map_err(|fault| anyhow::anyhow!("network {number} is damaged: {fault}"))?;
    let NetworkHeader { forecast, made_at, series, windows: [train, hold, compare], steps, losses } = header;
    writeln!(out, "forecast: {forecast}\nnumber: {number}\nmade at: {}", time(made_at))?;
    writeln!(
        out,
        "learnt from: {series} series, {train} windows in {steps} steps; stopped on {hold}, compared on {compare}"
    )?;
    let [bundled, before, tuned] = losses;
    writeln!(out, "loss: {tuned:.4}; of the network before {before:.4}, of the bundled one {bundled:.4}")?;
    if let Some(fault) = fault(&weights) {
        writeln!(out, "not used: {fault}")?;
    }
    notes(&mut out, &weights)
}

async fn retrain(RetrainArgs { url, api_token_file, forecast }: &RetrainArgs) -> anyhow::Result<()> {
    let token = std::fs::read_to_string(api_token_file).with_context(|| api_token_file.display().to_string())?;
    let client = cloudpulse_common::query::http_client().timeout(TIMEOUT).build()?;
    let address = format!("{}/api/v1/retrain", url.trim_end_matches('/'));
    let query = match forecast {
        None => String::new(),
        // Every name that a configuration may have can stand in a URL as it is.
        Some(name) if name.chars().all(is_name) => format!("?forecast={name}"),
        Some(name) => anyhow::bail!("{name:?} is no name of a forecast"),
    };
    let request = client.post(format!("{address}{query}"));
    let request = cloudpulse_common::query::with_token(request, url, token.trim());
    let answer = request.send().await.with_context(|| format!("asking {address}"))?;
    let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
    anyhow::ensure!(status.is_success(), "{address} answers {status}: {text}");
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// Why weights are of no use to this program; `None` where they are.
fn fault(weights: &[u8]) -> Option<String> {
    Member::load(&Ensemble::default(), weights).err().map(|error| error.to_string())
}

fn notes(out: &mut impl std::io::Write, weights: &[u8]) -> anyhow::Result<()> {
    writeln!(out, "weights: {} bytes", weights.len())?;
    for (name, value) in store::metadata(weights)? {
        writeln!(out, "  {name}: {value}")?;
    }
    Ok(())
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
