//! Recall of labelled events, beside that of other detectors at equal false alarms.

use std::fmt::Write as _;

use rayon::prelude::*;

use super::labelled::Tally;
use super::{FIXED, METHODS, NAB_OPTIMUM, PAGING, Scored, Set, alarms, resample, verdict};
use crate::table;

/// Bars: points of recall above either peer at equal false alarms; recall at a number of false alarms per series and day.
const LEAST_LEAD: f64 = 0.08;
const LEAST_RECALL: (f64, f64) = (0.40, 0.15);

/// Prints recall and false alarms of all sets.
pub(super) fn run(sets: &[Set]) {
    table::line(&format!(
        "\n  Recall of labelled events at a threshold of {FIXED}, and of the others at the threshold that gives as many false \
         alarms:"
    ));
    let mut heading = vec!["set".to_owned(), "series".to_owned(), "events".to_owned(), "false/series-day".to_owned()];
    heading.extend(METHODS.iter().map(|method| method.name.to_owned()));
    let mut rows = vec![heading];
    let everything: Vec<&Scored> = sets.iter().flat_map(|set| &set.series).collect();
    let groups = sets.iter().map(|set| (set.name.as_str(), set.series.iter().collect()));
    for (name, series) in groups.chain([("= all", everything.clone())]) {
        let found: [Vec<Tally>; METHODS.len()] = matched(&series);
        let totals = found.each_ref().map(|tallies| total(tallies));
        let mut row = vec![
            name.to_owned(),
            series.len().to_string(),
            totals[0].events.to_string(),
            format!("{:.3}", totals[0].false_per_day()),
        ];
        row.extend(totals.iter().enumerate().map(|(method, tally)| {
            let mut cell = format!("{:.0} %", 100.0 * tally.recall());
            if method > 0 {
                let _ = write!(cell, " at {:.3}", tally.false_per_day());
            }
            cell
        }));
        rows.push(row);
        if name == "= all" {
            table::print(&rows);
            leads(&found);
        }
    }
    let points = [NAB_OPTIMUM, FIXED, PAGING].map(|threshold| {
        let there = total(&tallies(&everything, 0, threshold));
        format!("at {threshold:.3}: {:.0} % and {:.3}", 100.0 * there.recall(), there.false_per_day())
    });
    table::line(&format!("  operating points, recall and false alarms per series-day: {}", points.join("; ")));
    let (least, most_false) = LEAST_RECALL;
    let threshold = equal_false_alarms(&everything, 0, most_false);
    let there = total(&tallies(&everything, 0, threshold));
    table::line(&format!(
        "  bar: recall of {:.0} % or more at {most_false} false alarms: {:.0} % (threshold {threshold:.2}): {}",
        100.0 * least,
        100.0 * there.recall(),
        verdict(there.recall() >= least)
    ));
    let curve: Vec<String> = [0.25, 0.1, 0.05]
        .iter()
        .map(|most_false| {
            let at = METHODS.iter().enumerate().map(|(method, _)| {
                let threshold = equal_false_alarms(&everything, method, *most_false);
                format!("{:.0}", 100.0 * total(&tallies(&everything, method, threshold)).recall())
            });
            format!("at {most_false}: {}", at.collect::<Vec<_>>().join(" / "))
        })
        .collect();
    table::line(&format!(
        "  recall in %, in the order of the columns, at other numbers of false alarms: {}",
        curve.join("; ")
    ));
}

/// Prints by how much our recall is above each peer's, with a bootstrap over series.
fn leads(found: &[Vec<Tally>; METHODS.len()]) {
    let of = |method: usize, chosen: &[usize]| {
        let mut sum = Tally::default();
        chosen.iter().for_each(|series| sum.merge(&found[method][*series]));
        sum.recall()
    };
    let everything: Vec<usize> = (0..found[0].len()).collect();
    for (index, method) in METHODS.iter().enumerate().skip(1) {
        let lead = of(0, &everything) - of(index, &everything);
        let mut resampled = resample(everything.len(), |chosen| of(0, chosen) - of(index, chosen));
        resampled.sort_by(f64::total_cmp);
        let at = |share: f64| resampled[(share * (resampled.len() - 1) as f64) as usize];
        table::line(&format!(
            "  bar: {:.0} points of recall or more above {}: {:.0} points (90 % of resamplings of the series: {:.0} to {:.0}): {}",
            100.0 * LEAST_LEAD,
            method.name,
            100.0 * lead,
            100.0 * at(0.05),
            100.0 * at(0.95),
            verdict(lead >= LEAST_LEAD)
        ));
    }
}

/// Returns the counts by method and series, the peers' at thresholds that give our number of false alarms.
fn matched(series: &[&Scored]) -> [Vec<Tally>; METHODS.len()] {
    let own = tallies(series, 0, FIXED);
    let wanted = total(&own).false_per_day();
    std::array::from_fn(|method| {
        if method == 0 { own.clone() } else { tallies(series, method, equal_false_alarms(series, method, wanted)) }
    })
}

/// Returns the least threshold at which a method has at most `wanted` false alarms per series and day.
fn equal_false_alarms(series: &[&Scored], method: usize, wanted: f64) -> f64 {
    let (mut low, mut high) = (1e-3_f64, 1e15_f64);
    for _ in 0..60 {
        let middle = (low * high).sqrt();
        if total(&tallies(series, method, middle)).false_per_day() > wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

fn tallies(series: &[&Scored], method: usize, threshold: f64) -> Vec<Tally> {
    let tally = |(series, scores): &&Scored| {
        let mut tally = Tally::default();
        tally.add(series, &alarms(&scores[method], threshold));
        tally
    };
    series.par_iter().map(tally).collect()
}

fn total(tallies: &[Tally]) -> Tally {
    let mut sum = Tally::default();
    tallies.iter().for_each(|tally| sum.merge(tally));
    sum
}
