//! What a backtest found, per series and over all, as a table, JSON and a verdict in words.

use std::fmt;

use cloudpulse_forecast::evaluation::Accuracy;
use serde::{Serialize, Serializer};

use crate::command::forecast::short;
use crate::config::duration_label;

/// The whole evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One entry a series.
    pub series: Vec<SeriesReport>,
}

/// Evaluation of one series.
#[derive(Debug, Clone, Serialize)]
pub struct SeriesReport {
    /// Name.
    pub name: String,
    /// Distance of samples in seconds.
    pub step_seconds: i64,
    /// Origins forecast from.
    pub origins: usize,
    /// One entry a horizon.
    pub horizons: Vec<HorizonReport>,
}

/// Evaluation at one horizon.
#[derive(Debug, Clone, Serialize)]
pub struct HorizonReport {
    /// Seconds ahead.
    pub seconds: i64,
    /// The combined forecast.
    #[serde(serialize_with = "accuracy")]
    pub ensemble: Accuracy,
    /// Each model alone.
    pub models: Vec<ModelReport>,
    /// First baseline: the last value.
    #[serde(serialize_with = "accuracy")]
    pub persistence: Accuracy,
    /// Second baseline: the value a day before; no count where there is none.
    #[serde(serialize_with = "accuracy")]
    pub seasonal_naive: Accuracy,
    /// Share of the origins at which the better baseline stood in for the combination, which had lost to it over a day.
    pub demoted_ratio: f64,
    /// Nominal level and the measured share inside.
    pub coverage: Vec<(f64, f64)>,
    /// Quantile of the peak and the measured share at or below.
    pub peak_coverage: Vec<(f64, f64)>,
}

/// One model's accuracy.
#[derive(Debug, Clone, Serialize)]
pub struct ModelReport {
    /// Name.
    pub name: &'static str,
    /// Accuracy; its count tells where it knew nothing.
    #[serde(serialize_with = "accuracy")]
    pub accuracy: Accuracy,
}

fn accuracy<S: Serializer>(value: &Accuracy, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    let known = |number: f64| number.is_finite().then_some(number);
    let mut map = serializer.serialize_map(Some(5))?;
    map.serialize_entry("count", &value.count)?;
    map.serialize_entry("mae", &known(value.mae))?;
    map.serialize_entry("mase", &known(value.mase))?;
    map.serialize_entry("bias", &known(value.bias))?;
    map.serialize_entry("wql", &known(value.wql))?;
    map.end()
}

/// A series loses where its error is above this share of the better baseline's.
const LOSES: f64 = 1.05;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let few = self.series.len() <= 20;
        for series in self.series.iter().filter(|_| few) {
            writeln!(f, "{} (step {}, {} origins)", series.name, duration_label(series.step_seconds), series.origins)?;
            writeln!(
                f,
                "  {:<8}{:<22}{:>8}{:>12}{:>9}{:>9}{:>12}",
                "in", "model", "n", "MAE", "MASE", "WQL", "/persistence"
            )?;
            for horizon in &series.horizons {
                let own = [("ensemble", &horizon.ensemble)];
                let models = horizon.models.iter().map(|model| (model.name, &model.accuracy));
                for (name, accuracy) in own.into_iter().chain(models).filter(|(_, a)| a.count > 0) {
                    writeln!(
                        f,
                        "  {:<8}{name:<22}{:>8}{:>12}{:>9}{:>9}{:>12}",
                        duration_label(horizon.seconds),
                        accuracy.count,
                        short(accuracy.mae),
                        rounded(accuracy.mase),
                        rounded(accuracy.wql),
                        rounded(accuracy.mae / horizon.persistence.mae)
                    )?;
                }
            }
            writeln!(f)?;
        }
        self.overall(f)?;
        self.verdict(f)
    }
}

