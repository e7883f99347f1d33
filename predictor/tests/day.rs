//! A day of serving in about a minute: the predictor goes through yesterday on back-filled history, a real Prometheus
//! scrapes it, and what the predictor says of its forecasts is counted again from the forecasts that Prometheus stored.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::prometheus::{Prometheus, PrometheusOptions, backfill};

const STEP: i64 = 300;
const DAY: i64 = 86_400;
/// A step passes in a fifth of a second.
const SPEED: i64 = 1500;
/// The page is scraped this often, so that no cycle is missed on an idle machine.
const SCRAPE: &str = "50ms";
const LIMIT: f64 = 150.0;

/// The load: a daily wave, a jump every six hours, and noise.
fn load(at: i64) -> f64 {
    let hash = ((at / STEP) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let noise = (hash >> 40) as f64 / (1_u64 << 24) as f64 * 12.0;
    let jump = if at.rem_euclid(6 * 3600) < 900 { 15.0 } else { 0.0 };
    100.0 + 40.0 * (at as f64 / DAY as f64 * std::f64::consts::TAU).sin() + jump + noise
}

/// Raw samples of the last two minutes, by labels and scrape time in milliseconds.
async fn stored(prometheus: &Prometheus, selector: &str) -> Vec<(BTreeMap<String, String>, BTreeMap<i64, f64>)> {
    let answer = prometheus.get("/api/v1/query", &[("query", format!("{selector}[5m]"))]).await.unwrap();
    let result = answer["result"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
    result
        .iter()
        .map(|series| {
            let labels = serde_json::from_value(series["metric"].clone()).unwrap();
            let sample = |pair: &serde_json::Value| {
                ((pair[0].as_f64().unwrap() * 1000.0).round() as i64, pair[1].as_str().unwrap().parse().unwrap())
            };
            (labels, series["values"].as_array().unwrap().iter().map(sample).collect())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn skill_and_coverage_are_what_a_recount_of_the_stored_forecasts_gives() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 / STEP * STEP;
    let mut text = String::from("# TYPE load gauge\n");
    for at in (now - 5 * DAY..=now).step_by(STEP as usize) {
        let _ = writeln!(text, "load{{instance=\"a\"}} {} {at}", load(at));
    }
    text.push_str("# EOF\n");
    let file = folder.path().join("history.om");
    std::fs::write(&file, text).unwrap();
    backfill(&file, &data).await.unwrap();
    let port = free_port().unwrap();
    let config = format!(
        "global: {{scrape_interval: {SCRAPE}, scrape_timeout: {SCRAPE}}}\nscrape_configs:\n- {{job_name: predictor, honor_labels: true, static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]}}\n"
    );
    let options = PrometheusOptions { config, data_dir: Some(data), ..PrometheusOptions::default() };
    let prometheus = Prometheus::start(options).await.unwrap();
    let config = format!(
        "forecasts:\n- {{name: load, query: load, step: 5m, interval: 5m, history: 3d, horizons: [5m, 15m], quantiles: [0.1, 0.5, 0.9], peak_horizons: [15m], breach_above: {LIMIT}}}\n"
    );
    let file = folder.path().join("predictor.yml");
    std::fs::write(&file, config).unwrap();
    // A little more than a day before now, so that the day is over before the present is reached.
    let from = now - DAY - 4 * 3600;
    let args = [
        "serve",
        "--config",
        file.to_str().unwrap(),
        "--prometheus",
        &prometheus.url,
        &format!("--listen=127.0.0.1:{port}"),
        &format!("--replay-from={from}"),
        &format!("--replay-speed={SPEED}"),
    ];
    let binary = Path::new(env!("CARGO_BIN_EXE_cloudpulse-predictor"));
    let ready = format!("http://127.0.0.1:{port}/readyz");
    let program = Program::start(binary, &args, &[], Some(&ready)).await.unwrap();

    let over =
        |samples: &[(BTreeMap<String, String>, f64)]| samples.iter().any(|(_, at)| *at >= (from + DAY + 7200) as f64);
    let patience = Duration::from_secs(180);
    prometheus.wait_for("cloudpulse_forecast_timestamp_seconds", patience, over).await.unwrap();
    drop(program);

    let times = stored(&prometheus, "cloudpulse_forecast_timestamp_seconds").await.swap_remove(0).1;
    let (scraped, made_last) = times.iter().next_back().map(|(at, made)| (*at, *made as i64)).unwrap();
    let forecasts = stored(&prometheus, "cloudpulse_forecast{model=\"ensemble\"}").await;
    let at_last = |selector: String| {
        let prometheus = &prometheus;
        async move { stored(prometheus, &selector).await.swap_remove(0).1[&scraped] }
    };
    for (horizon, seconds) in [("5m", 300), ("15m", 900)] {
        let quantile = |wanted: &str| {
            let series = forecasts.iter().find(|(l, _)| l["quantile"] == wanted && l["horizon"] == horizon).unwrap();
            // Several scrapes see the same forecast: it is counted once.
            let by_made = |(at, value): (&i64, &f64)| Some((*times.get(at)? as i64, *value));
            series.1.iter().filter_map(by_made).collect::<BTreeMap<i64, f64>>()
        };
        let (lower, median, upper) = (quantile("0.1"), quantile("0.5"), quantile("0.9"));
        let first_target = (made_last.div_euclid(3600) - 23) * 3600;
        let resolved = |made: &i64| (first_target..=made_last).contains(&(made + seconds));
        let (mut errors, mut count, mut inside) = ([0.0; 3], 0.0, 0.0);
        for (made, point) in median.iter().filter(|(made, _)| resolved(made)) {
            let actual = load(made + seconds);
            let naive = [*point, load(*made), load(made + seconds - DAY)];
            for (sum, forecast) in errors.iter_mut().zip(naive) {
                *sum += (forecast - actual).abs();
            }
            count += 1.0;
            inside += f64::from(u8::from((lower[made]..=upper[made]).contains(&actual)));
        }
        let expected = ((made_last - first_target) / STEP + 1) as f64;
        assert!(count >= 0.9 * expected, "Prometheus saw only {count} of {expected} forecasts");
        let skill = 1.0 - errors[0] / errors[1].min(errors[2]);
        let coverage = inside / count;
        let said_skill = at_last(format!("cloudpulse_forecast_skill_ratio{{horizon=\"{horizon}\"}}")).await;
        let said_coverage =
            at_last(format!("cloudpulse_forecast_coverage_ratio{{horizon=\"{horizon}\",level=\"0.8\"}}")).await;
        eprintln!(
            "{horizon}: skill {said_skill} said, {skill} counted; coverage {said_coverage}, {coverage}; {count} of {expected}"
        );
        // A scrape that came late misses a cycle: then the two counts differ by its weight.
        let tolerance = 1e-6 + 3.0 * (expected - count) / expected;
        assert!((said_skill - skill).abs() <= tolerance, "{said_skill} {skill}");
        assert!((said_coverage - coverage).abs() <= tolerance, "{said_coverage} {coverage}");
        assert!(said_skill > 0.0, "{said_skill}");
        assert!((0.6..=0.95).contains(&said_coverage), "{said_coverage}");
    }
    let breaches = prometheus.query("sum(last_over_time(cloudpulse_forecast_breaches[5m]))", None).await.unwrap()[0].1;
    assert!(breaches >= 1.0, "the jumps pass {LIMIT} at the top of the wave: {breaches}");
}
