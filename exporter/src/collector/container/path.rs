//! The path of a cgroup in, the container that it is of out. Pure: engines say in the name of a container's folder what it
//! is, each in its own way.

use std::borrow::Cow;

/// Length of a container's id: 64 hexadecimal digits, whatever the engine.
const ID_LENGTH: usize = 64;

/// Who says what the container is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runtime {
    /// An engine that speaks Docker's API, as far as the name of the folder tells.
    Engine,
    /// One that Kubernetes speaks to over CRI, and that Docker's API knows nothing of.
    Cri,
}

/// Returns runtime and id of the container whose folder has this name; `None` where it is not of a container.
///
/// - `<id>`: Docker and containerd with the driver cgroupfs
/// - `docker-<id>.scope`, `libpod-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>.scope`: the driver systemd, with
///   Docker, Podman, containerd and CRI-O; Podman leaves `.scope` out with the driver cgroupfs
/// - `kubepods-…-pod<uid>.slice:cri-containerd:<id>`: containerd that was told of the wrong driver
pub(super) fn identify(folder: &str) -> Option<(Runtime, &str)> {
    let name = folder.strip_suffix(".scope").unwrap_or(folder);
    let (prefix, id) = match name.rfind([':', '-']) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => ("", name),
    };
    if !is_id(id) {
        return None;
    }
    match prefix.rsplit(':').next() {
        Some("cri-containerd" | "crio") => Some((Runtime::Cri, id)),
        // The monitor of a container, not the container: libpod-conmon-<id>.scope, crio-conmon-<id>.scope.
        Some(prefix) if prefix.ends_with("conmon") => None,
        _ => Some((Runtime::Engine, id)),
    }
}

/// Returns the uid of the pod that a cgroup belongs to; `None` where its path names none.
///
/// The driver cgroupfs writes it as it is (`/kubepods/burstable/pod<uid>/…`), the driver systemd with underscores for its
/// dashes (`/kubepods.slice/…/kubepods-burstable-pod<uid>.slice/…`).
pub(super) fn pod_uid(path: &str) -> Option<Cow<'_, str>> {
    path.split(['/', ':']).filter(|folder| !folder.is_empty()).rev().find_map(|folder| {
        if let Some(slice) = folder.strip_suffix(".slice") {
            let (before, uid) = slice.rsplit_once("-pod")?;
            return before.starts_with("kubepods").then(|| Cow::Owned(uid.replace('_', "-")));
        }
        let uid = folder.strip_prefix("pod").filter(|uid| !uid.is_empty())?;
        path.contains("kubepods").then_some(Cow::Borrowed(uid))
    })
}

/// Returns whether a folder never holds one of a container, so that the walk need not enter it.
pub(super) fn is_leaf(folder: &str) -> bool {
    [".mount", ".automount", ".socket", ".swap", ".device", ".timer"].iter().any(|kind| folder.ends_with(kind))
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "4d5e6f00112233445566778899aabbccddeeff00112233445566778899aabbcc";

    #[test]
    fn the_folders_of_each_engine_are_known() {
        for (folder, runtime) in [
            (ID.to_owned(), Runtime::Engine),
            (format!("docker-{ID}.scope"), Runtime::Engine),
            (format!("libpod-{ID}.scope"), Runtime::Engine),
            (format!("libpod-{ID}"), Runtime::Engine),
            (format!("nerdctl-{ID}.scope"), Runtime::Engine),
            (format!("cri-containerd-{ID}.scope"), Runtime::Cri),
            (format!("crio-{ID}.scope"), Runtime::Cri),
            (format!("crio-{ID}"), Runtime::Cri),
            (format!("kubepods-besteffort-pod1_2.slice:cri-containerd:{ID}"), Runtime::Cri),
        ] {
            assert_eq!(identify(&folder), Some((runtime, ID)), "{folder}");
        }
    }

    #[test]
    fn other_folders_are_not_containers() {
        for folder in [
            "docker".to_owned(),
            "docker.service".to_owned(),
            String::new(),
            ID[1..].to_owned(),
            format!("{ID}0"),
            ID.to_uppercase(),
            format!("libpod-conmon-{ID}.scope"),
            format!("crio-conmon-{ID}.scope"),
            format!("docker-{ID}.mount"),
        ] {
            assert_eq!(identify(&folder), None, "{folder}");
        }
    }

    #[test]
    fn pods_are_known_by_their_uid() {
        let uid = "0d6b0c2e-8f3a-4a7e-9a35-0a8f7c2f1d11";
        let slice = uid.replace('-', "_");
        for path in [
            format!("/kubepods/burstable/pod{uid}/{ID}"),
            format!("/kubepods/pod{uid}/{ID}"),
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/crio-{ID}.scope"),
            format!("/kubepods.slice/kubepods-pod{slice}.slice/cri-containerd-{ID}.scope"),
            format!("/system.slice/containerd.service/kubepods-besteffort-pod{slice}.slice:cri-containerd:{ID}"),
        ] {
            assert_eq!(pod_uid(&path).as_deref(), Some(uid), "{path}");
        }
        for path in [format!("/docker/{ID}"), format!("/podman/{ID}"), format!("/kubepods/besteffort/{ID}")] {
            assert_eq!(pod_uid(&path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read_or_passed_over(folder in "\\PC*|(docker|libpod|pod|kubepods)?[-:.]*[0-9a-f]{62,66}(.scope|.slice)?") {
            let _ = (pod_uid(&folder), is_leaf(&folder));
            if let Some((_, id)) = identify(&folder) {
                prop_assert!(is_id(id) && folder.contains(id));
            }
        }
    }
}
