//! The Swarm target against a real swarm of one node, on an engine of our own so that it goes away with it.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "test code")]

use std::sync::Arc;
use std::time::Duration;

use cloudpulse_scaler::target::ScaleTarget as _;
use cloudpulse_scaler::target::TargetError;
use cloudpulse_scaler::target::swarm::SwarmTarget;
use cloudpulse_testkit::docker::Docker;
use serde_json::Value;

/// `/main check SECONDS` is a health check that fails until so long after the first one; else it sleeps.
const PROGRAM: &str = r#"
fn main() {
    if std::env::args().nth(1).as_deref() == Some("end") {
        std::process::exit(3);
    }
    let Some(seconds) = std::env::args().nth(2).and_then(|text| text.parse().ok()) else {
        return std::thread::sleep(std::time::Duration::MAX);
    };
    let _ = std::fs::OpenOptions::new().write(true).create_new(true).open("/first");
    let age = std::fs::metadata("/first").unwrap().modified().unwrap().elapsed().unwrap();
    std::process::exit((age.as_secs_f64() < seconds) as i32);
}
"#;
const WAIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// An engine that is a swarm, until it is dropped.
struct Swarm(Docker);

impl std::ops::Deref for Swarm {
    type Target = Docker;

    fn deref(&self) -> &Docker {
        &self.0
    }
}

impl Drop for Swarm {
    /// Takes away the bridge that Swarm makes in the host's network, which would outlive the engine.
    fn drop(&mut self) {
        for arguments in [["swarm", "leave", "--force"], ["network", "rm", "docker_gwbridge"]] {
            if let Err(error) = self.0.cli(&arguments) {
                eprintln!("{arguments:?}: {error:#}");
            }
        }
    }
}

/// An engine that is a swarm; `None` where one was found that is not ours to make one of.
async fn swarm() -> Option<Swarm> {
    let docker = Docker::start().await.unwrap().expect(Docker::HOW_TO_GET_ONE);
    if !docker.is_own() {
        eprintln!(
            "NOT TESTED: the engine at {} was found running and is not ours to make a swarm of",
            docker.address()
        );
        return None;
    }
    docker.build_image("cloudpulse-test/swarm:1", PROGRAM).unwrap();
    docker.cli(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377"]).unwrap();
    // Without it nothing listens beyond 127.0.0.1.
    let removed = std::process::Command::new("sh")
        .args(["-c", "echo y | docker network rm ingress"])
        .env("DOCKER_HOST", docker.address())
        .output()
        .unwrap();
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    Some(Swarm(docker))
}

fn create(docker: &Docker, name: &str, more: &[&str], command: &[&str]) {
    let start = ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", name];
    docker.cli(&[&start, more, &["cloudpulse-test/swarm:1"], command].concat()).unwrap();
}

fn target(docker: &Docker, service: &str) -> SwarmTarget {
    SwarmTarget::new(service.to_owned(), Some(docker.address().to_owned()))
}

fn inspect(docker: &Docker, service: &str) -> Value {
    serde_json::from_str::<Value>(&docker.cli(&["service", "inspect", service]).unwrap()).unwrap()[0].take()
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen in {WAIT:?}");
        tokio::time::sleep(POLL).await;
    }
}

async fn until_ready(target: &SwarmTarget, replicas: u32) {
    until(&format!("{replicas} ready"), async || {
        assert_eq!(target.replicas().await.unwrap(), replicas);
        (target.ready() == Some(replicas)).then_some(())
    })
    .await;
}

// One test: a swarm's port is one of the machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_service_is_scaled_and_nothing_else_of_it_changes() {
    let Some(docker) = swarm().await else { return };

    up_down_and_zero(&docker).await;
    start_times_are_those_of_healthy_tasks(&docker).await;
    several_at_once_end_at_one_count(&docker).await;
    what_cannot_be_scaled_is_said(&docker).await;
    a_paused_update_stays_paused(&docker).await;
}

