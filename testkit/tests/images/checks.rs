//! What must hold of the images and of the running stack.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::stack::{SERVICES, Stack};

/// An image has its programs, the CA bundle and perhaps a folder for state, and says what it is.
pub(crate) fn an_image_is_nothing_but_its_programs(stack: &Stack) {
    for (program, holds) in [
        ("exporter", &["usr/bin/cloudpulse-exporter", "usr/bin/cloudpulse-exporter-web"][..]),
        ("predictor", &["usr/bin/cloudpulse-predictor"]),
        ("scaler", &["usr/bin/cloudpulse-scaler"]),
        ("sample", &["usr/bin/cloudpulse-sample"]),
    ] {
        let image = stack.image(program);
        let id = stack.docker.cli(&["create", "--network", "none", &image]).unwrap();
        let archive = stack.file("image.tar", "").unwrap();
        stack.docker.cli(&["export", "--output", &archive.display().to_string(), id.trim()]).unwrap();
        stack.docker.cli(&["rm", id.trim()]).unwrap();
        let files =
            cloudpulse_testkit::process::run(std::process::Command::new("tar").arg("-tf").arg(&archive)).unwrap();
        // The engine puts its own mount points in.
        let engines =
            ["dev/", "proc/", "sys/", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf", ".dockerenv"];
        let own: Vec<&str> = files
            .lines()
            .filter(|file| !file.ends_with('/') && !engines.iter().any(|engine| file.starts_with(engine)))
            .collect();
        assert_eq!(own, [&["etc/ssl/certs/ca-certificates.crt"], holds].concat(), "{image}");

        let inspected: Value = serde_json::from_str(&stack.docker.cli(&["image", "inspect", &image]).unwrap()).unwrap();
        let config = &inspected[0]["Config"];
        assert_eq!(config["User"], "65532:65532", "{image}");
        assert_eq!(config["Healthcheck"]["Test"][1], format!("cloudpulse-{program}"), "{image}");
        for label in ["title", "description", "vendor", "licenses", "version", "revision"] {
            let text = config["Labels"][format!("org.opencontainers.image.{label}")].as_str();
            assert!(text.is_some_and(|text| !text.is_empty()), "{image}: {label}");
        }
    }
}

/// Given a web config file, the exporter becomes the program beside it in the image; its health check goes on.
pub(crate) async fn a_web_config_file_is_served_under(stack: &Stack) {
    let users = "basic_auth_users: {ann: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n";
    let file = stack.file("web.yml", users).unwrap();
    let mount = format!("{}:/web.yml:ro", file.display());
    let image = stack.image("exporter");
    let run = ["run", "--detach", "--network", "none", "--read-only", "--cap-drop", "ALL", "--volume", &mount];
    let id = stack.docker.cli(&[&run[..], &[&image, "--web.config.file=/web.yml"]].concat()).unwrap();
    let said = "http://[::1]:9100/healthz: it answers, and asks for a user or a client certificate\n";
    let over_ipv4 = said.replace("[::1]", "127.0.0.1");
    stack
        .wait("the exporter under a web config file", Duration::from_secs(30), async |stack| {
            let answer = stack.docker.cli(&["exec", id.trim(), "cloudpulse-exporter", "health"]);
            answer.is_ok_and(|answer| answer == said || answer == over_ipv4)
        })
        .await;
    assert!(stack.docker.cli(&["exec", id.trim(), "cloudpulse-exporter", "health", "--ready"]).is_err());
    assert!(stack.docker.cli(&["exec", id.trim(), "sh", "-c", "true"]).is_err(), "there is a shell");
    stack.docker.cli(&["rm", "--force", id.trim()]).unwrap();
}

/// No container of the stack may do more than it must, by its settings and by what the kernel says of its first process.
/// `roots` are the services whose user is root.
pub(crate) fn every_service_is_held(stack: &Stack, roots: &[&str]) {
    for service in SERVICES {
        for container in stack.containers(service).unwrap() {
            let settings = &container["HostConfig"];
            assert_eq!(settings["RestartPolicy"]["Name"], "unless-stopped", "{service}");
            assert!(settings["Memory"].as_u64() > Some(0) && settings["NanoCpus"].as_u64() > Some(0), "{service}");
            assert!(settings["PidsLimit"].as_u64() > Some(0), "{service}");
            for binding in settings["PortBindings"].as_object().into_iter().flat_map(|ports| ports.values()) {
                assert!(
                    binding.as_array().unwrap().iter().all(|it| it["HostIp"] == "127.0.0.1"),
                    "{service}: {binding}"
                );
            }
            let sockets =
                container["Mounts"].as_array().unwrap().iter().filter(|it| it["Destination"] == "/var/run/docker.sock");
            assert_eq!(sockets.count(), usize::from(service == "scaler"), "{service}");

            let pid = container["State"]["Pid"].as_u64().unwrap();
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let status: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(":\t")).collect();
            let user = status["Uid"].split('\t').next().unwrap();
            assert_eq!(user == "0", roots.contains(&service), "{service} runs as {user}");
            assert_eq!(status["NoNewPrivs"], "1", "{service}");
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(status[set].trim_matches('0'), "", "{service}: {set}");
            }
            let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
            let root =
                mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|mount| mount[4] == "/").unwrap();
            assert!(root[5].split(',').any(|option| option == "ro"), "{service}: {root:?}");
        }
    }
}

/// It shows the host's memory, filesystem and network, and not the container's.
pub(crate) async fn the_exporter_sees_the_host(stack: &Stack) {
    let one = async |query: &str| -> f64 {
        let samples = stack.query(query).await;
        assert_eq!(samples.len(), 1, "{query}: {samples:?}");
        samples[0].1
    };
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kilobytes: f64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(one("node_memory_MemTotal_bytes").await, kilobytes * 1024.0);
    let root = rustix::fs::statvfs("/").unwrap();
    assert_eq!(one("node_filesystem_size_bytes{mountpoint=\"/\"}").await, (root.f_blocks * root.f_frsize) as f64);
    // The bridge of the stack is in the host's network alone.
    assert!(one("count(node_network_receive_bytes_total{device=~\"br-.+\"})").await >= 1.0);
    let processes = one("node_procs_running").await;
    assert!(processes >= 1.0, "{processes}");
}

/// Our services run images of this version.
pub(crate) fn runs_version(stack: &Stack, version: &str) {
    for service in ["exporter", "predictor", "scaler", "sample", "load"] {
        for container in stack.containers(service).unwrap() {
            assert_eq!(container["Config"]["Labels"]["org.opencontainers.image.version"], version, "{service}");
        }
    }
}
