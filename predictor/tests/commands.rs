//! The commands as scripts use them: files in, rows and exit codes out; no server.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloudpulse-predictor"))
        .args(args)
        .env_remove("CLOUDPULSE_PREDICTOR_PROMETHEUS")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Four days of a daily wave with noise and gaps, five minutes apart, up to `rows` rows.
fn write_series(path: &Path, rows: usize) {
    let mut text = String::from("timestamp,value\n");
    for i in 0..rows {
        if i % 131 < 2 {
            continue;
        }
        let noise = (i * 7919 % 101) as f64 / 25.0;
        let value = 50.0 + 20.0 * (i as f64 / 288.0 * std::f64::consts::TAU).sin() + noise;
        let _ = writeln!(text, "{},{value}", 1_700_000_000 + 300 * i);
    }
    std::fs::write(path, text).unwrap();
}

/// Values by everything but the value.
fn rows(text: &str) -> HashMap<String, f64> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("series,kind,origin,horizon_seconds,model,quantile,value"));
    lines
        .map(|line| {
            let (key, value) = line.rsplit_once(',').unwrap();
            (key.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn a_backtest_row_is_what_forecast_prints_for_the_cut_file() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("web.csv");
    write_series(&whole, 4 * 288);
    let forecasts = folder.path().join("rows.csv");
    let output = run(&[
        "backtest",
        "--csv",
        whole.to_str().unwrap(),
        "--origins",
        "7",
        "--warmup",
        "2d",
        "--horizons",
        "5m,10m,15m",
        "--forecasts",
        forecasts.to_str().unwrap(),
    ]);
    let table = stdout(&output);
    assert!(table.contains("15m ahead the forecast "), "{table}");
    let backtest = rows(&std::fs::read_to_string(&forecasts).unwrap());
    let mut origins: Vec<i64> = backtest.keys().map(|key| key.split(',').nth(2).unwrap().parse().unwrap()).collect();
    origins.sort_unstable();
    origins.dedup();
    assert!(origins.len() >= 6);
    let text = std::fs::read_to_string(&whole).unwrap();
    let cut = folder.path().join("cut").join("web.csv");
    std::fs::create_dir_all(cut.parent().unwrap()).unwrap();
    let mut compared = 0;
    for origin in origins {
        let known = |line: &&str| line.split(',').next().unwrap().parse().map_or(true, |time: i64| time <= origin);
        let lines: Vec<&str> = text.lines().filter(known).collect();
        std::fs::write(&cut, lines.join("\n")).unwrap();
        let forecast = run(&["forecast", "--csv", cut.to_str().unwrap(), "--horizon", "15m", "--output", "csv"]);
        for (key, value) in rows(&stdout(&forecast)) {
            let past = backtest[&key];
            assert!((past - value).abs() <= 1e-9 * value.abs(), "{key}: {past} in the backtest, {value} alone");
            compared += 1;
        }
        let single = [
            "forecast",
            "--csv",
            cut.to_str().unwrap(),
            "--model",
            "prophet_ses",
            "--quantiles",
            "0.5",
            "--output",
            "csv",
        ];
        for (key, value) in rows(&stdout(&run(&single))) {
            assert!((backtest[&key] - value).abs() <= 1e-9 * value.abs(), "{key}");
            compared += 1;
        }
    }
    assert!(compared > 6 * 3 * 7, "{compared}");
}

#[test]
fn forecast_draws_and_prints_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.csv");
    write_series(&file, 700);
    for ending in ["svg", "png"] {
        let picture = folder.path().join(format!("p.{ending}"));
        let output = run(&["forecast", "--csv", file.to_str().unwrap(), "--plot", picture.to_str().unwrap()]);
        let table = stdout(&output);
        assert!(table.starts_with("web: last value") && table.contains("peak until"), "{table}");
        assert!(std::fs::metadata(&picture).unwrap().len() > 3000);
    }
    let json = stdout(&run(&["forecast", "--csv", file.to_str().unwrap(), "--output", "json"]));
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows[0]["kind"], "point");
    let report =
        stdout(&run(&["backtest", "--csv", folder.path().to_str().unwrap(), "--origins", "20", "--output", "json"]));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["series"][0]["name"], "web");
    assert!(report["series"][0]["horizons"][0]["ensemble"]["mae"].is_number());
}

