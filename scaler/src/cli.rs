//! Flags and environment variables.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use cloudpulse_common::duration::PromDuration;
use cloudpulse_common::health::HealthArgs;
use cloudpulse_common::query::BasicAuth;
use cloudpulse_common::query::ClientConfig;
use cloudpulse_common::telemetry::LogArgs;

use crate::ack::AckArgs;
use crate::external::args::ExternalArgs;
use crate::external::store::StoreArgs;
use crate::kubernetes::args::KubernetesArgs;

mod by_hand;

pub use by_hand::PauseArgs;
pub use by_hand::PauseWord;
pub use by_hand::ScaleArgs;
pub use by_hand::ServerArgs;
pub use by_hand::StatusArgs;

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
  cloudpulse-scaler replay --rule rules/scaling/web.yaml --csv load.csv --plot replay.png
  cloudpulse-scaler serve --rules rules/scaling --prometheus http://127.0.0.1:9090
  cloudpulse-scaler crd | kubectl apply --server-side -f -
  cloudpulse-scaler serve --kubernetes --prometheus http://prometheus.monitoring:9090
  cloudpulse-scaler status
  cloudpulse-scaler scale --api-token-file token web 12 --hold 1h
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
        after_help = "Endpoints: /metrics /healthz /readyz /api/v1/decisions?rule=NAME&limit=N /api/v1/rules /api/v1/targets;\nwith a token /api/v1/scale /api/v1/pause; all are described in /api/v1/openapi.json.\nDOCKER_HOST names the engine of Docker targets; unix:///var/run/docker.sock without it."
    )]
    Serve(Box<ServeArgs>),
    /// Ask the scaler that listens at the listen address whether it is well: exit code 0, or 1 and why not.
    Health(HealthCommand),
    /// Check rule files and print every error with its file and field.
    ///
    /// What is allowed and yet hardly meant is a warning: a metric that scaling moves by itself, a rule that can never act.
    ///
    /// With --prometheus the queries and forecasts that the rules name are tried as well, and the horizon is held against
    /// the time that replicas took to start.
    Check(CheckArgs),
    /// Show the rules that a running scaler has in force, and what they did last.
    Status(StatusArgs),
    /// Scale a rule's target by hand, through a running scaler.
    ///
    /// The rule's bounds hold unless --force is given. For the hold the rule keeps still; then it decides again.
    Scale(ScaleArgs),
    /// Pause a rule of a running scaler, or lift its pause.
    Pause(PauseArgs),
    /// Acknowledge an alert: silence it in Alertmanager for a while, under your name.
    ///
    /// The silence is Alertmanager's own: its page shows it, amtool and Grafana can change it, and it ends by itself. An
    /// alert that is not active is refused, because a mistyped name would silence nothing; --force silences beforehand.
    #[command(after_help = "Examples:
  cloudpulse-scaler ack CloudPulsePredictedHighCPU --matcher instance=web-3:9100
  cloudpulse-scaler ack CloudPulseCapacityBreachAhead --matcher rule=shop/web --for 8h --comment 'nodes ordered, OPS-7'
  cloudpulse-scaler ack CloudPulseExporterDown --matcher 'instance=~rack7-.+' --for 1h --force   # before work on them
  cloudpulse-scaler ack --list
  cloudpulse-scaler ack --expire 5b6fc8a1-1c0f-4b4d-9c29-7e3b5a2f0f55

