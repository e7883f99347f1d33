//! The folders in which Kubernetes keeps logs → pod, namespace and container behind an id. Their names hold them, in the
//! form that every kubelet writes, so that nobody needs to be asked.

use std::ffi::OsStr;
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
        let entries = |folder: &str| {
            let entries = std::fs::read_dir(var_log.join(folder)).ok();
            entries.into_iter().flatten().flatten().take(MOST)
        };
        let mut logs = Self::default();
        for entry in entries("pods") {
            logs.pods.extend(pod(&entry.file_name()));
        }
        for entry in entries("containers") {
            logs.containers.extend(container(&entry.file_name()));
            // A kubelet lets root alone list `pods`; what stands in `containers` are links into it, which everybody can read.
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let named = target.iter().find_map(pod);
            logs.pods.extend(named.filter(|(uid, _)| logs.pods.iter().all(|(known, _)| known != uid)));
        }
        logs
    }

    /// Returns the pod of a container; `None` where none of this uid is known.
    pub(super) fn find(&self, uid: &str, id: &str) -> Option<Pod> {
        let (_, (namespace, pod)) = self.pods.iter().find(|(known, _)| known == uid)?.clone();
        let container = self.containers.iter().find(|(known, _)| known == id);
        Some(Pod { namespace, pod, container: container.map(|(_, name)| name.clone()).unwrap_or_default() })
    }
}

/// `NAMESPACE_POD_UID`: none of the three can hold an underscore.
fn pod(name: &OsStr) -> Option<(String, (String, String))> {
    let mut parts = name.to_str()?.split('_');
    let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && !namespace.is_empty() && !pod.is_empty() && !uid.is_empty();
    whole.then(|| (uid.to_owned(), (namespace.to_owned(), pod.to_owned())))
}

/// `POD_NAMESPACE_CONTAINER-ID.log`.
fn container(name: &OsStr) -> Option<(String, String)> {
    let (rest, id) = name.to_str()?.strip_suffix(".log")?.rsplit_once('-')?;
    let container = rest.splitn(3, '_').nth(2)?;
    Some((id.to_owned(), container.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(container: &str) -> Pod {
        Pod { namespace: "shop".to_owned(), pod: "web-7c9".to_owned(), container: container.to_owned() }
    }

    #[test]
    fn pod_namespace_and_container_are_in_the_names_of_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("pods/shop_web-7c9_0d6b-1")).unwrap();
        std::fs::create_dir_all(folder.path().join("pods/shop_web_x_y")).unwrap();
        std::fs::create_dir_all(folder.path().join("containers")).unwrap();
        std::fs::write(folder.path().join("containers/web-7c9_shop_side-car-4d5e.log"), "").unwrap();
        std::fs::write(folder.path().join("containers/other"), "").unwrap();
        let logs = Logs::read(folder.path());
        assert_eq!(logs.find("0d6b-1", "4d5e"), Some(web("side-car")));
        assert_eq!(logs.find("0d6b-1", "77"), Some(web("")));
        assert_eq!(logs.find("y", "4d5e"), None);
        assert_eq!(Logs::read(&folder.path().join("none")).find("0d6b-1", "4d5e"), None);
    }

    #[test]
    fn where_the_folders_of_pods_may_not_be_listed_the_links_to_them_name_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("containers")).unwrap();
        for container in ["nginx-4d5e", "side-car-77"] {
            let link = folder.path().join(format!("containers/web-7c9_shop_{container}.log"));
            std::os::unix::fs::symlink("/var/log/pods/shop_web-7c9_0d6b-1/x/0.log", link).unwrap();
        }
        let logs = Logs::read(folder.path());
        assert_eq!(logs.find("0d6b-1", "4d5e"), Some(web("nginx")));
        assert_eq!(logs.find("0d6b-1", "77"), Some(web("side-car")));
        assert_eq!(logs.find("0d6b-1", "88"), Some(web("")));
        assert_eq!(logs.find("0d6b-2", "4d5e"), None);
        assert_eq!(logs.pods.len(), 1);
    }
}
