//! The network learns on while the predictor serves: the program as its user runs it, beside a real Prometheus.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::{free_port, http_client};
use cloudpulse_testkit::prometheus::{Prometheus, PrometheusOptions, backfill};

const DAY: i64 = 86_400;
const STEP: i64 = 300;
/// For how long something is waited for before it counts as never coming.
const PATIENCE: Duration = Duration::from_secs(240);

/// One of two levels by chance, on a daily wave: what no usual series looks like, so that there is something to learn.
fn load(series: i64, at: i64) -> f64 {
    let hash = ((at / STEP) as u64 ^ (series as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let high = (hash >> 33).is_multiple_of(3);
    let wave = 10.0 * (at as f64 / DAY as f64 * std::f64::consts::TAU).sin();
    (50.0 + 5.0 * series as f64) + wave + if high { 40.0 } else { 0.0 }
}

async fn page(url: &str) -> String {
    http_client().unwrap().get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap()
}

/// Sum of the samples whose lines start with `prefix`.
fn sum(page: &str, prefix: &str) -> f64 {
    let values = page.lines().filter(|line| line.starts_with(prefix));
    values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Waits until so many fine-tunings have ended, and returns the page then.
async fn ended(url: &str, count: f64) -> String {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let page = page(url).await;
            if sum(&page, "cloudpulse_predictor_fine_tunings_total{") >= count {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("no fine-tuning has ended"))
}

struct Setting {
    folder: tempfile::TempDir,
    prometheus: Prometheus,
    binary: &'static Path,
}

impl Setting {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn serve(&self) -> (Program, String) {
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        let url = format!("http://{listen}");
        let (config, state, token) = (self.path("predictor.yml"), self.path("state"), self.path("token"));
        let args = [
            "serve",
            "--config",
            config.to_str().unwrap(),
            "--prometheus",
            &self.prometheus.url,
            "--listen",
            &listen,
            "--state-dir",
            state.to_str().unwrap(),
            "--api-token-file",
            token.to_str().unwrap(),
        ];
        let program = Program::start(self.binary, &args, &[], Some(&format!("{url}/readyz"))).await.unwrap();
        (program, url)
    }

    fn run(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new(self.binary).args(args).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.success(), text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_learns_on_beside_the_cycles_and_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 / STEP * STEP;
    let mut text = String::from("# TYPE load gauge\n");
    for series in 0..8 {
        for at in (now - 7 * DAY..=now).step_by(STEP as usize) {
            let _ = writeln!(text, "load{{instance=\"{series}\"}} {} {at}", load(series, at));
        }
    }
    text.push_str("# EOF\n");
    let file = folder.path().join("history.om");
    std::fs::write(&file, text).unwrap();
    let data = folder.path().join("data");
    backfill(&file, &data).await.unwrap();
    let prometheus =
        Prometheus::start(PrometheusOptions { data_dir: Some(data), ..PrometheusOptions::default() }).await.unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_cloudpulse-predictor"));
    let setting = Setting { folder, prometheus, binary };
    std::fs::write(
        setting.path("predictor.yml"),
        "forecasts:\n- {name: web/load, query: 'last_over_time(load[1h])', step: 5m, interval: 1s, history: 7d}\n\
         - {name: off, query: 'last_over_time(load[1h])', step: 5m, interval: 1s, history: 2d, lstm: {enabled: false}}\n",
    )
    .unwrap();
    std::fs::write(setting.path("token"), "secret\n").unwrap();

    let (mut program, url) = setting.serve().await;
    let page = ended(&url, 1.0).await;
    let log = program.process().log_tail();
    let kept = sum(&page, "cloudpulse_predictor_fine_tunings_total{forecast=\"web/load\",result=\"kept\"}");
    assert_eq!(kept, 1.0, "{log}");
    let loss = |weights: &str| {
        sum(&page, &format!("cloudpulse_predictor_network_loss_ratio{{forecast=\"web/load\",weights=\"{weights}\"}}"))
    };
    eprintln!("loss: bundled {}, before {}, tuned {}", loss("bundled"), loss("before"), loss("tuned"));
    assert!(loss("tuned") < 0.99 * loss("bundled") && loss("before") == loss("bundled"));
    assert!(sum(&page, "cloudpulse_predictor_network_weight_ratio{forecast=\"web/load\"}") > 0.0, "{page}");
    assert_eq!(sum(&page, "cloudpulse_predictor_network_weight_ratio{forecast=\"off\"}"), 0.0);
    assert_eq!(sum(&page, "cloudpulse_predictor_device_info{device=\"cpu\""), 1.0, "{page}");

    // Out of turn: for who brings the token, and only where there is a network.
    let post = |query: &'static str, token: &'static str| {
        let request = http_client().unwrap().post(format!("{url}/api/v1/retrain{query}")).bearer_auth(token);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(post("", "wrong").await, 401);
    assert_eq!(post("?forecast=off", "secret").await, 404);
    let (token, state) = (setting.path("token"), setting.path("state"));
    let (token, state) = (token.to_str().unwrap(), state.to_str().unwrap());
    let retrain = ["models", "retrain", "--url", &url, "--api-token-file", token, "web/load"];
    let (done, text) = setting.run(&retrain);
    assert!(done && text.contains("web/load"), "{text}");
    ended(&url, 2.0).await;

    let (done, list) = setting.run(&["models", "list", "--state-dir", state]);
    assert!(done && list.contains("web/load"), "{list}");
    let (done, shown) = setting.run(&["models", "show", "--state-dir", state, "web/load", "1"]);
    assert!(done && shown.contains("learnt from: 8 series") && shown.contains("features:"), "{shown}");
    let (done, text) = setting.run(&["models", "show", "--state-dir", state, "web/load", "77"]);
    assert!(!done && text.contains("no network 77"), "{text}");
    let (done, text) = setting.run(&["models", "show", "--bundled"]);
    assert!(done && text.contains("quantile_loss:"), "{text}");

    // A restart goes on with it; a damaged one is put aside, and the one before it or the bundled one is taken.
    program.process().stop().unwrap();
    let (mut program, url) = setting.serve().await;
    assert!(sum(&self::page(&url).await, "cloudpulse_predictor_network_fine_tuned_timestamp_seconds{") > 0.0);
    assert!(program.process().log_tail().contains("fine-tuned network restored"), "{}", program.process().log_tail());
    program.process().stop().unwrap();
    let networks: Vec<PathBuf> = std::fs::read_dir(Path::new(state).join("web%2Fload/lstm"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "state"))
        .collect();
    assert!(!networks.is_empty());
    for network in &networks {
        let mut bytes = std::fs::read(network).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(network, bytes).unwrap();
    }
    let (mut program, url) = setting.serve().await;
    let page = self::page(&url).await;
    assert!(sum(&page, "cloudpulse_predictor_state_damaged_total{forecast=\"web/load\"}") >= networks.len() as f64);
    assert!(
        sum(&page, "cloudpulse_forecast{instance=\"0\",job=\"\",forecast=\"web/load\"") > 0.0,
        "the bundled network goes on\n{page}"
    );
    assert!(program.process().log_tail().contains("a saved network is damaged and put aside"));
}
