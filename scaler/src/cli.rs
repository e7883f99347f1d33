//! Flags and environment variables.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::query::BasicAuth;
use cloudpulse_common::query::ClientConfig;
use cloudpulse_common::telemetry::LogArgs;

/// Queries under way at once: far more than rules are due in the same second.
const MAX_CONCURRENT_QUERIES: usize = 64;

/// Scales workloads by their load now and by the forecast of its peak.
///
/// Rules say what is scaled, by which PromQL query and how. Each turn asks Prometheus for the load and for the forecast
/// that the predictor publishes there, decides, and sets the target. A forecast can only help: by default it may raise
/// what the load alone asks for, never lower it, and missing data never scales in.
#[derive(Debug, Parser)]
#[command(
    name = "cloudpulse-scaler",
    version,
    after_help = "Examples:
  cloudpulse-scaler check rules/scaling
  cloudpulse-scaler serve --rules rules/scaling --prometheus http://127.0.0.1:9090
  curl 'http://127.0.0.1:9102/api/v1/decisions?rule=web&limit=1'

Exit codes: 0 done, 1 findings or failed, 2 wrong usage."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read rules, decide each interval, scale, and serve metrics and decisions over HTTP.
    #[command(
        after_help = "Endpoints: /metrics /healthz /readyz /api/v1/decisions?rule=NAME&limit=N\nDOCKER_HOST names the engine of Docker targets; unix:///var/run/docker.sock without it."
    )]
    Serve(ServeArgs),
    /// Check rule files and print every error with its file and field.
    ///
    /// With --prometheus the queries and forecasts that the rules name are tried as well.
    Check(CheckArgs),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Rule files, or folders with *.yaml and *.yml files.
    #[arg(long, required = true, num_args = 1.., value_delimiter = ',', env = "CLOUDPULSE_SCALER_RULES", value_name = "PATH")]
    pub rules: Vec<PathBuf>,
    /// Address of the Prometheus server that has the load and the forecasts.
    #[arg(long, env = "CLOUDPULSE_SCALER_PROMETHEUS", value_name = "URL")]
    pub prometheus: String,
    /// How to be let in at Prometheus.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Address and port to listen on.
    #[arg(
        long = "web.listen-address",
        visible_alias = "listen",
        env = "CLOUDPULSE_SCALER_LISTEN",
        default_value = "127.0.0.1:9102",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: SocketAddr,
    /// Time from one decision of a rule to the next; the HPA's is 15s.
    #[arg(long, env = "CLOUDPULSE_SCALER_INTERVAL", default_value = "15s", value_name = "DURATION")]
    pub interval: PromDuration,
    /// Decisions of each rule that /api/v1/decisions keeps.
    #[arg(long, env = "CLOUDPULSE_SCALER_KEEP_DECISIONS", default_value_t = 100, value_name = "COUNT")]
    pub keep_decisions: usize,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Rule files, or folders with *.yaml and *.yml files.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Also try each query and forecast at this Prometheus server.
    #[arg(long, value_name = "URL")]
    pub prometheus: Option<String>,
    /// How to be let in at Prometheus.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// How to be let in at Prometheus.
#[derive(Debug, Args)]
pub struct AccessArgs {
    /// Deadline of one query.
    #[arg(long, env = "CLOUDPULSE_SCALER_QUERY_TIMEOUT", default_value = "10s", value_name = "DURATION")]
    pub query_timeout: PromDuration,
    /// File with a bearer token for Prometheus.
    #[arg(long, env = "CLOUDPULSE_SCALER_BEARER_TOKEN_FILE", value_name = "FILE", conflicts_with = "username")]
    pub bearer_token_file: Option<PathBuf>,
    /// User name for Prometheus.
    #[arg(long, env = "CLOUDPULSE_SCALER_USERNAME", value_name = "NAME", requires = "password_file")]
    pub username: Option<String>,
    /// File with the password of that user.
    #[arg(long, env = "CLOUDPULSE_SCALER_PASSWORD_FILE", value_name = "FILE", requires = "username")]
    pub password_file: Option<PathBuf>,
    /// Further header for Prometheus, such as X-Scope-OrgID=shop; may be given several times.
    #[arg(long, env = "CLOUDPULSE_SCALER_HEADERS", value_name = "NAME=VALUE", value_delimiter = ',')]
    pub header: Vec<String>,
}

impl AccessArgs {
    /// Returns the configuration of a client for the server at `url`.
    ///
    /// # Errors
    /// When a header has no `=`.
    pub fn client_config(self, url: String) -> anyhow::Result<ClientConfig> {
        let Self { query_timeout, bearer_token_file, username, password_file, header } = self;
        let split = |text: &String| {
            let (name, value) = text.split_once('=').with_context(|| format!("--header {text:?} is not NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        Ok(ClientConfig {
            url,
            bearer_token_file,
            basic_auth: username
                .zip(password_file)
                .map(|(username, password_file)| BasicAuth { username, password_file }),
            headers: header.iter().map(split).collect::<anyhow::Result<_>>()?,
            timeout: Some(query_timeout),
            // A decision is made anew in seconds: what failed is missing until then, and no rule waits for another's query.
            retries: Some(0),
            max_concurrent_queries: Some(MAX_CONCURRENT_QUERIES),
            ..ClientConfig::default()
        })
    }
}
