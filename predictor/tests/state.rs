//! What was learnt over a restart: of the program beside a real Prometheus, and of the files under kill -9.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloudpulse_common::query::Labels;
use cloudpulse_predictor::state::{Entry, Header, Store};
use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::{free_port, http_client};
use cloudpulse_testkit::prometheus::{Prometheus, PrometheusOptions, backfill};

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

async fn page(url: &str) -> String {
    http_client().unwrap().get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap()
}

/// Value of the first sample line that starts with `prefix`.
fn value(page: &str, prefix: &str) -> Option<f64> {
    page.lines().find(|line| line.starts_with(prefix))?.rsplit_once(' ')?.1.parse().ok()
}

const SKILL: &str =
    "cloudpulse_forecast_skill_ratio{instance=\"wave\",job=\"\",forecast=\"load\",horizon=\"5m\",model=\"ensemble\"";
const COVERAGE: &str =
    "cloudpulse_forecast_coverage_ratio{instance=\"wave\",job=\"\",forecast=\"load\",horizon=\"5m\",level=\"0.8\"";
const MADE_AT: &str = "cloudpulse_forecast_timestamp_seconds{instance=\"wave\"";
const RESTORED: &str = "cloudpulse_predictor_state_restored_series{forecast=\"load\"}";
const DAMAGED: &str = "cloudpulse_predictor_state_damaged_total{forecast=\"load\"}";

struct Restarts {
    prometheus: Prometheus,
    folder: tempfile::TempDir,
}

impl Restarts {
    /// Starts the predictor at `from` in the past, ready.
    async fn start(&self, from: f64, speed: u32) -> (Program, String) {
        let (from, speed) = (from.to_string(), speed.to_string());
        let url = format!("http://127.0.0.1:{}", free_port().unwrap());
        let config = self.folder.path().join("predictor.yml");
        let state = self.folder.path().join("state");
        let args = [
            "serve",
            "--config",
            config.to_str().unwrap(),
            "--prometheus",
            &self.prometheus.url,
            "--listen",
            url.trim_start_matches("http://"),
            "--state-dir",
            state.to_str().unwrap(),
            // One is written after the first forecast, and one at the end.
            "--state-interval",
            "1h",
            "--replay-from",
            &from,
            "--replay-speed",
            &speed,
        ];
        let binary = Path::new(env!("CARGO_BIN_EXE_cloudpulse-predictor"));
        let ready = format!("{url}/readyz");
        (Program::start(binary, &args, &[], Some(&ready)).await.unwrap(), url)
    }

