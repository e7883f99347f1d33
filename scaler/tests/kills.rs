//! The program is killed at random moments while it scales a Compose service on a real Docker engine, and two of them
//! scale one service at once.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "test code")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::any;
use cloudpulse_scaler::target::ScaleTarget as _;
use cloudpulse_scaler::target::TargetError;
use cloudpulse_scaler::target::docker::DockerTarget;
use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::docker::Docker;
use cloudpulse_testkit::net::free_port;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

const SLEEPER: &str = "fn main() { std::thread::sleep(std::time::Duration::MAX) }";
const WAIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);
/// Kills to be done, and how long they may take together; on a slow machine there are fewer.
const KILLS: u32 = 200;
const BUDGET: Duration = Duration::from_secs(160);
const LEAST_KILLS: u32 = 20;
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
const MOST: u32 = 6;

const RULE: &str = "
apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: web}
spec:
  target: {docker: {project: PROJECT, service: web}}
  maxReplicas: 6
  metrics: [{name: load, query: sum(load), replicaCapacity: 1, targetUtilization: 1}]
  behavior:
    scaleUp: {policies: [{type: Pods, value: 100, periodSeconds: 1}]}
    scaleDown: {stabilizationWindowSeconds: 0}
";

/// Marsaglia's xorshift64: the same moments at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Answers as a Prometheus whose only series is the load.
async fn serve_load(load: Arc<AtomicU32>) -> SocketAddr {
    async fn answer(State(load): State<Arc<AtomicU32>>, body: String) -> String {
        let load = load.load(Ordering::Relaxed);
        let known = if body.contains("cloudpulse") {
            String::new()
        } else {
            format!(r#"{{"metric":{{}},"value":[1700000000,"{load}"]}}"#)
        };
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{known}]}}}}"#)
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(any(answer)).with_state(load);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A project with the services `web`, which is scaled, and `db`, and a container of nobody.
struct World {
    docker: Docker,
    project: &'static str,
    folder: TempDir,
    stranger: String,
}

impl World {
    async fn start(project: &'static str) -> Self {
        let docker = Docker::start().await.unwrap().expect(Docker::HOW_TO_GET_ONE);
        let image = format!("cloudpulse-test/{project}:1");
        docker.build_image(&image, SLEEPER).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let service = format!("{{image: '{image}', pull_policy: never, init: true}}");
        let text = format!("name: {project}\nservices:\n  web: {service}\n  db: {service}\n");
        std::fs::write(folder.path().join("compose.yaml"), text).unwrap();
        std::fs::write(folder.path().join("rule.yaml"), RULE.replace("PROJECT", project)).unwrap();
        docker.compose(&["up", "--detach"], folder.path()).unwrap();
        let stranger = format!("{project}-stranger");
        docker.cli(&["run", "--detach", "--init", "--name", &stranger, "--network", "none", &image]).unwrap();
        Self { docker, project, folder, stranger }
    }

    /// Returns the states of the containers of the service by name, as the engine lists them.
    fn states(&self) -> BTreeMap<String, String> {
        let filter = format!("label=com.docker.compose.project={}", self.project);
        let service = "label=com.docker.compose.service=web";
        let format = "{{.Names}} {{.State}}";
        let text =
            self.docker.cli(&["ps", "--all", "--filter", &filter, "--filter", service, "--format", format]).unwrap();
        text.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    }

    fn count(&self, state: &str) -> u32 {
        self.states().values().filter(|found| *found == state).count() as u32
    }

    async fn until_running(&self, desired: u32, mut log: impl FnMut() -> String) {
        let deadline = Instant::now() + WAIT;
        while self.count("running") != desired {
            assert!(Instant::now() < deadline, "not {desired}: {:?}\n{}", self.states(), log());
            tokio::time::sleep(POLL).await;
        }
    }

    fn inspect(&self, format: &str, container: &str) -> String {
        self.docker.cli(&["inspect", "--format", format, container]).unwrap().trim().to_owned()
    }

