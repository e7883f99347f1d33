//! What the network brings on traces: the models without it, with it, it alone, and fine-tuned on the first half of each set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use cloudpulse_forecast::ensemble::{Ensemble, NETWORK};
use cloudpulse_lstm::engine::Engine;
use cloudpulse_lstm::member::Member;
use cloudpulse_lstm::tuning::{self, Past, Verdict};
use rayon::prelude::*;

use super::{GROUPS, HEADING, Measured, Point, SHORT, files, geometric_mean, load, measure, row};
use crate::network::Network;
use crate::table;

/// Seed of the fine-tunings.
const SEED: u64 = 1;
/// A network loses a series where the error with it is larger by more than this share.
const LOST: f64 = 0.05;

/// Runs the comparison for the bundled network and those in `others`, and prints it.
///
/// # Errors
/// When the traces or a network cannot be read.
pub(crate) fn run(traces: &Path, origins: usize, others: &[PathBuf]) -> anyhow::Result<()> {
    table::line(&format!("\nThe network on traces, {origins} origins over the second half of each series"));
    if !traces.is_dir() {
        table::line(&format!("SKIPPED: {} is not there; name a folder with --traces", traces.display()));
        return Ok(());
    }
    let mut paths = files(traces)?;
    paths.sort();
    let networks = [Network::Bundled].into_iter().chain(others.iter().cloned().map(Network::File));
    let models = Ensemble::default();
    let pool = measured(&paths, origins, None, |_| models.clone());
    let mut rows = vec![HEADING.map(str::to_owned).to_vec()];
    let mut bases = vec![BASES.map(str::to_owned).to_vec()];
    add(&mut rows, "without", &pool);
    for network in networks {
        let name = match &network {
            Network::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            _ => "bundled".to_owned(),
        };
        let ensemble = network.ensemble()?;
        let with = measured(&paths, origins, None, |_| ensemble.clone());
        add(&mut rows, &format!("with {name}"), &with);
        let alone = measured(&paths, origins, Some(NETWORK), |_| ensemble.clone());
        add(&mut rows, &format!("{name} alone"), &alone);
        let tuned = fine_tuned(&network, &paths)?;
        let kept = tuned.values().filter(|(_, kept)| *kept).count();
        let fine = measured(&paths, origins, None, |path| {
            set(path).and_then(|set| Some(tuned.get(&set)?.0.clone())).unwrap_or_else(|| ensemble.clone())
        });
        add(&mut rows, &format!("with {name} fine-tuned"), &fine);
        table::line(&format!("  {name}: fine-tuning kept on {kept} of {} sets", tuned.len()));
        bases.extend(compare(&name, &pool, &with));
        bases.extend(compare(&format!("{name} fine-tuned"), &pool, &fine));
    }
    table::print(&rows);
    table::line(
        "\n  What to serve: error at 5 to 15 min as a share of that of the models without the network, geometric mean over series; \
         series that gain and lose more than 5 %, and the worst:",
    );
    table::print(&bases);
    Ok(())
}

/// One row for each group, and one for all.
fn add(rows: &mut Vec<Vec<String>>, name: &str, measured: &[Measured]) {
    for (group, _) in GROUPS {
        let own: Vec<&Measured> = measured.iter().filter(|series| series.group == group).collect();
        rows.push(row(&format!("{name}: {group}"), &own, None));
    }
    rows.push(row(&format!("= {name}"), &measured.iter().collect::<Vec<_>>(), None));
}

/// Makes one forecast of those of the models (c), of the network (n), and of what is served (s).
type Way = fn(c: f64, n: f64, s: f64) -> f64;

/// By name.
const WAYS: [(&str, Way); 3] =
    [("as served", |_, _, s| s), ("mean of both", |c, n, _| 0.5 * (c + n)), ("the network alone", |_, n, _| n)];

/// Columns of [`compare`].
const BASES: [&str; 7] = ["network", "way", "series", "error", "gain", "lose", "the worst"];