impl Report {
    fn horizons(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.series.iter().flat_map(|s| &s.horizons).map(|h| h.seconds).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn at(&self, seconds: i64) -> impl Iterator<Item = (&SeriesReport, &HorizonReport)> {
        self.series.iter().filter_map(move |s| Some((s, s.horizons.iter().find(|h| h.seconds == seconds)?)))
    }

    fn overall(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Over {} series: MAE as a share of each baseline's (geometric mean), and coverage",
            self.series.len()
        )?;
        writeln!(
            f,
            "  {:<8}{:>8}{:>14}{:>16}{:>9}{:>9}{:>9}   peak at or below q0.9 / q0.99",
            "in", "series", "/persistence", "/seasonal naive", "80 %", "90 %", "95 %"
        )?;
        for seconds in self.horizons() {
            let ratios = |baseline: fn(&HorizonReport) -> &Accuracy| {
                geometric_mean(self.at(seconds).map(|(_, h)| h.ensemble.mae / baseline(h).mae))
            };
            let covered = |index: usize| {
                mean(self.at(seconds).filter_map(|(_, h)| h.coverage.get(index)).map(|(_, ratio)| *ratio))
            };
            let peak = |quantile: f64| {
                let shares = self.at(seconds).filter_map(|(_, h)| h.peak_coverage.iter().find(|(q, _)| *q == quantile));
                mean(shares.map(|(_, ratio)| *ratio))
            };
            writeln!(
                f,
                "  {:<8}{:>8}{:>14}{:>16}{:>9}{:>9}{:>9}   {} / {}",
                duration_label(seconds),
                self.at(seconds).count(),
                rounded(ratios(|h| &h.persistence)),
                rounded(ratios(|h| &h.seasonal_naive)),
                percent(covered(0)),
                percent(covered(1)),
                percent(covered(2)),
                percent(peak(0.9)),
                percent(peak(0.99))
            )?;
        }
        writeln!(f)
    }

    /// For each horizon one sentence: by how much the forecast beats the better baseline, where it does not, and what is
    /// done there.
    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for seconds in self.horizons() {
            let mut losing: Vec<&str> = Vec::new();
            let mut standing_in = 0_usize;
            let (mut ratios, mut beaten) = (Vec::new(), 0_usize);
            let (mut persistence, mut seasonal) = (0_usize, 0_usize);
            for (series, horizon) in self.at(seconds) {
                let (last, yesterday) = (horizon.persistence.mae, horizon.seasonal_naive.mae);
                let better = if yesterday < last { yesterday } else { last };
                if !better.is_finite() {
                    continue;
                }
                *(if yesterday < last { &mut seasonal } else { &mut persistence }) += 1;
                let ratio = horizon.ensemble.mae / better;
                beaten += usize::from(ratio <= 1.0);
                if ratio > LOSES {
                    losing.push(&series.name);
                    standing_in += usize::from(horizon.demoted_ratio > 0.0);
                }
                ratios.push(ratio);
            }
            let rival = match (persistence, seasonal) {
                (_, 0) => "the last value",
                (0, _) => "yesterday's value",
                _ => "the better of the last and yesterday's value",
            };
            let ahead = duration_label(seconds);
            let better = (1.0 - geometric_mean(ratios.iter().copied())) * 100.0;
            let verb = if better >= 0.0 { "beats" } else { "loses to" };
            write!(
                f,
                "{ahead} ahead the forecast {verb} {rival} by {:.0} %, and is at least as good on {beaten} of {} series",
                better.abs(),
                ratios.len()
            )?;
            if losing.is_empty() {
                writeln!(f, ".")?;
                continue;
            }
            let shown = losing.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            let more = if losing.len() > 5 { ", …" } else { "" };
            write!(f, "; on {} it loses by more than {:.0} %: {shown}{more}", losing.len(), (LOSES - 1.0) * 100.0)?;
            match standing_in {
                0 => writeln!(f, "."),
                n if n == losing.len() => writeln!(f, "; there the better baseline stood in for part of the time."),
                n => writeln!(f, "; on {n} of them the better baseline stood in for part of the time."),
            }?;
        }
        Ok(())
    }
}

fn rounded(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "-".to_owned() }
}

fn percent(value: f64) -> String {
    if value.is_finite() { format!("{:.1}", value * 100.0) } else { "-".to_owned() }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    sum / count
}

/// Geometric mean of the positive, finite values; NaN without any. A perfect forecast, of ratio 0, counts as 10⁻³.
fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    mean(values.filter(|value| value.is_finite() && *value >= 0.0).map(|value| value.max(1e-3).ln())).exp()
}
