//! Some windows at a time through the network. A block is small enough for what it computes to stay in cache.
//!
//! In: the inputs of a few windows. Out: their quantiles, or their part of loss and gradient; the way back is in [`backward`].

mod backward;

use pulp::Arch;

use self::backward::Back;
pub(super) use self::backward::Turned;
use super::elementwise::{Cell, ResidualSilu, Silu};
use super::matmul::{Matrix, Product, Start};
use super::mix::{self, Rows, Tile};
use crate::batch::Inputs;
use crate::shape::{Layout, Linear, Shape};

/// Windows of a block.
pub(super) const BLOCK: usize = 32;

/// What all blocks share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<'a> {
    pub(super) arch: Arch,
    pub(super) shape: &'a Shape,
    pub(super) layout: &'a Layout,
    pub(super) weights: &'a [f32],
}

/// What a block computes. Arrays over steps are `[step][window][…]`, those over queries `[window][query][…]`.
///
/// For forecasts the steps share one place; for training each has its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers {
    /// Tokens, gathered by step.
    coarse: Vec<f32>,
    fine: Vec<f32>,
    /// Embedded token and the state before the step; one step more, for the last state.
    token_state: Vec<f32>,
    token_sigmoid: Vec<f32>,
    gates: Vec<f32>,
    cell: Vec<f32>,
    /// The cell before each step, for training only.
    cell_before: Vec<f32>,
    tanh: Vec<f32>,
    /// `[window][width]`: the entry's sum without the query's part; on the way back its gradient.
    context: Vec<f32>,
    entry: Vec<f32>,
    entry_sigmoid: Vec<f32>,
    deep: Vec<f32>,
    deep_sigmoid: Vec<f32>,
    outputs: Vec<f32>,
    tile: Tile,
    back: Back,
}

/// Makes an array at least so long; its values are whatever they were.
fn fit(array: &mut Vec<f32>, length: usize) {
    if array.len() < length {
        array.resize(length, 0.0);
    }
}

impl Buffers {
    fn fit(&mut self, shape: &Shape, windows: usize, queries: usize, training: bool) {
        let rows = windows * queries;
        if shape.recurrent {
            let steps = if training { shape.tokens() } else { 1 };
            let part = |tokens: usize| if training { tokens } else { tokens.min(1) };
            fit(&mut self.coarse, part(shape.coarse_tokens) * windows * shape.coarse_width);
            fit(&mut self.fine, part(shape.fine_tokens) * windows * shape.fine_width);
            fit(&mut self.token_state, (steps + 1) * windows * (shape.embed + shape.hidden));
            fit(&mut self.token_sigmoid, steps * windows * shape.embed);
            fit(&mut self.gates, steps * windows * 4 * shape.hidden);
            fit(&mut self.cell, windows * shape.hidden);
            fit(&mut self.tanh, steps * windows * shape.hidden);
            if training {
                fit(&mut self.cell_before, steps * windows * shape.hidden);
            }
        }
        fit(&mut self.context, windows * shape.width);
        for array in [&mut self.entry, &mut self.entry_sigmoid, &mut self.deep, &mut self.deep_sigmoid] {
            fit(array, rows * shape.width);
        }
        fit(&mut self.outputs, rows * shape.outputs());
        self.tile.fit(shape);
        if training {
            self.back.fit(shape, windows, rows);
        }
    }

    /// Computes the quantiles of a block's queries, `[window][query][level]`.
    pub(super) fn quantiles(&mut self, network: &Network<'_>, inputs: &Inputs<'_>, quantiles: &mut [f32]) {
        let Network { arch, shape, .. } = *network;
        self.fit(shape, inputs.windows, inputs.queries, false);
        self.forward(network, inputs, false);
        let outputs = &self.outputs[..inputs.windows * inputs.queries * shape.outputs()];
        arch.dispatch(mix::Quantiles { shape, tile: &mut self.tile, rows: rows(inputs), outputs, quantiles });
    }

    /// Adds a block's part of the gradient of the mean loss, and returns its part of the sum of losses.
    pub(super) fn gradient(
        &mut self,
        network: &Network<'_>,
        turned: &Turned,
        inputs: &Inputs<'_>,
        (target, weight): (&[f32], &[f32]),
        scale: f32,
        gradient: &mut [f32],
    ) -> f64 {
        let Network { arch, shape, .. } = *network;
        self.fit(shape, inputs.windows, inputs.queries, true);
        self.forward(network, inputs, true);
        let outputs = &mut self.outputs[..inputs.windows * inputs.queries * shape.outputs()];
        let (tile, rows) = (&mut self.tile, rows(inputs));
        let loss = arch.dispatch(mix::Gradient { shape, tile, rows, outputs, target, weight, scale });
        self.head_backward(network, turned, inputs, gradient);
        if shape.recurrent {
            self.sequence_backward(network, turned, inputs.windows, gradient);
        }
        loss
    }

    fn forward(&mut self, network: &Network<'_>, inputs: &Inputs<'_>, training: bool) {
        if network.shape.recurrent {
            self.sequence(network, inputs, training);
        }
        self.head(network, inputs, training);
    }

    /// The place of the last state in `token_state`.
    fn last_state(shape: &Shape, windows: usize, training: bool) -> usize {
        let step = if training { shape.tokens() } else { 0 };
        step * windows * (shape.embed + shape.hidden) + shape.embed
    }

