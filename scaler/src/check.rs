//! `check`: rule files in; all findings out.

use std::io::Write as _;

use cloudpulse_common::config::Finding;
use cloudpulse_common::config::Findings;
use cloudpulse_common::query::Client;

use crate::cli::CheckArgs;
use crate::rule;
use crate::source;
use crate::source::Input;

/// Checks the files, and with a Prometheus server the queries too; says on stdout what the rules are.
///
/// # Errors
/// All findings, or an unusable client configuration.
pub async fn run(args: CheckArgs) -> anyhow::Result<()> {
    let CheckArgs { paths, prometheus, access } = args;
    let rules = rule::load(&paths)?;
    let mut findings = Vec::new();
    if let Some(url) = prometheus {
        let client = Client::new(&access.client_config(url)?)?;
        for rule in &rules {
            for problem in source::read(&client, &rule.queries, None).await.problems {
                let field = match problem.what {
                    Input::Load => "query",
                    Input::Forecast => "forecast",
                };
                let file = format!("rule {}", rule.name);
                findings.push(Finding {
                    file,
                    path: format!("metric {}, {field}", problem.metric),
                    message: problem.message,
                });
            }
        }
    }
    if !findings.is_empty() {
        return Err(Findings(findings).into());
    }
    let mut out = std::io::stdout().lock();
    for rule in rules {
        let metrics: Vec<&str> = rule.queries.iter().map(|query| query.name.as_str()).collect();
        writeln!(out, "{}: scales {} by {}", rule.name, rule.target, metrics.join(", "))?;
    }
    Ok(())
}
