//! What is known of a container → its labels, under the names that cAdvisor and the kubelet give them. Pure but for the
//! names of block devices, which sysfs knows.

use std::path::Path;

use cloudpulse_common::exposition::Labels;

use super::engine::{Description, Wanted};
use super::pods::Pod;
use super::tree::Found;

/// Labels of Kubernetes as Docker carries them, and their names in the metrics of a kubelet.
const KUBERNETES: [(&str, &str); 3] = [
    ("io.kubernetes.container.name", "container"),
    ("io.kubernetes.pod.name", "pod"),
    ("io.kubernetes.pod.namespace", "namespace"),
];

/// Renders the labels of a container with what is known of it, and `more` at their end.
pub(super) fn rendered(
    found: &Found,
    description: Option<&Description>,
    pod: Option<&Pod>,
    more: &[(&str, &str)],
) -> Labels {
    let mut labels = vec![("id", &*found.path)];
    if let Some(Description { name, image, labels: of_engine }) = description {
        labels.extend([("name", &**name), ("image", &**image)]);
        labels.extend(of_engine.iter().map(|(name, value)| (&**name, &**value)));
    }
    // Where the engine says them too, they are there already.
    if let Some(Pod { namespace, pod, container }) = pod {
        for (name, value) in [("container", container), ("pod", pod), ("namespace", namespace)] {
            if !labels.iter().any(|(known, _)| *known == name) {
                labels.push((name, value));
            }
        }
    }
    labels.extend(more);
    Labels::new(&labels)
}

/// Returns the labels to ask the engine for, under the names that cAdvisor and the kubelet give them. Of two that
/// Prometheus could not tell apart the first is taken.
pub(super) fn wanted(labels: &[String]) -> Vec<Wanted> {
    let pods = KUBERNETES.iter().map(|(label, name)| ((*label).to_owned(), (*name).to_owned()));
    let others = labels.iter().map(|label| (label.clone(), exported_name(label)));
    let mut wanted: Vec<Wanted> = Vec::new();
    for (label, name) in pods.chain(others) {
        if !wanted.iter().any(|known| known.name == name) {
            wanted.push(Wanted { label, name });
        }
    }
    wanted
}

fn exported_name(label: &str) -> String {
    let fit = |symbol: char| if symbol.is_ascii_alphanumeric() { symbol } else { '_' };
    label.chars().fold("container_label_".to_owned(), |mut name, symbol| {
        name.push(fit(symbol));
        name
    })
}

/// Returns the path of a block device; its number where it has no name.
pub(super) fn device_name(sysfs: &Path, number: &[u8]) -> String {
    let number = String::from_utf8_lossy(number);
    let link = std::fs::read_link(sysfs.join("dev/block").join(&*number)).ok();
    let name = link.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    name.map_or_else(|| number.to_string(), |name| format!("/dev/{}", name.replace('!', "/")))
}

#[cfg(test)]
mod tests {
    use super::super::path::Runtime;
    use super::*;

    const ID: &str = "4d5e6f00112233445566778899aabbccddeeff00112233445566778899aabbcc";

    #[test]
    fn labels_have_the_names_of_cadvisor_and_of_the_kubelet() {
        let names = |labels: &[&str]| -> Vec<String> {
            let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
            wanted(&labels).into_iter().skip(KUBERNETES.len()).map(|wanted| wanted.name).collect()
        };
        assert_eq!(
            names(&["com.docker.compose.container-number", "tier", "tier!", "tier?"]),
            ["container_label_com_docker_compose_container_number", "container_label_tier", "container_label_tier_"]
        );
        let found = Found { path: format!("/docker/{ID}"), id: ID.to_owned(), runtime: Runtime::Engine };
        let description = Description {
            name: "k8s_web".to_owned(),
            image: "web:1".to_owned(),
            labels: vec![("pod".to_owned(), "web-7c9".to_owned())],
        };
        let pod = Pod { namespace: "shop".to_owned(), pod: "web-7c9".to_owned(), container: String::new() };
        let labels = rendered(&found, Some(&description), Some(&pod), &[("cpu", "total")]);
        let path = format!("/docker/{ID}");
        let expected = [
            ("id", &*path),
            ("name", "k8s_web"),
            ("image", "web:1"),
            ("pod", "web-7c9"),
            ("namespace", "shop"),
            ("cpu", "total"),
        ];
        assert_eq!(labels, Labels::new(&expected));
    }

    #[test]
    fn a_block_device_has_the_name_that_sysfs_gives_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("dev/block")).unwrap();
        let link = |number: &str| folder.path().join("dev/block").join(number);
        std::os::unix::fs::symlink("../../devices/x/block/sda", link("8:0")).unwrap();
        std::os::unix::fs::symlink("../../devices/x/block/cciss!c0d0", link("104:0")).unwrap();
        for (number, name) in [("8:0", "/dev/sda"), ("104:0", "/dev/cciss/c0d0"), ("9:9", "9:9")] {
            assert_eq!(device_name(folder.path(), number.as_bytes()), name);
        }
    }
}
