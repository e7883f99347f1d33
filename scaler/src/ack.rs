//! `ack`: an alert and who takes it, in; a silence in Alertmanager, out.
//!
//! Nothing is kept here: what is acknowledged is what Alertmanager has silences for, with the name of whoever set each.

mod api;
mod matcher;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use cloudpulse_common::duration::PromDuration;
use jiff::Timestamp;
use jiff::ToSpan as _;
use serde_json::json;

use self::api::Alert;
use self::api::Alertmanager;
use self::api::NewSilence;
use self::api::Silence;
use self::matcher::Matcher;
use crate::cli::OutputForm;

/// The label that holds an alert's name.
const NAME_LABEL: &str = "alertname";
/// Labels of an alert that tell the least, because all of its name have them alike.
const COMMON_LABELS: [&str; 4] = [NAME_LABEL, "severity", "model", "quantile"];

/// Arguments of `ack`.
#[derive(Debug, Args)]
pub struct AckArgs {
    /// Name of the alert, such as CloudPulsePredictedHighCPU.
    #[arg(value_name = "ALERT", required_unless_present_any = ["list", "expire"])]
    pub alert: Option<String>,
    /// Only the alerts with such a label: name=value, name!=value, name=~regex or name!~regex; may be given several times.
    #[arg(long = "matcher", short = 'm', value_name = "NAME=VALUE")]
    pub matchers: Vec<Matcher>,
    /// For how long.
    #[arg(long = "for", default_value = "2h", value_name = "DURATION")]
    pub duration: PromDuration,
    /// What others are to know: what is being done, where it is written.
    #[arg(long, default_value = "acknowledged with cloudpulse-scaler ack", value_name = "TEXT")]
    pub comment: String,
    /// Who takes it.
    #[arg(long, env = "USER", value_name = "NAME")]
    pub author: Option<String>,
    /// Also where no such alert is active: a silence for what is yet to come, as before work on a machine; or a further one.
    #[arg(long)]
    pub force: bool,
    /// List the silences in force, of that alert and with those labels where they are given.
    #[arg(long, conflicts_with_all = ["expire", "force"])]
    pub list: bool,
    /// End this silence now.
    #[arg(long, value_name = "ID", conflicts_with_all = ["alert", "matchers", "force"])]
    pub expire: Option<String>,
    /// Form of the output on stdout.
    #[arg(long, value_enum, default_value = "table")]
    pub output: OutputForm,
    /// Where Alertmanager is.
    #[command(flatten)]
    pub server: AlertmanagerArgs,
}

/// Where Alertmanager is and how to be let in.
#[derive(Debug, Args)]
pub struct AlertmanagerArgs {
    /// Address of Alertmanager, with its path where it has one.
    #[arg(
        long = "alertmanager",
        env = "CLOUDPULSE_SCALER_ALERTMANAGER",
        default_value = "http://127.0.0.1:9093",
        value_name = "URL"
    )]
    pub url: String,
    /// Deadline of one request.
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    pub timeout: PromDuration,
    /// File with a bearer token for Alertmanager.
    #[arg(
        long,
        env = "CLOUDPULSE_SCALER_ALERTMANAGER_BEARER_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "username"
    )]
    pub bearer_token_file: Option<PathBuf>,
    /// User name for Alertmanager.
    #[arg(long, env = "CLOUDPULSE_SCALER_ALERTMANAGER_USERNAME", value_name = "NAME", requires = "password_file")]
    pub username: Option<String>,
    /// File with the password of that user.
    #[arg(long, env = "CLOUDPULSE_SCALER_ALERTMANAGER_PASSWORD_FILE", value_name = "FILE", requires = "username")]
    pub password_file: Option<PathBuf>,
}

