//! One series as it grows: samples in, one at a time; forecasts, by what was learnt so far, out.
//!
//! A tracker holds the history, the memory of each model, what each horizon has taught, and the peak models. It costs the
//! same for each sample and takes bounded memory, however long the series. What it says depends on what was pushed alone.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::column::Column;
use crate::ensemble::{Bounds, Ensemble};
use crate::history::History;
use crate::known::Known;
use crate::ladder::knots;
use crate::model::Memory;
use crate::peak::{PeakDistribution, PeakModel};
use crate::series::steps;

mod say;

/// Distance of the scored origins, where the step is not longer.
const SCORE_SECONDS: i64 = 300;

/// What is wanted of a series.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spec {
    /// Distance of values in seconds.
    pub step: i64,
    /// Length of the history that is kept, in seconds.
    pub keep: i64,
    /// The longest horizons and all between can be asked for, in steps.
    pub horizons: Vec<usize>,
    /// Horizons of the peak, in steps.
    pub peaks: Vec<usize>,
    /// Values that the series can take.
    pub bounds: Bounds,
    /// What is known of the future beforehand, at the start.
    pub known: Arc<Known>,
    /// One model alone, by its place in [`Ensemble::names`]; the combination where absent. Its quantiles are calibrated
    /// on its own errors.
    pub model: Option<usize>,
}

/// One series as it grows.
#[derive(Debug)]
pub struct Tracker {
    ensemble: Ensemble,
    spec: Spec,
    history: History,
    memories: Vec<Box<dyn Memory>>,
    /// Fits that are due, by model.
    due: Vec<bool>,
    columns: Vec<Column>,
    knots: Vec<usize>,
    peaks: Vec<PeakModel>,
    schedule: Schedule,
    /// Last grid point that was learnt from: after a restart older ones go into the history alone.
    seen: i64,
}

/// When costly work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Fits are due at multiples of their period plus this, in seconds: spreads the fits of many series over time.
    pub phase: i64,
    /// Whether fits are made as soon as they are due, in [`Tracker::push`]; otherwise [`Tracker::refit`] makes them.
    pub at_once: bool,
    /// Grid points before this, counted since the epoch, are kept but not learnt from.
    pub learn_from: i64,
    /// Forecasts are scored from this grid point on.
    pub score_from: i64,
    /// Fits are due no oftener than this, in seconds; and not at all before this long before `score_from`.
    pub least_refit_seconds: i64,
    /// The network is scored at one scored origin in so many, at least 1: of the origins it costs the most.
    pub network_every: i64,
}

impl Schedule {
    /// Fits at once, learns from everything: what a one-off forecast and a backtest do.
    pub const REPLAY: Self = Self {
        phase: 0,
        at_once: true,
        learn_from: i64::MIN,
        score_from: i64::MIN,
        least_refit_seconds: 0,
        network_every: 1,
    };
}

/// The saved part of a tracker; the history is not in it.
#[derive(Serialize, Deserialize)]
struct Saved {
    knots: Vec<usize>,
    peak_horizons: Vec<usize>,
    /// Whether there was a network: errors are measured in what it expects.
    network: bool,
    seen: i64,
    memories: Vec<(String, Vec<u8>)>,
    columns: Vec<Column>,
    peaks: Vec<PeakModel>,
}

impl Tracker {
    /// Returns a tracker that knows nothing.
    pub fn new(ensemble: &Ensemble, spec: Spec, schedule: Schedule) -> Self {
        let knots = knots(spec.step, &spec.horizons);
        let mut memories: Vec<_> = ensemble.pool().iter().map(|model| model.start(spec.step, &knots)).collect();
        memories.iter_mut().for_each(|memory| memory.know(&spec.known));
        let models = ensemble.anchors().len();
        let stride = steps(SCORE_SECONDS, spec.step);
        Self {
            history: History::new(spec.step, spec.keep),
            due: vec![false; memories.len()],
            memories,
            columns: knots.iter().map(|horizon| Column::new(*horizon, stride, models)).collect(),
            knots,
            peaks: spec.peaks.iter().map(|horizon| PeakModel::new(spec.step, *horizon)).collect(),
            ensemble: ensemble.clone(),
            spec,
            schedule,
            seen: i64::MIN,
        }
    }

    /// Returns the tracker that was saved, with an empty history: push the history again, then what is new. `None` where
    /// the bytes are no tracker of this `spec` and pool.
    pub fn restore(ensemble: &Ensemble, spec: Spec, schedule: Schedule, saved: &[u8]) -> Option<Self> {
        let Saved { knots, peak_horizons, network, seen, memories, columns, peaks } =
            postcard::from_bytes(saved).ok()?;
        let mut tracker = Self::new(ensemble, spec, schedule);
        let models = ensemble.anchors().len();
        let fits = knots == tracker.knots
            && peak_horizons == tracker.spec.peaks
            && network == ensemble.network().is_some()
            && columns.len() == tracker.columns.len()
            && columns.iter().all(|column| column.models() == models)
            && peaks.len() == tracker.peaks.len();
        if !fits {
            return None;
        }
        for ((memory, model), (name, bytes)) in tracker.memories.iter_mut().zip(ensemble.pool()).zip(&memories) {
            // Another pool: the errors are those of other models.
            if model.outputs().join(",") != *name {
                return None;
            }
            *memory = model.restore(tracker.spec.step, &tracker.knots, bytes)?;
            memory.know(&tracker.spec.known);
        }
        tracker.columns = columns;
        tracker.peaks = peaks;
        tracker.seen = seen;
        Some(tracker)
    }

