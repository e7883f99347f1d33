//! The design matrix of a uniform grid, never built: its products with itself and with a series.
//!
//! In: a [`PlanSpec`]; then the samples of one series. Out: sums over the segments between changepoints, from which both
//! the additive and the multiplicative model take all they need of the data.

use std::f64::consts::TAU;

use super::plan::{Growth, PlanSpec};
use super::statistics::{Moments, RidgeLayout};

/// The columns of a uniform grid of `count` samples, with time from 0 to 1.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    pub(crate) count: usize,
    pub(crate) layout: RidgeLayout,
    /// Sample of each changepoint, rising.
    pub(crate) changepoint_at: Vec<usize>,
    pub(crate) changepoint_time: Vec<f64>,
    /// Radians per sample of each (sin, cos) pair.
    pub(crate) frequencies: Vec<f64>,
    blocks: Vec<Block>,
    /// sin and cos of each frequency at 0..BLOCK.
    table: Vec<f64>,
    /// sin and cos of each frequency at the start of each block.
    rotation: Vec<f64>,
}

/// Samples that share one table of sines; it stays in the first-level cache.
const BLOCK: usize = 64;

/// Neighbouring samples of one segment.
#[derive(Debug, Clone, Copy)]
struct Block {
    segment: usize,
    start: usize,
    end: usize,
}

/// Sums of one series over each segment: Σy, Σy·x_c, then Σt·y, Σt·y·x_c; and Σy² over all.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    sums: Vec<f64>,
    width: usize,
    pub(crate) squares: f64,
}

impl Projection {
    /// Returns Σt^`power`·y·(1, x_c…) of a segment, `power` 0 or 1.
    pub(crate) fn segment(&self, segment: usize, power: usize) -> &[f64] {
        &self.sums[(2 * segment + power) * self.width..][..self.width]
    }
}

/// What [`Grid::project`] sums up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sums {
    /// All but Σt·y·x_c, which stays 0: an additive season does not need it.
    Plain,
    /// All.
    Timed,
}

impl Grid {
    /// Returns the grid of `spec`, whose count is at least 2.
    pub(crate) fn new(spec: &PlanSpec) -> Self {
        let changepoint_at = if spec.growth == Growth::Linear { changepoint_indices(spec) } else { Vec::new() };
        let last = (spec.count - 1) as f64;
        let changepoint_time = changepoint_at.iter().map(|i| *i as f64 / last).collect();
        let frequencies: Vec<f64> = spec
            .seasons
            .iter()
            .flat_map(|season| {
                (1..=season.order).map(|order| TAU * order as f64 * spec.step_seconds / season.period_seconds)
            })
            .collect();
        let mut blocks = Vec::new();
        for segment in 0..=changepoint_at.len() {
            let start = if segment == 0 { 0 } else { changepoint_at[segment - 1] };
            let end = changepoint_at.get(segment).copied().unwrap_or(spec.count);
            blocks.extend((start..end).step_by(BLOCK).map(|at| Block { segment, start: at, end: end.min(at + BLOCK) }));
        }
        let mut table = Vec::with_capacity(frequencies.len() * 2 * BLOCK);
        for frequency in &frequencies {
            table.extend((0..BLOCK).map(|i| (frequency * i as f64).sin()));
            table.extend((0..BLOCK).map(|i| (frequency * i as f64).cos()));
        }
        let mut rotation = Vec::with_capacity(blocks.len() * 2 * frequencies.len());
        for block in &blocks {
            for frequency in &frequencies {
                let (sin, cos) = (frequency * block.start as f64).sin_cos();
                rotation.extend([sin, cos]);
            }
        }
        let layout = RidgeLayout::new(spec.growth == Growth::Linear);
        Self { count: spec.count, layout, changepoint_at, changepoint_time, frequencies, blocks, table, rotation }
    }

    /// Returns the size of the ridge block: trend and seasons.
    pub(crate) const fn ridge(&self) -> usize {
        self.layout.first_column + 2 * self.frequencies.len()
    }

    /// Returns the number of all coefficients.
    pub(crate) const fn size(&self) -> usize {
        self.ridge() + self.changepoint_at.len()
    }

    /// Returns the time of a sample, whole or not: 0 at the first, 1 at the last.
    pub(crate) fn time(&self, index: f64) -> f64 {
        index / (self.count - 1) as f64
    }

    /// Writes the (sin, cos) pairs at a sample, whole or not.
    pub(crate) fn columns(&self, index: f64, into: &mut [f64]) {
        for (pair, frequency) in into.chunks_exact_mut(2).zip(&self.frequencies) {
            (pair[0], pair[1]) = (frequency * index).sin_cos();
        }
    }

    /// Calls `visit` with the segment, time and columns of each sample at `indices`, which rise.
    pub(crate) fn rows(&self, indices: impl Iterator<Item = usize>, mut visit: impl FnMut(usize, f64, &[f64])) {
        let mut columns = vec![0.0; 2 * self.frequencies.len()];
        let mut segment = 0;
        for i in indices {
            while segment < self.changepoint_at.len() && i >= self.changepoint_at[segment] {
                segment += 1;
            }
            self.columns(i as f64, &mut columns);
            visit(segment, self.time(i as f64), &columns);
        }
    }

