//! When replicas on a real Docker engine are ready, what is learned of it, and what is done with those that never are.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::time::Duration;

use cloudpulse_scaler::target::ScaleTarget as _;
use cloudpulse_scaler::target::TargetError;
use cloudpulse_scaler::target::docker::DockerTarget;
use cloudpulse_testkit::docker::Docker;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

const WAIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);

/// Sleeps; `/main end` ends with code 3, and `/main check SECONDS` is a health check that fails until its container has
/// run for so long (for ever without a number), as the age of a file tells that the first check leaves.
const PROGRAM: &str = r#"
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("end") => std::process::exit(3),
        Some("check") => {
            let Some(seconds) = arguments.get(2).and_then(|text| text.parse().ok()) else {
                println!("the cellar is empty");
                std::process::exit(1);
            };
            let _ = std::fs::OpenOptions::new().write(true).create_new(true).open("/first");
            let age = std::fs::metadata("/first").unwrap().modified().unwrap().elapsed().unwrap();
            std::process::exit((age.as_secs_f64() < seconds) as i32);
        }
        _ => std::thread::sleep(std::time::Duration::MAX),
    }
}
"#;

/// A project with one service, `web`.
struct Project {
    name: &'static str,
    folder: TempDir,
    background: TaskTracker,
}

impl Project {
    fn start(docker: &Docker, name: &'static str, service: &str) -> Self {
        let image = format!("cloudpulse-test/{name}:1");
        docker.build_image(&image, PROGRAM).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "name: {name}\nservices:\n  web:\n    image: {image}\n    pull_policy: never\n    init: true\n{service}"
        );
        std::fs::write(folder.path().join("compose.yaml"), text).unwrap();
        docker.compose(&["up", "--detach"], folder.path()).unwrap();
        Self { name, folder, background: TaskTracker::new() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn target(&self, docker: &Docker) -> DockerTarget {
        let host = Some(docker.address().to_owned());
        DockerTarget::new(self.name.to_owned(), "web".to_owned(), host, self.background.clone())
            .with_quiet(Duration::ZERO)
    }
}

async fn engine() -> Docker {
    Docker::start().await.unwrap().expect(Docker::HOW_TO_GET_ONE)
}

/// Asks until the answer is there.
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

#[tokio::test(flavor = "multi_thread")]
async fn the_time_until_a_replica_is_healthy_is_learned() {
    let docker = engine().await;
    let check = "    healthcheck: {test: [CMD, /main, check, '3'], interval: 500ms, retries: 100}\n";
    let project = Project::start(&docker, "cptesthealth", check);
    let target = project.target(&docker);
    assert_eq!(target.ready(), None, "nothing was read yet");
    until("the first healthy one", async || {
        target.replicas().await.unwrap();
        (target.ready() == Some(1)).then_some(())
    })
    .await;
    assert_eq!(target.take_starts(), Vec::<Duration>::new(), "Compose started it, not this target");

    target.scale_to(3).await.unwrap();
    assert_eq!((target.replicas().await.unwrap(), target.ready()), (3, Some(1)), "two are starting");
    let mut took = Vec::new();
    until("both start times", async || {
        took.extend(target.take_starts());
        (took.len() == 2).then_some(())
    })
    .await;
    assert!(took.iter().all(|took| (2.0..15.0).contains(&took.as_secs_f64())), "{took:?}");
    eprintln!("start times learned: {took:?}");
    assert_eq!((target.replicas().await.unwrap(), target.ready()), (3, Some(3)));

    // Nothing is left to be watched, and the end of the program is not kept waiting by one that is.
    project.background.close();
    tokio::time::timeout(WAIT, project.background.wait()).await.unwrap();
    project.background.reopen();
    target.scale_to(4).await.unwrap();
    assert_eq!(project.background.len(), 1);
    project.background.close();
    tokio::time::timeout(WAIT, project.background.wait()).await.unwrap();
    docker.compose(&["down", "--timeout", "1"], project.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_health_check_a_replica_is_ready_when_it_runs() {
    let docker = engine().await;
    let project = Project::start(&docker, "cptestplain", "");
    let target = project.target(&docker);
    target.scale_to(2).await.unwrap();
    assert_eq!((target.replicas().await.unwrap(), target.ready()), (2, Some(2)));
    let took = until("the start time", async || target.take_starts().pop()).await;
    assert!(took > Duration::ZERO && took < WAIT, "{took:?}");
    // Started again: counted from that start, not from its creation.
    docker.cli(&["stop", "cptestplain-web-2"]).unwrap();
    let before = tokio::time::Instant::now();
    target.scale_to(2).await.unwrap();
    let again = until("the second start time", async || target.take_starts().pop()).await;
    assert!(again > Duration::ZERO && again <= before.elapsed(), "{again:?}");
    docker.compose(&["down", "--timeout", "1"], project.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_never_get_healthy_hold_further_ones_back() {
    let docker = engine().await;
    let check = "    healthcheck: {test: [CMD, /main, check], interval: 200ms, retries: 2}\n";
    let project = Project::start(&docker, "cptestnever", check);
    let target = project.target(&docker);
    target.scale_to(4).await.unwrap();
    // One more each second, until no more are started.
    let error = until("holding back", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let one_more = target.replicas().await.unwrap() + 1;
        target.scale_to(one_more).await.err()
    })
    .await;
    let words = error.to_string();
    assert!(matches!(error, TargetError::NeverReady(_)), "{words}");
    assert_eq!(error.reason(), "target_never_ready");
    for expected in ["cptestnever-web-", "is unhealthy (running)", "the cellar is empty", "the next is started in "] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    let replicas = target.replicas().await.unwrap();
    assert_eq!(target.ready(), Some(0));
    assert!((4..30).contains(&replicas), "{replicas}");
    eprintln!("held back at {replicas} replicas: {words}");
    // Down is never held back.
    target.scale_to(1).await.unwrap();
    assert_eq!(target.replicas().await.unwrap(), 1);
    docker.compose(&["down", "--timeout", "1"], project.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_end_are_not_started_for_ever() {
    let docker = engine().await;
    let project = Project::start(&docker, "cptestends", "    command: [end]\n");
    let target = project.target(&docker);
    let mut starts = 0;
    let error = until("holding back", async || match target.scale_to(1).await {
        Ok(()) => {
            starts += u32::from(target.replicas().await.unwrap() > 0);
            None
        }
        Err(error) => Some(error),
    })
    .await;
    let words = error.to_string();
    assert!(matches!(error, TargetError::NeverReady(_)), "{words}");
    assert!(words.contains("cptestends-web-1 ended (exited, exit code 3)"), "{words}");
    assert_eq!(target.replicas().await.unwrap(), 0);
    eprintln!("started about {starts} times: {words}");
    docker.compose(&["down", "--timeout", "1"], project.path()).unwrap();
}
