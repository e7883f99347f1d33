//! The network on the CPU, written out by hand: quantiles, loss and gradient, several times as fast as a framework.
//!
//! In: [`Weights`] and a batch. Out: an array of quantiles, or a gradient as long as the weights. The work is spread over the
//! threads of the rayon pool in which a function is called; `pool.install(|| …)` chooses another. What comes out does not depend
//! on their number: a batch is cut at fixed places and the parts are added in order. Between machines the last bits differ with
//! the width of the vectors.

mod block;
mod elementwise;
mod matmul;
mod mix;
mod vector;

use pulp::Arch;
use rayon::prelude::*;

use self::block::{BLOCK, Buffers, Network, Turned};
use self::elementwise::Add;
use crate::batch::{BatchError, Inputs, Targets, check_length};
use crate::shape::Layout;
use crate::weights::Weights;

/// The most parts into which a gradient is cut; each has an array as long as the weights.
const GRADIENT_PARTS: usize = 8;
/// The least windows in a part.
const MIN_PART: usize = 16;

/// Space in which the network is computed. Kept from one call to the next nothing is allocated once it has the size of the
/// largest batch seen; what it holds does not matter.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    parts: Vec<Part>,
    turned: Turned,
}

#[derive(Clone, Debug, Default)]
struct Part {
    buffers: Buffers,
    gradient: Vec<f32>,
    loss: f64,
}

/// The loss of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Σ weight · (mean over the levels of the pinball loss) / Σ weight, in the unit of the targets; 0 without any weight.
    pub mean: f64,
    /// Σ weight.
    pub weight: f64,
}

/// Computes the quantiles of every query: `[W][K][levels]`, as the network gives them, so that they may cross; see [`sort`].
///
/// A query's quantiles are the same to the bit in whatever batch they are computed.
///
/// # Errors
/// When an array does not fit the network.
pub fn forward(
    weights: &Weights,
    inputs: &Inputs<'_>,
    scratch: &mut Scratch,
    quantiles: &mut [f32],
) -> Result<(), BatchError> {
    let shape = weights.shape();
    inputs.check(shape)?;
    let per_window = inputs.queries * shape.levels;
    check_length("quantiles", inputs.windows * per_window, quantiles.len())?;
    if quantiles.is_empty() {
        return Ok(());
    }
    let network = Network { arch: Arch::new(), shape, layout: &Layout::new(shape), weights: weights.values() };
    // Some parts for each thread, so that one that is held up does not hold up all.
    let part = inputs.windows.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(BLOCK);
    let parts = inputs.windows.div_ceil(part);
    if scratch.parts.len() < parts {
        scratch.parts.resize_with(parts, Part::default);
    }
    let run = |(at, (quantiles, scratch)): (usize, (&mut [f32], &mut Part))| {
        for (block, quantiles) in quantiles.chunks_mut(BLOCK * per_window).enumerate() {
            let first = at * part + block * BLOCK;
            let inputs = inputs.slice(first, quantiles.len() / per_window, shape);
            scratch.buffers.quantiles(&network, &inputs, quantiles);
        }
    };
    if parts == 1 {
        run((0, (quantiles, &mut scratch.parts[0])));
    } else {
        quantiles.par_chunks_mut(part * per_window).zip(&mut scratch.parts).enumerate().for_each(run);
    }
    Ok(())
}

/// Sorts the quantiles of each query, so that a higher level never has a lower quantile: rearrangement never makes the forecast
/// worse (Chernozhukov, Fernández-Val and Galichon, 2010). For forecasts, not for training.
pub fn sort(quantiles: &mut [f32], levels: usize) {
    for quantiles in quantiles.chunks_exact_mut(levels.max(1)) {
        quantiles.sort_unstable_by(f32::total_cmp);
    }
}

/// Computes the loss of a batch and its gradient by each weight, in the order of [`Weights::values`].
///
/// The loss is the pinball loss (Koenker and Bassett, 1978), averaged over the levels and by weight over the queries. Where a
/// quantile is met exactly its slope is taken as 0. Without any weight, loss and gradient are 0.
///
/// # Errors
/// When an array does not fit the network, or `gradient` is not as long as the weights.
pub fn gradient(
    weights: &Weights,
    inputs: &Inputs<'_>,
    targets: &Targets<'_>,
    scratch: &mut Scratch,
    gradient: &mut [f32],
) -> Result<Loss, BatchError> {
    let shape = weights.shape();
    inputs.check(shape)?;
    targets.check(inputs)?;
    check_length("gradient", weights.values().len(), gradient.len())?;
    let total: f64 = targets.weight.iter().map(|&weight| f64::from(weight)).sum();
    if total == 0.0 {
        gradient.fill(0.0);
        return Ok(Loss { mean: 0.0, weight: 0.0 });
    }
    let network = Network { arch: Arch::new(), shape, layout: &Layout::new(shape), weights: weights.values() };
    let Scratch { parts, turned } = scratch;
    turned.fill(&network);
    let part = inputs.windows.div_ceil(GRADIENT_PARTS).max(MIN_PART);
    let count = inputs.windows.div_ceil(part);
    if parts.len() < count {
        parts.resize_with(count, Part::default);
    }
    let scale = total.recip() as f32;
    let run = |(at, scratch): (usize, &mut Part)| {
        scratch.gradient.clear();
        scratch.gradient.resize(gradient.len(), 0.0);
        scratch.loss = 0.0;
        let end = inputs.windows.min((at + 1) * part);
        let blocks = (end - at * part).div_ceil(BLOCK);
        let block = (end - at * part).div_ceil(blocks);
        for first in (at * part..end).step_by(block) {
            let windows = block.min(end - first);
            let rows = first * inputs.queries..(first + windows) * inputs.queries;
            let wanted = (&targets.target[rows.clone()], &targets.weight[rows]);
            let inputs = inputs.slice(first, windows, shape);
            let Part { buffers, gradient, loss } = scratch;
            *loss += buffers.gradient(&network, turned, &inputs, wanted, scale, gradient);
        }
    };
    let parts = &mut parts[..count];
    if rayon::current_num_threads() == 1 {
        parts.iter_mut().enumerate().for_each(run);
    } else {
        parts.par_iter_mut().enumerate().for_each(run);
    }
    gradient.copy_from_slice(&parts[0].gradient);
    for part in &parts[1..] {
        network.arch.dispatch(Add { sum: gradient, other: &part.gradient });
    }
    Ok(Loss { mean: parts.iter().map(|part| part.loss).sum::<f64>() / total, weight: total })
}

#[cfg(test)]
mod tests;
