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
    swarm: Option<SwarmSpec>,
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
struct SwarmSpec {
    service: Option<String>,
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
    /// A replicated service of Docker Swarm.
    Swarm {
        /// The service's name.
        service: String,
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
        if kubernetes.is_some() {
            check.not_yet("spec.target.kubernetes", "use docker, swarm or dryRun");
        }
        let given = [docker.is_some(), dry_run.is_some(), swarm.is_some(), kubernetes.is_some()];
        if given.into_iter().filter(|given| *given).count() > 1 {
            check.add("spec.target", "names several targets; a rule scales one");
            return None;
        }
        if let Some(docker) = docker {
            return docker.check(check);
        }
        if let Some(SwarmSpec { service }) = swarm {
            let service = check.required_text("spec.target.swarm.service", service)?;
            // It becomes part of an address.
            if !service.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
                check.add(
                    "spec.target.swarm.service",
                    format!("is {service:?}; a Swarm service's name has letters, digits, and _ . -"),
                );
                return None;
            }
            return Some(TargetConfig::Swarm { service });
        }
        if let Some(DryRunSpec { replicas }) = dry_run {
            return Some(TargetConfig::DryRun { replicas: replicas.unwrap_or(min_replicas) });
        }
        if kubernetes.is_none() {
            check.add(
                "spec.target",
                "names no target; use docker: {project, service}, docker: {label: name=value}, swarm: {service} or dryRun: {}",
            );
        }
        None
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
            Self::Docker { .. } | Self::Labelled { .. } | Self::Swarm { .. } => Some(self.to_string()),
            Self::DryRun { .. } => None,
        }
    }
}

impl fmt::Display for TargetConfig {
    /// Writes a short name: `docker:project/service`, `docker:label=value`, `swarm:service` or `dryRun`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker { project, service } => write!(f, "docker:{project}/{service}"),
            Self::Labelled { key, value } => write!(f, "docker:{key}={value}"),
            Self::Swarm { service } => write!(f, "swarm:{service}"),
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
            ("swarm: {service: shop_web}", "swarm:shop_web", true),
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

    #[test]
    fn a_target_is_one_that_is_known() {
        for (target, expected) in [
            ("kubernetes: {}", "spec.target.kubernetes: is not supported in this version; use docker, swarm or dryRun"),
            ("swarm: {}", "spec.target.swarm.service: is missing"),
            ("swarm: {service: ' '}", "spec.target.swarm.service: is empty"),
            ("swarm: {service: a/b}", "spec.target.swarm.service: is \"a/b\"; a Swarm service's name has"),
            ("{}", "spec.target: names no target; use docker"),
            ("{swarm: {service: a}, dryRun: {}}", "spec.target: names several targets"),
        ] {
            let found = check(target).unwrap_err();
            assert!(found.len() == 1 && found[0].starts_with(expected), "{target}: {found:?}");
        }
    }
}
