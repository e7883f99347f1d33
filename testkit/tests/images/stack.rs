//! The stack of docker/compose.yaml on an engine, with what stands in for images that cannot be pulled.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cloudpulse_testkit::binary::workspace_root;
use cloudpulse_testkit::docker::Docker;
use cloudpulse_testkit::net::{free_port, http_client};
use cloudpulse_testkit::process::{find_program, run};
use serde_json::Value;
use tempfile::TempDir;

const PROJECT: &str = "com.docker.compose.project=cloudpulse";
/// Before the names of the images that are built here.
pub(crate) const IMAGES: &str = "cloudpulse-images-test";
/// All but Grafana.
pub(crate) const SERVICES: [&str; 7] =
    ["alertmanager", "exporter", "load", "predictor", "prometheus", "sample", "scaler"];
/// Debian's Alertmanager reads them from here, where others have them in the program.
const TEMPLATES: &str = "/usr/share/prometheus/alertmanager";
const NOBODY: &str = "65534:65534";

/// The stack. Dropping it takes it down and removes what was built.
pub(crate) struct Stack {
    pub(crate) docker: Docker,
    folder: TempDir,
    version: String,
    scaler_user: String,
    prometheus: u16,
    ports: String,
}

impl Stack {
    pub(crate) fn new(docker: Docker) -> anyhow::Result<Self> {
        let prometheus = free_port()?;
        let mut ports = format!("PROMETHEUS_PORT={prometheus}\n");
        for name in ["ALERTMANAGER", "GRAFANA", "PREDICTOR", "SCALER"] {
            let _ = writeln!(ports, "{name}_PORT={}", free_port()?);
        }
        let folder = tempfile::tempdir()?;
        let mut stack =
            Self { docker, folder, version: String::new(), scaler_user: "0:0".to_owned(), prometheus, ports };
        let left = stack.left()?;
        anyhow::ensure!(left.is_empty(), "a stack named cloudpulse is on this engine; it is left alone: {left:?}");
        for (image, programs, data) in [
            ("prometheus", &[("prometheus", "prometheus"), ("promtool", "promtool")][..], "prometheus"),
            ("alertmanager", &[("prometheus-alertmanager", "alertmanager"), ("amtool", "amtool")], "alertmanager"),
        ] {
            stack.stand_in(image, programs, data).with_context(|| format!("the stand-in of {image}"))?;
        }
        let image = |name: &str| format!("{{image: {IMAGES}/{name}:stand-in, pull_policy: never}}");
        let text = format!(
            "services:\n  prometheus: {}\n  alertmanager: {}\n  grafana: {{profiles: [left-out]}}\n",
            image("prometheus"),
            image("alertmanager")
        );
        std::fs::write(stack.folder.path().join("override.yaml"), text)?;
        stack.set("none")?;
        Ok(stack)
    }

    /// Makes an image of Debian's programs, with the libraries that they need, under the names of the public image.
    fn stand_in(&self, image: &str, programs: &[(&str, &str)], data: &str) -> anyhow::Result<()> {
        let root = self.folder.path().join(image);
        let place = |file: &Path, at: &Path| -> anyhow::Result<()> {
            let at = root.join(at.strip_prefix("/").unwrap_or(at));
            std::fs::create_dir_all(at.parent().context("no folder")?)?;
            std::fs::copy(file, at).with_context(|| file.display().to_string())?;
            Ok(())
        };
        for (program, name) in programs {
            let file = find_program(&[program, name], "prometheus and prometheus-alertmanager")?;
            place(&file, &Path::new("bin").join(name))?;
            for word in run(Command::new("ldd").arg(&file))?.split_whitespace().filter(|word| word.starts_with('/')) {
                place(Path::new(word), Path::new(word))?;
            }
        }
        for template in ["default.tmpl", "email.tmpl"].map(|name| Path::new(TEMPLATES).join(name)) {
            if template.exists() {
                place(&template, &template)?;
            }
        }
        std::fs::create_dir_all(root.join(data))?;
        let archive = self.folder.path().join("root.tar");
        let (user, group) = NOBODY.split_once(':').context("a user and a group")?;
        run(Command::new("tar")
            .arg("-C")
            .arg(&root)
            .args(["--owner", user, "--group", group, "-cf"])
            .arg(&archive)
            .arg("."))?;
        let (main, archive) = (programs[0].1, archive.display().to_string());
        let (user, start) = (format!("USER {NOBODY}"), format!("ENTRYPOINT [\"/bin/{main}\"]"));
        let tag = format!("{IMAGES}/{image}:stand-in");
        self.docker.cli(&["import", "--change", &user, "--change", &start, &archive, &tag])?;
        Ok(())
    }