async fn up_down_and_zero(docker: &Docker) {
    let rich = [
        "--replicas=1",
        "--label=own=kept",
        "--container-label=inner=kept",
        "--env=COLOUR=blue",
        "--limit-memory=64m",
        "--limit-cpu=0.5",
        "--limit-pids=50",
        "--reserve-memory=8m",
        "--mount=type=volume,source=cptestdata,target=/data,volume-label=a=b",
        "--mount=type=tmpfs,target=/scratch,tmpfs-size=1048576,tmpfs-mode=1770",
        "--constraint=node.role==manager",
        "--replicas-max-per-node=9",
        "--placement-pref=spread=node.labels.rack",
        "--restart-condition=on-failure",
        "--restart-delay=2s",
        "--restart-max-attempts=7",
        "--restart-window=90s",
        "--update-delay=3s",
        "--update-parallelism=2",
        "--update-failure-action=continue",
        "--update-max-failure-ratio=0.25",
        "--rollback-monitor=7s",
        "--rollback-order=start-first",
        "--stop-signal=SIGTERM",
        "--stop-grace-period=1s",
        "--health-cmd=/main check 0",
        "--health-interval=400ms",
        "--no-healthcheck=false",
        "--cap-add=NET_ADMIN",
        "--cap-drop=CHOWN",
        "--sysctl=kernel.msgmax=65536",
        "--ulimit=nofile=100:200",
        "--host=far:192.0.2.1",
        "--dns=192.0.2.2",
        "--dns-option=timeout:1",
        "--hostname=h{{.Task.Slot}}",
        "--user=0:0",
        "--group=7",
        "--workdir=/",
        "--init",
        "--read-only=false",
        "--log-driver=json-file",
        "--log-opt=max-size=1m",
        "--endpoint-mode=dnsrr",
        "--isolation=default",
    ];
    create(docker, "web", &rich, &[]);
    create(docker, "other", &["--replicas=2"], &[]);
    let before = inspect(docker, "web");
    let other = inspect(docker, "other");
    let web = target(docker, "web");
    assert_eq!((web.replicas().await.unwrap(), web.ready().is_some()), (1, true));
    for replicas in [4, 2, 0, 3, 3] {
        web.scale_to(replicas).await.unwrap();
        assert_eq!(web.replicas().await.unwrap(), replicas);
    }
    let after = inspect(docker, "web");
    assert_eq!(after["Spec"]["Mode"]["Replicated"]["Replicas"], 3);
    let mut spec = after["Spec"].clone();
    spec["Mode"] = before["Spec"]["Mode"].clone();
    assert_eq!(spec, before["Spec"], "something besides the replicas changed");
    let version = after["Version"]["Index"].as_u64();
    web.scale_to(3).await.unwrap();
    assert_eq!(inspect(docker, "web")["Version"]["Index"].as_u64(), version, "nothing to do was done");
    assert_eq!(inspect(docker, "other"), other, "a stranger was touched");
    docker.cli(&["service", "rm", "web", "other"]).unwrap();
}

async fn start_times_are_those_of_healthy_tasks(docker: &Docker) {
    const CHECK: &str = r#"HEALTHCHECK --interval=500ms --retries=100 CMD ["/main", "check", "3"]"#;
    docker.cli(&["create", "--name", "cptestchecked", "--network", "none", "cloudpulse-test/swarm:1"]).unwrap();
    docker.cli(&["commit", "--change", CHECK, "cptestchecked", "cloudpulse-test/checked:1"]).unwrap();
    docker.cli(&["rm", "cptestchecked"]).unwrap();
    let start = ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", "slow"];
    docker.cli(&[&start[..], &["--replicas=1", "cloudpulse-test/checked:1"]].concat()).unwrap();
    let slow = target(docker, "slow");
    until_ready(&slow, 1).await;
    slow.take_starts();
    slow.scale_to(3).await.unwrap();
    assert_eq!((slow.replicas().await.unwrap(), slow.ready()), (3, Some(1)), "two are not healthy yet");
    until_ready(&slow, 3).await;
    let took = slow.take_starts();
    assert_eq!(took.len(), 2, "{took:?}");
    assert!(took.iter().all(|took| (2.0..15.0).contains(&took.as_secs_f64())), "{took:?}");
    eprintln!("start times of Swarm tasks: {took:?}");
    slow.scale_to(1).await.unwrap();
    until_ready(&slow, 1).await;
    assert_eq!(slow.take_starts(), Vec::<Duration>::new());
    docker.cli(&["service", "rm", "slow"]).unwrap();
}