/// Sets, lists or ends silences.
///
/// # Errors
/// When no such alert is active, it is silenced already, or Alertmanager does not answer or refuses.
pub async fn run(args: AckArgs) -> anyhow::Result<()> {
    let AckArgs { alert, mut matchers, duration, comment, author, force, list, expire, output, server } = args;
    let server = Alertmanager::new(server)?;
    if let Some(id) = expire {
        return end(&server, &id, output).await;
    }
    if let Some(alert) = &alert {
        matchers.insert(0, Matcher::equal(NAME_LABEL, alert));
    }
    if list {
        return show(&server.silences(&matchers).await?, output);
    }
    let alert = alert.context("no alert is named")?;
    let alerts = server.alerts(&matchers).await?;
    if !force {
        refuse_useless(&server, &alert, &matchers, &alerts).await?;
    }
    let author = author.filter(|author| !author.is_empty()).context("say who you are with --author")?;
    let now = Timestamp::now();
    let seconds = i64::try_from(duration.0.as_secs()).ok().filter(|seconds| *seconds > 0);
    let seconds = seconds.with_context(|| format!("--for {duration} is no time for which an alert could be silent"))?;
    let ends_at = now.checked_add(seconds.seconds()).with_context(|| format!("--for {duration} is too long"))?;
    let (starts_at, ends_at) = (now.to_string(), whole_seconds(ends_at));
    let silence = NewSilence { matchers, starts_at, ends_at, created_by: author, comment };
    let id = server.silence(&silence).await?;
    let mut out = std::io::stdout().lock();
    if output == OutputForm::Json {
        let labels: Vec<_> = alerts.iter().map(|alert| &alert.labels).collect();
        writeln!(out, "{}", json!({"silenceID": id, "endsAt": silence.ends_at, "alerts": labels}))?;
        return Ok(());
    }
    writeln!(out, "silence {id} until {} ({duration}), by {}", silence.ends_at, silence.created_by)?;
    for alert in &alerts {
        writeln!(out, "  {}", words(alert))?;
    }
    if alerts.is_empty() {
        writeln!(out, "  no such alert is active now; those to come until then are silent")?;
    }
    writeln!(out, "to end it: cloudpulse-scaler ack --expire {id}")?;
    Ok(())
}

/// Ends with an error where a silence would silence nothing, or nothing more: a mistyped name would else be a silence that
/// nobody misses until the alert wakes somebody.
async fn refuse_useless(
    server: &Alertmanager,
    alert: &str,
    matchers: &[Matcher],
    alerts: &[Alert],
) -> anyhow::Result<()> {
    if alerts.is_empty() {
        let of_that_name = server.alerts(&matchers[..1]).await?;
        let hint = if !of_that_name.is_empty() {
            let these: Vec<String> = of_that_name.iter().map(words).collect();
            format!("active of that name: {}", these.join("; "))
        } else {
            let all = server.alerts(&[]).await?;
            let mut names: Vec<&str> =
                all.iter().filter_map(|alert| alert.labels.get(NAME_LABEL)).map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            if names.is_empty() { "none is".to_owned() } else { format!("active are: {}", names.join(", ")) }
        };
        let matchers: Vec<String> = matchers[1..].iter().map(ToString::to_string).collect();
        let with = if matchers.is_empty() { String::new() } else { format!(" with {}", matchers.join(", ")) };
        anyhow::bail!(
            "no alert {alert}{with} is active at {}; {hint}. --force sets the silence beforehand",
            server.url()
        );
    }
    if alerts.iter().all(|alert| !alert.status.silenced_by.is_empty()) {
        let mut ids: Vec<&str> =
            alerts.iter().flat_map(|alert| &alert.status.silenced_by).map(String::as_str).collect();
        ids.sort_unstable();
        ids.dedup();
        anyhow::bail!("{alert} is silenced already, by {}; --force sets a further silence", ids.join(", "));
    }
    Ok(())
}

async fn end(server: &Alertmanager, id: &str, output: OutputForm) -> anyhow::Result<()> {
    server.expire(id).await?;
    let mut out = std::io::stdout().lock();
    match output {
        OutputForm::Json => writeln!(out, "{}", json!({"expired": id}))?,
        OutputForm::Table => writeln!(out, "silence {id} has ended; its alerts are sent again where they still hold")?,
    }
    Ok(())
}

fn show(silences: &[Silence], output: OutputForm) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if output == OutputForm::Json {
        writeln!(out, "{}", serde_json::to_string(silences)?)?;
        return Ok(());
    }
    if silences.is_empty() {
        writeln!(out, "no silence is in force")?;
    }
    for silence in silences {
        let matchers: Vec<String> = silence.matchers.iter().map(ToString::to_string).collect();
        let Silence { id, ends_at, created_by, comment, status, .. } = silence;
        let state = if status.state == "active" { String::new() } else { format!(" ({})", status.state) };
        writeln!(out, "{id}{state} until {ends_at}, by {created_by}: {comment}")?;
        writeln!(out, "  {}", matchers.join(", "))?;
    }
    Ok(())
}

/// What tells an alert from others of its name.
fn words(alert: &Alert) -> String {
    let labels = alert.labels.iter().filter(|(name, _)| !COMMON_LABELS.contains(&name.as_str()));
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value:?}")).collect();
    let summary = alert.annotations.get("summary").map(|summary| format!(": {summary}")).unwrap_or_default();
    format!("{}{summary}", if labels.is_empty() { "no labels".to_owned() } else { labels.join(" ") })
}

fn whole_seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}
