//! The forecasts of Prophet, of statsforecast's models and of Fracast-0 beside ours, on the same targets.
//!
//! In: series with their origins, our forecasts there, what came true. Out: per peer the errors as ratios, the coverage of its
//! intervals and the time of a fit. The peers run in `bench/peers_python.py`, which keeps what it has fitted once.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use cloudpulse_forecast::evaluation::{Coverage, Score};
use cloudpulse_forecast::series::Series;
use cloudpulse_testkit::binary::workspace_root;
use serde_json::json;

use crate::table;

/// Origins in each series: few, because a peer is fitted anew at each.
pub(crate) const ORIGINS: usize = 6;
/// Quantiles that are compared; the value of 0.5 is a model's point forecast.
pub(crate) const QUANTILES: [f64; 7] = [0.025, 0.05, 0.1, 0.5, 0.9, 0.95, 0.975];
/// Place of the point forecast in [`QUANTILES`].
const POINT: usize = 3;
/// The 80, 90 and 95 % intervals by place in [`QUANTILES`].
const INTERVALS: [(usize, usize); 3] = [(2, 4), (1, 5), (0, 6)];
/// Horizons up to this one are counted together, longer ones apart.
const SHORT_SECONDS: i64 = 900;
/// Where the peers are installed, and what `scripts/setup.sh` calls the set that has them.
const FOLDERS: [(&str, &str); 2] = [("target/bench/venv", "bench"), ("target/bench/torch", "bench-lstm")];
const HEADER: &str = "series,origin,horizon_seconds,model,quantile,value,cpu_seconds";

/// What one forecast is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// Name of the series, `set/name`.
    pub(crate) series: String,
    /// Unix seconds of the last sample that is known.
    pub(crate) origin: i64,
    /// From the origin to the forecast value.
    pub(crate) horizon_seconds: i64,
}

/// One model's forecasts: the values at [`QUANTILES`] by target. An interval may be infinite.
pub(crate) type Forecasts = BTreeMap<Target, [f64; QUANTILES.len()]>;

/// A series to be forecast.
pub(crate) struct Asked<'a> {
    /// Name, `set/name`.
    pub(crate) name: &'a str,
    /// The file of `timestamp,value` that the series was made of.
    pub(crate) csv: &'a Path,
    /// The grid: the peers see no sample before its start.
    pub(crate) series: &'a Series,
    /// Indices into the series.
    pub(crate) origins: &'a [usize],
}

/// One peer's answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Peer {
    /// Targets that it failed at are not there.
    pub(crate) forecasts: Forecasts,
    /// Processor time of fit and forecast, by series and origin.
    pub(crate) cpu_seconds: BTreeMap<(String, i64), f64>,
}

/// Returns the request of `bench/peers_python.py`: one JSON object per line and series.
pub(crate) fn request(asked: &[Asked<'_>], horizon_seconds: &[i64]) -> String {
    let line = |asked: &Asked<'_>| {
        let origins: Vec<i64> = asked.origins.iter().map(|index| asked.series.time(*index)).collect();
        let object = json!({
            "series": asked.name,
            "csv": asked.csv,
            "start": asked.series.start(),
            "step_seconds": asked.series.step(),
            "origins": origins,
            "horizon_seconds": horizon_seconds,
        });
        format!("{object}\n")
    };
    asked.iter().map(line).collect()
}

/// Returns the peers by name from the CSV that `bench/peers_python.py` answers.
///
/// # Errors
/// When a line is not of that form, or a forecast lacks one of [`QUANTILES`].
pub(crate) fn read(text: &str) -> anyhow::Result<BTreeMap<String, Peer>> {
    let mut lines = text.lines();
    anyhow::ensure!(lines.next() == Some(HEADER), "the answer does not begin with {HEADER}");
    let mut peers: BTreeMap<String, Peer> = BTreeMap::new();
    for line in lines {
        let (target, model, place, value, seconds) = read_line(line).with_context(|| format!("in line {line:?}"))?;
        let peer = peers.entry(model.to_owned()).or_default();
        peer.cpu_seconds.insert((target.series.clone(), target.origin), seconds);
        peer.forecasts.entry(target).or_insert([f64::NAN; QUANTILES.len()])[place] = value;
    }
    for (model, peer) in &peers {
        if let Some((target, _)) = peer.forecasts.iter().find(|(_, values)| values.iter().any(|v| v.is_nan())) {
            anyhow::bail!("{model} lacks a quantile at {target:?}");
        }
    }
    Ok(peers)
}