#[test]
fn past_forecasts_can_be_backfilled() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.csv");
    write_series(&file, 700);
    let text =
        stdout(&run(&["backtest", "--csv", file.to_str().unwrap(), "--origins", "20", "--output", "openmetrics"]));
    let input = folder.path().join("past.om");
    std::fs::write(&input, &text).unwrap();
    let blocks = folder.path().join("blocks");
    let promtool = cloudpulse_testkit::process::find_program(&["promtool"], "prometheus").unwrap();
    let output = Command::new(promtool)
        .args(["tsdb", "create-blocks-from", "openmetrics", "-q"])
        .args([&input, &blocks])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read_dir(&blocks).unwrap().count() >= 1);
}

/// Twelve days of the daily wave at five minutes, with an outage of an hour on the ninth; returns the text.
fn outage() -> String {
    let mut text = String::from("timestamp,value\n");
    for i in 0..12 * 288_usize {
        let noise = (i * 7919 % 101) as f64 / 25.0;
        let value = if (8 * 288 + 100..8 * 288 + 112).contains(&i) {
            0.0
        } else {
            50.0 + 20.0 * (i as f64 / 288.0 * std::f64::consts::TAU).sin() + noise
        };
        let _ = writeln!(text, "{},{value}", 1_700_000_000 + 300 * i);
    }
    text
}

#[test]
fn anomalies_judge_each_row_by_earlier_rows_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.csv");
    let mut text = outage();
    // Equal times, and a gap.
    let twice = text.lines().nth(700).unwrap().to_owned();
    let time: i64 = twice.split_once(',').unwrap().0.parse().unwrap();
    text = text.replace(&twice, &format!("{twice}\n{time},51\n{},", time + 100));
    std::fs::write(&file, &text).unwrap();
    let judge = |file: &Path| run(&["anomalies", "--csv", file.to_str().unwrap(), "--output", "csv"]);
    let output = judge(&file);
    assert!(stderr(&output).contains("equal timestamp: each is judged"), "{}", stderr(&output));
    let whole = stdout(&output);
    let mut lines = whole.lines();
    assert_eq!(lines.next(), Some("timestamp,value,expected,score,alarm,cause"));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let input: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(rows.len(), input.len());
    for (row, line) in rows.iter().zip(&input) {
        assert_eq!(&format!("{},{}", row[0], row[1]), line, "rows keep their order and values");
        assert_eq!(row.len(), 6);
        assert_eq!(row[3].is_empty(), row[1].is_empty(), "a gap has no score: {row:?}");
    }
    let alarm = rows.iter().skip(3 * 288).find(|row| row[4] == "1").unwrap();
    assert_eq!(alarm[0], (1_700_000_000 + 300 * (8 * 288 + 100)).to_string());
    assert!(alarm[2].parse::<f64>().unwrap() > 20.0 && alarm[3].parse::<f64>().unwrap() >= 1.0, "{alarm:?}");
    assert!(["seasonal_day", "seasonal_week", "smoothed", "spread", "fast"].contains(&alarm[5]));
    let cut = folder.path().join("cut.csv");
    for known in [2, 50, 1000, 2500] {
        std::fs::write(&cut, text.lines().take(known).collect::<Vec<_>>().join("\n")).unwrap();
        let prefix = stdout(&judge(&cut));
        assert!(whole.starts_with(prefix.trim_end()), "the first {known} rows have other scores alone");
        assert_eq!(prefix.lines().count(), known);
    }
}

