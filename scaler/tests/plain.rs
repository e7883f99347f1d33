//! To zero and back, and plain containers with a label, on a real Docker engine.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::time::Duration;

use cloudpulse_scaler::target::ScaleTarget as _;
use cloudpulse_scaler::target::TargetError;
use cloudpulse_scaler::target::docker::DockerTarget;
use cloudpulse_testkit::docker::Docker;
use tokio_util::task::TaskTracker;

const SLEEPER: &str = "fn main() { std::thread::sleep(std::time::Duration::MAX) }";
const WAIT: Duration = Duration::from_secs(60);

async fn engine() -> Docker {
    Docker::start().await.unwrap().expect(Docker::HOW_TO_GET_ONE)
}

/// Waits for the stops that go on behind a target.
async fn settle(background: &TaskTracker) {
    background.close();
    tokio::time::timeout(WAIT, background.wait()).await.unwrap();
    background.reopen();
}

/// Returns `NAME STATUS` of all containers with a label.
fn states(docker: &Docker, label: &str) -> BTreeSet<String> {
    let filter = format!("label={label}");
    let text = docker.cli(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}} {{.State}}"]).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn inspect(docker: &Docker, format: &str, container: &str) -> String {
    docker.cli(&["inspect", "--format", format, container]).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compose_service_goes_to_zero_and_comes_back_after_a_restart() {
    const LABEL: &str = "com.docker.compose.project=cptestzero";
    let docker = engine().await;
    docker.build_image("cloudpulse-test/sleeper:zero", SLEEPER).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let service = "{image: 'cloudpulse-test/sleeper:zero', pull_policy: never, init: true, restart: always}";
    std::fs::write(folder.path().join("compose.yaml"), format!("name: cptestzero\nservices:\n  web: {service}\n"))
        .unwrap();
    docker.compose(&["up", "--detach", "--scale", "web=3"], folder.path()).unwrap();
    let background = TaskTracker::new();
    let target = || {
        let host = Some(docker.address().to_owned());
        DockerTarget::new("cptestzero".to_owned(), "web".to_owned(), host, background.clone())
    };
    let first = inspect(&docker, "{{.Id}}", "cptestzero-web-1");

    let before = target();
    assert_eq!(before.replicas().await.unwrap(), 3);
    before.scale_to(0).await.unwrap();
    assert_eq!((before.replicas().await.unwrap(), before.ready()), (0, Some(0)));
    settle(&background).await;
    assert_eq!(states(&docker, LABEL), set(&["cptestzero-web-1 exited"]));
    before.scale_to(0).await.unwrap();
    assert_eq!((before.replicas().await.unwrap(), states(&docker, LABEL).len()), (0, 1), "again changes nothing");
    drop(before);

    // Another program, which knows nothing.
    let after = target();
    assert_eq!(after.replicas().await.unwrap(), 0);
    after.scale_to(3).await.unwrap();
    assert_eq!(after.replicas().await.unwrap(), 3);
    assert_eq!(inspect(&docker, "{{.Id}}", "cptestzero-web-1"), first, "the one that was kept runs again");
    let three = set(&["cptestzero-web-1 running", "cptestzero-web-2 running", "cptestzero-web-3 running"]);
    assert_eq!(states(&docker, LABEL), three);
    docker.compose(&["up", "--detach", "--scale", "web=3"], folder.path()).unwrap();
    assert_eq!(states(&docker, LABEL), three);
    assert_eq!(inspect(&docker, "{{.Id}}", "cptestzero-web-1"), first, "compose recreated it");

    // `docker compose up` after zero works as ever.
    after.scale_to(0).await.unwrap();
    settle(&background).await;
    docker.compose(&["up", "--detach"], folder.path()).unwrap();
    assert_eq!(states(&docker, LABEL), set(&["cptestzero-web-1 running"]));
    assert_eq!(after.replicas().await.unwrap(), 1);
    docker.compose(&["down", "--timeout", "1"], folder.path()).unwrap();
    assert_eq!(states(&docker, LABEL), set(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_containers_with_a_label_are_scaled_and_strangers_are_not() {
    const LABEL: &str = "cptest.app=plain";
    let docker = engine().await;
    docker.build_image("cloudpulse-test/sleeper:plain", SLEEPER).unwrap();
    let run = |arguments: &[&str]| {
        let image = &["cloudpulse-test/sleeper:plain"];
        docker.cli(&[&["run", "--detach", "--init"], arguments, image].concat()).unwrap();
    };
    docker.cli(&["network", "create", "cptestplainnet"]).unwrap();
    let network = ["--network", "cptestplainnet", "--network-alias", "shop"];
    run(&[&["--name", "cptp", "--label", LABEL, "--env", "COLOUR=blue", "--memory", "64m"], &network[..]].concat());
    // A stranger has the name that the first clone would get, another the same label with another value.
    run(&["--name", "cptp-2", "--network", "none"]);
    run(&["--name", "cptpother", "--label", "cptest.app=other", "--network", "none"]);
    let background = TaskTracker::new();
    let target = |value: &str| {
        let host = Some(docker.address().to_owned());
        DockerTarget::labelled("cptest.app".to_owned(), value.to_owned(), host, background.clone())
            .with_quiet(Duration::ZERO)
    };
    let plain = target("plain");
    assert_eq!((plain.replicas().await.unwrap(), plain.ready()), (1, Some(1)));

    plain.scale_to(3).await.unwrap();
    assert_eq!(plain.replicas().await.unwrap(), 3);
    assert_eq!(states(&docker, LABEL), set(&["cptp running", "cptp-3 running", "cptp-4 running"]));
    for format in ["{{.Config.Env}}", "{{.HostConfig.Memory}}", "{{.HostConfig.NetworkMode}}"] {
        assert_eq!(inspect(&docker, format, "cptp-3"), inspect(&docker, format, "cptp"), "{format}");
    }
    assert_eq!(inspect(&docker, r#"{{index .Config.Labels "cloudpulse.io/replica-number"}}"#, "cptp-4"), "4");
    let aliases = inspect(&docker, "{{range .NetworkSettings.Networks}}{{.Aliases}}{{end}}", "cptp-4");
    assert!(aliases.contains("shop") && aliases.contains("cptp-4"), "{aliases}");

    plain.scale_to(2).await.unwrap();
    settle(&background).await;
    assert_eq!(states(&docker, LABEL), set(&["cptp running", "cptp-3 running"]));

    // At zero all are stopped; the one that was not made here stays, and is started by a target that knows nothing.
    plain.scale_to(0).await.unwrap();
    settle(&background).await;
    assert_eq!(states(&docker, LABEL), set(&["cptp exited"]));
    let after = target("plain");
    assert_eq!(after.replicas().await.unwrap(), 0);
    after.scale_to(2).await.unwrap();
    assert_eq!(states(&docker, LABEL), set(&["cptp running", "cptp-3 running"]));

    // Of two that were not made here, one alone is not stopped.
    run(&["--name", "cptp-b", "--label", LABEL, "--network", "none"]);
    after.scale_to(2).await.unwrap();
    settle(&background).await;
    let error = after.scale_to(1).await.unwrap_err();
    assert!(error.to_string().contains("set minReplicas to 2"), "{error}");
    assert_eq!(states(&docker, LABEL), set(&["cptp running", "cptp-b running"]));

    // Together they are, and come back with the networks that each had.
    after.scale_to(0).await.unwrap();
    settle(&background).await;
    assert_eq!(states(&docker, LABEL), set(&["cptp exited", "cptp-b exited"]));
    after.scale_to(2).await.unwrap();
    assert_eq!(states(&docker, LABEL), set(&["cptp running", "cptp-b running"]));
    let networks = "{{range $name, $network := .NetworkSettings.Networks}}{{$name}} {{end}}";
    assert_eq!([inspect(&docker, networks, "cptp"), inspect(&docker, networks, "cptp-b")], ["cptestplainnet", "none"]);

    // What the engine would remove is not stopped for good.
    run(&["--name", "cptpshort", "--label", "cptest.app=short", "--rm", "--network", "none"]);
    let short = target("short");
    let error = short.scale_to(0).await.unwrap_err();
    assert!(matches!(error, TargetError::NotScalable(_)) && error.to_string().contains("with --rm"), "{error}");
    assert_eq!(short.replicas().await.unwrap(), 1);

    // Nobody has the label; a member of a Compose project has it.
    let error = target("nobody").replicas().await.unwrap_err();
    assert!(matches!(error, TargetError::NotFound(_)), "{error}");
    assert!(error.to_string().contains("docker run --detach --label cptest.app=nobody"), "{error}");
    let compose = ["com.docker.compose.project=shop", "com.docker.compose.service=web", "cptest.app=compose"];
    let labels = compose.map(|label| format!("--label={label}"));
    run(&["--name", "cptpcompose", "--network", "none", &labels[0], &labels[1], &labels[2]]);
    let error = target("compose").scale_to(2).await.unwrap_err();
    assert!(error.to_string().contains("use docker: {project: shop, service: web}"), "{error}");

    for stranger in ["cptp-2", "cptpother", "cptpcompose"] {
        assert_eq!(inspect(&docker, "{{.State.Status}} {{.RestartCount}}", stranger), "running 0", "{stranger}");
    }
    let all = ["cptp", "cptp-b", "cptp-2", "cptpother", "cptpshort", "cptpcompose"];
    docker.cli(&[&["rm", "--force"], &all[..]].concat()).unwrap();
    docker.cli(&["network", "rm", "cptestplainnet"]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_what_its_template_is() {
    let docker = engine().await;
    docker.build_image("cloudpulse-test/sleeper:rich", SLEEPER).unwrap();
    let rich = [
        "--label=cptest.app=rich",
        "--init",
        "--network=none",
        "--env=COLOUR=blue",
        "--memory=64m",
        "--memory-swap=128m",
        "--memory-reservation=32m",
        "--cpus=0.5",
        "--cpu-shares=77",
        "--cpuset-cpus=0",
        "--pids-limit=50",
        "--blkio-weight=300",
        "--oom-score-adj=10",
        "--ulimit=nofile=100:200",
        "--sysctl=kernel.msgmax=65536",
        "--shm-size=2m",
        "--tmpfs=/scratch:size=1m",
        "--mount=type=volume,source=cptestrich,target=/data",
        "--mount=type=tmpfs,target=/more,tmpfs-size=1048576",
        "--volume=/tmp:/host:ro",
        "--cap-add=NET_ADMIN",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--read-only",
        "--user=7:8",
        "--group-add=9",
        "--workdir=/data",
        "--add-host=far:192.0.2.1",
        "--dns=192.0.2.2",
        "--dns-search=example",
        "--dns-option=timeout:1",
        "--restart=on-failure:3",
        "--stop-signal=SIGINT",
        "--stop-timeout=2",
        "--health-cmd=/main x",
        "--health-interval=31s",
        "--health-retries=4",
        "--log-driver=json-file",
        "--log-opt=max-size=1m",
        "--ipc=private",
        "--uts=host",
        "--expose=8080",
        "--tty",
        "--interactive",
    ];
    docker
        .cli(&[&["run", "--detach", "--name", "cptestrich"], &rich[..], &["cloudpulse-test/sleeper:rich"]].concat())
        .unwrap();
    let host = Some(docker.address().to_owned());
    let target = DockerTarget::labelled("cptest.app".to_owned(), "rich".to_owned(), host, TaskTracker::new());
    target.scale_to(2).await.unwrap();
    let read = |container: &str| {
        let text = docker.cli(&["inspect", container]).unwrap();
        let mut all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut config = all[0]["Config"].take();
        // Each has its own id as host name.
        let hostname = config["Hostname"].take();
        assert!(all[0]["Id"].as_str().unwrap().starts_with(hostname.as_str().unwrap()));
        config["Labels"].as_object_mut().unwrap().remove("cloudpulse.io/replica-number");
        (config, all[0]["HostConfig"].take())
    };
    let ((first, first_host), (second, second_host)) = (read("cptestrich"), read("cptestrich-2"));
    assert_eq!(first, second);
    assert_eq!(first_host, second_host);
    docker.cli(&["rm", "--force", "cptestrich", "cptestrich-2"]).unwrap();
    docker.cli(&["volume", "rm", "cptestrich"]).unwrap();
}
