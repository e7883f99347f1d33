//! The forecast on traces beside the baselines that it must beat: error, quantile loss, coverage, rolling origin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cloudpulse_forecast::ensemble::{AtHorizon, Bounds, Ensemble, Forecast, Request};
use cloudpulse_forecast::evaluation::{Coverage, Score, peak, rolling_origins};
use cloudpulse_forecast::model::median::two_hour_quantiles;
use cloudpulse_forecast::series::{Series, steps};
use rayon::prelude::*;

use crate::bursty::is_bursty;
use crate::network::Network;
use crate::peers::{self, Asked, Target};
use crate::table;

pub(crate) mod cold;
pub(crate) mod mixing;

/// Minutes ahead.
const MINUTES: [i64; 5] = [5, 10, 15, 30, 60];
/// The first of these horizons make the headline figures.
const SHORT: usize = 3;
/// Place of an hour among them.
const HOUR: usize = MINUTES.len() - 1;
const QUANTILES: [f64; 11] = [0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.975];
/// Intervals by place in [`QUANTILES`].
const INTERVALS: [(usize, usize); 3] = [(2, 8), (1, 9), (0, 10)];
const PEAK_QUANTILES: [f64; 3] = [0.9, 0.95, 0.99];
/// Peak horizon in minutes: a start of two minutes and one sample, as scaling is measured.
const PEAK_MINUTES: i64 = 5;
const LONGEST_HISTORY_SECONDS: i64 = 28 * 86_400;
const LEAST_SAMPLES: usize = 1200;
const LONGEST_STEP: i64 = 300;

/// Sums of one series.
struct Measured {
    set: String,
    name: String,
    group: &'static str,
    /// Whether it was bursty at most of the origins.
    bursty: bool,
    /// By horizon.
    horizons: Vec<Sums>,
    peak: [Coverage; 3],
    few: Few,
}

/// Forecasts at the few origins at which the peers are fitted too, and what came true.
#[derive(Default)]
struct Few {
    path: PathBuf,
    series: Option<Series>,
    origins: Vec<usize>,
    forecasts: peers::Forecasts,
    actual: BTreeMap<Target, f64>,
}

#[derive(Default)]
struct Sums {
    forecast: Score,
    persistence: Score,
    seasonal: Score,
    two_hours: Score,
    coverage: [Coverage; 3],
    /// By origin.
    points: BTreeMap<usize, Point>,
}

/// One forecast and what came true.
#[derive(Clone, Copy)]
struct Point {
    actual: f64,
    said: f64,
    /// What the network alone says; NaN without one.
    network: f64,
}

/// Columns of [`row`].
const HEADING: [&str; 13] = [
    "series",
    "n",
    "/persistence",
    "/seasonal",
    "/2 h median",
    "WQL/2 h q.",
    "60 min: /pers.",
    "/seasonal",
    "80/90/95 to 15 min",
    "at 60 min",
    "peak 90/95/99",
    "worst /better naive",
    "bar",
];

/// Groups of series with the error, as a share of persistence, that the pool is meant to reach at 5 to 15 minutes.
const GROUPS: [(&str, f64); 4] =
    [("NAB, real", 0.69), ("5 min, other", 0.66), ("1 min", 0.65), ("15 s and 30 s", 0.76)];

