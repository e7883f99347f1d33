//! The exact fit beside Python Prophet on the same series: time, the objective that both minimise, and the forecast.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use cloudpulse_forecast::prophet::plan::{GridPlan, PlanSpec, Season};
use cloudpulse_testkit::binary::workspace_root;
use serde_json::Value;

use crate::table;

const SIZES: [usize; 2] = [2000, 10_000];
const HORIZON: usize = 288;
const PYTHON_REPEATS: usize = 3;
/// Prophet is at least this many times slower, or the bar is missed.
const BAR: f64 = 1000.0;

/// Runs the comparison and prints it.
///
/// # Errors
/// When Python Prophet is installed but fails. Where it is not installed, that is said and only our times are printed.
pub(crate) fn run() -> anyhow::Result<()> {
    table::line("\nProphet fit: 25 changepoints, daily and weekly season, one thread, five-minute samples");
    let root = workspace_root();
    let python = root.join("target/bench/venv/bin/python");
    let script = root.join("bench/prophet_python.py");
    let file = root.join("target/bench/prophet.csv");
    if !python.exists() {
        table::line("SKIPPED: Python Prophet is not installed; run scripts/setup.sh bench");
        return Ok(());
    }
    let most = SIZES.iter().copied().max().unwrap_or(0) + HORIZON;
    let call = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(&python).arg(&script).args(arguments).stderr(Stdio::inherit()).output()?;
        anyhow::ensure!(output.status.success(), "{} failed: {}", script.display(), output.status);
        Ok(String::from_utf8(output.stdout)?)
    };
    let path = file.display().to_string();
    call(&["--generate", &path, "--points", &most.to_string()])?;
    let values = read(&file)?;
    let sizes = SIZES.map(|size| size.to_string()).join(",");
    let repeats = PYTHON_REPEATS.to_string();
    let answers = call(&["--csv", &path, "--sizes", &sizes, "--repeats", &repeats, "--horizon", &HORIZON.to_string()])?;
    let mut rows = vec![
        [
            "points",
            "Python Prophet",
            "plan once",
            "our fit (least…most)",
            "ratio",
            "objective: Python",
            "ours",
            "forecasts differ",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let mut missed = false;
    for answer in answers.lines() {
        let answer: Value = serde_json::from_str(answer)?;
        let size = answer["n"].as_u64().context("n")? as usize;
        let seconds: Vec<f64> = numbers(&answer["seconds"]);
        let (python_seconds, ..) = table::spread(&seconds);
        let ours = fit(&values[..size])?;
        let (middle, least, most) = table::spread(&ours.seconds);
        let ratio = python_seconds / middle;
        missed |= ratio < BAR;
        let theirs = numbers(&answer["yhat"]);
        let mean = values[..size].iter().sum::<f64>() / size as f64;
        let difference = theirs.iter().zip(&ours.forecast).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / mean.abs();
        rows.push(vec![
            size.to_string(),
            format!("{:.1} ms", python_seconds * 1e3),
            format!("{:.2} ms", ours.plan_seconds * 1e3),
            format!("{:.1} µs ({:.1}…{:.1})", middle * 1e6, least * 1e6, most * 1e6),
            format!("{ratio:.0}×"),
            format!("{:.4}", answer["negative_log_posterior"].as_f64().unwrap_or(f64::NAN)),
            format!("{:.4}", ours.objective),
            format!("{:.2} % of the mean", difference * 100.0),
        ]);
    }
    table::print(&rows);
    table::line(
        "  A lower objective is a better optimum of the same posterior. The plan is made once for all series of a grid.",
    );
    table::line(&format!("  bar: {BAR:.0}× or more: {}", if missed { "MISSED" } else { "met" }));
    Ok(())
}

struct Fitted {
    plan_seconds: f64,
    seconds: Vec<f64>,
    objective: f64,
    forecast: Vec<f64>,
}

fn fit(values: &[f64]) -> anyhow::Result<Fitted> {
    const REPEATS: usize = 201;
    let spec = PlanSpec { seasons: vec![Season::DAY, Season::WEEK], ..PlanSpec::prophet(values.len(), 300.0) };
    let started = Instant::now();
    let plan = GridPlan::new(&spec)?;
    let plan_seconds = started.elapsed().as_secs_f64();
    let mut fit = plan.fit(values)?;
    let mut seconds = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        let started = Instant::now();
        fit = plan.fit(std::hint::black_box(values))?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let forecast = (values.len()..values.len() + HORIZON).map(|index| plan.value_at(&fit, index as f64)).collect();
    Ok(Fitted { plan_seconds, seconds, objective: fit.solution.objective, forecast })
}

fn read(file: &Path) -> anyhow::Result<Vec<f64>> {
    let text = std::fs::read_to_string(file)?;
    let value = |line: &str| line.split_once(',').and_then(|(_, value)| value.trim().parse().ok());
    text.lines().skip(1).map(|line| value(line).with_context(|| format!("{line:?} in {}", file.display()))).collect()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}
