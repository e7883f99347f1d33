//! Which containers are one workload: a service of a Compose project, or all plain containers with one label. Pure.
//!
//! Here is all in which the two differ; what is done with the containers is the same.

use std::collections::HashMap;
use std::fmt;

use crate::target::TargetError;

pub(crate) const PROJECT_LABEL: &str = "com.docker.compose.project";
pub(crate) const SERVICE_LABEL: &str = "com.docker.compose.service";
pub(crate) const NUMBER_LABEL: &str = "com.docker.compose.container-number";
/// Number of a replica that was made here; the label of those that were not is absent.
pub(crate) const REPLICA_LABEL: &str = "cloudpulse.io/replica-number";
/// Length of the id that Docker gives as host name and alias.
pub(crate) const SHORT_ID: usize = 12;

/// The containers of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Group {
    /// A service of a Compose project.
    Compose { project: String, service: String },
    /// Plain containers with a label.
    Labelled { key: String, value: String },
}

impl Group {
    /// Returns the filters of the engine's list.
    pub(crate) fn filters(&self) -> HashMap<String, Vec<String>> {
        let labels = match self {
            Self::Compose { project, service } => {
                vec![format!("{PROJECT_LABEL}={project}"), format!("{SERVICE_LABEL}={service}")]
            }
            Self::Labelled { key, value } => vec![format!("{key}={value}")],
        };
        HashMap::from([("label".to_owned(), labels)])
    }

    /// Returns whether a container with these labels is of the workload, as far as the filters tell.
    pub(crate) fn has(&self, labels: &HashMap<String, String>) -> bool {
        let is = |name: &str, value: &str| labels.get(name).is_some_and(|found| found == value);
        match self {
            Self::Compose { project, service } => is(PROJECT_LABEL, project) && is(SERVICE_LABEL, service),
            Self::Labelled { key, value } => is(key, value),
        }
    }

    /// Returns the number of a replica by its labels. A plain container that was not made here is the first of its kind.
    pub(crate) fn number(&self, labels: &HashMap<String, String>) -> u32 {
        let number = |name: &str| labels.get(name).and_then(|number| number.parse().ok());
        match self {
            Self::Compose { .. } => number(NUMBER_LABEL).unwrap_or(0),
            Self::Labelled { .. } => number(REPLICA_LABEL).unwrap_or(1),
        }
    }

    /// Sets the number of a replica that is made.
    pub(crate) fn set_number(&self, labels: &mut HashMap<String, String>, number: u32) {
        labels.insert(REPLICA_LABEL.to_owned(), number.to_string());
        if let Self::Compose { .. } = self {
            labels.insert(NUMBER_LABEL.to_owned(), number.to_string());
        }
    }

    /// Returns what stands before the number in the names of replicas, from the name and number of one.
    ///
    /// # Errors
    /// [`TargetError::NotScalable`] where a Compose service has a fixed name.
    pub(crate) fn name_prefix(&self, name: &str, number: u32) -> Result<String, TargetError> {
        match self {
            Self::Compose { project, service } => compose_prefix(name, project, service).ok_or_else(|| {
                TargetError::NotScalable(format!(
                    "{self} has the fixed container_name {name}, so it can have one replica only; remove container_name"
                ))
            }),
            Self::Labelled { .. } => {
                let first = name.strip_suffix(&format!("-{number}")).filter(|first| !first.is_empty());
                Ok(format!("{}-", first.unwrap_or(name)))
            }
        }
    }

    /// Returns that the workload has no container, and what to do.
    pub(crate) fn absent(&self) -> TargetError {
        TargetError::NotFound(match self {
            Self::Compose { service, .. } => {
                format!("{self} has no container; start it once with docker compose up --detach {service}")
            }
            Self::Labelled { key, value } => {
                format!("{self} has no container; start the first with docker run --detach --label {key}={value} …")
            }
        })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compose { project, service } => write!(f, "service {service} of project {project}"),
            Self::Labelled { key, value } => write!(f, "the group labelled {key}={value}"),
        }
    }
}

/// Returns what stands before the number in the name that Compose gives, with its hyphens or (version 1) underscores;
/// `None` where the name is not of that form. While Compose replaces a container, an id stands before its name.
fn compose_prefix(name: &str, project: &str, service: &str) -> Option<String> {
    let replacing =
        name.split_once('_').filter(|(id, _)| id.len() == SHORT_ID && id.bytes().all(|b| b.is_ascii_hexdigit()));
    let name = replacing.map_or(name, |(_, rest)| rest);
    ['-', '_'].into_iter().find_map(|separator| {
        let prefix = format!("{project}{separator}{service}{separator}");
        let number = name.strip_prefix(&prefix)?;
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(prefix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose() -> Group {
        Group::Compose { project: "shop".to_owned(), service: "web".to_owned() }
    }

    fn labelled() -> Group {
        Group::Labelled { key: "app".to_owned(), value: "web".to_owned() }
    }

    #[test]
    fn names_of_both_compose_versions_are_known() {
        for (name, prefix) in
            [("shop-web-1", "shop-web-"), ("shop_web_12", "shop_web_"), ("0123456789ab_shop-web-1", "shop-web-")]
        {
            assert_eq!(compose().name_prefix(name, 1).unwrap(), prefix);
        }
        for fixed in ["web", "shop-web", "shop-web-", "shop-web-one", "other-web-1", "my-web-1"] {
            let error = compose().name_prefix(fixed, 1).unwrap_err().to_string();
            assert!(error.contains(&format!("fixed container_name {fixed}")), "{error}");
        }
    }

    #[test]
    fn plain_names_get_a_number() {
        for (name, number, prefix) in
            [("web", 1, "web-"), ("web-1", 1, "web-"), ("web-7", 1, "web-7-"), ("web-2", 2, "web-"), ("-1", 1, "-1-")]
        {
            assert_eq!(labelled().name_prefix(name, number).unwrap(), prefix, "{name}");
        }
    }

    #[test]
    fn numbers_are_labels() {
        for (group, names) in [(compose(), vec![REPLICA_LABEL, NUMBER_LABEL]), (labelled(), vec![REPLICA_LABEL])] {
            let mut labels = HashMap::new();
            group.set_number(&mut labels, 4);
            assert_eq!((labels.len(), group.number(&labels)), (names.len(), 4));
            assert!(names.iter().all(|name| labels[*name] == "4"), "{labels:?}");
        }
        assert_eq!((compose().number(&HashMap::new()), labelled().number(&HashMap::new())), (0, 1));
    }
}