    /// Returns Z'Z of the additive model over the rows at `indices`, which rise.
    pub(crate) fn gram(&self, indices: impl Iterator<Item = usize>) -> Vec<f64> {
        let (size, ridge) = (self.size(), self.ridge());
        let mut gram = vec![0.0; size * size];
        let mut moments = Moments::new(self.changepoint_at.len(), 2 * self.frequencies.len());
        let mut row = vec![0.0; ridge];
        self.rows(indices, |segment, t, columns| {
            if let Some(slope) = self.layout.slope {
                row[slope] = t;
            }
            row[self.layout.offset] = 1.0;
            row[self.layout.first_column..].copy_from_slice(columns);
            for a in 0..ridge {
                let factor = row[a];
                for (sum, b) in gram[a * size..a * size + ridge].iter_mut().zip(&row) {
                    *sum += factor * b;
                }
            }
            moments.add(segment, t, 1.0, 0.0, columns);
        });
        moments.accumulate_suffixes();
        moments.fill_hinges(&mut gram, &mut vec![0.0; size], ridge, self.layout, &self.changepoint_time);
        gram
    }

    /// Returns the sums of the values times `factor`, in O(count).
    pub(crate) fn project(&self, values: &[f64], factor: f64, sums: Sums) -> Projection {
        let width = 1 + 2 * self.frequencies.len();
        let mut all = vec![0.0; (self.changepoint_at.len() + 1) * 2 * width];
        let mut squares = 0.0;
        let mut buffer = [0.0; BLOCK];
        let per_sample = factor / (self.count - 1) as f64;
        for (block, rotations) in self.blocks.iter().zip(self.rotations()) {
            let chunk = &values[block.start..block.end];
            let local = &mut buffer[..chunk.len()];
            for (i, (timed, value)) in local.iter_mut().zip(chunk).enumerate() {
                *timed = value * i as f64;
            }
            let local = &*local;
            let (plain, timed) = all[2 * block.segment * width..][..2 * width].split_at_mut(width);
            let start = block.start as f64;
            let sum = lanes_sum(chunk);
            plain[0] += sum * factor;
            timed[0] += (lanes_sum(local) + start * sum) * per_sample;
            squares += lanes_dot(chunk, chunk);
            for (f, rotation) in rotations.chunks_exact(2).enumerate() {
                let sines = &self.table[2 * f * BLOCK..][..chunk.len()];
                let cosines = &self.table[(2 * f + 1) * BLOCK..][..chunk.len()];
                let (sin, cos) = rotate(rotation, lanes_dot(chunk, sines), lanes_dot(chunk, cosines));
                plain[2 * f + 1] += sin * factor;
                plain[2 * f + 2] += cos * factor;
                if sums == Sums::Timed {
                    let (late_sin, late_cos) = rotate(rotation, lanes_dot(local, sines), lanes_dot(local, cosines));
                    timed[2 * f + 1] += (late_sin + start * sin) * per_sample;
                    timed[2 * f + 2] += (late_cos + start * cos) * per_sample;
                }
            }
        }
        Projection { sums: all, width, squares: squares * factor * factor }
    }

    /// Returns Z'y of the additive model.
    pub(crate) fn zty(&self, projection: &Projection) -> Vec<f64> {
        let mut zty = vec![0.0; self.size()];
        // Sums over all t at or after a changepoint, from the last segment backwards.
        let (mut sum, mut timed) = (0.0, 0.0);
        for segment in (0..=self.changepoint_at.len()).rev() {
            let plain = projection.segment(segment, 0);
            sum += plain[0];
            timed += projection.segment(segment, 1)[0];
            if segment > 0 {
                zty[self.ridge() + segment - 1] = timed - self.changepoint_time[segment - 1] * sum;
            }
            for (column, x) in zty[self.layout.first_column..].iter_mut().zip(&plain[1..]) {
                *column += x;
            }
        }
        if let Some(slope) = self.layout.slope {
            zty[slope] = timed;
        }
        zty[self.layout.offset] = sum;
        zty
    }

    /// The rotations of each block; empty ones without seasons.
    fn rotations(&self) -> impl Iterator<Item = &[f64]> {
        let width = 2 * self.frequencies.len();
        (0..self.blocks.len()).map(move |block| &self.rotation[block * width..(block + 1) * width])
    }
}

/// Σy·sin and Σy·cos over a block from those against the table, by the addition theorems.
fn rotate(rotation: &[f64], sines: f64, cosines: f64) -> (f64, f64) {
    let (sin, cos) = (rotation[0], rotation[1]);
    (sin * cosines + cos * sines, cos * cosines - sin * sines)
}

/// Prophet's changepoints: evenly over the first part of the history, the first sample left out.
fn changepoint_indices(spec: &PlanSpec) -> Vec<usize> {
    let history = (spec.count as f64 * spec.changepoint_range).floor() as usize;
    let number = spec.changepoints.min(history.saturating_sub(1));
    (1..=number).map(|i| (i as f64 / number as f64 * (history - 1) as f64).round() as usize).collect()
}

/// Eight sums side by side, so that the compiler vectorises.
const LANES: usize = 8;

fn lanes_sum(values: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn lanes_dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (mut left, mut right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (x, y) in (&mut left).zip(&mut right) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    for (lane, (x, y)) in left.remainder().iter().zip(right.remainder()).enumerate() {
        sums[lane] += x * y;
    }
    sums.iter().sum()
}