fn read_line(line: &str) -> anyhow::Result<(Target, &str, usize, f64, f64)> {
    let fields: Vec<&str> = line.split(',').collect();
    let [series, origin, horizon, model, quantile, value, seconds] = fields[..] else {
        anyhow::bail!("{} fields", fields.len());
    };
    let quantile: f64 = quantile.parse().context("quantile")?;
    let place = QUANTILES.iter().position(|known| *known == quantile).context("unknown quantile")?;
    let target = Target {
        series: series.to_owned(),
        origin: origin.parse().context("origin")?,
        horizon_seconds: horizon.parse().context("horizon")?,
    };
    Ok((target, model, place, value.parse().context("value")?, seconds.parse().context("seconds")?))
}

/// Has the peers forecast the series, and returns them by name; `None` where they are not installed, which is printed.
/// Takes most of an hour of processor time where nothing was kept from an earlier run; progress is on stderr.
///
/// # Errors
/// When a file cannot be written or the peers' program fails.
pub(crate) fn forecasts(
    asked: &[Asked<'_>],
    horizon_seconds: &[i64],
) -> anyhow::Result<Option<BTreeMap<String, Peer>>> {
    let mut found: Option<BTreeMap<String, Peer>> = None;
    for (folder, set) in FOLDERS {
        if let Some(peers) = of_folder(folder, set, asked, horizon_seconds)? {
            found.get_or_insert_default().extend(peers);
        }
    }
    Ok(found)
}

/// The peers that are installed in `folder`, which `scripts/setup.sh` makes for the `set`.
fn of_folder(
    folder: &str,
    set: &str,
    asked: &[Asked<'_>],
    horizon_seconds: &[i64],
) -> anyhow::Result<Option<BTreeMap<String, Peer>>> {
    let root = workspace_root();
    let python = root.join(folder).join("bin/python");
    let script = root.join("bench/peers_python.py");
    if !python.exists() {
        table::line(&format!("SKIPPED: the peers of {folder} are not installed; run scripts/setup.sh {set}"));
        return Ok(None);
    }
    let (question, answer) = (root.join("target/bench/peers-request.jsonl"), root.join("target/bench/peers.csv"));
    std::fs::write(&question, request(asked, horizon_seconds))?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string();
    let arguments = [OsStr::new("--request"), question.as_os_str(), OsStr::new("--jobs"), OsStr::new(&jobs)];
    let status = Command::new(&python)
        .arg(&script)
        .args(arguments)
        .stdout(Stdio::from(File::create(&answer)?))
        .stderr(Stdio::inherit())
        .status()?;
    anyhow::ensure!(status.success(), "{} failed: {status}", script.display());
    read(&std::fs::read_to_string(&answer)?).with_context(|| format!("in {}", answer.display())).map(Some)
}

/// A peer beside ours, over some series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison {
    /// Name of the peer's model.
    pub(crate) model: String,
    /// Series with a target that both forecast.
    pub(crate) series: usize,
    /// Targets that ours forecast and the peer did not.
    pub(crate) failed: usize,
    /// Horizons up to 15 minutes.
    pub(crate) short: Errors,
    /// Longer horizons.
    pub(crate) long: Errors,
    /// Seconds of processor time of fit and forecast, one per origin.
    pub(crate) cpu_seconds: Vec<f64>,
}

/// Errors over some horizons.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Errors {
    /// Our mean absolute error as a share of the peer's, one per series.
    pub(crate) mae: Ratios,
    /// The same of the weighted quantile loss over [`QUANTILES`]; 0 where an interval of the peer is infinite.
    pub(crate) wql: Ratios,
    /// Of the peer's 80, 90 and 95 % intervals.
    pub(crate) coverage: [Coverage; 3],
}

/// Ratios of an error of ours to a peer's, one per series; below 1 ours is better. Not a number where both made none.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Ratios(Vec<f64>);

impl Ratios {
    /// Returns the geometric mean of those that are positive and finite; NaN without any.
    pub(crate) fn geometric_mean(&self) -> f64 {
        let logs: Vec<f64> = self.0.iter().filter(|r| r.is_finite() && **r > 0.0).map(|r| r.ln()).collect();
        (logs.iter().sum::<f64>() / logs.len() as f64).exp()
    }