Without --matcher all active alerts of the name are silent, and those that join them until then.")]
    Ack(Box<AckArgs>),
    /// Print the CustomResourceDefinition of ScalingRules, for kubectl apply --server-side -f -
    Crd,
    /// Write what a rule would be elsewhere: an HPA, a KEDA ScaledObject, alert rules, a Grafana dashboard.
    #[command(after_help = "Examples:
  cloudpulse-scaler generate hpa --rule web.yaml --workload Deployment/web | kubectl apply --filename -
  cloudpulse-scaler generate keda --rule web.yaml --prometheus http://prometheus:9090
  cloudpulse-scaler generate alerts --rule web.yaml > web.rules.yml
  cloudpulse-scaler generate dashboard --print-template > templates/dashboard.json.j2   # change it, then --templates templates")]
    Generate(GenerateArgs),
    /// Write the configuration of another program as one of the scaler's.
    ///
    /// What of it the scaler cannot do is said on stderr with its place; then the exit code is 1.
    #[command(
        after_help = "Example:\n  cloudpulse-scaler convert adapter config.yaml --prometheus http://127.0.0.1:9090 > external-metrics.yaml"
    )]
    Convert(ConvertArgs),
    /// Try a rule on a load of the past before it is switched on: what would it have cost, when was it too small?
    ///
    /// The load is replayed every 15 s under the rule, with the code that decides in serve and the forecasts that the
    /// predictor would have made then, and under what the rule is held against:
    ///
    ///   reactive_hpa        the Kubernetes HPA by the load alone, at 70 % of the capacity
    ///   reactive_hpa_tuned  the same without tolerance, and 15 minutes of calm before it scales in
    ///   seasonal_naive      the HPA by the larger of the load and that of yesterday's next ten minutes
    ///   holt_winters        the HPA by the larger of the load and a Holt-Winters forecast
    ///   static              a fixed number, enough for the largest load
    ///   oracle              knows the load beforehand; what it cannot do, no forecast can
    ///
    /// A minute in which fewer replicas serve than the load needs is a violation minute. What is seen of the load is what
    /// has ended, replicas serve after the start delay, and those that are starting are paid for. The first day of the load is
    /// there to learn from and does not count.
    ///
    /// At the end stands whether the rule is worth it, at its own violationCost, and which of its violations no forecast
    /// could have seen: those that the oracle has too, and jumps without a precedent, larger than 99.9 % of all rises in
    /// the two weeks before and above all that the same time of the seven days before had.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  cloudpulse-scaler replay --rule web.yaml --csv load.csv
  cloudpulse-scaler replay --rule web.yaml --csv load.csv --start-delay 5m --plot replay.png
  cloudpulse-scaler replay --rule web.yaml --from 14d --prometheus http://127.0.0.1:9090 --sweep --output json

load.csv has the header timestamp,value (Unix seconds; missing samples are absent rows) and is the load on the whole
workload in the unit of the rule's replicaCapacity. --timeline writes every sync of every policy, so that anyone can recount."
    )]
    Replay(ReplayArgs),
}

/// Where the scaler listens.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Address and port to listen on.
    #[arg(
        long = "web.listen-address",
        visible_alias = "listen",
        env = "CLOUDPULSE_SCALER_LISTEN",
        default_value = "127.0.0.1:9102",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: SocketAddr,
}

/// Arguments of `health`.
#[derive(Debug, Args)]
pub struct HealthCommand {
    /// Whom to ask.
    #[command(flatten)]
    pub address: ListenArgs,
    /// What to ask.
    #[command(flatten)]
    pub health: HealthArgs,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Rule files, or folders with *.yaml and *.yml files; may be left out with --kubernetes, and where external metrics are
    /// all that is wanted.
    #[arg(long, required_unless_present_any = ["kubernetes", "listen_address"], num_args = 1.., value_delimiter = ',', env = "CLOUDPULSE_SCALER_RULES", value_name = "PATH")]
    pub rules: Vec<PathBuf>,
    /// Address of the Prometheus server that has the load and the forecasts.
    #[arg(long, env = "CLOUDPULSE_SCALER_PROMETHEUS", value_name = "URL")]
    pub prometheus: String,
    /// How to be let in at Prometheus.
    #[command(flatten)]
    pub access: AccessArgs,
    /// The cluster.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// Where to listen.
    #[command(flatten)]
    pub address: ListenArgs,
    /// File with TLS, mTLS, users and headers of the HTTP server, in the format of Prometheus' exporters; see
    /// docs/web-config.md. It and its certificates are read again when they change. The external metrics API has its own.
    #[arg(long = "web.config.file", env = "CLOUDPULSE_SCALER_WEB_CONFIG_FILE", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Time from one decision of a rule to the next; the HPA's is 15s.
    #[arg(long, env = "CLOUDPULSE_SCALER_INTERVAL", default_value = "15s", value_name = "DURATION")]
    pub interval: PromDuration,
    /// Decisions of each rule that /api/v1/decisions keeps.
    #[arg(long, env = "CLOUDPULSE_SCALER_KEEP_DECISIONS", default_value_t = 100, value_name = "COUNT")]
    pub keep_decisions: usize,
    /// How often the rule files are read again; SIGHUP does it at once. A bad edit leaves the rules before it in force.
    #[arg(long, env = "CLOUDPULSE_SCALER_RELOAD_INTERVAL", default_value = "30s", value_name = "DURATION")]
    pub reload_interval: PromDuration,
    /// File with the bearer token that scaling and pausing by hand need; without it nobody may.
    #[arg(long, env = "CLOUDPULSE_SCALER_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
    /// File in which pauses made by hand survive a restart; without it they end with the program.
    #[arg(long, env = "CLOUDPULSE_SCALER_PAUSE_FILE", value_name = "FILE")]
    pub pause_file: Option<PathBuf>,
    /// Metrics for HPAs. Last, because its heading would hold for what follows.
    #[command(flatten)]
    pub external: ExternalArgs,
    /// Where they come from.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Rule files, or folders with *.yaml and *.yml files.
    #[arg(required_unless_present = "external_metrics_config", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Also check this file of external metrics.
    #[arg(long = "external-metrics.config", value_name = "FILE")]
    pub external_metrics_config: Option<PathBuf>,
    /// Also try each query and forecast at this Prometheus server.
    #[arg(long, value_name = "URL")]
    pub prometheus: Option<String>,
    /// Take warnings for errors.
    #[arg(long)]
    pub strict: bool,
    /// How to be let in at Prometheus.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// What to write.
    #[arg(value_enum, value_name = "KIND")]
    pub kind: GenerateKind,
    /// File with the rule.
    #[arg(long, value_name = "FILE", required_unless_present = "print_template")]
    pub rule: Option<PathBuf>,
    /// Name of the rule, where the file holds several.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Workload that is scaled, such as StatefulSet/web; a Deployment of the rule's name where absent.
    #[arg(long, value_name = "KIND/NAME")]
    pub workload: Option<String>,
    /// Namespace; the rule's where absent.
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Address at which KEDA reaches Prometheus.
    #[arg(long, default_value = "http://prometheus-operated:9090", value_name = "URL")]
    pub prometheus: String,
    /// Folder with templates of your own, by the names of the built-in ones; what is not there is built in.
    #[arg(long, value_name = "FOLDER")]
    pub templates: Option<PathBuf>,
    /// Write the built-in template, to start one of your own.
    #[arg(long)]
    pub print_template: bool,
}