    /// Embeds the tokens and runs the LSTM over them.
    fn sequence(&mut self, network: &Network<'_>, inputs: &Inputs<'_>, training: bool) {
        let Network { arch, shape, layout, weights } = *network;
        let (windows, embed, hidden) = (inputs.windows, shape.embed, shape.hidden);
        let (both, gate_count) = (embed + hidden, 4 * hidden);
        for row in self.token_state[..windows * both].chunks_exact_mut(both) {
            row[embed..].fill(0.0);
        }
        self.cell[..windows * hidden].fill(0.0);
        for step in 0..shape.tokens() {
            let at = if training { step } else { 0 };
            let next = if training { step + 1 } else { 0 };
            let fine_step = step.checked_sub(shape.coarse_tokens);
            let (tokens, count, width, linear, from, kept) = match fine_step {
                None => {
                    (&mut self.coarse, shape.coarse_tokens, shape.coarse_width, &layout.coarse, inputs.coarse, step)
                }
                Some(step) => (&mut self.fine, shape.fine_tokens, shape.fine_width, &layout.fine, inputs.fine, step),
            };
            let kept = if training { kept } else { 0 };
            let tokens = &mut tokens[kept * windows * width..][..windows * width];
            let first = fine_step.unwrap_or(step) * width;
            for (token, window) in tokens.chunks_exact_mut(width).zip(from.chunks_exact(count * width)) {
                token.copy_from_slice(&window[first..first + width]);
            }
            let token_state = &mut self.token_state[at * windows * both..][..windows * both];
            arch.dispatch(Product {
                rows: windows,
                inner: width,
                columns: embed,
                left: Matrix { values: tokens, stride: width },
                right: Matrix { values: &weights[linear.weight.clone()], stride: embed },
                start: Start::Row(&weights[linear.bias.clone()]),
                output: token_state,
                stride: both,
            });
            let sigmoid = &mut self.token_sigmoid[at * windows * embed..][..windows * embed];
            arch.dispatch(Silu { values: token_state, stride: both, columns: embed, sigmoid });
            let gates = &mut self.gates[at * windows * gate_count..][..windows * gate_count];
            arch.dispatch(Product {
                rows: windows,
                inner: both,
                columns: gate_count,
                left: Matrix { values: token_state, stride: both },
                right: Matrix { values: &weights[layout.lstm.weight.clone()], stride: gate_count },
                start: Start::Row(&weights[layout.lstm.bias.clone()]),
                output: gates,
                stride: gate_count,
            });
            let cell = &mut self.cell[..windows * hidden];
            if training {
                self.cell_before[at * windows * hidden..][..windows * hidden].copy_from_slice(cell);
            }
            let tanh = &mut self.tanh[at * windows * hidden..][..windows * hidden];
            let state = &mut self.token_state[next * windows * both + embed..(next + 1) * windows * both];
            arch.dispatch(Cell { hidden, gates, cell, tanh, state, stride: both });
        }
    }

    /// The layers that answer the queries, up to logits and corrections.
    fn head(&mut self, network: &Network<'_>, inputs: &Inputs<'_>, training: bool) {
        let Network { arch, shape, layout, weights } = *network;
        let Inputs { windows, queries, .. } = *inputs;
        let (rows, width) = (windows * queries, shape.width);
        let context = &mut self.context[..windows * width];
        arch.dispatch(Product {
            rows: windows,
            inner: shape.window,
            columns: width,
            left: Matrix { values: inputs.window, stride: shape.window },
            right: Matrix { values: &weights[layout.window.clone()], stride: width },
            start: Start::Row(&weights[layout.entry_bias.clone()]),
            output: context,
            stride: width,
        });
        if shape.recurrent {
            let state = &self.token_state[Self::last_state(shape, windows, training)..];
            arch.dispatch(Product {
                rows: windows,
                inner: shape.hidden,
                columns: width,
                left: Matrix { values: state, stride: shape.embed + shape.hidden },
                right: Matrix { values: &weights[layout.state.clone()], stride: width },
                start: Start::Output,
                output: context,
                stride: width,
            });
        }
        let entry = &mut self.entry[..rows * width];
        for (entry, context) in entry.chunks_exact_mut(queries * width).zip(context.chunks_exact(width)) {
            for entry in entry.chunks_exact_mut(width) {
                entry.copy_from_slice(context);
            }
        }
        arch.dispatch(Product {
            rows,
            inner: shape.query,
            columns: width,
            left: Matrix { values: inputs.query, stride: shape.query },
            right: Matrix { values: &weights[layout.query.clone()], stride: width },
            start: Start::Output,
            output: entry,
            stride: width,
        });
        let sigmoid = &mut self.entry_sigmoid[..rows * width];
        arch.dispatch(Silu { values: entry, stride: width, columns: width, sigmoid });
        let deep = &mut self.deep[..rows * width];
        let linear = |linear: &Linear, columns: usize, left: &[f32], output: &mut [f32]| {
            arch.dispatch(Product {
                rows,
                inner: width,
                columns,
                left: Matrix { values: left, stride: width },
                right: Matrix { values: &weights[linear.weight.clone()], stride: columns },
                start: Start::Row(&weights[linear.bias.clone()]),
                output,
                stride: columns,
            });
        };
        linear(&layout.deep, width, entry, deep);
        arch.dispatch(ResidualSilu { values: deep, residual: entry, sigmoid: &mut self.deep_sigmoid[..rows * width] });
        let outputs = shape.outputs();
        linear(&layout.out, outputs, deep, &mut self.outputs[..rows * outputs]);
    }
}

/// The anchors of a block's queries.
fn rows<'a>(inputs: &Inputs<'a>) -> Rows<'a> {
    let Inputs { anchor, known, quantile_anchor, quantile_known, .. } = *inputs;
    Rows { anchor, known, quantile_anchor, quantile_known }
}
