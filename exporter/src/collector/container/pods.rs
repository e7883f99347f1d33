//! The folders in which Kubernetes keeps logs → pod, namespace and container behind an id. Their names hold them, in the
//! form that every kubelet writes, so that nobody needs to be asked.

use std::path::Path;

/// Entries of a folder that are read; a node has 110 pods by default.
const MOST: usize = 16_384;

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// Empty for the container that only holds the pod's network.
    pub(super) container: String,
}

/// What the folders say.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// Uid, namespace and name of each pod.
    pods: Vec<(String, (String, String))>,
    /// Id and name of each container.
    containers: Vec<(String, String)>,
}

impl Logs {
    /// Reads the folders below `/var/log`, as this process sees it. What is not there is not known.
    pub(super) fn read(var_log: &Path) -> Self {
        let names = |folder: &str| {
            let entries = std::fs::read_dir(var_log.join(folder)).ok();
            entries.into_iter().flatten().flatten().take(MOST).filter_map(|entry| entry.file_name().into_string().ok())
        };
        Self {
            pods: names("pods").filter_map(|name| pod(&name)).collect(),
            containers: names("containers").filter_map(|name| container(&name)).collect(),
        }
    }

    /// Returns the pod of a container; `None` where none of this uid is known.
    pub(super) fn find(&self, uid: &str, id: &str) -> Option<Pod> {
        let (_, (namespace, pod)) = self.pods.iter().find(|(known, _)| known == uid)?.clone();
        let container = self.containers.iter().find(|(known, _)| known == id);
        Some(Pod { namespace, pod, container: container.map(|(_, name)| name.clone()).unwrap_or_default() })
    }
}

/// `NAMESPACE_POD_UID`: none of the three can hold an underscore.
fn pod(name: &str) -> Option<(String, (String, String))> {
    let mut parts = name.split('_');
    let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && !namespace.is_empty() && !pod.is_empty() && !uid.is_empty();
    whole.then(|| (uid.to_owned(), (namespace.to_owned(), pod.to_owned())))
}

/// `POD_NAMESPACE_CONTAINER-ID.log`.
fn container(name: &str) -> Option<(String, String)> {
    let (rest, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let container = rest.splitn(3, '_').nth(2)?;
    Some((id.to_owned(), container.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_namespace_and_container_are_in_the_names_of_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("pods/shop_web-7c9_0d6b-1")).unwrap();
        std::fs::create_dir_all(folder.path().join("pods/shop_web_x_y")).unwrap();
        std::fs::create_dir_all(folder.path().join("containers")).unwrap();
        std::fs::write(folder.path().join("containers/web-7c9_shop_side-car-4d5e.log"), "").unwrap();
        std::fs::write(folder.path().join("containers/other"), "").unwrap();
        let logs = Logs::read(folder.path());
        let pod = |container: &str| Pod {
            namespace: "shop".to_owned(),
            pod: "web-7c9".to_owned(),
            container: container.to_owned(),
        };
        assert_eq!(logs.find("0d6b-1", "4d5e"), Some(pod("side-car")));
        assert_eq!(logs.find("0d6b-1", "77"), Some(pod("")));
        assert_eq!(logs.find("y", "4d5e"), None);
        assert_eq!(Logs::read(&folder.path().join("none")).find("0d6b-1", "4d5e"), None);
    }
}