/// Runs the evaluation and prints it; a folder that is not there is said.
///
/// # Errors
/// When the folder or the network cannot be read.
pub(crate) fn run(traces: &Path, origins: usize, network: &Network, with_peers: bool) -> anyhow::Result<()> {
    table::line(&format!(
        "\nAccuracy at 5, 10, 15, 30 and 60 minutes, {origins} origins over the second half of each series"
    ));
    if !traces.is_dir() {
        table::line(&format!("SKIPPED: {} is not there; name a folder with --traces", traces.display()));
        return Ok(());
    }
    let ensemble = network.ensemble()?;
    let mut files = files(traces)?;
    files.sort();
    let measured: Vec<Measured> = files.par_iter().filter_map(|path| measure(&ensemble, path, origins, None)).collect();
    let skipped = files.len() - measured.len();
    table::line(&format!(
        "  {} series; {skipped} left out (artificial, step above 5 min, or fewer than {LEAST_SAMPLES} samples)",
        measured.len()
    ));
    let mut by_group: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
    let mut by_set: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
    for series in &measured {
        by_group.entry(series.group).or_default().push(series);
        by_set.entry(&series.set).or_default().push(series);
    }
    table::line(
        "\n  MAE at 5 to 15 min and at 60 min as a share of each baseline's, geometric mean over series; coverage in %:",
    );
    let mut rows = vec![HEADING.map(str::to_owned).to_vec()];
    for (set, series) in &by_set {
        rows.push(row(set, series, None));
    }
    for (group, bar) in GROUPS {
        if let Some(series) = by_group.get(group) {
            rows.push(row(&format!("= {group}"), series, Some(bar)));
        }
    }
    let (bursty, regular): (Vec<&Measured>, Vec<&Measured>) = measured.iter().partition(|series| series.bursty);
    rows.push(row("= bursty", &bursty, None));
    rows.push(row("= regular", &regular, None));
    rows.push(row("= all", &measured.iter().collect::<Vec<_>>(), None));
    table::print(&rows);
    table::line("\n  All series, horizon by horizon:");
    table::print(&by_horizon(&measured));
    let mut losing: Vec<(f64, String)> = measured
        .iter()
        .map(|series| (against_better(series), format!("{}/{}", series.set, series.name)))
        .filter(|(ratio, _)| *ratio > 1.05)
        .collect();
    losing.sort_by(|a, b| b.0.total_cmp(&a.0));
    table::line(&format!("\n  {} series lose to the better naive by more than 5 % at 5 to 15 min:", losing.len()));
    for (ratio, name) in losing {
        table::line(&format!("    {ratio:.2} {name}"));
    }
    if with_peers { beside_peers(&measured) } else { Ok(()) }
}

/// The same beside Prophet and statsforecast's models.
fn beside_peers(measured: &[Measured]) -> anyhow::Result<()> {
    let names: Vec<String> = measured.iter().map(|series| format!("{}/{}", series.set, series.name)).collect();
    let asked: Vec<Asked<'_>> = measured
        .iter()
        .zip(&names)
        .filter_map(|(measured, name)| {
            let Few { path, series, origins, .. } = &measured.few;
            Some(Asked { name, csv: path, series: series.as_ref()?, origins })
        })
        .collect();
    let horizons: Vec<i64> = MINUTES.iter().map(|minutes| minutes * 60).collect();
    table::line(&format!(
        "\n  Beside peers, each fitted anew at {} origins of every series; ratios below 1 are better than the peer:",
        peers::ORIGINS
    ));
    let Some(found) = peers::forecasts(&asked, &horizons)? else { return Ok(()) };
    let (mut ours, mut actual) = (peers::Forecasts::new(), BTreeMap::new());
    for few in measured.iter().map(|series| &series.few) {
        ours.extend(few.forecasts.clone());
        actual.extend(few.actual.clone());
    }
    table::print(&peers::rows(&peers::compare(&ours, &found, &actual, |_| true)));
    let groups: BTreeMap<&str, &str> =
        names.iter().map(String::as_str).zip(measured.iter().map(|series| series.group)).collect();
    for (group, _) in GROUPS {
        table::line(&format!("\n  {group}:"));
        let keep = |name: &str| groups.get(name) == Some(&group);
        table::print(&peers::rows(&peers::compare(&ours, &found, &actual, keep)));
    }
    Ok(())
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "csv") {
            all.push(path);
        }
    }
    Ok(all)
}

fn load(path: &Path) -> Option<Series> {
    let text = std::fs::read_to_string(path).ok()?;
    let samples: Vec<(f64, f64)> = text
        .lines()
        .filter_map(|line| line.split_once(','))
        .filter_map(|(time, value)| Some((time.parse().ok()?, value.parse().ok()?)))
        .collect();
    let times: Vec<f64> = samples.iter().map(|(time, _)| *time).collect();
    let step = Series::infer_step(&times)?;
    let mut series = Series::from_samples(&samples, step).ok()?;
    series.trim((LONGEST_HISTORY_SECONDS / step) as usize);
    Some(series)
}