    /// Returns what [`Tracker::restore`] understands.
    pub fn save(&self) -> Vec<u8> {
        let memories = self.memories.iter().zip(self.ensemble.pool());
        let saved = Saved {
            knots: self.knots.clone(),
            peak_horizons: self.spec.peaks.clone(),
            network: self.ensemble.network().is_some(),
            seen: self.seen,
            memories: memories.map(|(memory, model)| (model.outputs().join(","), memory.save())).collect(),
            columns: self.columns.clone(),
            peaks: self.peaks.clone(),
        };
        postcard::to_stdvec(&saved).unwrap_or_default()
    }

    /// Returns what is kept of the series.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Returns the last grid point that was learnt from, counted since the epoch; the least number before any.
    pub const fn seen(&self) -> i64 {
        self.seen
    }

    /// Replaces the schedule, for what is pushed from now on.
    pub fn set_schedule(&mut self, schedule: Schedule) {
        self.schedule = schedule;
    }

    /// Takes what is known beforehand from now on, in place of what the [`Spec`] said.
    pub fn know(&mut self, known: &Arc<Known>) {
        self.memories.iter_mut().for_each(|memory| memory.know(known));
        self.spec.known = Arc::clone(known);
    }

    /// Takes the value of the grid point `at`, counted since the epoch; NaN is a gap. Grid points that were left out are
    /// gaps. A value for a past gap is kept, but teaches nothing any more.
    pub fn push(&mut self, at: i64, value: f64) {
        if let Some(now) = self.history.now() {
            if at <= now {
                self.history.amend(at, value);
                return;
            }
            for missing in now + 1..at {
                self.step(missing, f64::NAN);
            }
        }
        self.step(at, value);
    }

    fn step(&mut self, at: i64, value: f64) {
        self.history.push(at, value);
        if at <= self.seen || at < self.schedule.learn_from {
            return;
        }
        self.seen = at;
        for memory in &mut self.memories {
            memory.advance(&self.history);
        }
        self.mark_due(at);
        for peak in &mut self.peaks {
            peak.advance(&self.history);
        }
        let baselines = self.ensemble.baselines();
        for column in &mut self.columns {
            column.resolve(&self.history, at, baselines);
        }
        let stride = steps(SCORE_SECONDS, self.spec.step) as i64;
        if at.rem_euclid(stride) == 0 && at >= self.schedule.score_from && value.is_finite() {
            self.score(at);
        }
    }

    fn mark_due(&mut self, at: i64) {
        let Schedule { phase, at_once, score_from, least_refit_seconds, .. } = self.schedule;
        if at < score_from.saturating_sub(least_refit_seconds / self.spec.step + 1) {
            return;
        }
        for (place, model) in self.ensemble.clone().pool().iter().enumerate() {
            let Some(period) = model.refit_seconds() else { continue };
            let every = steps(period.max(least_refit_seconds), self.spec.step) as i64;
            if (at - phase / self.spec.step).rem_euclid(every) == 0 {
                if at_once {
                    self.memories[place].refit(&self.history);
                } else {
                    self.due[place] = true;
                }
            }
        }
    }

    /// Makes the fits that are due, each if `may` allows it for the model of that name; returns how many it did not.
    /// Those stay due.
    pub fn refit(&mut self, mut may: impl FnMut(&'static str) -> bool) -> usize {
        let mut skipped = 0;
        for (place, model) in self.ensemble.pool().iter().enumerate() {
            if !self.due[place] {
                continue;
            }
            if may(model.outputs()[0]) {
                self.memories[place].refit(&self.history);
                self.due[place] = false;
            } else {
                skipped += 1;
            }
        }
        skipped
    }

    /// Makes all fits due, as if their time had come.
    pub fn make_due(&mut self) {
        for (due, model) in self.due.iter_mut().zip(self.ensemble.pool()) {
            *due = model.refit_seconds().is_some();
        }
    }

    fn score(&mut self, at: i64) {
        let stride = steps(SCORE_SECONDS, self.spec.step) as i64;
        let with_network = at.div_euclid(stride).rem_euclid(self.schedule.network_every.max(1)) == 0;
        for (said, column) in self.say(&self.knots, with_network).into_iter().zip(&mut self.columns) {
            column.issue(at, &said);
        }
    }

    /// Returns the distribution of the highest value until each peak horizon of the [`Spec`]; `None` where too little is
    /// known.
    pub fn peaks(&self) -> Vec<Option<PeakDistribution>> {
        self.peaks.iter().map(|peak| peak.distribution(&self.history)).collect()
    }

    /// Returns the bytes that the tracker holds, itself included.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.history.heap_bytes()
            + self.memories.iter().map(|memory| memory.heap_bytes() + 16).sum::<usize>()
            + self.columns.iter().map(|column| size_of::<Column>() + column.heap_bytes()).sum::<usize>()
            + self.peaks.iter().map(|peak| size_of::<PeakModel>() + peak.heap_bytes()).sum::<usize>()
    }
}
