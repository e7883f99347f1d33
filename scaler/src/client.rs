//! `status`, `scale` and `pause`: arguments in; a request to a running scaler, and its answer in words, out.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use cloudpulse_common::query;
use cloudpulse_common::query::http_client;
use cloudpulse_policy::policy::Pause;
use reqwest::Method;
use reqwest::RequestBuilder;
use serde::Serialize;
use serde_json::Value;

use crate::api::write::PauseRequest;
use crate::api::write::ScaleRequest;
use crate::cli::OutputForm;
use crate::cli::PauseArgs;
use crate::cli::PauseWord;
use crate::cli::ScaleArgs;
use crate::cli::StatusArgs;

/// Deadline of a request: longer than the scaler waits for a rule that is busy with its target.
const TIMEOUT: Duration = Duration::from_secs(75);

/// Prints the rules in force.
///
/// # Errors
/// When the scaler does not answer, or not as one.
pub async fn status(StatusArgs { server, output }: StatusArgs) -> anyhow::Result<()> {
    let answer = send(request(Method::GET, &server.url, "/api/v1/rules")?).await?;
    let mut out = std::io::stdout().lock();
    if output == OutputForm::Json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    let answer: Value = serde_json::from_str(&answer).context("the answer is no JSON")?;
    let rules = answer["rules"].as_array().context("the answer lists no rules")?;
    let rows: Vec<[String; 7]> = rules.iter().map(row).collect();
    let head = ["RULE", "TARGET", "MODE", "REPLICAS", "BOUNDS", "PAUSE", "REASON"].map(str::to_owned);
    let width =
        |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 7] = std::array::from_fn(width);
    for row in [&head].into_iter().chain(&rows) {
        let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    for rule in rules {
        for warning in rule["warnings"].as_array().into_iter().flatten() {
            writeln!(out, "warning: rule {}: {}", text(&rule["name"]), text(warning))?;
        }
    }
    Ok(())
}

/// One line of the table.
fn row(rule: &Value) -> [String; 7] {
    let last = &rule["last"];
    let replicas = match (last["current"].as_u64(), last["desired"].as_u64()) {
        (Some(current), Some(desired)) if current == desired => current.to_string(),
        (Some(current), Some(desired)) => format!("{current} -> {desired}"),
        _ => "unknown".to_owned(),
    };
    let schedules: Vec<String> = rule["schedules"].as_array().into_iter().flatten().map(text).collect();
    let schedules = if schedules.is_empty() { String::new() } else { format!(" ({})", schedules.join(", ")) };
    let by_hand = if rule["pausedByHand"] == true { " by hand" } else { "" };
    let reason = match (&last["outcome"]["error"], &last["reason"]) {
        (Value::String(error), _) => error.clone(),
        (_, Value::String(reason)) => reason.clone(),
        _ => "no turn yet".to_owned(),
    };
    [
        text(&rule["name"]),
        text(&rule["target"]),
        text(&rule["mode"]),
        replicas,
        format!("{} to {}{schedules}", rule["minReplicas"], rule["maxReplicas"]),
        format!("{}{by_hand}", text(&rule["pause"])),
        reason,
    ]
}

/// Scales a rule's target.
///
/// # Errors
/// When the scaler refuses or does not answer.
pub async fn scale(args: ScaleArgs) -> anyhow::Result<()> {
    let ScaleArgs { server, api_token_file, rule, replicas, force, hold } = args;
    let body = ScaleRequest { rule, replicas, force, hold: Some(hold) };
    let request = request(Method::POST, &server.url, "/api/v1/scale")?;
    let answer: Value = serde_json::from_str(&write(request, &server.url, &api_token_file, &body).await?)?;
    let ScaleRequest { rule, .. } = body;
    writeln!(
        std::io::stdout(),
        "{rule}: from {} to {}; the rule keeps still for {hold}",
        answer["from"],
        answer["to"]
    )?;
    Ok(())
}

/// Pauses a rule, or lifts its pause.
///
/// # Errors
/// When the scaler refuses or does not answer.
pub async fn pause(args: PauseArgs) -> anyhow::Result<()> {
    let PauseArgs { server, api_token_file, rule, pause, duration, lift } = args;
    let answer = if lift {
        let request = request(Method::DELETE, &server.url, "/api/v1/pause")?.query(&[("rule", &rule)]);
        send(with_token(request, &server.url, &api_token_file)?).await?
    } else {
        let pause = match pause {
            PauseWord::All => Pause::All,
            PauseWord::ScaleIn => Pause::ScaleIn,
            PauseWord::ScaleOut => Pause::ScaleOut,
            PauseWord::None => Pause::None,
        };
        let body = PauseRequest { rule: rule.clone(), pause, duration };
        write(request(Method::POST, &server.url, "/api/v1/pause")?, &server.url, &api_token_file, &body).await?
    };
    let answer: Value = serde_json::from_str(&answer)?;
    let kept = if lift || answer["persistent"] == true { "" } else { "; a restart of the scaler forgets it" };
    writeln!(std::io::stdout(), "{rule}: pause is {}{kept}", text(&answer["pause"]))?;
    Ok(())
}

fn request(method: Method, url: &str, path: &str) -> anyhow::Result<RequestBuilder> {
    let client = http_client().timeout(TIMEOUT).build()?;
    Ok(client.request(method, format!("{}{path}", url.trim_end_matches('/'))))
}

async fn write(request: RequestBuilder, url: &str, token_file: &Path, body: &impl Serialize) -> anyhow::Result<String> {
    send(with_token(request, url, token_file)?.json(body)).await
}

fn with_token(request: RequestBuilder, url: &str, file: &Path) -> anyhow::Result<RequestBuilder> {
    let token = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(query::with_token(request, url, token.trim()))
}

/// Returns the body of the answer.
async fn send(request: RequestBuilder) -> anyhow::Result<String> {
    let answer = request.send().await.context("the scaler cannot be reached")?;
    let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
    if status.is_success() {
        return Ok(body);
    }
    let said = serde_json::from_str::<Value>(&body).ok().and_then(|value| value["error"].as_str().map(str::to_owned));
    anyhow::bail!("the scaler answers {status}: {}", said.unwrap_or(body))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