    fn states(&self, ending: &str) -> Vec<PathBuf> {
        let mut numbers: Vec<(u64, PathBuf)> = std::fs::read_dir(self.folder.path().join("state/load"))
            .unwrap()
            .filter_map(|entry| {
                let path = entry.unwrap().path();
                let number = path.file_name()?.to_str()?.strip_suffix(ending)?.parse().ok()?;
                Some((number, path))
            })
            .collect();
        numbers.sort();
        numbers.into_iter().map(|(_, path)| path).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_predictor_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let until = now() as i64 / 60 * 60;
    let mut text = String::from("# TYPE load gauge\n");
    for at in (until - 2 * 86_400..=until).step_by(60) {
        let noise = (at / 60 * 7919 % 101) as f64 / 10.0;
        let wave = 100.0 + 50.0 * (at as f64 / 86_400.0 * std::f64::consts::TAU).sin() + noise;
        let _ = writeln!(text, "load{{instance=\"wave\"}} {wave} {at}");
        // Ends before the restart: its state is not kept for ever.
        if at < until - 12 * 3600 - 300 {
            let _ = writeln!(text, "load{{instance=\"leaves\"}} {wave} {at}");
        }
    }
    // One family, grouped by series.
    let mut lines: Vec<&str> = text.lines().skip(1).collect();
    lines.sort_by_key(|line| line.split(' ').next());
    let history = folder.path().join("history.om");
    std::fs::write(&history, format!("# TYPE load gauge\n{}\n# EOF\n", lines.join("\n"))).unwrap();
    let data = folder.path().join("data");
    backfill(&history, &data).await.unwrap();
    let config = "global: {scrape_interval: 1m}\n".to_owned();
    let options = PrometheusOptions { config, data_dir: Some(data), ..PrometheusOptions::default() };
    let prometheus = Prometheus::start(options).await.unwrap();
    std::fs::write(
        folder.path().join("predictor.yml"),
        "forecasts:\n- {name: load, query: load, step: 1m, interval: 1m, history: 1d, horizons: [5m], peak_horizons: [5m]}\n",
    )
    .unwrap();
    let restarts = Restarts { prometheus, folder };

    // Half a day ago, 200 times as fast: until enough forecasts have met what they were about.
    let (mut first, url) = restarts.start((until - 12 * 3600) as f64 - 600.0, 200).await;
    assert_eq!(value(&page(&url).await, RESTORED), Some(0.0));
    let deadline = now() + 100.0;
    let last = loop {
        let page = page(&url).await;
        if value(&page, SKILL).is_some() {
            break page;
        }
        assert!(now() < deadline, "{page}\n{}", first.process().log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(value(&last, "cloudpulse_predictor_state_bytes{forecast=\"load\"}").unwrap() > 1000.0);
    assert!(value(&last, "cloudpulse_predictor_state_written_timestamp_seconds{forecast=\"load\"}").is_some());
    assert!(first.process().stop().unwrap().success(), "{}", first.process().log_tail());
    let stopped = value(&last, MADE_AT).unwrap();
    let store = Store::<Header>::open(restarts.folder.path().join("state/load")).unwrap();
    let saved = store.read(|_| None).unwrap().loaded.unwrap();
    assert!(saved.number >= 2 && saved.header.learned_to as f64 >= stopped, "the end is saved too: {:?}", saved.header);

    // Half an hour later, at the speed of the clock: the first forecast has what took hours to learn.
    let again = stopped + 1800.0;
    let (mut second, url) = restarts.start(again, 1).await;
    let page_after = page(&url).await;
    let log = second.process().log_tail();
    assert!(value(&page_after, RESTORED).is_some_and(|series| series >= 1.0), "{page_after}\n{log}");
    assert!(value(&page_after, MADE_AT).unwrap() >= again - 60.0, "a new forecast, not the old one");
    assert!(value(&page_after, SKILL).is_some() && value(&page_after, COVERAGE).is_some(), "{page_after}\n{log}");
    let quantiles = page_after.lines().filter(|line| line.starts_with("cloudpulse_forecast{instance=\"wave\""));
    assert_eq!(quantiles.count(), 2, "{page_after}");
    assert!(!page_after.contains("instance=\"leaves\""));
    assert_eq!(value(&page_after, DAMAGED), Some(0.0));
    assert!(second.process().stop().unwrap().success());

    // The newest state loses its end: the one before it is as good.
    let states = restarts.states(".state");
    let newest = states.last().unwrap();
    let bytes = std::fs::read(newest).unwrap();
    std::fs::write(newest, &bytes[..bytes.len() / 2]).unwrap();
    let (mut third, url) = restarts.start(again + 60.0, 1).await;
    let page_after = page(&url).await;
    assert_eq!(value(&page_after, DAMAGED), Some(1.0), "{}", third.process().log_tail());
    assert!(value(&page_after, SKILL).is_some(), "{}", third.process().log_tail());
    assert_eq!(restarts.states(".damaged").len(), 1);
    assert!(third.process().log_tail().contains("a saved state is damaged and put aside"));

    // A second one beside it would mix its states in.
    let state = restarts.folder.path().join("state");
    let args = ["serve", "--prometheus", &restarts.prometheus.url, "--listen", "127.0.0.1:0", "--state-dir"];
    let beside = Command::new(env!("CARGO_BIN_EXE_cloudpulse-predictor")).args(args).arg(&state).output().unwrap();
    assert_eq!(beside.status.code(), Some(1));
    let said = String::from_utf8_lossy(&beside.stderr).into_owned();
    assert!(said.contains("another process keeps its state there"), "{said}");
}

const WRITER: &str = "CLOUDPULSE_TEST_STATE_WRITER";
const ROUNDS: usize = 200;

/// The state with this number: every byte of it depends on the number.
fn state(number: u64) -> (Header, Vec<Entry>) {
    let entry = |i: u64| {
        let labels = Labels::from([("instance".to_owned(), format!("node-{i}"))]);
        (labels, (0..20_000_u64).map(|at| (at * 31 + i * 7 + number) as u8).collect())
    };
    let entries: Vec<Entry> = (0..5 + number % 5).map(entry).collect();
    (Header { forecast: "load".to_owned(), fingerprint: number, learned_to: number as i64 }, entries)
}

/// Writes states as fast as it can, and says of each one on the disk that it is there; never returns.
fn write_for_ever(folder: PathBuf) -> ! {
    let mut store = Store::<Header>::open(folder).unwrap();
    // As a predictor would: from what is there.
    let mut number = store.read(|_| None).unwrap().loaded.map_or(1, |loaded| loaded.number + 1);
    let mut stdout = std::io::stdout();
    loop {
        let (header, entries) = state(number);
        assert_eq!(store.write(&header, entries.into_iter().map(Ok)).unwrap().number, number);
        writeln!(stdout, "saved {number}").unwrap();
        number += 1;
    }
}

/// Random numbers that are the same in each run (SplitMix64; Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[test]
fn a_whole_state_survives_kill_9_at_any_moment() {
    if let Some(folder) = std::env::var_os(WRITER) {
        write_for_ever(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(4);
    let (mut acknowledged, mut interrupted) = (0, 0);
    for round in 0..ROUNDS {
        // This test again, in a process of its own.
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_whole_state_survives_kill_9_at_any_moment", "--nocapture"])
            .env(WRITER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (saved, waiting) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let numbers = output.lines().filter_map(|line| line.ok()?.strip_prefix("saved ")?.parse::<u64>().ok());
            numbers.for_each(|number| saved.send(number).unwrap());
        });
        let mut last = waiting.recv().unwrap();
        std::thread::sleep(Duration::from_micros(random.next() % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        last = waiting.try_iter().last().unwrap_or(last);
        assert!(last > acknowledged, "round {round}: a new process goes on from the last state");
        acknowledged = last;

        let names = std::fs::read_dir(folder.path()).unwrap();
        interrupted += names.filter(|entry| entry.as_ref().unwrap().path().extension().unwrap() == "tmp").count();
        let found = Store::<Header>::open(folder.path().to_owned()).unwrap().read(|_| None).unwrap();
        assert!(found.damaged.is_empty(), "round {round}: {:?}", found.damaged);
        let loaded = found.loaded.unwrap();
        assert!(loaded.number >= acknowledged, "round {round}: {} after {acknowledged}", loaded.number);
        assert!((loaded.header, loaded.entries) == state(loaded.number), "round {round}: not what was written");
        assert!(std::fs::read_dir(folder.path()).unwrap().count() <= 6, "round {round}: old states pile up");
    }
    assert!(interrupted > 0, "no kill met a write: the test shows nothing");
    let _ = writeln!(std::io::stderr(), "{interrupted} of {ROUNDS} kills met a write; {acknowledged} states written");
}