    /// Checks that those of the others were not touched, and removes everything.
    fn end(self) {
        let db = format!("{}-db-1", self.project);
        for stranger in [&db, &self.stranger] {
            assert_eq!(self.inspect("{{.State.Status}} {{.RestartCount}}", stranger), "running 0", "{stranger}");
        }
        self.docker.compose(&["down", "--timeout", "1"], self.folder.path()).unwrap();
        let filter = format!("name={}", self.project);
        let left = self.docker.cli(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]).unwrap();
        assert_eq!(left.trim(), self.stranger, "compose does not know all that was made");
        self.docker.cli(&["rm", "--force", &self.stranger]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scaler_killed_at_any_moment_goes_on_after_a_restart() {
    let world = World::start("cptestkills").await;
    let load = Arc::new(AtomicU32::new(1));
    let prometheus = format!("http://{}", serve_load(Arc::clone(&load)).await);
    let rule = world.folder.path().join("rule.yaml").display().to_string();
    let env = [("DOCKER_HOST", world.docker.address())];
    let binary = Path::new(env!("CARGO_BIN_EXE_cloudpulse-scaler"));
    let start = async || {
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        let arguments =
            ["serve", "--rules", &rule, "--prometheus", &prometheus, "--listen", &listen, "--interval", "100ms"];
        Program::start(binary, &arguments, &env, None).await.unwrap()
    };

    let mut random = Random(SEED);
    let mut scaler = start().await;
    world.until_running(1, || scaler.process().log_tail()).await;
    let began = Instant::now();
    let (mut kills, mut midway, mut created, mut exited, mut slowest) = (0, 0, 0, 0, Duration::ZERO);
    let mut desired = 1;
    while kills < KILLS && began.elapsed() < BUDGET {
        let before = desired;
        desired = 1 + (before - 1 + 1 + random.below(u64::from(MOST - 1)) as u32) % MOST;
        load.store(desired, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(random.below(900))).await;
        scaler.process().signal(Signal::KILL).unwrap();
        scaler.process().wait_exit(WAIT).await.unwrap();
        kills += 1;
        let states = world.states();
        let count = |state: &str| states.values().filter(|found| *found == state).count() as u32;
        midway += u32::from(count("running") != before && count("running") != desired);
        created += u32::from(count("created") > 0);
        exited += u32::from(count("exited") > 0);

        let restarted = Instant::now();
        scaler = start().await;
        world
            .until_running(desired, || format!("kill {kills}, {before} to {desired}: {}", scaler.process().log_tail()))
            .await;
        slowest = slowest.max(restarted.elapsed());
    }
    eprintln!(
        "{kills} kills in {:?}: {midway} between two counts, {created} with a container never started, {exited} with one stopped and not removed; slowest recovery {slowest:?}",
        began.elapsed()
    );
    assert!(kills >= LEAST_KILLS, "{kills}");
    assert!(midway + created > 0, "no kill met it at work");

    // Up to what is most, and down: what was half-made is used or removed.
    for desired in [MOST, 2] {
        load.store(desired, Ordering::Relaxed);
        world.until_running(desired, || scaler.process().log_tail()).await;
    }
    let deadline = Instant::now() + WAIT;
    while world.count("created") > 0 || world.count("removing") > 0 {
        assert!(Instant::now() < deadline, "left half-made: {:?}", world.states());
        tokio::time::sleep(POLL).await;
    }
    scaler.process().stop().unwrap();
    let states = world.states();
    eprintln!("at the end: {states:?}");
    assert_eq!(world.count("running"), 2);
    // Compose takes them for its own: it recreates none, and `down` removes all.
    let ids = || world.docker.compose(&["ps", "--quiet", "--no-trunc", "web"], world.folder.path()).unwrap();
    let running = ids();
    assert_eq!(running.lines().count(), 2);
    world.docker.compose(&["up", "--detach", "--no-recreate", "--scale", "web=2"], world.folder.path()).unwrap();
    assert_eq!(ids(), running);
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_scalers_of_one_service_end_at_its_count() {
    let world = World::start("cptesttwo").await;
    let background = TaskTracker::new();
    let target = || {
        let host = Some(world.docker.address().to_owned());
        let target = DockerTarget::new("cptesttwo".to_owned(), "web".to_owned(), host, background.clone());
        Arc::new(target.with_quiet(Duration::ZERO))
    };
    let targets = [target(), target()];
    let mut random = Random(SEED);
    let mut errors: BTreeMap<String, u32> = BTreeMap::new();
    for round in 0..20 {
        let desired = 1 + random.below(u64::from(MOST)) as u32;
        let deadline = Instant::now() + WAIT;
        // As their loops would: both again and again until both have nothing to say.
        loop {
            let both = targets.clone().map(|target| tokio::spawn(async move { target.scale_to(desired).await }));
            let mut failed = 0;
            for result in both {
                if let Err(error) = result.await.unwrap() {
                    assert!(matches!(error, TargetError::Busy(_) | TargetError::Failed { .. }), "{error:?}");
                    *errors.entry(error.reason().to_owned()).or_default() += 1;
                    failed += 1;
                }
            }
            if failed == 0 && world.count("running") == desired {
                break;
            }
            assert!(Instant::now() < deadline, "round {round}, not {desired}: {:?}, {errors:?}", world.states());
            tokio::time::sleep(POLL).await;
        }
    }
    background.close();
    tokio::time::timeout(WAIT, background.wait()).await.unwrap();
    background.reopen();
    eprintln!("errors on the way: {errors:?}; at the end: {:?}", world.states());
    let replicas = targets[0].replicas().await.unwrap();
    assert_eq!((targets[1].replicas().await.unwrap(), world.count("created")), (replicas, 0));
    world.end();
}
