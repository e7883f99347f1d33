//! The Docker target against a real engine and a real Docker Compose.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cloudpulse_scaler::target::ScaleTarget as _;
use cloudpulse_scaler::target::TargetError;
use cloudpulse_scaler::target::docker::DockerTarget;
use cloudpulse_testkit::docker::Docker;
use cloudpulse_testkit::process::Process;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

const SLEEPER: &str = "fn main() { std::thread::sleep(std::time::Duration::MAX) }";
const WAIT: Duration = Duration::from_secs(60);

struct Project {
    name: &'static str,
    folder: TempDir,
    background: TaskTracker,
}

impl Project {
    fn new(name: &'static str, services: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("compose.yaml"), format!("name: {name}\n{services}")).unwrap();
        Self { name, folder, background: TaskTracker::new() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A target that does not wait after stops by others.
    fn target(&self, docker: &Docker, service: &str) -> DockerTarget {
        let host = Some(docker.address().to_owned());
        DockerTarget::new(self.name.to_owned(), service.to_owned(), host, self.background.clone())
            .with_quiet(Duration::ZERO)
    }

    /// Waits for the stops that go on behind the target.
    async fn settle(&self) {
        self.background.close();
        tokio::time::timeout(WAIT, self.background.wait()).await.unwrap();
        self.background.reopen();
    }

    fn compose_ids(&self, docker: &Docker, service: &str) -> BTreeSet<String> {
        let ids = docker.compose(&["ps", "--quiet", "--no-trunc", service], self.path()).unwrap();
        ids.split_whitespace().map(str::to_owned).collect()
    }
}

async fn engine() -> Docker {
    Docker::start().await.unwrap().expect(Docker::HOW_TO_GET_ONE)
}

fn inspect(docker: &Docker, format: &str, container: &str) -> String {
    docker.cli(&["inspect", "--format", format, container]).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_scaled_as_compose_would() {
    let docker = engine().await;
    docker.build_image("cloudpulse-test/sleeper:1", SLEEPER).unwrap();
    let project = Project::new(
        "cptestscale",
        "
services:
  web:
    image: cloudpulse-test/sleeper:1
    pull_policy: never
    init: true
    environment: {COLOUR: blue}
    mem_limit: 64m
    restart: unless-stopped
    ports: ['127.0.0.1::8080']
    volumes: ['data:/data']
    networks: [front, back]
  db:
    image: cloudpulse-test/sleeper:1
    pull_policy: never
    init: true
    networks: [back]
networks: {front: {}, back: {}}
volumes: {data: {}}
",
    );
    docker.compose(&["up", "--detach"], project.path()).unwrap();
    docker.compose(&["run", "--detach", "--no-deps", "--name", "cptestoneoff", "web"], project.path()).unwrap();
    docker
        .cli(&["run", "--detach", "--name", "cptestscale-web-99", "--network", "none", "cloudpulse-test/sleeper:1"])
        .unwrap();
    let strangers = ["cptestoneoff", "cptestscale-web-99", "cptestscale-db-1"];
    let target = project.target(&docker, "web");
    assert_eq!(target.replicas().await.unwrap(), 1, "neither the one-off nor the stranger counts");

    // Up: Compose sees the clones as its own and changes nothing about them.
    target.scale_to(4).await.unwrap();
    assert_eq!(target.replicas().await.unwrap(), 4);
    let four = project.compose_ids(&docker, "web");
    assert_eq!(four.len(), 4);
    docker.compose(&["up", "--detach", "--scale", "web=4"], project.path()).unwrap();
    assert_eq!(project.compose_ids(&docker, "web"), four, "compose recreated something");
    for format in [
        "{{.HostConfig.Memory}}",
        "{{.Config.Env}}",
        "{{.HostConfig.Binds}}{{.HostConfig.Mounts}}",
        "{{.HostConfig.RestartPolicy.Name}}",
        "{{.Config.Image}}",
    ] {
        assert_eq!(
            inspect(&docker, format, "cptestscale-web-4"),
            inspect(&docker, format, "cptestscale-web-1"),
            "{format}"
        );
    }
    let networks = "{{range $name, $network := .NetworkSettings.Networks}}{{$name}} {{end}}";
    assert_eq!(inspect(&docker, networks, "cptestscale-web-4"), "cptestscale_back cptestscale_front");
    let aliases = inspect(&docker, "{{range .NetworkSettings.Networks}}{{.Aliases}}{{end}}", "cptestscale-web-4");
    assert!(aliases.contains("cptestscale-web-4 web") && !aliases.contains("cptestscale-web-1"), "{aliases}");
    target.scale_to(4).await.unwrap();
    assert_eq!(project.compose_ids(&docker, "web"), four, "scaling again changed something");

    // Down: the highest numbers, at once for the count, gracefully behind it.
    target.scale_to(2).await.unwrap();
    assert_eq!(target.replicas().await.unwrap(), 2);
    project.settle().await;
    let names = docker
        .cli(&["ps", "--all", "--filter", "label=com.docker.compose.service=web", "--format", "{{.Names}}"])
        .unwrap();
    let names: BTreeSet<&str> = names.split_whitespace().collect();
    assert_eq!(names, BTreeSet::from(["cptestscale-web-1", "cptestscale-web-2", "cptestoneoff"]));

    // A stopped member is started again before one is made.
    let second = inspect(&docker, "{{.Id}}", "cptestscale-web-2");
    docker.cli(&["stop", "cptestscale-web-2"]).unwrap();
    docker.cli(&["network", "disconnect", "cptestscale_back", "cptestscale-web-2"]).unwrap();
    assert_eq!(target.replicas().await.unwrap(), 1);
    target.scale_to(2).await.unwrap();
    // A creation that was interrupted between two networks is completed.
    assert_eq!(inspect(&docker, networks, "cptestscale-web-2"), "cptestscale_back cptestscale_front");
    assert_eq!(inspect(&docker, "{{.Id}} {{.State.Status}}", "cptestscale-web-2"), format!("{second} running"));

    // While someone else stops members, nothing is started.
    let careful = project.target(&docker, "web").with_quiet(WAIT);
    assert_eq!(careful.replicas().await.unwrap(), 2);
    docker.cli(&["stop", "cptestscale-web-2"]).unwrap();
    let error = careful.scale_to(2).await.unwrap_err();
    assert!(matches!(error, TargetError::Busy(_)) && error.to_string().contains("stopped by someone else"), "{error}");
    assert_eq!(careful.replicas().await.unwrap(), 1);

    // What Compose did meanwhile is taken as it is.
    docker.compose(&["up", "--detach", "--scale", "web=3"], project.path()).unwrap();
    assert_eq!(target.replicas().await.unwrap(), 3);

    for stranger in strangers {
        assert_eq!(inspect(&docker, "{{.State.Status}} {{.RestartCount}}", stranger), "running 0", "{stranger}");
    }
    docker.compose(&["down", "--timeout", "1", "--volumes"], project.path()).unwrap();
    docker.cli(&["rm", "--force", "cptestoneoff", "cptestscale-web-99"]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cloned_is_refused_and_said() {
    let docker = engine().await;
    docker.build_image("cloudpulse-test/sleeper:2", SLEEPER).unwrap();
    let port = cloudpulse_testkit::net::free_port().unwrap();
    let base = "image: 'cloudpulse-test/sleeper:2', pull_policy: never, init: true";
    let project = Project::new(
        "cptestrefuse",
        &format!(
            "services:\n  named: {{{base}, container_name: cptestfixed}}\n  ported: {{{base}, ports: ['127.0.0.1:{port}:8080']}}\n"
        ),
    );
    docker.compose(&["up", "--detach"], project.path()).unwrap();
    for (service, words) in [("named", "fixed container_name cptestfixed"), ("ported", "the single fixed host port")] {
        let target = project.target(&docker, service);
        assert_eq!(target.replicas().await.unwrap(), 1);
        target.scale_to(1).await.unwrap();
        let error = target.scale_to(2).await.unwrap_err();
        assert!(matches!(error, TargetError::NotScalable(_)) && error.to_string().contains(words), "{error}");
        assert_eq!(target.replicas().await.unwrap(), 1);
    }
    let absent = project.target(&docker, "absent");
    let error = absent.replicas().await.unwrap_err();
    assert!(error.to_string().contains("has no container; start it once"), "{error}");
    assert!(matches!(absent.scale_to(2).await.unwrap_err(), TargetError::NotFound(_)));
    docker.compose(&["down", "--timeout", "1"], project.path()).unwrap();
}

#[tokio::test]
async fn an_engine_that_is_away_is_an_error_each_time() {
    let host = Some("unix:///nonexistent/docker.sock".to_owned());
    let target = DockerTarget::new("p".to_owned(), "s".to_owned(), host, TaskTracker::new());
    for _ in 0..2 {
        let error = target.replicas().await.unwrap_err();
        assert!(matches!(error, TargetError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("/nonexistent/docker.sock"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_container_that_cannot_start_makes_room_for_another() {
    let docker = engine().await;
    docker.build_image("cloudpulse-test/sleeper:4", SLEEPER).unwrap();
    let project = Project::new(
        "cptesthalf",
        "services: {web: {image: 'cloudpulse-test/sleeper:4', pull_policy: never, init: true}}\n",
    );
    docker.compose(&["up", "--detach"], project.path()).unwrap();
    let target = project.target(&docker, "web");
    let hash = inspect(&docker, "{{index .Config.Labels \"com.docker.compose.config-hash\"}}", "cptesthalf-web-1");
    let hash = format!("com.docker.compose.config-hash={hash}");
    let labels = [
        &hash,
        "com.docker.compose.project=cptesthalf",
        "com.docker.compose.service=web",
        "com.docker.compose.oneoff=False",
        "com.docker.compose.container-number=2",
        "cloudpulse.io/replica-number=2",
    ];
    let mut create = vec!["create", "--name", "cptesthalf-web-2", "--network", "cptesthalf_default"];
    create.extend(labels.iter().flat_map(|label| ["--label", label]));
    create.extend(["--device", "/dev/nonexistent", "cloudpulse-test/sleeper:4"]);
    let half = docker.cli(&create).unwrap().trim().to_owned();

    let error = target.scale_to(2).await.unwrap_err();
    assert!(matches!(error, TargetError::Failed { .. }), "{error:?}");
    assert_eq!(target.replicas().await.unwrap(), 1);
    target.scale_to(2).await.unwrap();
    assert_eq!(target.replicas().await.unwrap(), 2);
    assert_ne!(inspect(&docker, "{{.Id}}", "cptesthalf-web-2"), half);
    docker.compose(&["down", "--timeout", "1"], project.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_killed_in_the_middle_is_an_error_and_the_rest_is_done_later() {
    const DESIRED: u32 = 20;
    let mut docker = engine().await;
    if !docker.is_own() {
        eprintln!("NOT TESTED: the engine at {} was found running and is not ours to kill", docker.address());
        return;
    }
    docker.build_image("cloudpulse-test/sleeper:3", SLEEPER).unwrap();
    let project = Project::new(
        "cptestkill",
        "services: {web: {image: 'cloudpulse-test/sleeper:3', pull_policy: never, init: true, restart: always}}\n",
    );
    docker.compose(&["up", "--detach"], project.path()).unwrap();
    let target = std::sync::Arc::new(project.target(&docker, "web"));

    let scaling = tokio::spawn({
        let target = std::sync::Arc::clone(&target);
        async move { target.scale_to(DESIRED).await }
    });
    while target.replicas().await.unwrap() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let command = Invocation::of(docker.process().unwrap().pid());
    docker.process().unwrap().signal(Signal::KILL).unwrap();
    docker.process().unwrap().wait_exit(WAIT).await.unwrap();
    let error = scaling.await.unwrap().unwrap_err();
    assert!(matches!(error, TargetError::Unreachable { .. }), "{error:?}");
    assert!(matches!(target.replicas().await.unwrap_err(), TargetError::Unreachable { .. }));

    let log = project.path().join("dockerd.log");
    let _engine_again = command.start(&log, || docker.cli(&["version"]).is_ok()).await;
    // The same target, without a restart of ours: what is there is read from the engine.
    let left = target.replicas().await.unwrap();
    assert!((1..DESIRED).contains(&left), "{left}");
    // A container whose start was cut off may not start any more; then the next turn makes another.
    if let Err(error) = target.scale_to(DESIRED).await {
        assert!(format!("{error:?}").contains("already exists"), "{error:?}");
        target.scale_to(DESIRED).await.unwrap();
    }
    assert_eq!(target.replicas().await.unwrap(), DESIRED);
    assert_eq!(project.compose_ids(&docker, "web").len(), DESIRED as usize);
    let all = docker.cli(&["ps", "--all", "--quiet"]).unwrap();
    assert_eq!(all.split_whitespace().count(), DESIRED as usize, "a half-made container was left behind");
    docker.compose(&["down", "--timeout", "1"], project.path()).unwrap();
}

/// How a running engine was started, to start it again on the same folder.
struct Invocation {
    arguments: Vec<String>,
}

impl Invocation {
    fn of(pid: u32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        Self { arguments: text.split_terminator('\0').map(str::to_owned).collect() }
    }

    async fn start(&self, log: &Path, answers: impl Fn() -> bool) -> Process {
        for argument in &self.arguments {
            // A killed engine leaves the files that say it runs.
            if let Some(file) = argument.strip_prefix("--pidfile=") {
                let _ = std::fs::remove_file(file);
            }
            if let Some(folder) = argument.strip_prefix("--exec-root=") {
                let _ = std::fs::remove_file(Path::new(folder).join("containerd/containerd.pid"));
            }
        }
        let mut command = Command::new(&self.arguments[0]);
        let engine = Process::start("dockerd", command.args(&self.arguments[1..]), log).unwrap();
        let deadline = tokio::time::Instant::now() + WAIT;
        while !answers() {
            assert!(tokio::time::Instant::now() < deadline, "{}", engine.log_tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        engine
    }
}