    /// Returns the quartiles, the median in the middle; NaN without any ratio. A few series on which one of both is almost
    /// exact move the geometric mean far, but not these.
    pub(crate) fn quartiles(&self) -> [f64; 3] {
        let mut sorted: Vec<f64> = self.0.iter().copied().filter(|ratio| !ratio.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get((share * sorted.len() as f64) as usize).copied().unwrap_or(f64::NAN);
        [at(0.25), at(0.5), at(0.75)]
    }

    /// Returns in how many series ours is better.
    pub(crate) fn wins(&self) -> usize {
        self.0.iter().filter(|ratio| **ratio < 1.0).count()
    }

    fn cells(&self) -> [String; 2] {
        let [first, median, third] = self.quartiles();
        [
            format!("{:.3} ({first:.2} {median:.2} {third:.2})", self.geometric_mean()),
            format!("{} of {}", self.wins(), self.0.len()),
        ]
    }
}

/// Ours and a peer's sums over one series and some horizons.
#[derive(Default)]
struct Sums {
    ours: Score,
    peer: Score,
    unbounded: bool,
}

/// Compares ours with each peer on the targets of the series that `keep` accepts by name, where both have a forecast and the
/// truth is known.
pub(crate) fn compare(
    ours: &Forecasts,
    peers: &BTreeMap<String, Peer>,
    actual: &BTreeMap<Target, f64>,
    keep: impl Fn(&str) -> bool,
) -> Vec<Comparison> {
    let known: Vec<(&Target, &[f64; QUANTILES.len()], f64)> = ours
        .iter()
        .filter(|(target, values)| keep(&target.series) && values.iter().all(|value| value.is_finite()))
        .filter_map(|(target, values)| Some((target, values, *actual.get(target).filter(|a| a.is_finite())?)))
        .collect();
    peers.iter().map(|(model, peer)| compare_one(model, peer, &known)).collect()
}

fn compare_one(model: &str, peer: &Peer, known: &[(&Target, &[f64; QUANTILES.len()], f64)]) -> Comparison {
    let mut by_series: BTreeMap<&str, [Sums; 2]> = BTreeMap::new();
    let mut cpu_seconds: BTreeMap<(String, i64), f64> = BTreeMap::new();
    let (mut failed, mut errors) = (0, [Errors::default(), Errors::default()]);
    for (target, ours, actual) in known {
        let Some(theirs) = peer.forecasts.get(*target) else {
            failed += 1;
            continue;
        };
        let range = usize::from(target.horizon_seconds > SHORT_SECONDS);
        let sums = &mut by_series.entry(&target.series).or_default()[range];
        sums.ours.add(*actual, ours[POINT], QUANTILES.into_iter().zip(ours.iter().copied()));
        sums.peer.add(*actual, theirs[POINT], QUANTILES.into_iter().zip(theirs.iter().copied()));
        sums.unbounded |= theirs.iter().any(|value| !value.is_finite());
        for (coverage, (lower, upper)) in errors[range].coverage.iter_mut().zip(INTERVALS) {
            coverage.add(*actual, theirs[lower], theirs[upper]);
        }
        let fit = (target.series.clone(), target.origin);
        if let Some(seconds) = peer.cpu_seconds.get(&fit) {
            cpu_seconds.insert(fit, *seconds);
        }
    }
    for sums in by_series.values() {
        for (errors, sums) in errors.iter_mut().zip(sums) {
            if sums.ours.count() == 0 {
                continue;
            }
            let (ours, peer) = (sums.ours.accuracy(None), sums.peer.accuracy(None));
            errors.mae.0.push(ours.mae / peer.mae);
            errors.wql.0.push(if sums.unbounded { 0.0 } else { ours.wql / peer.wql });
        }
    }
    let series = by_series.len();
    let [short, long] = errors;
    Comparison {
        model: model.to_owned(),
        series,
        failed,
        short,
        long,
        cpu_seconds: cpu_seconds.into_values().collect(),
    }
}

/// Returns the rows of a table: ours beside each peer, geometric means over series with the quartiles in brackets.
pub(crate) fn rows(comparisons: &[Comparison]) -> Vec<Vec<String>> {
    let heading = [
        "peer",
        "series",
        "failed",
        "MAE ratio to 15 min",
        "better in",
        "WQL ratio",
        "better in",
        "80/90/95",
        "MAE ratio at 30, 60 min",
        "better in",
        "WQL ratio",
        "better in",
        "80/90/95",
        "CPU per fit",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for comparison in comparisons {
        let (middle, ..) = table::spread(&comparison.cpu_seconds);
        let mut row = vec![comparison.model.clone(), comparison.series.to_string(), comparison.failed.to_string()];
        for errors in [&comparison.short, &comparison.long] {
            row.extend(errors.mae.cells());
            row.extend(errors.wql.cells());
            row.push(errors.coverage.map(percent).join(" "));
        }
        row.push(format!("{middle:.2} s"));
        rows.push(row);
    }
    rows
}

fn percent(coverage: Coverage) -> String {
    coverage.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{:.1}", 100.0 * ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(series: &str, horizon_seconds: i64) -> Target {
        Target { series: series.to_owned(), origin: 1000, horizon_seconds }
    }

    /// The answer's lines of one forecast, `width` to both sides of the point for each quantile beyond it.
    fn lines(series: &str, horizon: i64, model: &str, point: f64, width: f64) -> String {
        let value = |place: usize| point + (place as f64 - POINT as f64) * width;
        QUANTILES
            .iter()
            .enumerate()
            .map(|(place, quantile)| format!("{series},1000,{horizon},{model},{quantile},{},0.25\n", value(place)))
            .collect()
    }

    #[test]
    fn asks_with_times_on_the_grid() {
        let series = Series::new(600, 60, vec![1.0; 100]).unwrap();
        let asked = Asked { name: "a/b", csv: Path::new("/t/a/b.csv"), series: &series, origins: &[50, 60] };
        let text = request(&[asked], &[300, 900]);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = json!({
            "series": "a/b", "csv": "/t/a/b.csv", "start": 600, "step_seconds": 60,
            "origins": [3600, 4200], "horizon_seconds": [300, 900],
        });
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn reads_the_answer() {
        let text = format!("{HEADER}\n{}", lines("a/b", 300, "mstl", 10.0, 1.0)).replace(",0.025,7,", ",0.025,-inf,");
        let peers = read(&text).unwrap();
        assert_eq!(peers.keys().collect::<Vec<_>>(), ["mstl"]);
        let peer = &peers["mstl"];
        assert_eq!(peer.forecasts[&target("a/b", 300)], [f64::NEG_INFINITY, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0]);
        assert_eq!(peer.cpu_seconds[&("a/b".to_owned(), 1000)], 0.25);
        assert!(read(HEADER).unwrap().is_empty());
    }

    #[test]
    fn refuses_another_form() {
        let whole = format!("{HEADER}\n{}", lines("a/b", 300, "mstl", 10.0, 1.0));
        assert!(read("").is_err());
        assert!(read(&whole.replace("cpu_seconds", "seconds")).is_err());
        assert!(read(&whole.replace(",0.025,", ",0.03,")).unwrap_err().to_string().contains("0.03"));
        assert!(read(&whole.replace(",0.25\n", "\n")).is_err());
        assert!(read(&whole.replace(",10,", ",ten,")).is_err());
        let lacking: String = whole.lines().filter(|l| !l.contains(",0.5,")).map(|l| format!("{l}\n")).collect();
        assert!(read(&lacking).unwrap_err().to_string().contains("lacks a quantile"));
    }

    #[test]
    fn compares_on_the_targets_of_both() {
        let mut text = format!("{HEADER}\n");
        // The truth is 12: ours is 1 off in both series, the peer 2 in a/x and 0.5 in a/y; it fails at an hour of a/y.
        text += &lines("a/x", 300, "peer", 10.0, 1.5);
        text += &lines("a/x", 3600, "peer", 16.0, 1.0);
        text += &lines("a/y", 300, "peer", 12.5, 1.0);
        let peers = read(&text).unwrap();
        let ours: Forecasts = [("a/x", 300), ("a/x", 3600), ("a/y", 300), ("a/y", 3600), ("b/z", 300)]
            .into_iter()
            .map(|(series, horizon)| (target(series, horizon), [8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0]))
            .collect();
        let actual: BTreeMap<Target, f64> = ours.keys().map(|target| (target.clone(), 12.0)).collect();
        let compared = compare(&ours, &peers, &actual, |name| name.starts_with("a/"));
        assert_eq!(compared.len(), 1);
        let peer = &compared[0];
        assert_eq!((peer.model.as_str(), peer.series, peer.failed), ("peer", 2, 1));
        assert_eq!(peer.short.mae.0, [0.5, 2.0]);
        assert!((peer.short.mae.geometric_mean() - 1.0).abs() < 1e-12);
        assert_eq!((peer.short.mae.wins(), peer.short.mae.quartiles()), (1, [0.5, 2.0, 2.0]));
        assert_eq!(peer.long.mae.0, [0.25]);
        // 12 is outside 10 ± 1.5 and inside 10 ± 3; inside 12.5 ± 1; 16 ± 3 misses it.
        assert_eq!(peer.short.coverage, [(1, 2), (2, 2), (2, 2)].map(|(inside, count)| Coverage { inside, count }));
        assert_eq!(peer.long.coverage, [Coverage { inside: 0, count: 1 }; 3]);
        assert_eq!(peer.cpu_seconds, [0.25, 0.25]);
        let rows = rows(&compared);
        assert_eq!(rows[1][..5], ["peer", "2", "1", "1.000 (0.50 2.00 2.00)", "1 of 2"]);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()));
    }

    #[test]
    fn an_infinite_interval_is_a_win_outside_the_mean() {
        let text = format!("{HEADER}\n{}", lines("a/x", 300, "peer", 12.0, 1.0)).replace(",0.975,15,", ",0.975,inf,");
        let ours = Forecasts::from([(target("a/x", 300), [8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0])]);
        let actual = BTreeMap::from([(target("a/x", 300), 12.0)]);
        let compared = compare(&ours, &read(&text).unwrap(), &actual, |_| true);
        let wql = &compared[0].short.wql;
        assert_eq!((wql.wins(), wql.geometric_mean().is_nan()), (1, true));
        assert_eq!(compared[0].short.coverage[2], Coverage { inside: 1, count: 1 });
    }
}