/// Arguments of `convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Whose configuration it is.
    #[arg(value_enum, value_name = "KIND")]
    pub kind: ConvertKind,
    /// File with it, or with the ConfigMap that holds it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Prometheus server that is asked for the series where a rule names several.
    #[arg(long, env = "CLOUDPULSE_SCALER_PROMETHEUS", value_name = "URL")]
    pub prometheus: Option<String>,
    /// How to be let in at Prometheus.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// What `convert` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ConvertKind {
    /// The external metrics of prometheus-adapter.
    Adapter,
}

/// What `generate` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GenerateKind {
    /// A HorizontalPodAutoscaler (autoscaling/v2).
    Hpa,
    /// A KEDA ScaledObject.
    Keda,
    /// A rule file for Prometheus.
    Alerts,
    /// A Grafana dashboard.
    Dashboard,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("load").required(true).args(["csv", "from"]))]
pub struct ReplayArgs {
    /// File with one rule of one metric.
    #[arg(long, value_name = "FILE")]
    pub rule: PathBuf,
    /// The load: a file with the header timestamp,value.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Ask Prometheus for the load instead, by the rule's own query, from so long ago on.
    #[arg(long, value_name = "DURATION", requires = "prometheus")]
    pub from: Option<PromDuration>,
    /// Address of that Prometheus server.
    #[arg(long, env = "CLOUDPULSE_SCALER_PROMETHEUS", value_name = "URL")]
    pub prometheus: Option<String>,
    /// Distance of the samples that Prometheus is asked for.
    #[arg(long, default_value = "1m", value_name = "DURATION")]
    pub step: PromDuration,
    /// How to be let in at Prometheus.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Time from asking for a replica until it serves.
    #[arg(long, default_value = "2m", value_name = "DURATION")]
    pub start_delay: PromDuration,
    /// Load that one replica serves, in place of the rule's replicaCapacity; needed where the rule names none.
    #[arg(long, value_name = "LOAD")]
    pub replica_capacity: Option<f64>,
    /// Also try other settings of each policy and compare all at equal replica-hours; takes some thirty times as long.
    #[arg(long)]
    pub sweep: bool,
    /// Form of the output on stdout.
    #[arg(long, value_enum, default_value = "table")]
    pub output: OutputForm,
    /// Also write every sync of every policy into this file.
    #[arg(long, value_name = "FILE.csv")]
    pub timeline: Option<PathBuf>,
    /// Also draw the load and the capacity under each policy, with the violations shaded.
    #[arg(long, value_name = "FILE.svg|png")]
    pub plot: Option<PathBuf>,
}

/// Form of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputForm {
    /// Columns and words for people.
    Table,
    /// For scripts.
    Json,
}

/// How to be let in at Prometheus.
#[derive(Debug, Clone, Args)]
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
