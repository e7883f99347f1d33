//! The predictor's image with GPU support, on Mesa's software Vulkan: it is built on a Debian that is made here, started as a user
//! starts it, computes a network and its gradient on the device as on the CPU, which it does before it takes one, and forecasts from a
//! real Prometheus.
//!
//! Not tested: a whole fine-tuning, which takes more than minutes on that device; a GPU, which cannot be had, and NVIDIA's container
//! runtime, which would bring its driver.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use cloudpulse_testkit::binary::workspace_root;
use cloudpulse_testkit::docker::Docker;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::process::{find_program, run};
use cloudpulse_testkit::prometheus::{Prometheus, PrometheusOptions, backfill};
use serde_json::Value;
use tempfile::TempDir;

const IMAGES: &str = "cloudpulse-gpu-test";
const CONTAINER: &str = "cloudpulse-gpu-test";
const DAY: u64 = 86_400;
const STEP: u64 = 300;
/// The driver compiles its programs for the CPU, and then computes on it.
const WAIT: Duration = Duration::from_secs(600);
/// As Compose and the chart hold it.
const HELD: [&str; 6] = [
    "--network=host",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=2g",
    "--pids-limit=256",
];

/// The engine and what was built on it, which goes with this.
struct Bench {
    docker: Docker,
    folder: TempDir,
}

impl Bench {
    /// Returns the name of what the image is to be built on: CLOUDPULSE_GPU_BASE, or a Debian that is made of its packages, as
    /// debian:bookworm-slim is made.
    fn base(&self) -> String {
        if let Some(base) = std::env::var("CLOUDPULSE_GPU_BASE").ok().filter(|base| !base.is_empty()) {
            return base;
        }
        let archive = self.folder.path().join("debian.tar").display().to_string();
        let mut command = Command::new(find_program(&["mmdebstrap"], "mmdebstrap").unwrap());
        command.args(["--quiet", "--variant=apt", "--aptopt=APT::Install-Recommends \"false\""]);
        command.args(["pkgcache", "srcpkgcache"].map(|cache| format!("--aptopt=Dir::Cache::{cache} \"\"")));
        command.args(["doc", "man", "locale"].map(|texts| format!("--dpkgopt=path-exclude=/usr/share/{texts}/*")));
        run(command.args(["bookworm", &archive])).unwrap();
        let name = format!("{IMAGES}/debian:stand-in");
        self.docker.cli(&["import", &archive, &name]).unwrap();
        name
    }

    fn predictor(&self, base: &str) -> String {
        let mut command = Command::new(workspace_root().join("scripts/images.sh"));
        command.args(["images", "gpu"]).env("DOCKER_HOST", self.docker.address()).env("CLOUDPULSE_GPU_BASE", base);
        command.env("CLOUDPULSE_IMAGES", IMAGES).env("CLOUDPULSE_VERSION", "test");
        print!("{}", run(command.env("DOCKER_BUILD_FLAGS", "--network=host")).unwrap());
        format!("{IMAGES}/predictor:test-gpu")
    }

    /// Adds the driver that a host with a GPU has.
    fn with_driver(&self, base: &str, predictor: &str) -> String {
        let name = format!("{IMAGES}/with-driver:test");
        let folder = workspace_root().join("testkit/tests/images/software_gpu").display().to_string();
        let (base, predictor) = (format!("BASE={base}"), format!("PREDICTOR={predictor}"));
        let flags =
            ["build", "--quiet", "--network=host", "--tag", &name, "--build-arg", &base, "--build-arg", &predictor];
        self.docker.cli(&[&flags[..], &[&folder]].concat()).unwrap();
        name
    }

    /// Runs the image to its end, and returns whether that was well, and what it said.
    fn run(&self, flags: &[&str], image: &str, arguments: &[&str]) -> Result<String, String> {
        let done = self.docker.cli(&[&["run", "--rm"], &HELD[..], flags, &[image], arguments].concat());
        done.map_err(|error| format!("{error:#}"))
    }

