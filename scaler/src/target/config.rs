//! `target` of a rule: what serde reads in; a checked target, or findings with their fields, out.

use std::fmt;

use cloudpulse_policy::Replicas;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::rule::Check;

/// What is scaled: exactly one of the fields.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetSpec {
    /// A workload of a Kubernetes cluster, in the rule's namespace.
    kubernetes: Option<KubernetesSpec>,
    /// A Docker Compose service, or all plain containers with a label.
    docker: Option<DockerSpec>,
    /// A service of Docker Swarm.
    swarm: Option<SwarmSpec>,
    /// Nothing: what would be done is said.
    dry_run: Option<DryRunSpec>,
}

/// Anything with a /scale subresource.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KubernetesSpec {
    /// API group and version; apps/v1 where absent.
    #[schemars(extend("default" = "apps/v1"), length(min = 1, max = 317))]
    api_version: Option<String>,
    /// Kind; Deployment where absent.
    #[schemars(extend("default" = "Deployment"), length(min = 1, max = 63))]
    kind: Option<String>,
    /// Name.
    #[schemars(required, length(min = 1, max = 253))]
    name: Option<String>,
    /// scale: the scaler sets the replicas itself. hpa: it keeps a HorizontalPodAutoscaler that goes by the load and by the
    /// forecast, so that Kubernetes takes the larger and scales. scale where absent.
    #[schemars(extend("default" = "scale"))]
    managed: Option<Managed>,
}

/// Who sets the replicas of a Kubernetes workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Managed {
    /// The scaler.
    #[default]
    Scale,
    /// A HorizontalPodAutoscaler that the scaler keeps.
    Hpa,
}

/// Either a Compose service or a label.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DockerSpec {
    /// The Compose project.
    #[schemars(length(min = 1, max = 253))]
    project: Option<String>,
    /// The service in it.
    #[schemars(length(min = 1, max = 253))]
    service: Option<String>,
    /// name=value of a label, in place of project and service.
    #[schemars(length(min = 3, max = 1024))]
    label: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SwarmSpec {
    /// The service's name.
    #[schemars(required, length(min = 1, max = 253))]
    service: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DryRunSpec {
    /// Replicas that it pretends to have at the start; minReplicas where absent.
    replicas: Option<Replicas>,
}

/// A workload with a `/scale` subresource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// API group and version, such as `apps/v1`.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// A checked target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetConfig {
    /// A workload of a Kubernetes cluster.
    Kubernetes {
        /// Which.
        workload: Workload,
        /// Who sets its replicas.
        managed: Managed,
    },
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
    /// `namespace` is the rule's.
    pub(crate) fn check(
        self,
        min_replicas: Replicas,
        namespace: Option<&str>,
        check: &mut Check<'_>,
    ) -> Option<TargetConfig> {
        let Self { docker, dry_run, swarm, kubernetes } = self;
        let given = [docker.is_some(), dry_run.is_some(), swarm.is_some(), kubernetes.is_some()];
        if given.into_iter().filter(|given| *given).count() > 1 {
            check.add("spec.target", "names several targets; a rule scales one");
            return None;
        }
        if let Some(kubernetes) = kubernetes {
            return kubernetes.check(namespace, check);
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
        check.add(
            "spec.target",
            "names no target; use kubernetes: {kind, name}, docker: {project, service}, docker: {label: name=value}, \
             swarm: {service} or dryRun: {}",
        );
        None
    }
}

impl KubernetesSpec {
    fn check(self, namespace: Option<&str>, check: &mut Check<'_>) -> Option<TargetConfig> {
        let Self { api_version, kind, name, managed } = self;
        let mut text = |field: &str, value: Option<String>| {
            let path = format!("spec.target.kubernetes.{field}");
            let value = check.required_text(&path, value)?;
            // Each becomes part of an address.
            if value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-/:".contains(&byte))
                && !value.contains("..")
            {
                return Some(value);
            }
            check.add(path, format!("is {value:?}, which is no name in Kubernetes"));
            None
        };
        let api_version = text("apiVersion", Some(api_version.unwrap_or_else(|| "apps/v1".to_owned())));
        let kind = text("kind", Some(kind.unwrap_or_else(|| "Deployment".to_owned())));
        let name = text("name", name);
        let Some(namespace) = namespace else {
            check.add("metadata.namespace", "is missing; it says where the workload of spec.target.kubernetes is");
            return None;
        };
        let workload =
            Workload { namespace: namespace.to_owned(), api_version: api_version?, kind: kind?, name: name? };
        Some(TargetConfig::Kubernetes { workload, managed: managed.unwrap_or_default() })
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
            Self::Kubernetes { workload, .. } => Some(format!("{workload:#}")),
            Self::Docker { .. } | Self::Labelled { .. } | Self::Swarm { .. } => Some(self.to_string()),
            Self::DryRun { .. } => None,
        }
    }
}

impl Workload {
    /// Returns the API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Returns the API version without the group.
    pub fn version(&self) -> &str {
        self.api_version.split_once('/').map_or(self.api_version.as_str(), |(_, version)| version)
    }
}

impl fmt::Display for Workload {
    /// Writes `namespace/Kind/name`; in the alternate form with the group, which two versions share.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, kind, name, .. } = self;
        if f.alternate() {
            write!(f, "kubernetes:{namespace}/{kind}.{}/{name}", self.group())
        } else {
            write!(f, "{namespace}/{kind}/{name}")
        }
    }
}

impl fmt::Display for TargetConfig {
    /// Writes a short name: `kubernetes:namespace/Kind/name`, `docker:project/service`, `docker:label=value`,
    /// `swarm:service` or `dryRun`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubernetes { workload, .. } => write!(f, "kubernetes:{workload}"),
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
        let config = spec.check(1, Some("shop"), &mut Check::new("f", &mut findings));
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
            ("kubernetes: {name: web}", "kubernetes:shop/Deployment/web", true),
            (
                "kubernetes: {apiVersion: a.io/v1, kind: Room, name: web, managed: hpa}",
                "kubernetes:shop/Room/web",
                true,
            ),
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
            ("kubernetes: {}", "spec.target.kubernetes.name: is missing"),
            ("kubernetes: {name: ../x}", "spec.target.kubernetes.name: is \"../x\", which is no name in Kubernetes"),
            ("swarm: {}", "spec.target.swarm.service: is missing"),
            ("swarm: {service: ' '}", "spec.target.swarm.service: is empty"),
            ("swarm: {service: a/b}", "spec.target.swarm.service: is \"a/b\"; a Swarm service's name has"),
            ("{}", "spec.target: names no target; use kubernetes"),
            ("{swarm: {service: a}, dryRun: {}}", "spec.target: names several targets"),
        ] {
            let found = check(target).unwrap_err();
            assert!(found.len() == 1 && found[0].starts_with(expected), "{target}: {found:?}");
        }
    }
}