    /// Builds our images as `version` of the programs in target/images/dist, and returns their sizes in words.
    pub(crate) fn build(&mut self, version: &str) -> anyhow::Result<Vec<String>> {
        let mut command = Command::new(workspace_root().join("scripts/images.sh"));
        command.arg("images").env("DOCKER_HOST", self.docker.address());
        let sizes = run(command.env("CLOUDPULSE_IMAGES", IMAGES).env("CLOUDPULSE_VERSION", version))?;
        self.set(version)?;
        Ok(sizes.lines().map(str::to_owned).collect())
    }

    pub(crate) fn image(&self, program: &str) -> String {
        format!("{IMAGES}/{program}:{}", self.version)
    }

    /// Has the scaler run as a user who is in the group of the socket, and nothing else.
    pub(crate) fn scaler_is_nobody(&mut self) -> anyhow::Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        let group = std::fs::metadata(self.docker.socket().context("the engine has no socket here")?)?.gid();
        self.scaler_user = format!("65532:{group}");
        self.set(&self.version.clone())
    }

    fn set(&mut self, version: &str) -> anyhow::Result<()> {
        self.version = version.to_owned();
        let socket = self.docker.socket().context("the engine has no socket here")?.display();
        let text = format!(
            "{}CLOUDPULSE_IMAGES={IMAGES}\nCLOUDPULSE_VERSION={version}\nCLOUDPULSE_SCALER_USER={}\nDOCKER_SOCKET={socket}\n",
            self.ports, self.scaler_user
        );
        Ok(std::fs::write(self.folder.path().join("env"), text)?)
    }

    pub(crate) fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let (over, env) = (file("override.yaml"), file("env"));
        let files = ["--file", "docker/compose.yaml", "--file", &over, "--env-file", &env];
        self.docker.compose(&[&files[..], arguments].concat(), &workspace_root())
    }

    /// Returns what the engine says of each container of a service.
    pub(crate) fn containers(&self, service: &str) -> anyhow::Result<Vec<Value>> {
        let service = format!("label=com.docker.compose.service={service}");
        let ids = self.docker.cli(&[
            "ps",
            "--all",
            "--quiet",
            "--filter",
            &format!("label={PROJECT}"),
            "--filter",
            &service,
        ])?;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(serde_json::from_str(&self.docker.cli(&[&["inspect"][..], &ids].concat())?)?)
    }

    /// Returns the services that have containers, all of them healthy.
    pub(crate) fn healthy_services(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut healthy = BTreeSet::new();
        for service in SERVICES {
            let containers = self.containers(service)?;
            if !containers.is_empty() && containers.iter().all(|it| it["State"]["Health"]["Status"] == "healthy") {
                healthy.insert(service.to_owned());
            }
        }
        Ok(healthy)
    }

    /// Returns the samples of an instant query: labels and value; none where Prometheus does not answer.
    pub(crate) async fn query(&self, expr: &str) -> Vec<(Value, f64)> {
        let ask = async || -> anyhow::Result<Vec<(Value, f64)>> {
            let mut url = reqwest::Url::parse(&format!("http://127.0.0.1:{}/api/v1/query", self.prometheus))?;
            url.query_pairs_mut().append_pair("query", expr);
            let answer = http_client()?.get(url).send().await?.text().await?;
            let answer: Value = serde_json::from_str(&answer)?;
            let samples = answer["data"]["result"].as_array().context("no vector")?;
            samples
                .iter()
                .map(|sample| {
                    let value = sample["value"][1].as_str().context("no value")?.parse()?;
                    Ok((sample["metric"].clone(), value))
                })
                .collect()
        };
        ask().await.unwrap_or_default()
    }

    /// Waits until `holds`; panics with the state and the logs of the containers when that takes too long.
    pub(crate) async fn wait(&self, what: &str, within: Duration, holds: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + within;
        while !holds(self).await {
            if Instant::now() >= deadline {
                let state = self.compose(&["ps", "--all"]).unwrap_or_default();
                let logs = self.compose(&["logs", "--no-color", "--tail", "15"]).unwrap_or_default();
                panic!("{what}: not within {within:?}\n{state}\n{logs}");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Returns the containers, volumes and networks of the stack that the engine has.
    pub(crate) fn left(&self) -> anyhow::Result<Vec<String>> {
        let filter = format!("label={PROJECT}");
        let mut left = Vec::new();
        for kind in [&["ps", "--all"][..], &["volume", "ls"], &["network", "ls"]] {
            let found = self.docker.cli(&[kind, &["--quiet", "--filter", &filter]].concat())?;
            left.extend(found.split_whitespace().map(|id| format!("{} {id}", kind[0])));
        }
        Ok(left)
    }

    /// Returns a file in a folder that ends with the stack.
    pub(crate) fn file(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.compose(&["down", "--volumes", "--timeout", "2"]);
        if let Ok(images) = self.docker.cli(&["images", "--quiet", "--filter", &format!("reference={IMAGES}/*")]) {
            let images: Vec<&str> = images.split_whitespace().collect();
            if !images.is_empty() {
                let _ = self.docker.cli(&[&["rmi", "--force"][..], &images].concat());
            }
        }
    }
}
