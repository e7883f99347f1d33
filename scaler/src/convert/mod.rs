//! `convert`: the configuration of another program in; the same as a file of ours on stdout, and on stderr all that it
//! cannot say.

mod adapter;

use std::io::Write as _;

use anyhow::Context as _;
use cloudpulse_common::config;
use cloudpulse_common::config::Findings;
use cloudpulse_common::query::Client;

use crate::cli::ConvertArgs;
use crate::cli::ConvertKind;
use crate::convert::adapter::Names;
use crate::external::store::config::File;
use crate::rule::Check;

/// Writes what prometheus-adapter's external metrics are in our form.
///
/// # Errors
/// What could not be carried over, with the place of each part; what could is on stdout all the same.
pub async fn run(args: ConvertArgs) -> anyhow::Result<()> {
    let ConvertArgs { kind: ConvertKind::Adapter, file, prometheus, access } = args;
    let client = prometheus.map(|url| Client::new(&access.client_config(url)?)).transpose()?;
    let text = config::read(&file)?;
    let place = file.display().to_string();
    let mut lost = Vec::new();
    let mut metrics = Vec::new();
    let mut notes = Vec::new();
    for (number, rule) in adapter::read(&place, &text, &mut lost).into_iter().enumerate() {
        let at = format!("externalRules[{number}]");
        let mut check = Check::new(&place, &mut lost);
        let series = match (rule.names(), &client) {
            (None, _) => {
                check.add(format!("{at}.seriesQuery"), "is missing");
                continue;
            }
            (Some(Names::One(name)), _) => vec![name],
            (Some(Names::Several(_)), None) => {
                check.add(format!("{at}.seriesQuery"), "names no single series; with --prometheus they are looked up");
                continue;
            }
            (Some(Names::Several(selector)), Some(client)) => match series(client, &selector).await {
                Ok(series) if series.is_empty() => {
                    check.add(format!("{at}.seriesQuery"), "gives no series at Prometheus now");
                    continue;
                }
                Ok(series) => {
                    notes.push(format!(
                        "{place}: {at}.seriesQuery: what is named is what is there now; the adapter adds new series"
                    ));
                    series
                }
                Err(error) => {
                    check.add(format!("{at}.seriesQuery"), format!("{error:#}"));
                    continue;
                }
            },
        };
        rule.metrics(&at, &series, &mut metrics, &mut notes, &mut check);
    }
    for note in notes {
        writeln!(std::io::stderr(), "note: {note}")?;
    }
    let text = serde_yaml::to_string(&File { metrics: Some(metrics) })?;
    std::io::stdout().write_all(text.as_bytes())?;
    if lost.is_empty() { Ok(()) } else { Err(Findings(lost)).context("not all could be carried over") }
}

/// Returns the names of the series that Prometheus has for a selector.
async fn series(client: &Client, selector: &str) -> anyhow::Result<Vec<String>> {
    let found = client.instant(&format!("count by (__name__) ({selector}\n)"), None).await?;
    let mut names: Vec<String> = found.into_iter().filter_map(|mut one| one.labels.remove("__name__")).collect();
    names.sort();
    Ok(names)
}