    fn log(&self) -> String {
        let logs = Command::new("docker")
            .args(["logs", CONTAINER])
            .env("DOCKER_HOST", self.docker.address())
            .output()
            .unwrap();
        [logs.stdout, logs.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }

    async fn wait(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + WAIT;
        while !holds().await {
            assert!(Instant::now() < deadline, "{what}: not within {WAIT:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.docker.cli(&["rm", "--force", "--volumes", CONTAINER]);
        if let Ok(images) = self.docker.cli(&["images", "--quiet", "--filter", &format!("reference={IMAGES}/*")]) {
            let images: Vec<&str> = images.split_whitespace().collect();
            let _ = self.docker.cli(&[&["rmi", "--force"][..], &images].concat());
        }
    }
}

/// A week of four series: one of two levels by chance, on a daily wave.
async fn history(folder: &Path) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / STEP * STEP;
    let mut text = String::from("# TYPE load gauge\n");
    for series in 0..4_u64 {
        for at in (now - 7 * DAY..=now).step_by(STEP as usize) {
            let hash = ((at / STEP) ^ series << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let level = if (hash >> 33).is_multiple_of(3) { 90.0 } else { 50.0 };
            let wave = 10.0 * (at as f64 / DAY as f64 * std::f64::consts::TAU).sin();
            let _ = writeln!(text, "load{{instance=\"{series}\"}} {} {at}", level + wave);
        }
    }
    text.push_str("# EOF\n");
    let file = folder.join("history.om");
    std::fs::write(&file, text).unwrap();
    backfill(&file, &folder.join("data")).await.unwrap();
}

#[tokio::test]
#[ignore = "its program builds for 32 minutes of CPU the first time: make test-gpu-image"]
async fn the_gpu_image_takes_a_vulkan_device_and_forecasts() {
    let docker = Docker::start().await.unwrap().unwrap_or_else(|| panic!("{}", Docker::HOW_TO_GET_ONE));
    let bench = Bench { docker, folder: tempfile::tempdir().unwrap() };
    let base = bench.base();
    let plain = bench.predictor(&base);
    println!("stand-ins: {base} for debian:bookworm-slim; Mesa's software Vulkan for a GPU's driver");

    let inspected: Value = serde_json::from_str(&bench.docker.cli(&["image", "inspect", &plain]).unwrap()).unwrap();
    let config = &inspected[0]["Config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Healthcheck"]["Test"][1], "cloudpulse-predictor");
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], "test-gpu");
    let version = bench.run(&[], &plain, &["--version"]).unwrap();
    assert!(version.starts_with("cloudpulse-predictor "), "{version}");

    // Without a driver, and with one that says of itself that it computes on the CPU.
    let software = bench.with_driver(&base, &plain);
    let serve_on_gpu = ["serve", "--device", "gpu", "--prometheus", "http://127.0.0.1:9"];
    for (image, flags) in [(&plain, &[][..]), (&software, &["--env=VK_INSTANCE_LAYERS="])] {
        let why = bench.run(flags, image, &serve_on_gpu).unwrap_err();
        assert!(why.contains("no discrete, integrated or virtual GPU was found"), "{image}: {why}");
    }

    history(bench.folder.path()).await;
    let port = free_port().unwrap();
    let prometheus = Prometheus::start(PrometheusOptions {
        config: format!(
            "scrape_configs:\n- {{job_name: predictor, scrape_interval: 1s, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
        ),
        data_dir: Some(bench.folder.path().join("data")),
        ..PrometheusOptions::default()
    })
    .await
    .unwrap();
    let config = bench.folder.path().join("predictor.yml");
    let forecast = "forecasts:\n- {name: load, query: 'last_over_time(load[1h])', step: 5m, interval: 5s, history: 7d, lstm: {fine_tune: false}}\n";
    std::fs::write(&config, forecast).unwrap();
    let mount = format!("--volume={}:/predictor.yml:ro", config.display());
    let listen = format!("--env=CLOUDPULSE_PREDICTOR_LISTEN=127.0.0.1:{port}");
    let flags = ["run", "--detach", "--name", CONTAINER, "--tmpfs=/tmp", &mount, &listen];
    let arguments = ["serve", "--config=/predictor.yml", "--device=gpu", "--prometheus", &prometheus.url];
    let begin = Instant::now();
    bench.docker.cli(&[&flags[..], &HELD, &[&software], &arguments].concat()).unwrap();

    let health = async || {
        bench.docker.cli(&["inspect", "--format={{.State.Health.Status}}", CONTAINER]).unwrap().trim() == "healthy"
    };
    bench.wait("its health", health).await;
    println!("{:4.0} s: healthy", begin.elapsed().as_secs_f64());
    let exec = |program: &[&str]| bench.docker.cli(&[&["exec", CONTAINER], program].concat());
    exec(&["cloudpulse-predictor", "health"]).unwrap();
    let pid = bench.docker.cli(&["inspect", "--format={{.State.Pid}}", CONTAINER]).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    assert!(status.contains("\nUid:\t65532\t65532\t65532\t65532\n"), "{status}");
    assert!(exec(&["touch", "/usr/bin/new"]).is_err(), "the root can be written to");

    // What the program says of its device, and what Prometheus has of its forecasts.
    let device = prometheus.wait_for_any("cloudpulse_predictor_device_info{device=\"gpu\"}", WAIT).await.unwrap();
    println!("{:4.0} s: {:?}", begin.elapsed().as_secs_f64(), device[0].0);
    assert!(device[0].0["adapter"].starts_with("llvmpipe") && device[0].0["backend"] == "vulkan", "{device:?}");
    let forecasts = prometheus
        .wait_for("cloudpulse_forecast{forecast=\"load\"}", WAIT, |samples| samples.len() >= 4)
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", bench.log()));
    assert!(forecasts.iter().all(|(_, value)| (0.0..200.0).contains(value)), "{forecasts:?}");
    println!("{:4.0} s: {} forecasts in Prometheus", begin.elapsed().as_secs_f64(), forecasts.len());
}
