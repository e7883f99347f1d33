//! Logs to stderr, as text or JSON, and the build information that every program exports.

use crate::exposition::{Kind, Page};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a program logs; flatten it into its arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// Which messages to log: error, warn, info, debug, trace, or a filter such as `info,cloudpulse_predictor=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true)]
    pub log_level: String,
    /// Form of the log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text", global = true)]
    pub log_format: LogFormat,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line per message.
    Text,
    /// One JSON object per message.
    Json,
}

/// Starts logging to stderr.
///
/// # Errors
/// When the filter cannot be read, or logging was started before.
pub fn init(args: &LogArgs) -> anyhow::Result<()> {
    // `Targets` and not `EnvFilter`, which brings a second engine for regular expressions into every program.
    let filter: Targets = args
        .log_level
        .parse()
        .map_err(|error| anyhow::anyhow!("--log-level {:?} is no filter: {error}", args.log_level))?;
    let subscriber = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match args.log_format {
        LogFormat::Text => {
            subscriber.with(layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init()
        }
        LogFormat::Json => subscriber.with(layer.json().flatten_event(true)).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}

/// Writes `cloudpulse_<program>_build_info`, always 1, with the version as label.
pub fn write_build_info(page: &mut Page<'_>, program: &str, version: &str) {
    let name = format!("cloudpulse_{program}_build_info");
    page.family(&name, "Always 1; the version of the program is in the labels.", Kind::Gauge);
    page.sample(&name, &[("version", version)], 1.0);
}
