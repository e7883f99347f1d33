//! The end of the network: from logits, corrections and anchors to quantiles, and back from their loss.
//!
//! Rows are taken 16 at a time and turned, so that a vector holds one number of many rows: softmax then needs no sums across a
//! vector. Loss and gradient do not depend on the vector's width.

use pulp::{Simd, WithSimd};

use super::vector::{exp, load, store};
use crate::shape::Shape;

/// Rows of a tile: a multiple of every vector's lanes.
const TILE: usize = 16;

/// Above every logit: what an unknown anchor's logit is put below.
const UNKNOWN: f32 = 1e30;

/// Space for one tile, each array `[what][TILE]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Tile {
    outputs: Vec<f32>,
    anchor: Vec<f32>,
    known: Vec<f32>,
    quantile_anchor: Vec<f32>,
    quantile_known: Vec<f32>,
    /// Of one level: logits, then their exponentials.
    exponentials: Vec<f32>,
    quantiles: Vec<f32>,
}

impl Tile {
    pub(super) fn fit(&mut self, shape: &Shape) {
        self.outputs.resize(shape.outputs() * TILE, 0.0);
        self.anchor.resize(shape.anchors * TILE, 0.0);
        self.known.resize(shape.anchors * TILE, 0.0);
        self.quantile_anchor.resize(shape.levels * shape.quantile_anchors * TILE, 0.0);
        self.quantile_known.resize(shape.quantile_anchors * TILE, 0.0);
        self.exponentials.resize(shape.slots() * TILE, 0.0);
        self.quantiles.resize(shape.levels * TILE, 0.0);
    }
}

/// What is known of some rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub(super) anchor: &'a [f32],
    pub(super) known: &'a [f32],
    pub(super) quantile_anchor: &'a [f32],
    pub(super) quantile_known: &'a [f32],
}

/// Quantiles of the rows.
#[derive(Debug)]
pub(super) struct Quantiles<'a> {
    pub(super) shape: &'a Shape,
    pub(super) tile: &'a mut Tile,
    pub(super) rows: Rows<'a>,
    /// `[rows][outputs]`.
    pub(super) outputs: &'a [f32],
    /// `[rows][levels]`.
    pub(super) quantiles: &'a mut [f32],
}

/// The rows' loss, and its gradient by the network's outputs.
#[derive(Debug)]
pub(super) struct Gradient<'a> {
    pub(super) shape: &'a Shape,
    pub(super) tile: &'a mut Tile,
    pub(super) rows: Rows<'a>,
    /// `[rows][outputs]`: in the outputs, out the gradient.
    pub(super) outputs: &'a mut [f32],
    pub(super) target: &'a [f32],
    pub(super) weight: &'a [f32],
    /// 1 / (sum of all weights): the gradient is of the mean loss.
    pub(super) scale: f32,
}

/// Turns up to 16 rows of `width` values; the last row stands in for rows that are not there.
#[inline(always)]
fn turn(rows: &[f32], width: usize, turned: &mut [f32]) {
    if width == 0 {
        return;
    }
    let last = rows.len() / width - 1;
    let mut slices: [&[f32]; TILE] = [&[]; TILE];
    for (row, slice) in slices.iter_mut().enumerate() {
        *slice = &rows[row.min(last) * width..][..width];
    }
    for (at, turned) in turned.chunks_exact_mut(TILE).take(width).enumerate() {
        for (turned, row) in turned.iter_mut().zip(&slices) {
            *turned = row[at];
        }
    }
}

/// Turns a tile back into up to 16 rows.
#[inline(always)]
fn turn_back(turned: &[f32], width: usize, rows: &mut [f32]) {
    for (at, row) in rows.chunks_exact_mut(width).enumerate() {
        for (value, turned) in row.iter_mut().zip(turned.chunks_exact(TILE)) {
            *value = turned[at];
        }
    }
}

/// Values `at` of a turned array, for the lanes from `lane` on.
#[inline(always)]
fn column<S: Simd>(simd: S, turned: &[f32], at: usize, lane: usize) -> S::f32s {
    load(simd, &turned[at * TILE + lane..][..S::F32_LANES])
}

/// One level of the rows in some lanes, mixed.
struct Mixed<S: Simd> {
    /// 1 / sum of the exponentials.
    scale: S::f32s,
    /// The weighted mean of the anchors; 0 where none is known.
    mean: S::f32s,
    /// `mean` and the correction.
    quantile: S::f32s,
}

impl Tile {
    #[inline(always)]
    fn read(&mut self, shape: &Shape, rows: Rows<'_>, outputs: &[f32], first: usize, count: usize) {
        let own = shape.quantile_anchors;
        turn(&outputs[first * shape.outputs()..(first + count) * shape.outputs()], shape.outputs(), &mut self.outputs);
        turn(&rows.anchor[first * shape.anchors..(first + count) * shape.anchors], shape.anchors, &mut self.anchor);
        turn(&rows.known[first * shape.anchors..(first + count) * shape.anchors], shape.anchors, &mut self.known);
        let wide = shape.levels * own;
        turn(&rows.quantile_anchor[first * wide..(first + count) * wide], wide, &mut self.quantile_anchor);
        turn(&rows.quantile_known[first * own..(first + count) * own], own, &mut self.quantile_known);
    }

    /// Anchor and whether it is known, of a slot and level.
    #[inline(always)]
    fn slot<S: Simd>(&self, simd: S, shape: &Shape, slot: usize, level: usize, lane: usize) -> (S::f32s, S::f32s) {
        match slot.checked_sub(shape.anchors) {
            None => (column(simd, &self.anchor, slot, lane), column(simd, &self.known, slot, lane)),
            Some(own) => (
                column(simd, &self.quantile_anchor, level * shape.quantile_anchors + own, lane),
                column(simd, &self.quantile_known, own, lane),
            ),
        }
    }