#[test]
fn anomalies_are_listed_counted_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let series = folder.path().join("series");
    std::fs::create_dir(&series).unwrap();
    std::fs::write(series.join("web.csv"), outage()).unwrap();
    std::fs::write(series.join("idle.csv"), "timestamp,value\n0,5\n300,5\n600,5\n").unwrap();
    let both = series.to_str().unwrap();
    for ending in ["svg", "png"] {
        let picture = folder.path().join(format!("p.{ending}"));
        let table = stdout(&run(&["anomalies", "--csv", both, "--plot", picture.to_str().unwrap()]));
        assert!(table.contains("web: ") && table.contains("2023-11-23T06:33:20Z"), "{table}");
        let last = table.lines().last().unwrap();
        assert!(last.contains("in 2 series over 12.0 series-days: 0."), "{table}");
        for number in 1..=2 {
            let drawn = std::fs::metadata(folder.path().join(format!("p-{number}.{ending}"))).unwrap();
            assert!(drawn.len() > 1500, "{}", drawn.len());
        }
    }
    let json = stdout(&run(&["anomalies", "--csv", both, "--output", "json", "--threshold", "0.8"]));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["series"][0]["name"], &report["series"][1]["name"]), (&"idle".into(), &"web".into()));
    assert_eq!(report["series"][0]["rows"][0]["expected"], serde_json::Value::Null);
    assert_eq!(report["series"][1]["rows"].as_array().unwrap().len(), 12 * 288);
    assert!(report["alarms"].as_u64().unwrap() >= 1 && report["threshold"] == 0.8);
    let quiet = stdout(&run(&["anomalies", "--csv", both, "--min-deviation", "1000"]));
    assert!(quiet.starts_with("0 alarms in 2 series"), "{quiet}");

    let refused = run(&["anomalies", "--csv", both, "--output", "csv"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--output csv is for one series and there are 2; name one file"));
    assert!(refused.stdout.is_empty());
    let refused = run(&["anomalies", "--csv", both, "--threshold", "0"]);
    assert!(stderr(&refused).contains("--threshold 0 is not above 0"), "{}", stderr(&refused));
    let help = stdout(&run(&["anomalies", "--help"]));
    assert!(help.contains("150 rows are quiet") && help.contains("timestamp,value,expected,score,alarm,cause"));
}

#[test]
fn errors_say_what_where_and_how_to_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.csv");
    std::fs::write(&file, "timestamp,value\n10,1\n20,2\n15,3\n").unwrap();
    let output = run(&["forecast", "--csv", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("timestamps go backwards in line 4"), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    std::fs::write(&file, "timestamp,value\n10,1\n20,2\n20,3\n").unwrap();
    let output = run(&["forecast", "--csv", file.to_str().unwrap(), "--horizon", "10s"]);
    assert!(output.status.success() && stderr(&output).contains("equal timestamp"), "{}", stderr(&output));
    assert_eq!(run(&["forecast"]).status.code(), Some(2), "a source is needed");
    assert_eq!(run(&["forecast", "--csv", "x", "--horizon", "soon"]).status.code(), Some(2));
    let output = run(&["forecast", "--csv", file.to_str().unwrap(), "--model", "oracle"]);
    assert!(
        stderr(&output).contains("there is no model \"oracle\"; there are ensemble, persistence"),
        "{}",
        stderr(&output)
    );
    let output = run(&["forecast", "--query", "up", "--prometheus", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("http://127.0.0.1:1 cannot be reached"), "{}", stderr(&output));
    let config = folder.path().join("c.yml");
    std::fs::write(&config, "forecasts: [{name: a, query: up, horizon: 5m}, {query: up}]").unwrap();
    let output = run(&["check", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("2 errors found") && said.contains("did you mean \"horizons\"?"), "{said}");
    assert!(said.contains("forecasts[1]: missing field `name`"), "{said}");
    std::fs::write(&config, "prometheus: {url: localhost}\nforecasts: [{name: a, query: up}]").unwrap();
    let said = stderr(&run(&["check", config.to_str().unwrap()]));
    assert!(said.contains("prometheus.url: \"localhost\" is no URL; write it as http://HOST:PORT"), "{said}");
    std::fs::write(&config, "forecasts: [{name: a, query: up}]").unwrap();
    assert!(stdout(&run(&["check", config.to_str().unwrap()])).contains("30 published series"));
}
