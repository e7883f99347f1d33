//! What is forecast of a series that has only just begun: the traces, cut to so much history before each origin.

use std::path::Path;

use cloudpulse_forecast::ensemble::{Bounds, Ensemble, Request};
use cloudpulse_forecast::evaluation::{Coverage, Score, rolling_origins};
use cloudpulse_forecast::model::median::two_hour_quantiles;
use cloudpulse_forecast::series::{Series, steps};
use rayon::prelude::*;

use super::{LONGEST_STEP, QUANTILES, files, geometric_mean, load, percent};
use crate::network::Network;
use crate::table;

/// How much is known at the origin.
const HISTORIES: [(&str, i64); 6] =
    [("20 min", 1200), ("1 h", 3600), ("6 h", 21_600), ("1 day", 86_400), ("3 days", 259_200), ("7 days", 604_800)];
const MINUTES: [i64; 2] = [15, 60];
/// Origins in each series: a model starts anew at each.
const ORIGINS: usize = 8;
/// The 80 % interval by place in [`QUANTILES`].
const INTERVAL: (usize, usize) = (2, 8);

/// Sums of one series, history and horizon.
#[derive(Clone, Default)]
struct Sums {
    forecast: Score,
    persistence: Score,
    two_hours: Score,
    covered: Coverage,
    /// Forecasts without an interval.
    bare: usize,
}

/// Runs the comparison without and with `network`, and prints it.
///
/// # Errors
/// When the traces or the network cannot be read.
pub(crate) fn run(traces: &Path, network: &Network) -> anyhow::Result<()> {
    table::line(&format!("\nA cold start: forecasts from little history, {ORIGINS} origins in each series"));
    if !traces.is_dir() {
        table::line(&format!("SKIPPED: {} is not there; name a folder with --traces", traces.display()));
        return Ok(());
    }
    let mut paths = files(traces)?;
    paths.sort();
    let longest = HISTORIES[HISTORIES.len() - 1].1;
    let all: Vec<Series> = paths
        .par_iter()
        .filter(|path| !path.file_stem().is_some_and(|name| name.to_string_lossy().starts_with("artificial")))
        .filter_map(|path| load(path))
        .filter(|series| series.step() <= LONGEST_STEP && series.len() > series.steps(longest) + series.steps(86_400))
        .collect();
    table::line(&format!(
        "  {} series of at least 8 days; error as a share of persistence's and quantile loss as a share of that of the last two \
         hours' quantiles, geometric means; 80 % intervals, and forecasts that had one:",
        all.len()
    ));
    let heading = ["history", "models", "15 min", "WQL", "80", "had one", "60 min", "WQL", "80", "had one"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let (pool, mixed) = (Ensemble::default(), network.ensemble()?);
    for (name, seconds) in HISTORIES {
        for (which, ensemble) in [("without network", &pool), ("with network", &mixed)] {
            let sums: Vec<[Sums; MINUTES.len()]> =
                all.par_iter().map(|series| measure(ensemble, series, seconds)).collect();
            let mut row = vec![name.to_owned(), which.to_owned()];
            for place in 0..MINUTES.len() {
                row.extend(cells(sums.iter().map(|sums| &sums[place])));
            }
            rows.push(row);
        }
    }
    table::print(&rows);
    Ok(())
}

fn measure(ensemble: &Ensemble, series: &Series, seconds: i64) -> [Sums; MINUTES.len()] {
    let horizons = MINUTES.map(|minutes| steps(minutes * 60, series.step()));
    let longest = series.steps(HISTORIES[HISTORIES.len() - 1].1);
    let request = Request { horizons: &horizons, quantiles: &QUANTILES, bounds: Bounds::default(), model: None };
    let mut sums: [Sums; MINUTES.len()] = std::array::from_fn(|_| Sums::default());
    for origin in rolling_origins(series, longest, horizons[horizons.len() - 1], ORIGINS) {
        let mut known = series.cut(origin);
        known.trim(series.steps(seconds));
        let forecasts = ensemble.forecast(&known, &[known.len() - 1], &request);
        let two_hours = two_hour_quantiles(&known, known.len() - 1, &QUANTILES);
        for (entry, sums) in forecasts.iter().flat_map(|forecast| &forecast.horizons).zip(&mut sums) {
            let (Some(actual), true) = (series.get(origin + entry.horizon), entry.point.is_finite()) else { continue };
            let Some(last) = known.get(known.len() - 1) else { continue };
            sums.persistence.add(actual, last, []);
            if entry.quantiles.iter().all(|quantile| quantile.is_finite()) {
                let own = QUANTILES.iter().copied().zip(entry.quantiles.iter().copied());
                sums.forecast.add(actual, entry.point, own);
                sums.covered.add(actual, entry.quantiles[INTERVAL.0], entry.quantiles[INTERVAL.1]);
                let naive = QUANTILES.iter().copied().zip(two_hours.iter().copied());
                sums.two_hours.add(actual, two_hours[QUANTILES.len() / 2], naive);
            } else {
                sums.forecast.add(actual, entry.point, []);
                sums.bare += 1;
            }
        }
    }
    sums
}

/// Error, quantile loss, coverage, and the share of forecasts with an interval.
fn cells<'s>(sums: impl Iterator<Item = &'s Sums> + Clone) -> [String; 4] {
    let mae = |score: &Score| score.accuracy(None).mae;
    let error = geometric_mean(sums.clone().map(|sums| mae(&sums.forecast) / mae(&sums.persistence)));
    let loss = geometric_mean(
        sums.clone()
            .filter(|sums| sums.bare == 0)
            .map(|sums| sums.forecast.accuracy(None).wql / sums.two_hours.accuracy(None).wql),
    );
    let count: usize = sums.clone().map(|sums| sums.forecast.count()).sum();
    let bare: usize = sums.clone().map(|sums| sums.bare).sum();
    [
        format!("{error:.3}"),
        if loss.is_finite() { format!("{loss:.3}") } else { "-".to_owned() },
        percent(sums.map(|sums| sums.covered)),
        format!("{:.0} %", 100.0 * (count - bare) as f64 / count as f64),
    ]
}