/// One row for each of [`WAYS`]: what the error becomes, on targets of which both say something.
fn compare(name: &str, pool: &[Measured], with: &[Measured]) -> Vec<Vec<String>> {
    let row = |(way, mix): (&str, Way)| {
        let mut ratios: Vec<(f64, String)> = pool
            .iter()
            .filter_map(|before| {
                let after = with.iter().find(|after| after.set == before.set && after.name == before.name)?;
                let ratio = ratio(before, after, mix);
                ratio.is_finite().then(|| (ratio, format!("{:.2} {}/{}", ratio, before.set, before.name)))
            })
            .collect();
        ratios.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mean = geometric_mean(ratios.iter().map(|(ratio, _)| *ratio));
        let count = |which: fn(f64) -> bool| ratios.iter().filter(|(ratio, _)| which(*ratio)).count().to_string();
        let worst: Vec<&str> = ratios.iter().take(3).map(|(_, text)| text.as_str()).collect();
        vec![
            name.to_owned(),
            way.to_owned(),
            ratios.len().to_string(),
            format!("{mean:.3}"),
            count(|ratio| ratio < 1.0 - LOST),
            count(|ratio| ratio > 1.0 + LOST),
            worst.join(", "),
        ]
    };
    WAYS.into_iter().map(row).collect()
}

/// Error of the mixture at 5 to 15 minutes as a share of that of the models without the network.
fn ratio(before: &Measured, after: &Measured, mix: Way) -> f64 {
    let (mut own, mut other) = (0.0, 0.0);
    for (before, after) in before.horizons[..SHORT].iter().zip(&after.horizons) {
        let (mut sums, mut count) = ([0.0; 2], 0.0);
        for (origin, Point { actual, said, .. }) in &before.points {
            let Some(with) = after.points.get(origin).filter(|with| with.network.is_finite()) else { continue };
            sums[0] += (said - actual).abs();
            sums[1] += (mix(*said, with.network, with.said) - actual).abs();
            count += 1.0;
        }
        own += sums[0] / count;
        other += sums[1] / count;
    }
    other / own
}

fn measured(
    paths: &[PathBuf],
    origins: usize,
    model: Option<&str>,
    ensemble: impl Fn(&Path) -> Ensemble + Sync,
) -> Vec<Measured> {
    paths.par_iter().filter_map(|path| measure(&ensemble(path), path, origins, model)).collect()
}

fn set(path: &Path) -> Option<String> {
    Some(path.parent()?.file_name()?.to_string_lossy().into_owned())
}

/// The models with the network as fine-tuned on the first halves of all series of a set, and whether that was kept: what serving
/// does for the series of one forecast.
fn fine_tuned(network: &Network, paths: &[PathBuf]) -> anyhow::Result<BTreeMap<String, (Ensemble, bool)>> {
    let models = Ensemble::default();
    let bytes = network.bytes()?;
    let start = Member::load(&models, &bytes)?.weights();
    let mut pasts: BTreeMap<(String, i64), Vec<Past>> = BTreeMap::new();
    for path in paths {
        let (Some(set), Some(series)) = (set(path), load(path)) else { continue };
        let past = Past { series: series.cut(series.len() / 2), first: 0 };
        pasts.entry((set, series.step())).or_default().push(past);
    }
    let mut tuned = BTreeMap::new();
    for ((set, _), pasts) in pasts {
        let found = tuning::tune(&models, &pasts, [&start, &start], SEED, Engine::default(), || false);
        let (weights, kept) = match found {
            Ok(found) if found.verdict() == Verdict::Tuned => (found.weights, true),
            Ok(_) | Err(tuning::TuningError::TooLittle { .. }) => ((*start).clone(), false),
            Err(error) => return Err(error).context("fine-tuning"),
        };
        tuned.insert(set, (models.with_network(Arc::new(Member::new(weights))), kept));
    }
    Ok(tuned)
}