    /// Softmax over the known anchors and their mean; leaves the exponentials in `self.exponentials`.
    #[inline(always)]
    fn mix<S: Simd>(&mut self, simd: S, shape: &Shape, level: usize, lane: usize) -> Mixed<S> {
        let zero = simd.splat_f32s(0.0);
        let one = simd.splat_f32s(1.0);
        let unknown = simd.splat_f32s(UNKNOWN);
        let mut most = simd.splat_f32s(-UNKNOWN);
        for slot in 0..shape.slots() {
            let (_, known) = self.slot(simd, shape, slot, level, lane);
            let logit = column(simd, &self.outputs, slot * shape.levels + level, lane);
            // Exactly the logit where the anchor is known.
            let logit = simd.mul_add_e_f32s(simd.sub_f32s(known, one), unknown, simd.mul_f32s(logit, known));
            most = simd.max_f32s(most, logit);
            store(simd, &mut self.exponentials[slot * TILE + lane..][..S::F32_LANES], logit);
        }
        let (mut sum, mut weighted) = (zero, zero);
        for slot in 0..shape.slots() {
            let (anchor, known) = self.slot(simd, shape, slot, level, lane);
            let logit = column(simd, &self.exponentials, slot, lane);
            let exponential = simd.mul_f32s(exp(simd, simd.sub_f32s(logit, most)), known);
            sum = simd.add_f32s(sum, exponential);
            weighted = simd.mul_add_e_f32s(exponential, anchor, weighted);
            store(simd, &mut self.exponentials[slot * TILE + lane..][..S::F32_LANES], exponential);
        }
        // The largest exponential is 1, so the sum is at least 1 unless nothing is known.
        let scale = simd.div_f32s(one, simd.max_f32s(sum, simd.splat_f32s(0.5)));
        let mean = simd.mul_f32s(weighted, scale);
        let correction = column(simd, &self.outputs, shape.slots() * shape.levels + level, lane);
        Mixed { scale, mean, quantile: simd.add_f32s(mean, correction) }
    }
}

impl WithSimd for Quantiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, tile, rows, outputs, quantiles } = self;
        let levels = shape.levels;
        for (at, quantiles) in quantiles.chunks_mut(TILE * levels).enumerate() {
            tile.read(shape, rows, outputs, at * TILE, quantiles.len() / levels);
            for level in 0..levels {
                for lane in (0..TILE).step_by(S::F32_LANES) {
                    let mixed = tile.mix(simd, shape, level, lane);
                    store(simd, &mut tile.quantiles[level * TILE + lane..][..S::F32_LANES], mixed.quantile);
                }
            }
            turn_back(&tile.quantiles, levels, quantiles);
        }
    }
}

impl WithSimd for Gradient<'_> {
    /// The sum over rows of weight · mean over levels of the pinball loss.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Self { shape, tile, rows, outputs, target: targets, weight: weights, scale } = self;
        let (levels, width) = (shape.levels, shape.outputs());
        let zero = simd.splat_f32s(0.0);
        let per_level = simd.splat_f32s((levels as f32).recip());
        let mut total = 0.0;
        for (at, targets) in targets.chunks(TILE).enumerate() {
            let (first, count) = (at * TILE, targets.len());
            tile.read(shape, rows, outputs, first, count);
            let (mut target, mut weight, mut losses) = ([0.0; TILE], [0.0; TILE], [0.0; TILE]);
            target[..count].copy_from_slice(targets);
            weight[..count].copy_from_slice(&weights[first..first + count]);
            for level in 0..levels {
                let quantile_level = simd.splat_f32s(shape.level(level));
                let below = simd.splat_f32s(shape.level(level) - 1.0);
                for lane in (0..TILE).step_by(S::F32_LANES) {
                    let Mixed { scale: softmax, mean, quantile } = tile.mix(simd, shape, level, lane);
                    let weight = simd.mul_f32s(load(simd, &weight[lane..]), per_level);
                    let error = simd.sub_f32s(load(simd, &target[lane..]), quantile);
                    let above = simd.greater_than_f32s(error, zero);
                    let slope = simd.select_f32s(above, quantile_level, below);
                    // A forecast that is met exactly is left alone: 0 lies between the slopes of both sides.
                    let slope = simd.select_f32s(simd.equal_f32s(error, zero), zero, slope);
                    let loss = simd.mul_add_e_f32s(simd.mul_f32s(slope, error), weight, load(simd, &losses[lane..]));
                    store(simd, &mut losses[lane..], loss);
                    let by_quantile = simd.mul_f32s(simd.mul_f32s(slope, weight), simd.splat_f32s(-scale));
                    let by_share = simd.mul_f32s(by_quantile, softmax);
                    for slot in 0..shape.slots() {
                        let (anchor, _) = tile.slot(simd, shape, slot, level, lane);
                        let exponential = column(simd, &tile.exponentials, slot, lane);
                        let by_logit = simd.mul_f32s(simd.mul_f32s(by_share, exponential), simd.sub_f32s(anchor, mean));
                        let to = (slot * levels + level) * TILE + lane;
                        store(simd, &mut tile.outputs[to..][..S::F32_LANES], by_logit);
                    }
                    let to = (shape.slots() * levels + level) * TILE + lane;
                    store(simd, &mut tile.outputs[to..][..S::F32_LANES], by_quantile);
                }
            }
            turn_back(&tile.outputs, width, &mut outputs[first * width..(first + count) * width]);
            total += losses[..count].iter().map(|&loss| f64::from(loss)).sum::<f64>();
        }
        total
    }
}
