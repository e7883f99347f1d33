//! `target` of a rule: what serde reads in; a checked target, or findings with their fields, out.

use std::fmt;

use cloudpulse_policy::Replicas;
use serde::Deserialize;
use serde_yaml::Value;

use crate::rule::Check;

/// `target` in a rule file: exactly one of the fields.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetSpec {
    docker: Option<DockerSpec>,
    dry_run: Option<DryRunSpec>,
    swarm: Option<Value>,
    kubernetes: Option<Value>,
}

/// Either a Compose service or a label.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DockerSpec {
    project: Option<String>,
    service: Option<String>,
    label: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DryRunSpec {
    replicas: Option<Replicas>,
}

/// A checked target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetConfig {
    /// A service of a Docker Compose project on one engine.
    Docker {
        /// The project's name.
        project: String,
        /// The service's name.
        service: String,
    },
    /// All plain containers of one engine that have a label.
    Labelled {
        /// The label's name.
        key: String,
        /// Its value.
        value: String,
    },
    /// Nothing: what would be done is logged.
    DryRun {
        /// Replicas that it pretends to have at the start.
        replicas: Replicas,
    },
}

impl TargetSpec {
    /// Returns the checked target; `None` where it is unusable, which is then among the findings.
    pub(crate) fn check(self, min_replicas: Replicas, check: &mut Check<'_>) -> Option<TargetConfig> {
        let Self { docker, dry_run, swarm, kubernetes } = self;
        for (name, given) in [("swarm", swarm.is_some()), ("kubernetes", kubernetes.is_some())] {
            if given {
                check.not_yet(format!("spec.target.{name}"), "use docker (a Compose service) or dryRun");
            }
        }
        let unsupported = swarm.is_some() || kubernetes.is_some();
        match (docker, dry_run) {
            (Some(docker), None) if !unsupported => docker.check(check),
            (None, Some(DryRunSpec { replicas })) if !unsupported => {
                Some(TargetConfig::DryRun { replicas: replicas.unwrap_or(min_replicas) })
            }
            (None, None) if unsupported => None,
            (None, None) => {
                check.add(
                    "spec.target",
                    "names no target; use docker: {project, service}, docker: {label: name=value} or dryRun: {}",
                );
                None
            }
            (Some(_), _) | (_, Some(_)) => {
                check.add("spec.target", "names several targets; a rule scales one");
                None
            }
        }
    }
}

impl DockerSpec {
    fn check(self, check: &mut Check<'_>) -> Option<TargetConfig> {
        let Self { project, service, label } = self;
        let Some(label) = label else {
            let project = check.required_text("spec.target.docker.project", project);
            let service = check.required_text("spec.target.docker.service", service);
            return Some(TargetConfig::Docker { project: project?, service: service? });
        };
        if project.is_some() || service.is_some() {
            check.add(
                "spec.target.docker.label",
                "excludes project and service, which name a Compose service; give one of the two forms",
            );
            return None;
        }
        match label.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() && !value.is_empty() => {
                Some(TargetConfig::Labelled { key: key.to_owned(), value: value.to_owned() })
            }
            _ => {
                check.add("spec.target.docker.label", format!("is {label:?}; write name=value, such as app=web"));
                None
            }
        }
    }
}

impl TargetConfig {
    /// Returns a name of the workload that only one rule may scale; `None` where each rule has its own.
    pub fn exclusive(&self) -> Option<String> {
        match self {
            Self::Docker { .. } | Self::Labelled { .. } => Some(self.to_string()),
            Self::DryRun { .. } => None,
        }
    }
}

impl fmt::Display for TargetConfig {
    /// Writes a short name: `docker:project/service`, `docker:label=value` or `dryRun`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker { project, service } => write!(f, "docker:{project}/{service}"),
            Self::Labelled { key, value } => write!(f, "docker:{key}={value}"),
            Self::DryRun { .. } => f.write_str("dryRun"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the target, or what was found.
    fn check(target: &str) -> Result<TargetConfig, Vec<String>> {
        let mut findings = Vec::new();
        let spec: TargetSpec = serde_yaml::from_str(target).unwrap();
        let config = spec.check(1, &mut Check::new("f", &mut findings));
        config.ok_or_else(|| findings.iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect())
    }

    #[test]
    fn targets_have_short_names() {
        for (target, name, exclusive) in [
            ("docker: {project: shop, service: web}", "docker:shop/web", true),
            ("docker: {label: app=web}", "docker:app=web", true),
            ("docker: {label: a.b/c=d=e}", "docker:a.b/c=d=e", true),
            ("dryRun: {}", "dryRun", false),
        ] {
            let config = check(target).unwrap();
            assert_eq!((config.to_string().as_str(), config.exclusive().is_some()), (name, exclusive), "{target}");
        }
        let label = TargetConfig::Labelled { key: "a.b/c".to_owned(), value: "d=e".to_owned() };
        assert_eq!(check("docker: {label: a.b/c=d=e}"), Ok(label));
    }

    #[test]
    fn a_docker_target_has_one_form() {
        for target in ["docker: {label: app=web, project: shop}", "docker: {label: app=web, project: p, service: s}"] {
            let found = check(target).unwrap_err();
            assert!(found[0].starts_with("spec.target.docker.label: excludes project and service"), "{found:?}");
        }
        for label in ["app", "=web", "app=", "''"] {
            let found = check(&format!("docker: {{label: {label}}}")).unwrap_err();
            assert!(found[0].starts_with("spec.target.docker.label: is "), "{label}: {found:?}");
            assert!(found[0].ends_with("write name=value, such as app=web"), "{label}: {found:?}");
        }
    }
}