/// `model` is one of the models, to measure it alone.
fn measure(ensemble: &Ensemble, path: &Path, count: usize, model: Option<&str>) -> Option<Measured> {
    let name = path.file_stem()?.to_string_lossy().into_owned();
    let set = path.parent()?.file_name()?.to_string_lossy().into_owned();
    if name.starts_with("artificial") {
        return None;
    }
    let series = load(path)?;
    if series.step() > LONGEST_STEP || series.known() < LEAST_SAMPLES {
        return None;
    }
    let group = match series.step() {
        300 if set == "nab" => GROUPS[0].0,
        61.. => GROUPS[1].0,
        60 => GROUPS[2].0,
        _ => GROUPS[3].0,
    };
    let horizons: Vec<usize> = MINUTES.iter().map(|minutes| steps(minutes * 60, series.step())).collect();
    let rolling = |count: usize| rolling_origins(&series, series.len() / 2, horizons[horizons.len() - 1], count);
    let (many, few) = (rolling(count), rolling(peers::ORIGINS));
    let mut origins: Vec<usize> = many.iter().chain(&few).copied().collect();
    origins.sort_unstable();
    origins.dedup();
    let place = |model: &str| ensemble.names().iter().position(|name| *name == model);
    let model = model.and_then(place);
    let request = Request { horizons: &horizons, quantiles: &QUANTILES, bounds: Bounds::default(), model };
    let (persistence, seasonal, median) = (place("persistence")?, place("seasonal_naive_day")?, place("median_2h")?);
    let mut sums: Vec<Sums> = horizons.iter().map(|_| Sums::default()).collect();
    let mut covered = [Coverage::default(); 3];
    let window = steps(PEAK_MINUTES * 60, series.step());
    let forecasts = ensemble.replay(&series, &origins, &request, &[window], |origin, tracker| {
        if many.binary_search(&origin).is_err() {
            return;
        }
        if let (Some(Some(distribution)), Some(actual)) = (tracker.peaks().first(), peak(&series, origin, window)) {
            for (coverage, quantile) in covered.iter_mut().zip(PEAK_QUANTILES) {
                coverage.add(actual, f64::NEG_INFINITY, distribution.quantile(quantile));
            }
        }
    });
    let mut beside = Few { path: path.to_owned(), origins: few, ..Few::default() };
    for Forecast { origin, horizons } in forecasts {
        if beside.origins.binary_search(&origin).is_ok() {
            beside.add(&format!("{set}/{name}"), &series, origin, &horizons);
        }
        if many.binary_search(&origin).is_err() {
            continue;
        }
        let two_hours = two_hour_quantiles(&series, origin, &QUANTILES);
        for (entry, sums) in horizons.iter().zip(&mut sums) {
            // All are compared on the same targets: those that every baseline knows.
            let Some(actual) = series.get(origin + entry.horizon) else { continue };
            if !entry.models[seasonal].is_finite() || entry.quantiles.iter().any(|q| q.is_nan()) {
                continue;
            }
            let network = if entry.models.len() > ensemble.anchors().len() {
                entry.models[entry.models.len() - 1]
            } else {
                f64::NAN
            };
            sums.points.insert(origin, Point { actual, said: entry.point, network });
            let own = QUANTILES.iter().copied().zip(entry.quantiles.iter().copied());
            sums.forecast.add(actual, entry.point, own);
            sums.persistence.add(actual, entry.models[persistence], []);
            sums.seasonal.add(actual, entry.models[seasonal], []);
            let naive = QUANTILES.iter().copied().zip(two_hours.iter().copied());
            sums.two_hours.add(actual, entry.models[median], naive);
            for (coverage, (lower, upper)) in sums.coverage.iter_mut().zip(INTERVALS) {
                coverage.add(actual, entry.quantiles[lower], entry.quantiles[upper]);
            }
        }
    }
    let bursty = 2 * many.iter().filter(|origin| is_bursty(&series, **origin)).count() > many.len();
    beside.series = Some(series);
    (sums[0].forecast.count() > 0).then_some(Measured {
        set,
        name,
        group,
        bursty,
        horizons: sums,
        peak: covered,
        few: beside,
    })
}

impl Few {
    fn add(&mut self, name: &str, series: &Series, origin: usize, horizons: &[AtHorizon]) {
        for entry in horizons {
            let target = Target {
                series: name.to_owned(),
                origin: series.time(origin),
                horizon_seconds: entry.horizon as i64 * series.step(),
            };
            let value = |wanted: f64| {
                if wanted == 0.5 {
                    return entry.point;
                }
                QUANTILES.iter().position(|q| *q == wanted).map_or(f64::NAN, |place| entry.quantiles[place])
            };
            if let Some(actual) = series.get(origin + entry.horizon) {
                self.actual.insert(target.clone(), actual);
            }
            self.forecasts.insert(target, peers::QUANTILES.map(value));
        }
    }
}

