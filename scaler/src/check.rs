//! `check`: rule files in; all findings and warnings out.

use std::io::Write as _;

use cloudpulse_common::config::Finding;
use cloudpulse_common::config::Findings;
use cloudpulse_common::names;
use cloudpulse_common::query::Client;

use crate::cli::CheckArgs;
use crate::external::store;
use crate::rule;
use crate::rule::Horizon;
use crate::rule::Rule;
use crate::rule::lint::lint;
use crate::rule::quoted;
use crate::source;
use crate::source::Input;

/// Checks the files, and with a Prometheus server the queries too; says on stdout what the rules are, on stderr what is
/// doubtful.
///
/// # Errors
/// All findings, with `--strict` the warnings among them, or an unusable client configuration.
pub async fn run(args: CheckArgs) -> anyhow::Result<()> {
    let CheckArgs { paths, external_metrics_config, prometheus, strict, access } = args;
    let mut findings = Vec::new();
    let rules = rule::load(&paths).unwrap_or_else(|Findings(found)| {
        findings.extend(found);
        Vec::new()
    });
    let metrics = match external_metrics_config.as_deref().map(store::check).transpose() {
        Ok(metrics) => metrics.unwrap_or_default(),
        Err(Findings(found)) => {
            findings.extend(found);
            Vec::new()
        }
    };
    let mut warnings: Vec<Finding> = Vec::new();
    for rule in &rules {
        warnings.extend(lint(rule).into_iter().map(|warning| finding(rule, &warning.path, warning.message)));
    }
    if let Some(url) = prometheus {
        let client = Client::new(&access.client_config(url)?)?;
        for rule in &rules {
            try_out(&client, rule, &mut findings, &mut warnings).await;
        }
    }
    if strict {
        findings.append(&mut warnings);
    }
    for warning in warnings {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    if !findings.is_empty() {
        return Err(Findings(findings).into());
    }
    let mut out = std::io::stdout().lock();
    for rule in rules {
        let metrics: Vec<&str> = rule.queries.iter().map(|query| query.name.as_str()).collect();
        writeln!(out, "{}: scales {} by {}", rule.name, rule.target, metrics.join(", "))?;
    }
    for metric in metrics {
        writeln!(out, "{metric}: an external metric")?;
    }
    Ok(())
}

/// Asks Prometheus all that the rule would ask.
async fn try_out(client: &Client, rule: &Rule, findings: &mut Vec<Finding>, warnings: &mut Vec<Finding>) {
    // What is wrong with Prometheus shows in the queries too.
    let lead_time = source::lead_time_before(client, &rule.name).await.unwrap_or_default();
    for problem in source::read(client, &rule.queries, lead_time).await.problems {
        let field = match problem.what {
            Input::Load => "query",
            Input::Sources => "sources",
            Input::Forecast => "forecast",
        };
        findings.push(finding(rule, &format!("metric {}, {field}", problem.metric), problem.message));
    }
    for query in &rule.queries {
        let Some(forecast) = &query.forecast else { continue };
        let place = |field: &str| format!("metric {}, {field}", query.name);
        if let (Horizon::Fixed(horizon), Some(lead_time)) = (forecast.horizon, lead_time)
            && horizon.0 < lead_time
        {
            let message = format!(
                "is {horizon}, but replicas took {} s to start: what is asked for then serves too late; use auto",
                lead_time.as_secs()
            );
            warnings.push(finding(rule, &place("horizon"), message));
        }
        if renamed_labels(client, &forecast.name).await {
            let message = "its series have labels named exported_…: the predictor is scraped without honor_labels: true, so \
                           that instance and job are the predictor's and not those of what is forecast";
            warnings.push(finding(rule, &place("forecast"), message.to_owned()));
        }
    }
}

/// Whether Prometheus gave the forecast's labels other names, because it puts its own in their place.
async fn renamed_labels(client: &Client, forecast: &str) -> bool {
    let renamed = ["exported_job", "exported_instance"].map(|label| {
        let of_forecast = format!("{}={}", names::FORECAST_LABEL, quoted(forecast));
        format!("{}{{{of_forecast},{label}!=\"\"}}", names::FORECAST_PEAK.name)
    });
    let query = format!("count({})", renamed.join(" or "));
    client.instant(&query, None).await.is_ok_and(|series| !series.is_empty())
}

fn finding(rule: &Rule, path: &str, message: String) -> Finding {
    Finding { file: format!("rule {}", rule.name), path: path.to_owned(), message }
}
