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

use super::{GROUPS, HEADING, Measured, SHORT, files, load, measure, row};
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
        for (what, measured) in [("with it", &with), ("fine-tuned", &fine)] {
            compare(&name, what, &pool, measured);
        }
    }
    table::print(&rows);
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

/// Says on which series the error with the network is larger or smaller by more than [`LOST`].
fn compare(name: &str, what: &str, pool: &[Measured], with: &[Measured]) {
    let error = |series: &Measured| -> f64 {
        series.horizons[..SHORT].iter().map(|sums| sums.forecast.accuracy(None).mae).sum()
    };
    let mut ratios: Vec<(f64, String)> = pool
        .iter()
        .filter_map(|before| {
            let after = with.iter().find(|after| after.set == before.set && after.name == before.name)?;
            let ratio = error(after) / error(before);
            ratio.is_finite().then(|| (ratio, format!("{}/{}", before.set, before.name)))
        })
        .collect();
    ratios.sort_by(|a, b| b.0.total_cmp(&a.0));
    let lost = ratios.iter().filter(|(ratio, _)| *ratio > 1.0 + LOST).count();
    let won = ratios.iter().filter(|(ratio, _)| *ratio < 1.0 - LOST).count();
    table::line(&format!(
        "  {name}, {what}: of {} series {won} gain more than 5 %, {lost} lose more than 5 %",
        ratios.len()
    ));
    for (ratio, series) in ratios.iter().take(lost) {
        table::line(&format!("    {ratio:.2} {series}"));
    }
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
