//! `generate`: a rule in; what would be written by hand for an HPA, for KEDA, for Prometheus or for Grafana out.
//!
//! Templates are minijinja's. Each value of the rule goes through the filter `text`, which writes a JSON string: that is one
//! in YAML too, and nothing in it can end it.

mod context;
mod panels;

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use cloudpulse_policy::policy::Demand;
use minijinja::AutoEscape;
use minijinja::Environment;
use minijinja::UndefinedBehavior;
use minijinja::value::Serde;
use minijinja::value::Value;

use crate::cli::GenerateArgs;
use crate::cli::GenerateKind;
use crate::generate::context::Context;
use crate::rule;
use crate::rule::Rule;

/// Name and text of a built-in template.
const fn built_in(kind: GenerateKind) -> (&'static str, &'static str) {
    match kind {
        GenerateKind::Hpa => ("hpa.yaml.j2", include_str!("../../templates/hpa.yaml.j2")),
        GenerateKind::Keda => ("keda.yaml.j2", include_str!("../../templates/keda.yaml.j2")),
        GenerateKind::Alerts => ("alerts.yaml.j2", include_str!("../../templates/alerts.yaml.j2")),
        GenerateKind::Dashboard => ("dashboard.json.j2", include_str!("../../templates/dashboard.json.j2")),
    }
}

/// Writes what was asked for to stdout.
///
/// # Errors
/// All findings of the rule file, a rule that the kind cannot say, a template that cannot be read or filled in.
pub fn run(args: &GenerateArgs) -> anyhow::Result<()> {
    let GenerateArgs { kind, rule: file, name, workload, namespace, prometheus, templates, print_template } = args;
    let (template, text) = built_in(*kind);
    let mut out = std::io::stdout().lock();
    if *print_template {
        return Ok(out.write_all(text.as_bytes())?);
    }
    let file = file.as_ref().context("name the rule with --rule FILE")?;
    let rule = one(rule::load(std::slice::from_ref(file))?, name.as_deref(), file)?;
    if let (GenerateKind::Hpa | GenerateKind::Keda, Some(metric)) =
        (kind, rule.policy.metrics.iter().find(|metric| matches!(metric.demand, Demand::Threshold { .. })))
    {
        anyhow::bail!(
            "rule {}: metric {} is a threshold with a fixed number of replicas, which {template} cannot say; write the rule in \
             its full form, with a replicaCapacity",
            rule.name,
            metric.name
        );
    }
    if *kind == GenerateKind::Alerts && rule.name.contains("{{") {
        anyhow::bail!("rule {:?}: a name with {{{{ would be a template to Prometheus", rule.name);
    }
    if let Some(workload) = workload {
        anyhow::ensure!(
            workload.split_once('/').is_some(),
            "--workload {workload:?} is not KIND/NAME, as Deployment/web"
        );
    }
    let context = Context::new(&rule, workload.as_deref(), namespace.as_deref(), prometheus);
    let own = templates.as_ref().map(|folder| folder.join(template)).filter(|file| file.is_file());
    let filled = match own {
        None => fill(template, text, &context)?,
        Some(file) => {
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            fill(&file.display().to_string(), &text, &context)?
        }
    };
    writeln!(out, "{}", filled.trim_end())?;
    Ok(())
}

/// The rule of this name, or the only one.
fn one(mut rules: Vec<Rule>, name: Option<&str>, file: &Path) -> anyhow::Result<Rule> {
    let names = rules.iter().map(|rule| rule.name.clone()).collect::<Vec<_>>().join(", ");
    rules.retain(|rule| name.is_none_or(|name| rule.name == name));
    match <[Rule; 1]>::try_from(rules) {
        Ok([rule]) => Ok(rule),
        Err(_) => anyhow::bail!("{} holds the rules {names}; name one of them with --name", file.display()),
    }
}

/// # Errors
/// With the template's name and line.
fn fill(name: &str, text: &str, context: &Context) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.add_filter("text", |value: String| serde_json::Value::String(value).to_string());
    environment.add_template(name, text).map_err(explain)?;
    let template = environment.get_template(name).map_err(explain)?;
    template.render(Value::from(Serde(context))).map_err(explain)
}

fn explain(error: minijinja::Error) -> anyhow::Error {
    let place = match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!("{name}, line {line}"),
        _ => "the template".to_owned(),
    };
    anyhow::Error::new(error).context(place)
}