fn row(name: &str, series: &[&Measured], bar: Option<f64>) -> Vec<String> {
    let short = |score: fn(&Sums) -> &Score| geometric(series, |s| ratio(&s.horizons[..SHORT], score));
    let long = |score: fn(&Sums) -> &Score| geometric(series, |s| ratio(&s.horizons[HOUR..], score));
    let wql = geometric(series, |s| {
        let total = |score: fn(&Sums) -> &Score| -> f64 {
            s.horizons[..SHORT].iter().map(|sums| score(sums).accuracy(None).wql).sum()
        };
        total(|s| &s.forecast) / total(|s| &s.two_hours)
    });
    let cover = |range: std::ops::Range<usize>| {
        let share = |interval: usize| {
            let all = series.iter().flat_map(|s| &s.horizons[range.clone()]).map(|sums| sums.coverage[interval]);
            percent(all)
        };
        format!("{} {} {}", share(0), share(1), share(2))
    };
    let peaks = |quantile: usize| percent(series.iter().map(|s| s.peak[quantile]));
    let persistence = short(|s| &s.persistence);
    let worst = series.iter().map(|s| against_better(s)).filter(|r| r.is_finite()).fold(0.0, f64::max);
    let verdict =
        bar.map_or_else(String::new, |bar| format!("{bar} {}", if persistence <= bar { "met" } else { "MISSED" }));
    vec![
        name.to_owned(),
        series.len().to_string(),
        format!("{persistence:.3}"),
        format!("{:.3}", short(|s| &s.seasonal)),
        format!("{:.3}", short(|s| &s.two_hours)),
        format!("{wql:.3}"),
        format!("{:.3}", long(|s| &s.persistence)),
        format!("{:.3}", long(|s| &s.seasonal)),
        cover(0..SHORT),
        cover(HOUR..MINUTES.len()),
        format!("{} {} {}", peaks(0), peaks(1), peaks(2)),
        format!("{worst:.2}"),
        verdict,
    ]
}

/// One row a horizon, over all series.
fn by_horizon(measured: &[Measured]) -> Vec<Vec<String>> {
    let all: Vec<&Measured> = measured.iter().collect();
    let mut rows =
        vec![["in", "/persistence", "/seasonal", "/2 h median", "WQL/2 h q.", "80/90/95"].map(str::to_owned).to_vec()];
    for (at, minutes) in MINUTES.iter().enumerate() {
        let share = |score: fn(&Sums) -> &Score| geometric(&all, |s| ratio(&s.horizons[at..=at], score));
        let wql = geometric(&all, |s| {
            s.horizons[at].forecast.accuracy(None).wql / s.horizons[at].two_hours.accuracy(None).wql
        });
        let cover = |interval: usize| percent(all.iter().map(|s| s.horizons[at].coverage[interval]));
        rows.push(vec![
            format!("{minutes} min"),
            format!("{:.3}", share(|s| &s.persistence)),
            format!("{:.3}", share(|s| &s.seasonal)),
            format!("{:.3}", share(|s| &s.two_hours)),
            format!("{wql:.3}"),
            format!("{} {} {}", cover(0), cover(1), cover(2)),
        ]);
    }
    rows
}

/// Sum of the errors over horizons as a share of the baseline's; NaN where the baseline makes none.
fn ratio(horizons: &[Sums], baseline: fn(&Sums) -> &Score) -> f64 {
    let total =
        |score: fn(&Sums) -> &Score| -> f64 { horizons.iter().map(|sums| score(sums).accuracy(None).mae).sum() };
    let base = total(baseline);
    if base > 0.0 { total(|sums| &sums.forecast) / base } else { f64::NAN }
}

fn against_better(series: &Measured) -> f64 {
    let short = &series.horizons[..SHORT];
    ratio(short, |sums| &sums.persistence).max(ratio(short, |sums| &sums.seasonal))
}

fn geometric(series: &[&Measured], value: impl Fn(&Measured) -> f64) -> f64 {
    geometric_mean(series.iter().map(|s| value(s)))
}

/// Geometric mean of the positive, finite values; NaN without any.
fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let logs: Vec<f64> = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::ln).collect();
    (logs.iter().sum::<f64>() / logs.len() as f64).exp()
}

fn percent(all: impl Iterator<Item = Coverage>) -> String {
    let sum = all.fold(Coverage::default(), |a, b| Coverage { inside: a.inside + b.inside, count: a.count + b.count });
    sum.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{:.1}", 100.0 * ratio))
}