async fn several_at_once_end_at_one_count(docker: &Docker) {
    create(docker, "busy", &["--replicas=0"], &[]);
    let targets: Vec<Arc<SwarmTarget>> = (0..2).map(|_| Arc::new(target(docker, "busy"))).collect();
    let mut refused = 0;
    for round in 1..=20 {
        let desired = round % 3;
        // Two that want the same, and someone who changes something else all the time.
        let scaling: Vec<_> = targets
            .iter()
            .map(|target| {
                let target = Arc::clone(target);
                tokio::spawn(async move { target.scale_to(desired).await })
            })
            .collect();
        let label = format!("--label-add=round={round}");
        until("the label", async || docker.cli(&["service", "update", "--detach", "--quiet", &label, "busy"]).ok())
            .await;
        for result in scaling {
            match result.await.unwrap() {
                Ok(()) => {}
                Err(TargetError::Busy(_)) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        targets[0].scale_to(desired).await.unwrap();
        assert_eq!(targets[1].replicas().await.unwrap(), desired);
        assert_eq!(
            inspect(docker, "busy")["Spec"]["Labels"]["round"],
            round.to_string(),
            "the other's change was lost"
        );
    }
    eprintln!("{refused} of 40 gave up after conflicts");
    docker.cli(&["service", "rm", "busy"]).unwrap();
}

async fn what_cannot_be_scaled_is_said(docker: &Docker) {
    create(docker, "everywhere", &["--mode=global"], &[]);
    create(docker, "once", &["--mode=replicated-job"], &["end"]);
    for (service, words) in [("everywhere", "is global"), ("once", "is a job")] {
        let target = target(docker, service);
        for error in [target.replicas().await.unwrap_err(), target.scale_to(2).await.unwrap_err()] {
            assert!(matches!(error, TargetError::NotScalable(_)) && error.to_string().contains(words), "{error}");
        }
        assert_eq!(target.ready(), None);
    }
    let error = target(docker, "absent").replicas().await.unwrap_err();
    assert!(matches!(error, TargetError::NotFound(_)), "{error}");
    docker.cli(&["service", "rm", "everywhere", "once"]).unwrap();
}

async fn a_paused_update_stays_paused(docker: &Docker) {
    create(docker, "broken", &["--replicas=2", "--update-monitor=2s", "--update-failure-action=pause"], &[]);
    let broken = target(docker, "broken");
    until_ready(&broken, 2).await;
    docker.cli(&["service", "update", "--detach", "--quiet", "--args=end", "broken"]).unwrap();
    until("the pause", async || (inspect(docker, "broken")["UpdateStatus"]["State"] == "paused").then_some(())).await;
    let error = broken.scale_to(4).await.unwrap_err();
    assert!(matches!(error, TargetError::Busy(_)) && error.to_string().contains("is paused"), "{error}");
    assert_eq!(inspect(docker, "broken")["UpdateStatus"]["State"], "paused");
    assert_eq!(broken.replicas().await.unwrap(), 2);
    // Else the broken update would go on, as it does here.
    docker.cli(&["service", "scale", "--detach", "broken=4"]).unwrap();
    assert_ne!(inspect(docker, "broken")["UpdateStatus"]["State"], "paused");
    docker.cli(&["service", "rm", "broken"]).unwrap();
}
