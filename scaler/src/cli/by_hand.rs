//! Flags of the commands that talk to a running scaler: status, scale, pause.

use std::path::PathBuf;

use clap::Args;
use cloudpulse_common::duration::PromDuration;

use super::OutputForm;

/// Where the running scaler is.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Base URL of the scaler.
    #[arg(long, env = "CLOUDPULSE_SCALER_URL", default_value = "http://127.0.0.1:9102", value_name = "URL")]
    pub url: String,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where to ask.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Form of the output on stdout.
    #[arg(long, value_enum, default_value = "table")]
    pub output: OutputForm,
}

/// Arguments of `scale`.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// Where to ask.
    #[command(flatten)]
    pub server: ServerArgs,
    /// File with the scaler's API token.
    #[arg(long, env = "CLOUDPULSE_SCALER_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: PathBuf,
    /// Name of the rule.
    #[arg(value_name = "RULE")]
    pub rule: String,
    /// Replicas to be had.
    #[arg(value_name = "REPLICAS")]
    pub replicas: u32,
    /// Pass over the rule's bounds, and over mode observe.
    #[arg(long)]
    pub force: bool,
    /// How long the rule keeps still afterwards; 0s lets the next turn take it back.
    #[arg(long, default_value = "5m", value_name = "DURATION")]
    pub hold: PromDuration,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Where to ask.
    #[command(flatten)]
    pub server: ServerArgs,
    /// File with the scaler's API token.
    #[arg(long, env = "CLOUDPULSE_SCALER_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: PathBuf,
    /// Name of the rule.
    #[arg(value_name = "RULE")]
    pub rule: String,
    /// What is switched off; none lifts the rule's own pause.
    #[arg(value_enum, default_value = "all", value_name = "WHAT")]
    pub pause: PauseWord,
    /// For how long, such as 2h; for good where absent.
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<PromDuration>,
    /// Lift a pause made by hand: what the rule itself says holds again.
    #[arg(long, conflicts_with_all = ["pause", "duration"])]
    pub lift: bool,
}

/// What a pause switches off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PauseWord {
    /// Any change.
    All,
    /// Fewer replicas.
    ScaleIn,
    /// More replicas.
    ScaleOut,
    /// Nothing.
    None,
}
